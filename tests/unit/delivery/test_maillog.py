# "The log says sent" is where most people's knowledge of a message ends. Here the log's lines, in every form in which
# they reach a file, are read for good; and whatever a stranger gets written into a log does no harm.

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.delivery.entries import (
    Active,
    Attempt,
    Expired,
    Handed,
    Named,
    Noticed,
    Rejected,
    Removed,
)
from todoku.delivery.maillog import MailLog

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC).timestamp()
THEN = datetime(2026, 11, 24, 8, 12, 19, tzinfo=UTC).timestamp()
QID = "4jYbBq1gR6z5F"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def read(*lines: str, now: float = NOW):
    return MailLog(lambda: now).entries("".join(f"{line}\n" for line in lines).encode())


def said(rest: str, daemon: str = "qmgr[329]", stamp: str = "Nov 24 08:12:19"):
    entries = read(f"{stamp} mx postfix/{daemon}: {QID}: {rest}")
    assert len(entries) == 1, entries
    return entries[0]


def test_a_submission_is_known_by_its_login_and_client() -> None:
    line = "client=pc.office.example[192.168.77.2], sasl_method=PLAIN, sasl_username=alice@hoge.example"
    taken = said(line, "submission/smtpd[12]")
    assert taken == Handed(
        THEN, QID, "submission/smtpd", "pc.office.example[192.168.77.2]", "alice@hoge.example"
    )
    assert said("client=unknown[198.51.100.80]", "smtpd[1]") == Handed(
        THEN, QID, "smtpd", "unknown[198.51.100.80]", ""
    )
    assert said("uid=33 from=<www-data>", "pickup[3]") == Handed(THEN, QID, "pickup", "", "")


def test_the_queue_and_the_message_id() -> None:
    assert said("message-id=<m.1@hoge.example>", "cleanup[5]") == Named(THEN, QID, "<m.1@hoge.example>")
    assert said("from=<bob@hoge.example>, size=303, nrcpt=2 (queue active)") == Active(
        THEN, QID, "bob@hoge.example", 303, 2
    )
    assert said("from=<>, size=2286, nrcpt=1 (queue active)") == Active(THEN, QID, "", 2286, 1)
    assert said("removed") == Removed(THEN, QID)
    assert said("from=<bob@hoge.example>, status=expired, returned to sender") == Expired(
        THEN, QID, "bob@hoge.example"
    )
    assert said("sender non-delivery notification: 4jYbBq4Q7lz5X", "bounce[7]") == Noticed(
        THEN, QID, "sender non-delivery notification", "4jYbBq4Q7lz5X"
    )


def test_every_attempt_has_the_other_sides_words() -> None:
    relay = "smtp.email.ap-tokyo-1.oci.oraclecloud.com[192.0.2.20]:587"
    sent = said(
        f"to=<carol@mailbox.example>, relay={relay}, delay=0.4, delays=0.04/0.17/0.18/0.01, dsn=2.0.0, "
        "status=sent (250 Ok)",
        "smtp[407]",
    )
    assert sent == Attempt(THEN, QID, "smtp", "carol@mailbox.example", "", relay, "2.0.0", "sent", "250 Ok)")
    later = said(
        f"to=<x@mailbox.example>, orig_to=<info@hoge.example>, relay={relay}, conn_use=3, delay=5, delays=1/2/1/1, "
        "dsn=4.3.0, status=deferred (host smtp.email[192.0.2.20] said: 455 Maximum messages sent per day reached "
        ": limit is 200 (in reply to RCPT TO command))",
        "smtp[407]",
    )
    assert (later.original, later.status, later.dsn) == ("info@hoge.example", "deferred", "4.3.0")
    assert "455 Maximum messages sent per day" in later.words
    cut = said(
        f"to=<x@mailbox.example>, relay={relay}, delay=5, delays=1/2/1/1, dsn=5.0.0, status=bounced (hos",
        "smtp[4]",
    )
    assert (cut.status, cut.words) == ("bounced", "hos")
    assert said('to=<"odd>, relay=fake"@mailbox.example>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, '
                "status=deferred (connect: refused)", "smtp[4]").host == "none"  # fmt: skip


def test_refusals_are_read_with_their_envelope() -> None:
    line = (
        "reject: RCPT from pc[192.168.77.2]: 553 5.7.1 <x@hoge.example>: Sender address rejected: not owned by user "
        "alice@hoge.example; from=<x@hoge.example> to=<carol@mailbox.example> proto=ESMTP helo=<[127.0.0.1]>"
    )
    refused = read(f"Nov 24 08:12:19 mx postfix/submission/smtpd[9]: NOQUEUE: {line}")[0]
    assert isinstance(refused, Rejected)
    assert refused[1:6] == ("", "submission/smtpd", "RCPT", "pc[192.168.77.2]", refused.words)
    assert refused.words.startswith("553 5.7.1") and refused.words.endswith("user alice@hoge.example")
    assert (refused.sender, refused.recipient, refused.by_gate) == (
        "x@hoge.example",
        "carol@mailbox.example",
        False,
    )
    milter = said(
        "milter-reject: END-OF-MESSAGE from pc[192.168.77.2]: 5.7.1 From says; from=<a@b> to=<c@d> proto=ESMTP "
        "helo=<x>",
        "cleanup[8]",
    )
    assert (milter.by_gate, milter.stage, milter.words) == (True, "END-OF-MESSAGE", "5.7.1 From says")


