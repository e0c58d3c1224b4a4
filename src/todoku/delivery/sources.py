"""Where entries come from, each with how far it has been read: the mail log as a file, the same in systemd's journal,
and the gate's records."""

from __future__ import annotations

import json
import logging
import os
import pwd
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from todoku.delivery.decisions import Decisions
from todoku.delivery.entries import Entry
from todoku.delivery.follow import Follower
from todoku.delivery.maillog import MailLog

log = logging.getLogger("todoku.agent")

_BLOCK = 128 * 1024
_MAIL = "SYSLOG_FACILITY=2"
_TIME = re.compile(
    r"(?:^|;)t=([0-9a-f]{1,16})(?:;|$)"
)  # of a cursor (systemd.journal-fields(7)): microseconds


class Source(Protocol):
    """`name` is that of its checkpoint."""

    name: str

    @property
    def position(self) -> str: ...
    def read(self) -> Sequence[Entry] | None:
        """What comes next, which may be nothing; None when there is no more now. OSError."""
        ...

    def committed(self) -> None:
        """What was read up to `position` is in the ledger."""
        ...


class LogSource:
    """The mail log as a file."""

    name = "mail log"

    def __init__(self, follower: Follower, parser: MailLog) -> None:
        self._follower, self._parser = follower, parser

    @property
    def position(self) -> str:
        return self._follower.position.text()

    def read(self) -> Sequence[Entry] | None:
        before = self._follower.position
        block = self._follower.read()
        if not block and self._follower.position == before:
            return None
        return self._parser.entries(block)

    def committed(self) -> None:
        pass


class DecisionSource:
    """The gate's records."""

    name = "gate"

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions

    @property
    def position(self) -> str:
        return self._decisions.position

    def read(self) -> Sequence[Entry] | None:
        return self._decisions.read() or None

    def committed(self) -> None:
        self._decisions.forget()


class JournalSource:
    """The same in systemd's journal, by journalctl(1): its cursor is the position.

    The journal may have thrown away where we were. The cursor says when that was, and what is later is read.
    """

    name = "journal"

    def __init__(self, parser: MailLog, position: str | None = None, more: Sequence[str] = ()) -> None:
        self._parser = parser
        self._cursor = position or ""
        self._more = list(more)
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._writers = {0, *(entry.pw_uid for entry in pwd.getpwall() if entry.pw_name == "postfix")}
        self._after = 0  # microseconds since 1970: what is not later was read

    @property
    def position(self) -> str:
        return self._cursor

    def committed(self) -> None:
        pass

    def read(self) -> Sequence[Entry] | None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        if process is None or process.stdout is None:
            return None
        try:
            octets = os.read(process.stdout.fileno(), _BLOCK)
        except BlockingIOError:
            return None
        if not octets:
            return None
        whole, end, self._rest = (self._rest + octets).rpartition(b"\n")
        lines = [self._line(line) for line in (whole + end).splitlines()]
        return self._parser.entries(b"".join(lines))

    def _start(self) -> None:
        self.close()
        command = [
            "journalctl",
            "--output=json",
            "--follow",
            "--no-pager",
            "--quiet",
            "--lines=all",
            *self._more,
        ]
        self._after = 0
        if self._cursor and self._knows_cursor():
            # Not --after-cursor: of a cursor that is gone it passes over the next entry as well.
            command += [f"--cursor={self._cursor}"]
        elif found := _TIME.search(self._cursor):
            self._after = int(found[1], 16)
            command += [f"--since=@{self._after // 1_000_000}"]
        process = subprocess.Popen(
            [*command, _MAIL], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None  # noqa: S101
        os.set_blocking(process.stdout.fileno(), False)
        self._process, self._rest = process, b""

    def _knows_cursor(self) -> bool:
        command = ["journalctl", "--quiet", "--lines=1", f"--cursor={self._cursor}", *self._more]
        known = subprocess.run(command, capture_output=True, check=False).returncode == 0
        if not known:
            log.warning("the journal no longer has what was read last: lines may be missing from the ledger")
        return known

    def _line(self, record: bytes) -> bytes:
        """As it would be in a file."""
        try:
            fields: dict[str, Any] = json.loads(record)
            written = int(fields["__REALTIME_TIMESTAMP"])
            moment = datetime.fromtimestamp(written / 1e6, UTC)
            text = fields.get("MESSAGE") or ""
            said = bytes(text) if isinstance(text, list) else str(text).encode("utf-8", "replace")
            name = str(fields.get("SYSLOG_IDENTIFIER") or "-").replace(" ", "_")
            number = int(fields.get("SYSLOG_PID") or fields.get("_PID") or 0)
            cursor = str(fields["__CURSOR"])
            # Any local user may write into the journal under any name; journald itself says who it was.
            if int(fields.get("_UID", 0)) not in self._writers:
                said = b""
            if written <= self._after or cursor == self._cursor:
                return b""
            self._cursor = cursor
        except (ValueError, KeyError, TypeError, OverflowError):
            return b""
        head = f"{moment.isoformat()} journal {name}[{number}]: "
        return head.encode("utf-8", "replace") + said.replace(b"\n", b" ") + b"\n"

    def close(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
