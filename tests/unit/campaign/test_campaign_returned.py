# "We had been writing to an address that is gone for two years, and lost our name": what bounces to us counts, and
# nobody can make one bounce for somebody else.

from __future__ import annotations

import os
from pathlib import Path

import pytest
from campaign_place import Clock, subscribe
from hypothesis import given
from hypothesis import strategies as st
from sink import Sink
from test_campaign_sending import numbers, send

from todoku.campaign import bounces, campaigns, persons, returned
from todoku.campaign.bounces import What
from todoku.campaign.feedback import Feedback
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.campaign.tokens import Keys
from todoku.store import campaign_schema as schema

SOURCE = Source("Hi", "Hello,\nunsubscribe: {{ unsubscribe }}\n")
ALICE = "alice@mailbox.example"


def dsn(
    status: str, diagnosis: str = "", action: str = "failed", original: bytes = b"Subject: Hi\r\n"
) -> bytes:
    """As Postfix writes it (RFC 3464)."""
    said = f"Diagnostic-Code: smtp; {diagnosis}\r\n" if diagnosis else ""
    return (
        (
            "From: MAILER-DAEMON@mailbox.example\r\nSubject: Undelivered Mail Returned\r\nMIME-Version: 1.0\r\n"
            "Auto-Submitted: auto-replied\r\n"
            'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="b"\r\n\r\n'
            "--b\r\nContent-Type: text/plain\r\n\r\nI'm sorry to have to inform you\r\n"
            "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.mailbox.example\r\n\r\n"
            f"Final-Recipient: rfc822; {ALICE}\r\nAction: {action}\r\nStatus: {status}\r\n{said}\r\n"
            "--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        ).encode()
        + original
        + b"\r\n--b--\r\n"
    )


def arf(kind: str, original: bytes) -> bytes:
    """As Yahoo writes it (RFC 5965)."""
    return (
        b"From: feedback@arf.mail.yahoo.com\r\nSubject: FW: Hi\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\nThis is an email abuse report\r\n"
        b"--b\r\nContent-Type: message/feedback-report\r\n\r\n"
        b"Feedback-Type: " + kind.encode() + b"\r\nUser-Agent: Yahoo!-Mail-Feedback/2.0\r\nVersion: 1\r\n"
        b"Original-Rcpt-To: bob@mailbox.example\r\n\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + original + b"\r\n--b--\r\n"
    )  # fmt: skip


@pytest.fixture
def sent(opened: Opened, news: int, tmp_path: Path) -> bytes:
    """What alice got; bob, too, got one."""
    for address in (ALICE, "bob@mailbox.example"):
        subscribe(opened, news, address)
    return again(opened, tmp_path, "spring")


def again(opened: Opened, tmp_path: Path, name: str) -> bytes:
    campaigns.create(opened, name, "news", SOURCE)
    campaigns.start(opened, name)
    sink = Sink()
    send(opened, sink, tmp_path)
    assert sink.senders and all(each.startswith("bounces+c=") for each in sink.senders)
    return next(raw for (to, _), raw in zip(sink.taken, sink.raw, strict=True) if to == ALICE)


def address(opened: Opened, who: str = ALICE, name: str = "spring") -> str:
    """The return address of their message."""
    with opened.read() as connection:
        row = connection.execute(
            schema.recipient.select()
            .join(schema.subscriber, schema.subscriber.c.id == schema.recipient.c.subscriber)
            .join(schema.campaign, schema.campaign.c.id == schema.recipient.c.campaign)
            .where(schema.subscriber.c.address == who, schema.campaign.c.name == name)
        ).one()
    return opened.return_address(row.id)


def blocked(opened: Opened, who: str = ALICE) -> str | None:
    found: str | None = persons.export(opened, who)["blocked"]
    return found


def test_who_is_not_there_any_more_gets_nothing_from_then_on(
    opened: Opened, sent: bytes, tmp_path: Path
) -> None:
    to = address(opened)
    assert len(to.partition("@")[0]) <= 64
    assert returned.hear(opened, to.upper(), dsn("5.1.1", "550 5.1.1 <alice> User unknown"))
    assert (blocked(opened), blocked(opened, "bob@mailbox.example")) == ("bounced", None)
    assert numbers(opened).bounced == 1
    kept = persons.export(opened, ALICE)["bounces"]
    assert [(each["what"], each["status"]) for each in kept] == [("hard", "5.1.1")]
    assert "User unknown" in kept[0]["words"]
    returned.hear(opened, to, dsn("5.1.1"))  # twice is once
    assert len(persons.export(opened, ALICE)["bounces"]) == 1
    campaigns.create(opened, "summer", "news", SOURCE)
    assert numbers(opened, "summer").total == 1


def test_a_full_mailbox_is_forgiven_until_it_has_been_full_for_weeks(
    opened: Opened, sent: bytes, clock: Clock, tmp_path: Path
) -> None:
    full = dsn("4.2.2", "452 4.2.2 The mailbox is full")
    for number, days in enumerate((0, 3, 6, 9)):
        clock.now += days * 86_400
        name = f"full{number}"
        again(opened, tmp_path, name)
        assert returned.hear(opened, address(opened, name=name), full)
        assert returned.hear(opened, address(opened, name=name), full)
        assert blocked(opened) == ("bounced" if number == 3 else None)
    assert numbers(opened, "full0").bounced == 1


def test_old_bounces_do_not_count_for_ever(opened: Opened, sent: bytes, clock: Clock, tmp_path: Path) -> None:
    for number in range(8):
        clock.now += 40 * 86_400
        again(opened, tmp_path, f"full{number}")
        returned.hear(opened, address(opened, name=f"full{number}"), dsn("5.2.2"))
    assert blocked(opened) is None


def test_a_complaint_is_known_by_the_message_in_it_and_not_by_the_address_it_names(
    opened: Opened, sent: bytes
) -> None:
    to = "bounces+reports@hoge.example"
    assert returned.hear(opened, to, arf("abuse", sent))
    assert (blocked(opened), blocked(opened, "bob@mailbox.example")) == ("complained", None)
    assert numbers(opened).complained == 1
    assert not returned.hear(opened, to, arf("abuse", b"Subject: Hi\r\nTo: bob@mailbox.example\r\n\r\nx"))
    changed = sent.replace(b"/unsubscribe/", b"/unsubscribe/A")
    assert not returned.hear(opened, to, arf("abuse", changed))
    assert not returned.hear(opened, to, arf("not-spam", sent))
    assert blocked(opened, "bob@mailbox.example") is None


def test_an_opt_out_that_a_provider_passes_on_unsubscribes(opened: Opened, sent: bytes) -> None:
    assert returned.hear(opened, "bounces+reports@hoge.example", arf("opt-out", sent))
    assert persons.export(opened, ALICE)["lists"][0]["state"] == "unsubscribed"
    assert blocked(opened) is None


def test_nobody_can_make_somebody_else_bounce(opened: Opened, sent: bytes) -> None:
    mine, theirs = address(opened), address(opened, "bob@mailbox.example")
    mark = theirs.partition("=")[2].partition("@")[0]
    for to in (
        "bounces@hoge.example",
        "bounces+reports@hoge.example",  # the token of the message is missing
        f"bounces+c={'a' * 39}@hoge.example",
        f"bounces+c={mark[:-1] + ('a' if mark[-1] != 'a' else 'b')}@hoge.example",
        theirs.replace("hoge.example", "other.example"),
        f"news+c={mark}@hoge.example",
    ):
        assert not returned.hear(opened, to, dsn("5.1.1"))
    assert blocked(opened, "bob@mailbox.example") is None
    with opened.read() as connection:
        assert connection.execute(schema.bounce.select()).all() == []
    # The mark is for return addresses alone, and tells nothing.
    assert opened.keys.opened(mark, "unsubscribe") is None
    assert returned.hear(opened, mine, dsn("5.1.1"))


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (dsn("5.1.1"), What.HARD),
        (dsn("5.0.0", "550 5.1.1 no such user"), What.HARD),
        (dsn("5.2.1", "550 mailbox disabled"), What.HARD),
        (dsn("5.4.4", "Host or domain name not found"), What.HARD),
        (dsn("5.2.2"), What.SOFT),
        (dsn("5.7.1", "550 5.7.1 message looks like spam"), What.SOFT),
        (dsn("5.1.8", "550 5.1.8 bad sender"), What.SOFT),
        (dsn("4.4.7"), What.SOFT),
        (dsn("nonsense", "550 5.1.1 no such user"), What.HARD),
        (dsn("4.2.2", "550 5.1.1"), What.SOFT),
        (dsn("5.1.1", action="delayed"), None),
        (dsn("2.1.5", action="delivered"), None),
        (b"Subject: out of office\r\nAuto-Submitted: auto-replied\r\n\r\nback on 5.1.1\r\n", None),
        (b"", None),
        (b"\0\xff\r\n\r\n--b", None),
    ],
)
def test_a_bounce_is_read_as_the_rfcs_have_it(octets: bytes, what: What | None) -> None:
    said = bounces.read(octets)
    assert (None if said is None else said.what) == what


