# The postmaster is told, and not told the same again and again: a storm of malware is one notice, not a storm of mail.

from __future__ import annotations

import email
import email.policy
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from todoku.gate import passage
from todoku.gate.notices import MOST_AN_HOUR, Notice, Notices
from todoku.gate.reinjection import Copy, NotTaken
from todoku.settings import Settings, parse

NOW = 1_795_500_000.0
NOTICE = Notice("malware", "Bad dave@outside.example", 3600, "Malware refused: Bad", "Text, auch äöü.\n")


@pytest.fixture
def site() -> Settings:
    return parse(
        'hostname = "mx.hoge.example"\naddresses = "203.0.113.10"\npostmaster = "alice@hoge.example"\n'
        '[[domains]]\nname = "hoge.example"\n[relay]\nregion = "ap-tokyo-1"\n',
        "todoku.toml",
    )


class Postfix:
    def __init__(self) -> None:
        self.copies: list[Copy] = []
        self.down = False

    def __call__(self, copy: Copy) -> None:
        if self.down:
            raise NotTaken("not now")
        self.copies.append(copy)


def test_it_is_a_letter_to_the_postmaster_that_nobody_answers_or_counts(
    tmp_path: Path, site: Settings
) -> None:
    postfix = Postfix()
    assert Notices(tmp_path / "n", postfix, lambda: NOW).tell(NOTICE, site)
    (copy,) = postfix.copies
    assert (copy.sender, copy.recipients) == ("bounces@hoge.example", ("alice@hoge.example",))
    message = email.message_from_bytes(copy.content, policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    assert message["Subject"] == "Malware refused: Bad"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["From"].addresses[0].addr_spec == "alice@hoge.example"
    assert message[passage.NAME] == passage.TOKEN
    assert message.get_content().replace("\r\n", "\n") == NOTICE.text
    assert copy.content.isascii()
    assert (tmp_path / "n").stat().st_mode & 0o077 == 0


def test_the_same_matter_is_told_again_when_its_time_has_passed_and_others_at_once(
    tmp_path: Path, site: Settings
) -> None:
    postfix, now = Postfix(), [NOW]
    notices = Notices(tmp_path / "n", postfix, lambda: now[0])
    assert notices.tell(NOTICE, site)
    now[0] += 3500
    assert not notices.tell(NOTICE, site)
    assert notices.tell(replace(NOTICE, matter="Worse"), site)
    assert notices.tell(replace(NOTICE, kind="limit"), site)
    now[0] += 101
    assert notices.tell(NOTICE, site)
    assert len(postfix.copies) == 4


def test_invented_senders_do_not_make_it_a_storm(tmp_path: Path, site: Settings) -> None:
    postfix, now = Postfix(), [NOW]
    notices = Notices(tmp_path / "n", postfix, lambda: now[0])
    for number in range(50):
        notices.tell(replace(NOTICE, matter=f"Bad {number}"), site)
    assert len(postfix.copies) == MOST_AN_HOUR
    assert notices.tell(replace(NOTICE, kind="limit"), site), "one kind does not silence another"
    now[0] += 3601
    assert notices.tell(replace(NOTICE, matter="Bad 49"), site)


def test_one_that_postfix_does_not_take_is_told_later(tmp_path: Path, site: Settings) -> None:
    postfix = Postfix()
    notices = Notices(tmp_path / "n", postfix, lambda: NOW)
    postfix.down = True
    with pytest.raises(NotTaken):
        notices.tell(NOTICE, site)
    postfix.down = False
    assert notices.tell(NOTICE, site)
    assert len(postfix.copies) == 1


def test_workers_that_see_it_at_the_same_moment_tell_it_once(tmp_path: Path, site: Settings) -> None:
    postfix = Postfix()
    notices = [Notices(tmp_path / "n", postfix, lambda: NOW) for _ in range(8)]
    notices[0].tell(replace(NOTICE, kind="other"), site)  # the file is there
    for number in range(15):
        matter = replace(NOTICE, matter=f"Bad {number}")
        together = threading.Barrier(len(notices))

        def worker(one: Notices, matter: Notice = matter, together: threading.Barrier = together) -> None:
            together.wait()
            one.tell(matter, site)

        threads = [threading.Thread(target=worker, args=(one,)) for one in notices]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(postfix.copies) == 1 + 15
