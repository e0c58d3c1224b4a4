# An account whose password was stolen sends little, and the relay's plan is never exceeded; who has to wait is told
# until when.

from __future__ import annotations

import time
from pathlib import Path

import pytest
from outbound_mail import ALICE, CAROL, PLAIN, Site, decided, eml

from todoku.gate import passage, reinjection
from todoku.gate.decision import PASS, Change, Decision, DeleteHeader, HoldBack, Refuse
from todoku.gate.message import MessageSoFar
from todoku.gate.notices import Notice
from todoku.gate.rules.spending import Spending, is_bulk

WIDE = "[relay.plan]\nper_minute = 1000\nper_day = 10000\nper_month = 100000\n"


TOLD: list[Notice] = []
asked = Spending(lambda notice, _: TOLD.append(notice))


def spending(message: MessageSoFar) -> Decision:
    return decided(asked, message)


@pytest.fixture(autouse=True)
def nothing_told() -> None:
    TOLD.clear()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_795_500_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_the_account_that_has_used_up_its_minute_waits_and_others_do_not(
    tmp_path: Path, clock: list[float]
) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nrecipients_per_minute = 2\n")
    assert spending(site.message(PLAIN, CAROL, "dan@mailbox.example")) is PASS
    held = spending(site.message(PLAIN, CAROL))
    assert isinstance(held, HoldBack)
    assert (held.code, held.enhanced) == (451, "4.7.1")
    assert held.words == (
        "alice@hoge.example has 2 recipients a minute, and they are used up: this message can be sent from "
        "2026-11-24 06:01:01 UTC on (gate.recipients_per_minute in the settings)"
    )
    assert spending(site.message(PLAIN, CAROL, login="bob@hoge.example")) is PASS
    clock[0] += 61
    assert spending(site.message(PLAIN, CAROL)) is PASS


def test_mail_that_stays_here_costs_nothing(tmp_path: Path, clock: list[float]) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nrecipients_per_minute = 1\n")
    for _ in range(5):
        assert spending(site.message(PLAIN, "bob@hoge.example", "alice@ほげ.example")) is PASS
    assert spending(site.message(PLAIN, "bob@hoge.example", CAROL)) is PASS
    assert spending(site.message(PLAIN, CAROL)) is not PASS


def test_what_is_sent_counts_by_2_mb_for_the_relay(tmp_path: Path, clock: list[float]) -> None:
    site = Site(tmp_path, '[relay.plan]\nper_minute = 6\nper_day = 6\nmessage_size = "20 MB"\n')
    assert spending(site.message(PLAIN + b"x" * 4_000_000, CAROL)) is PASS  # 3
    assert spending(site.message(PLAIN + b"x" * 2_000_000, CAROL)) is PASS  # 2
    assert isinstance(spending(site.message(PLAIN, CAROL, "dan@mailbox.example")), HoldBack)
    assert spending(site.message(PLAIN, CAROL)) is PASS
    assert isinstance(spending(site.message(PLAIN, CAROL, login="bob@hoge.example")), HoldBack)


def test_a_message_that_can_never_pass_is_refused_for_good(tmp_path: Path, clock: list[float]) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nrecipients_per_minute = 2\n")
    refused = spending(site.message(PLAIN, *(f"r{n}@mailbox.example" for n in range(3))))
    assert isinstance(refused, Refuse)
    assert refused.code == 550
    assert "3 recipients, and alice@hoge.example has 2 a minute: send it to fewer" in refused.words


def test_devices_and_the_host_have_limits_of_their_own_and_the_world_has_none(
    tmp_path: Path, clock: list[float]
) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nrecipients_per_minute = 1\n")
    for made, name in ((site.from_device, "192.168.0.20 has"), (site.from_host, "this machine has")):
        assert spending(made(PLAIN, CAROL)) is PASS
        held = spending(made(PLAIN, CAROL))
        assert isinstance(held, HoldBack)
        assert name in held.words
    for _ in range(3):
        assert spending(site.from_outside(PLAIN, CAROL, ALICE)) is PASS


def test_what_an_alias_forwards_counts_for_the_relay_only(tmp_path: Path, clock: list[float]) -> None:
    plan = "[relay.plan]\nper_minute = 3\nper_day = 3\nper_month = 3\n"
    site = Site(tmp_path, plan + "[gate]\nrecipients_per_minute = 1\n")
    copy = f"{passage.NAME}: {passage.TOKEN}\r\n".encode() + PLAIN
    for _ in range(3):
        passed = spending(site.message(copy, CAROL, login=None, address="127.0.0.1"))
        assert passed == Change([DeleteHeader(passage.NAME)])
    held = spending(site.message(copy, CAROL, login=None, address="127.0.0.1"))
    assert isinstance(held, HoldBack)
    assert "the plan of the relay has 3 emails in 31 days" in held.words
    assert isinstance(spending(site.message(PLAIN, CAROL)), HoldBack)