@given(st.data())
def test_whatever_is_written_is_read_or_passed_over(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([dsn("5.1.1", "x"), arf("abuse", b"List-Unsubscribe: <x>\r\n\r\n")]))
    at = data.draw(st.integers(0, len(base)))
    cut = data.draw(st.integers(0, 60))
    octets = base[:at] + data.draw(st.binary(max_size=80)) + base[at + cut :]
    said = bounces.read(octets)
    if said is not None:
        assert said.words.isprintable() and len(said.words) <= 600 and len(said.status) <= 9


def test_a_report_of_a_thousand_parts_takes_no_time() -> None:
    nested = b"Content-Type: message/rfc822\r\n\r\n" * 5000 + dsn("5.1.1")
    bounces.read(nested)  # whatever it says: it ends
    many = dsn("5.1.1").replace(b"--b\r\nContent-Type: text/plain", b"--b\r\n\r\n" * 5000 + b"--b\r\n\r\n")
    bounces.read(many)


@given(st.integers(0, 2**64 - 1), st.data())
def test_a_mark_opens_only_as_it_was_made(row: int, data: st.DataObject) -> None:
    keys = Keys(bytes(range(64)))
    mark = keys.mark(row)
    assert keys.marked(mark) == keys.marked(mark.upper()) == row
    at = data.draw(st.integers(0, len(mark) - 1))
    other = data.draw(
        st.sampled_from([each for each in "abcdefghijklmnopqrstuvwxyz234567" if each != mark[at]])
    )
    assert keys.marked(mark[:at] + other + mark[at + 1 :]) is None
    assert Keys(bytes(64)).marked(mark) is None


@given(st.text(max_size=60))
def test_no_text_is_a_mark(text: str) -> None:
    assert Keys(bytes(range(64))).marked(text) is None


def test_what_the_gate_has_kept_is_read_and_removed(opened: Opened, sent: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "returned"
    feedback = Feedback(tmp_path / "none.json", folder)
    feedback.hear(opened)  # there is no folder: nothing to do
    folder.mkdir()
    (folder / "1").write_bytes(address(opened).encode() + b"\n" + dsn("5.1.1"))
    (folder / "2").write_bytes(os.urandom(500))
    (folder / ".3").write_bytes(b"still being written")
    feedback.hear(opened)
    assert blocked(opened) == "bounced"
    assert [each.name for each in folder.iterdir()] == [".3"]


def test_who_is_forgotten_leaves_no_bounce(opened: Opened, sent: bytes) -> None:
    to = address(opened)
    returned.hear(opened, to, dsn("5.1.1", f"550 <{ALICE}> unknown"))
    persons.forget(opened, ALICE)
    with opened.read() as connection:
        assert connection.execute(schema.bounce.select()).all() == []
    assert not returned.hear(opened, to, dsn("5.1.1"))
