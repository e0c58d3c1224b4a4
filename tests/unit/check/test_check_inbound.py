# Reports, complaints and answers go to addresses that nobody tries out: a domain whose postmaster@ bounces, or whose
# DMARC reports go to a mailbox that was never made, looks fine in every record.

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from internet_for_checks import TEXT, Place
from test_check_ports import Faults, door

from todoku.check import inbound, submission
from todoku.check.dialogue import Reply
from todoku.check.finding import Finding, Verdict
from todoku.check.means import Dns
from todoku.check.ports import WORLD, Door
from todoku.settings import parse

SETTINGS = parse(TEXT, "todoku.toml")
PEOPLE = frozenset({"postmaster@hoge.example", "abuse@hoge.example", "alice@hoge.example"})


def found(here: Door, place: Place | None = None) -> list[Finding]:
    means = replace(here.means, addresses=("alice@hoge.example", "bob@other.example"))
    if place is not None:
        means = replace(means, dns=Dns(place.lookups()))
    return list(inbound.look(SETTINGS, SETTINGS.domains[0], replace(here, means=means)))


def test_mail_to_everybody_is_taken_and_none_is_left_there(tmp_path: Path) -> None:
    faults = Faults(inboxes=PEOPLE)
    with door(WORLD, faults, tmp_path) as here:
        (finding,) = found(here)
    assert finding.verdict is Verdict.PASS
    assert finding.seen == "port 25 takes mail to postmaster, abuse, alice"
    assert faults.messages == []


@pytest.mark.parametrize("nobody", sorted(PEOPLE))
def test_each_address_that_is_not_taken_is_named(nobody: str, tmp_path: Path) -> None:
    with door(WORLD, Faults(inboxes=PEOPLE - {nobody}), tmp_path) as here:
        (finding,) = found(here)
    assert finding.verdict is Verdict.FAIL
    assert finding.seen == f"mail to {nobody} is answered by 554 5.7.1 Relay access denied"
    assert "todoku alias add" in finding.advice


def test_a_full_mailbox_is_a_warning(tmp_path: Path) -> None:
    faults = Faults(inboxes=PEOPLE - {"alice@hoge.example"}, refusal=b"452 4.2.2 Mailbox full")
    with door(WORLD, faults, tmp_path) as here:
        (finding,) = found(here)
    assert finding.verdict is Verdict.WARN


def test_the_address_for_dmarc_reports_is_tried_as_it_is_published(tmp_path: Path) -> None:
    place = Place()
    record = "v=DMARC1; p=none; rua=mailto:Reports@hoge.example!10m, mailto:r@outside.example"
    place.ours["_dmarc.hoge.example", "TXT"] = [f'"{record}"']
    with door(WORLD, Faults(inboxes=PEOPLE), tmp_path) as here:
        (finding,) = found(here, place)
    assert finding.seen.startswith("mail to reports@hoge.example is answered by 554")


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        (Faults(inboxes=frozenset()), "for hoge.example; to postmaster@hoge.example it says 554"),
        (Faults(inboxes=frozenset(), refusal=b"451 4.7.1 Not now"), "to postmaster@hoge.example it says 451"),
        (Faults(greeting=b"421 4.7.1 not now"), "takes mail from nobody: 421"),
        (Faults(mail_before_tls=False), "takes mail from nobody: 530"),
    ],
)  # fmt: skip
def test_a_port_that_takes_nothing_is_one_failure(faults: Faults, words: str, tmp_path: Path) -> None:
    with door(WORLD, faults, tmp_path) as here:
        (finding,) = found(here)
    assert finding.verdict is Verdict.FAIL
    assert words in finding.seen


def test_what_could_not_be_tried_is_not_called_good(tmp_path: Path) -> None:
    later = Faults(inboxes=frozenset(), refusal=b"451 4.7.1 Service unavailable")
    with door(WORLD, later, tmp_path) as here:
        seen = [
            *submission.relay(here, "", ["relay-test@relay-test.example.net"]),
            *submission.smuggling(here, "postmaster@hoge.example", "LF.LF"),
        ]
    assert [(each.rule, each.verdict) for each in seen] == [
        ("submission.relay", Verdict.UNKNOWN),
        ("submission.smuggling", Verdict.UNKNOWN),
    ]


def test_who_puts_off_is_told_apart_from_who_refuses() -> None:
    assert "Senders try again" in inbound._advice(Reply(451, ("4.7.1 later",)))
    assert "Senders try again" not in inbound._advice(Reply(550, ("5.1.1 no",)))