REST = "from=<bob@hoge.example>, size=303, nrcpt=2 (queue active)"


@pytest.mark.parametrize(
    "head",
    [
        "Nov 24 08:12:19 mx postfix/qmgr[329]:",
        "2026-11-24T08:12:19.000000+00:00 mx postfix/qmgr[329]:",
        "2026-11-24T17:12:19+09:00 mx postfix/qmgr[329]:",
        "2026-11-24T08:12:19Z mx postfix/qmgr[329]:",
        "<22>1 2026-11-24T08:12:19.000Z mx postfix/qmgr 329 - - ",
        "<22>1 2026-11-24T08:12:19.000Z mx.hoge.example postfix-out/qmgr 329 - -",
        "Nov 24 08:12:19 mx postfix-out/qmgr[329]:",
    ],
)
def test_all_forms_of_stamp_and_name_are_read(head: str) -> None:
    line = f"{head.rstrip()} {QID}: {REST}"
    assert read(line) == [Active(THEN, QID, "bob@hoge.example", 303, 2)]


def test_a_stamp_without_a_year_is_the_latest_one_that_is_not_in_the_future() -> None:
    new_year = datetime(2027, 1, 1, 0, 0, 5, tzinfo=UTC).timestamp()
    old, new = read(f"Dec 31 23:59:59 mx postfix/qmgr[1]: {QID}: removed",
                    f"Jan  1 00:00:01 mx postfix/qmgr[1]: {QID}: removed", now=new_year)  # fmt: skip
    assert datetime.fromtimestamp(old.time, UTC).isoformat() == "2026-12-31T23:59:59+00:00"
    assert datetime.fromtimestamp(new.time, UTC).isoformat() == "2027-01-01T00:00:01+00:00"
    leap = read(f"Feb 29 12:00:00 mx postfix/qmgr[1]: {QID}: removed", now=NOW)[0]
    assert datetime.fromtimestamp(leap.time, UTC).year == 2024
    # A clock that is set back an hour makes no line a year old.
    assert datetime.fromtimestamp(said("removed", stamp="Nov 24 12:59:00").time, UTC).year == 2026


def test_other_lines_say_nothing() -> None:
    assert read(
        "Nov 24 08:12:19 mx postfix/submission/smtpd[9]: connect from pc[192.168.77.2]",
        "Nov 24 08:12:19 mx postfix/smtp[407]: Verified TLS connection established to x[192.0.2.20]:587: TLSv1.2",
        "Nov 24 08:12:19 mx dovecot: lmtp(408): Connect from local",
        "Nov 99 08:12:19 mx postfix/qmgr[1]: 4jYbBq1gR6z5F: removed",
        "2026-13-24T08:12:19Z mx postfix/qmgr[1]: 4jYbBq1gR6z5F: removed",
        "Nov 24 08:12:19 mx postfix/smtp[4]: 4jYbBq1gR6z5F: to=<x>, relay=y, st",
        "",
    ) == []  # fmt: skip


@given(st.binary(max_size=600))
@settings(max_examples=400)
def test_whatever_is_in_a_log_no_exception_comes_out(noise: bytes) -> None:
    line = b"Nov 24 08:12:19 mx postfix/qmgr[329]: 4jYbBq1gR6z5F: removed\n"
    entries = MailLog(lambda: NOW).entries(noise + b"\n" + line)
    assert entries[-1] == Removed(THEN, QID)


_WORD = st.text(alphabet="ab<>,=()[]: \x00\udcff0\u3042/-", max_size=12).map(
    lambda text: text.encode("utf-8", "surrogateescape")
)


@given(st.lists(st.tuples(st.sampled_from([
    b"to=<", b">, relay=", b", delay=1, delays=1/1/1/1, dsn=", b"2.0.0", b", status=sent (", b"from=<", b">, size=",
    b"99999999999999999999999", b", nrcpt=", b"client=", b", sasl_username=", b"message-id=", b"removed", b"reject: ",
    b"milter-reject: ", b"RCPT from a[b]: ", b"; from=<", b"> to=<", b"uid=1", b"sender delay notification: ",
]), _WORD), max_size=8))  # fmt: skip
@settings(max_examples=400)
def test_lines_that_are_nearly_right_do_no_harm(parts) -> None:
    rest = b"".join(a + b for a, b in parts)
    for entry in MailLog(lambda: NOW).entries(
        b"Nov 24 08:12:19 mx postfix/x[1]: 4jYbBq1gR6z5F: " + rest + b"\n"
    ):
        assert entry.time == THEN
        assert entry.queue_id in (QID, "")


def test_a_line_cannot_forge_another_one() -> None:
    # What others write into a log line stays within that line: Postfix writes no line ends of theirs.
    forged = "message-id=<x>, status=sent Nov 24 08:12:19 mx postfix/qmgr[1]: 5aaaaaaaaaaaa: removed"
    assert read(f"Nov 24 08:12:19 mx postfix/cleanup[5]: {QID}: {forged}") == [
        Named(THEN, QID, forged.removeprefix("message-id="))
    ]


def test_time_zones_of_the_machine_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    assert said("removed", stamp="Nov 24 17:12:19").time == THEN
    assert os.environ["TZ"] == "Asia/Tokyo"
