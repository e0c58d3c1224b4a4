# What is held is told of once, goes on once and only when nothing was found, and ends when its time is over, also when
# the keeper is killed or Postfix does not take what it is given.

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import aes, zip_crypto
from office import BOB, CAROL, DAY, Office

from todoku.gate.clamd import ClamdError, Clean, Infected, TooLarge, Verdict
from todoku.gate.reinjection import NotTaken
from todoku.protect.held import About, Fate, Full, Quarantine


def test_the_addressee_is_told_once_with_a_link_of_his_own(office: Office) -> None:
    held = office.hold(aes({"a": b"x"}), BOB, CAROL)
    office.keeper.look()
    office.new_keeper().look()
    assert [to for to, _ in office.letters] == [BOB, CAROL]
    links = [letter.text.partition("https://")[2].split()[0] for _, letter in office.letters]
    assert links[0] != links[1]
    assert links[0] == office.keeper.link(held.id, 0).removeprefix("https://")
    found = office.keeper.find(links[1].rpartition("/")[2])
    assert found is not None
    assert found[1] == 1
    for other in ("", "x", "A" * 43, "é", "\udc80", "../.."):
        assert office.keeper.find(other) is None


def test_in_japanese_to_whom_japanese_is_written(office: Office) -> None:
    office.hold(aes({"a": b"x"}), language="ja")
    assert office.letters[0][1].subject == "保留中のメール: x"
    assert "削除" in office.letters[0][1].text


@pytest.mark.parametrize("archive", [aes({"a": b"all of it"}), zip_crypto(b"all of it")])
def test_clean_goes_on_once_and_is_gone_from_the_disk(office: Office, archive: bytes) -> None:
    held = office.hold(archive)
    assert office.keeper.release(held, 0, ["no"]).outcome == "wrong"
    assert office.handed == []
    assert office.keeper.release(held, 0, ["no", "pw"]).outcome == "clean"
    assert b"all of it" in office.scan.seen
    assert office.keeper.release(held, 0, ["pw"]).outcome == "clean"
    office.new_keeper().look()
    assert office.handed == [(BOB,)]
    assert held.fate(0) == Fate("delivered", BOB, office.now)
    assert not held.content.exists()


def test_a_keeper_that_was_killed_goes_on_where_it_was(office: Office) -> None:
    held = office.hold(aes({"a": b"x"}))
    held.decide(0, Fate("releasing", BOB, office.now))  # and killed before it was handed over
    office.new_keeper().look()
    assert office.handed == [(BOB,)]
    again = office.hold(aes({"a": b"x"}), CAROL) if not held.place.exists() else held
    assert again.fate(0).state == "delivered"


@pytest.mark.parametrize("taken", [True, False])
def test_what_passed_the_gate_before_a_kill_waits_until_it_is_known_whether_postfix_has_it(
    office: Office, taken: bool
) -> None:
    held = office.hold(aes({"a": b"x"}))
    held.decide(0, Fate("releasing", BOB, office.now))
    assert held.mark(0, "4bQueueId1")  # the gate let it pass, and the keeper was killed before it heard more
    for _ in range(2):
        office.new_keeper().look()
    assert (office.handed, held.fate(0).state) == ([], "releasing")
    assert held.has("0.unsure")
    if taken:  # the gate has found out (`todoku.gate.released`)
        held.note("0.taken")
        held.is_sure(0)
    else:
        held.unmark(0)
    office.new_keeper().look()
    assert (office.handed, held.fate(0).state) == ([] if taken else [(BOB,)], "delivered")


def test_what_passed_and_was_not_answered_is_not_handed_over_at_once(office: Office) -> None:
    held = office.hold(aes({"a": b"x"}))
    held.mark(0, "4bQueueId2")
    held.unmark(0)
    office.refusal = NotTaken("Connection unexpectedly closed")
    assert office.keeper.release(held, 0, ["pw"]).outcome == "clean"
    assert held.mark(0, "4bQueueId3")
    office.now += 31
    office.keeper.look()
    assert office.handed == [(BOB,)]
    assert held.has("0.unsure")