@pytest.mark.parametrize("header", [b"", b"X-Todoku-Passage: guessed\r\n", b"X-Todoku-Passage: \xff\r\n"])
def test_who_uses_the_port_for_copies_without_being_the_gate_has_the_limits_of_this_machine(
    tmp_path: Path, clock: list[float], header: bytes
) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nrecipients_per_minute = 1\n")
    assert not isinstance(spending(site.from_host(PLAIN, CAROL)), HoldBack)
    held = spending(site.message(header + PLAIN, CAROL, login=None, address="127.0.0.1"))
    assert isinstance(held, HoldBack)
    assert "this machine has" in held.words


def test_that_a_copy_passes_is_noted_once_postfix_has_been_told_so_and_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    monkeypatch.setattr(reinjection, "answered", noted.append)
    note = f"{passage.NOTE}: .abc.1.2\r\n".encode()
    ours = f"{passage.NAME}: {passage.TOKEN}\r\n".encode()
    without_either = Change([DeleteHeader(passage.NAME), DeleteHeader(passage.NOTE)])
    for passes, token in ((True, ours), (False, b"X-Todoku-Passage: guessed\r\n")):
        message = Site(tmp_path).message(note + token + PLAIN, CAROL, login=None, address="127.0.0.1")
        assert spending(message) == without_either
        assert noted == []  # not before it is told
        assert (message.when_told is not None) is passes
        if message.when_told:
            message.when_told()
            assert noted == [".abc.1.2"]
            noted.clear()


def test_the_token_of_a_copy_for_somebody_here_is_not_shown(tmp_path: Path) -> None:
    copy = f"{passage.NAME}: {passage.TOKEN}\r\n".encode() + PLAIN
    message = Site(tmp_path).message(copy, ALICE, login=None, address="127.0.0.1")
    assert spending(message) == Change([DeleteHeader(passage.NAME)])


def test_an_alias_of_ours_that_leads_outside_counts_for_all_whom_it_leads_to(
    tmp_path: Path, clock: list[float]
) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nrecipients_per_minute = 2\n")
    assert spending(site.message(PLAIN, "Team+x@hoge.example", CAROL)) is PASS
    assert isinstance(spending(site.message(PLAIN, CAROL)), HoldBack)


def test_what_strangers_send_through_one_alias_is_bounded(tmp_path: Path, clock: list[float]) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nforwarded_per_day = 2\n")

    def passes(alias: str) -> bool:
        copy = f"{passage.NAME}: {passage.TOKEN}\r\nX-Todoku-Forwarded: {alias}\r\n".encode() + PLAIN
        return isinstance(spending(site.message(copy, CAROL, login=None, address="127.0.0.1")), Change)

    assert [passes("sales@hoge.example") for _ in range(3)] == [True, True, False]
    assert passes("press@hoge.example")
    assert [notice.subject for notice in TOLD] == [
        "The alias sales@hoge.example has used 100 % of 2 forwarded recipients in 24 hours",
        "The alias sales@hoge.example has reached its limit of 2 forwarded recipients in 24 hours",
    ]


def test_the_postmaster_hears_that_mail_of_the_host_waits(tmp_path: Path, clock: list[float]) -> None:
    site = Site(tmp_path, WIDE + "[gate]\nrecipients_per_minute = 1\n")
    spending(site.from_host(PLAIN, CAROL))
    assert TOLD == []
    spending(site.from_host(PLAIN, CAROL))
    (notice,) = TOLD
    assert notice.subject == "This machine has reached its limit of 1 recipients a minute"
    assert "waits in Postfix's maildrop folder; nobody else is told" in notice.text
    assert "2026-11-24 06:01:01 UTC" in notice.text
    assert notice.every == 3600


@pytest.mark.parametrize(
    ("headers", "bulk"),
    [
        ((), False),
        (("Precedence: Bulk",), True),
        (("Precedence: first-class",), False),
        (("List-Id: News <news.hoge.example>",), True),
        (("List-Unsubscribe: <https://hoge.example/u>",), True),
    ],
)
def test_bulk_mail_is_what_says_so(site: Site, headers: tuple[str, ...], bulk: bool) -> None:
    assert is_bulk(site.message(eml(f"From: {ALICE}", *headers))) is bulk


def test_bulk_mail_is_what_comes_from_senders_that_the_settings_name(tmp_path: Path) -> None:
    site = Site(tmp_path, '[gate]\nbulk_senders = "news@hoge.example"\n')
    assert is_bulk(site.message(PLAIN, sender="News@hoge.example"))
    assert not is_bulk(site.message(PLAIN))


def test_bulk_mail_waits_before_personal_mail_does(tmp_path: Path, clock: list[float]) -> None:
    site = Site(tmp_path, "[relay.plan]\nper_minute = 5\nper_day = 100\n")
    bulk = b"List-Id: <news.hoge.example>\r\n" + PLAIN
    verdicts = [spending(site.message(bulk, CAROL)) for _ in range(5)]
    assert [isinstance(each, HoldBack) for each in verdicts] == [False] * 4 + [True]
    assert spending(site.message(PLAIN, CAROL)) is PASS
