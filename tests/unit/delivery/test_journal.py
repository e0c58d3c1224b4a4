# Under systemd the log is in the journal. What journalctl(1) prints is read as the lines of a file are.

from __future__ import annotations

import json

import pytest

from todoku.delivery.entries import Active, Removed
from todoku.delivery.maillog import MailLog
from todoku.delivery.sources import JournalSource

FIRST = {
    "__CURSOR": "s=7e;i=1;b=01;m=f4240;t=6610144e1b5c0;x=1",
    "__REALTIME_TIMESTAMP": "1795507939000000",
    "SYSLOG_IDENTIFIER": "postfix/qmgr",
    "SYSLOG_PID": "329",
    "MESSAGE": "4jYbBq1gR6z5F: from=<bob@hoge.example>, size=303, nrcpt=2 (queue active)",
}


def entries(source: JournalSource, *records: object) -> list[object]:
    lines = b"".join(source._line(json.dumps(record).encode()) for record in records)
    return list(MailLog().entries(lines))


def test_an_entry_of_the_journal_is_a_line_of_the_log_and_its_cursor_the_position() -> None:
    source = JournalSource(MailLog())
    assert entries(source, FIRST) == [Active(1795507939.0, "4jYbBq1gR6z5F", "bob@hoge.example", 303, 2)]
    assert source.position == FIRST["__CURSOR"]


def test_the_entry_at_the_cursor_was_read_before() -> None:
    # journalctl --cursor begins with that entry; --after-cursor would lose one when it is gone.
    source = JournalSource(MailLog(), FIRST["__CURSOR"])
    later = FIRST | {"__CURSOR": "s=7e;i=2", "MESSAGE": "4jYbBq1gR6z5F: removed", "_PID": "7"}
    assert entries(source, FIRST, later) == [Removed(1795507939.0, "4jYbBq1gR6z5F")]


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        None,
        FIRST | {"__REALTIME_TIMESTAMP": "soon"},
        FIRST | {"MESSAGE": None},
        FIRST | {"MESSAGE": [255, 10, 0]},
        FIRST | {"MESSAGE": "two\nNov 24 08:12:19 mx postfix/qmgr[1]: 4jYbBq1gR6z5F: removed"},
        FIRST | {"_UID": "54321"},  # logger -p mail.info -t postfix/qmgr ...
        FIRST | {"_UID": "root"},
    ],
)
def test_what_anybody_may_write_into_the_journal_does_no_harm(record: object) -> None:
    assert entries(JournalSource(MailLog()), record) == []