def test_what_postfix_does_not_take_now_is_tried_again_and_what_it_refuses_is_told(office: Office) -> None:
    held = office.hold(aes({"a": b"x"}))
    office.refusal = NotTaken("disk full")
    assert office.keeper.release(held, 0, ["pw"]).outcome == "clean"
    assert held.fate(0).state == "releasing"
    office.keeper.look()  # not at once
    assert len(office.handed) == 1
    office.now += 31
    office.refusal = NotTaken("no such user", for_good=True)
    office.keeper.look()
    assert held.fate(0).state == "refused"
    assert office.letters[-1] == (BOB, office.letters[-1][1])
    assert "Why: no such user" in office.letters[-1][1].text
    assert held.content.exists()  # for the operator


def test_malware_is_told_to_all_and_to_the_postmaster_and_delivered_to_nobody(office: Office) -> None:
    held = office.hold(aes({"a": b"x"}), BOB, CAROL)
    office.letters.clear()
    office.scan.says = Infected("Eicar")
    assert office.keeper.release(held, 1, ["pw"]).why == "Eicar"
    office.scan.says = Clean()
    assert office.keeper.release(held, 0, ["pw"]).outcome == "malware"
    office.new_keeper().look()
    assert office.handed == []
    assert [(to, letter.subject) for to, letter in office.letters] == [
        (BOB, "Malware found: x"),
        (CAROL, "Malware found: x"),
        ("alice@hoge.example", "Malware refused: Eicar"),
    ]
    assert f"after {CAROL} had given the password" in office.letters[-1][1].text


@pytest.mark.parametrize(
    ("says", "outcome"),
    [(ClamdError("gone"), "later"), (TooLarge("MaxFileSize"), "too-much"), (OSError("gone"), "later")],
)
def test_without_a_verdict_it_stays_held(office: Office, says: Verdict | Exception, outcome: str) -> None:
    held = office.hold(aes({"a": b"x"}))
    office.scan.says = says
    assert office.keeper.release(held, 0, ["pw"]).outcome == outcome
    assert held.fate(0).state == "held"
    office.scan.says = Clean()
    assert office.keeper.release(held, 0, ["pw"]).outcome == "clean"


def test_a_wrong_password_never_brings_a_verdict_on_what_it_made(office: Office) -> None:
    held = office.hold(zip_crypto(b"x" * 1000))
    office.scan.says = Infected("Nonsense")
    outcomes = {office.keeper.release(held, 0, [f"{number}"]).outcome for number in range(600)}
    assert outcomes == {"wrong"}
    assert held.malware == ""


def test_over_is_over(office: Office) -> None:
    held = office.hold(aes({"a": b"x"}))
    token = office.keeper.token(held.id, 0)
    office.now += 14 * DAY + 1
    assert office.keeper.find(token) is None
    office.keeper.look()
    assert not held.place.exists()
    assert list(office.quarantine.messages.iterdir()) == []


def test_a_notice_that_is_not_taken_comes_later(office: Office) -> None:
    office.no_mail = smtplib.SMTPServerDisconnected("gone")
    office.hold(aes({"a": b"x"}))
    assert office.letters == []
    office.no_mail = None
    office.now += 31
    office.keeper.look()
    assert [to for to, _ in office.letters] == [BOB]


def test_the_quarantine_takes_no_more_than_it_may_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    quarantine = Quarantine(tmp_path)
    about = About("", (BOB,), "", "", (), "en", 0.0, 1.0)
    quarantine.hold("a" * 40, about, [b"x" * 600], 1000)
    with pytest.raises(Full):
        quarantine.hold("b" * 40, about, [b"x" * 300, b"x" * 300], 1000)
    assert quarantine.jobs() == ["a" * 40]
    assert len(list(quarantine.messages.iterdir())) == 1
    quarantine.hold("a" * 40, about, [b"y" * 10], 1000)  # the same, twice at the same time
    found = quarantine.find("a" * 40)
    assert found is not None
    assert found.content.read_bytes() == b"x" * 600
    for name in ("../../etc", "A" * 40, "", "a" * 41):
        assert quarantine.find(name) is None


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    quarantine = Quarantine(tmp_path)

    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        quarantine.hold("a" * 40, About("", (BOB,), "", "", (), "en", 0.0, 1.0), pieces(), 1000)
    assert list(quarantine.messages.iterdir()) == []
