"""Lines of Postfix' log into entries, without I/O and without a clock of its own.

A whole block of lines is searched by one regular expression, so that lines that are of no interest cost next to
nothing. Understood are the three ways in which such lines reach a file: with the traditional stamp (RFC 3164, which
has neither year nor zone), with that of RFC 3339 as rsyslog writes it, and as RFC 5424. The name before the
daemon's ("postfix", "postfix/submission", "postfix-out") may be any: several instances may share a log.

The log is hostile input: strangers choose addresses, Message-IDs and replies. Postfix replaces what is not printable,
and cuts lines at some 2,000 characters; whatever a line holds, no exception leaves this module.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime

from todoku.delivery.entries import (
    Active,
    Attempt,
    Entry,
    Expired,
    Handed,
    Named,
    Noticed,
    Rejected,
    Removed,
)

# Stamp and host, instance and service, process, queue id; the rest begins with a word that matters.
_LINE = re.compile(
    r"\n(?:<\d+>1 )?([A-Z][a-z][a-z] [ \d]\d [\d:]{8}|[^ \n]+) [^ \n]+ [^ \n/\[]*/([^ \n\[]*)"
    r"(?:\[\d+\]:|(?<!:) \d+ [^ \n]+ -) ([0-9A-Za-z]{5,20}|NOQUEUE): ((?:to=|removed|from=|client=|message-id="
    r"|uid=|reject:|milter-reject:|sender |postmaster )[^\n\r]*)"
)
# A quoted local part may hold anything, also what looks like the rest of the line.
_ADDRESS = r'"(?:[^"\\]|\\.)*"[^>]*|[^>"]*'
_ATTEMPT = re.compile(
    rf"to=<({_ADDRESS})>, (?:orig_to=<({_ADDRESS})>, )?relay=([^,]*), .*?dsn=([\d.]+), status=([a-z]+) ?\(?(.*)"
)
_ACTIVE = re.compile(r"from=<(.*)>, size=(\d{1,18}), nrcpt=(\d{1,18})")
_EXPIRED = re.compile(r"from=<(.*)>, status=(?:force-)?expired")
_NOTICE = re.compile(r"((?:sender|postmaster) [a-z -]+ notification): ([0-9A-Za-z]+)")
_REJECT = re.compile(r"(milter-)?reject: ([A-Z-]+) from ([^\[]*\[[^\]]*\])(?::\d+)?: (.*)")
_ENVELOPE = re.compile(r"; from=<([^>]*)>(?: to=<([^>]*)>)?(?: proto=| helo=|$)")
_A_DAY = 86_400.0
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class MailLog:
    """Blocks of whole lines in, entries out. `now`: the clock, by which a stamp without a year gets one."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._stamp = ""
        self._time = 0.0

    def entries(self, block: bytes) -> list[Entry]:
        """What `block`, which ends with a line end, says about messages."""
        made: list[Entry] = []
        add, new, attempt, active = made.append, tuple.__new__, _ATTEMPT.match, _ACTIVE.match
        # Entries are made by tuple's own constructor, which takes half the time of a named tuple's.
        for stamp, service, queue_id, said in _LINE.findall("\n" + block.decode("utf-8", "replace")):
            if stamp != self._stamp and not self._read_stamp(stamp):
                continue
            first = said[0]
            if first == "t":
                if found := attempt(said):
                    add(new(Attempt, (self._time, queue_id, service, *found.groups(""))))
            elif first == "f":
                if found := active(said):
                    add(Active(self._time, queue_id, found[1], int(found[2]), int(found[3])))
                elif found := _EXPIRED.match(said):
                    add(Expired(self._time, queue_id, found[1]))
            elif said == "removed":
                add(new(Removed, (self._time, queue_id)))
            elif first == "m" and said[1] == "e":  # message-id=
                add(new(Named, (self._time, queue_id, said[11:])))
            elif first == "c":  # client=
                client, _, more = said[7:].partition(", ")
                login = more.partition("sasl_username=")[2].partition(",")[0]
                add(new(Handed, (self._time, queue_id, service, client, login)))
            elif first == "u":  # uid=
                add(Handed(self._time, queue_id, service, "", ""))
            elif found := _NOTICE.match(said):
                add(Noticed(self._time, queue_id, found[1], found[2]))
            elif found := _REJECT.match(said):
                add(_rejected(self._time, queue_id, service, *found.groups("")))
        return made

    def _read_stamp(self, stamp: str) -> bool:
        """Most lines have the stamp of the one before."""
        try:
            moment = datetime.fromisoformat(stamp).timestamp() if stamp[0].isdigit() else self._recent(stamp)
        except (ValueError, OverflowError, OSError):
            return False
        self._stamp, self._time = stamp, moment
        return True

    def _recent(self, stamp: str) -> float:
        """The year that makes a stamp the latest one not in the future; a clock a day ahead is no future."""
        now = self._now()
        year = time.localtime(now).tm_year
        for candidate in (year + 1, year, year - 1, year - 2, year - 3, year - 4):
            try:  # not strptime(3): its names of months are those of the locale
                month = 1 + _MONTHS.index(stamp[:3])
                hour, minute, second = map(int, stamp[7:].split(":"))
                moment = datetime(candidate, month, int(stamp[4:6]), hour, minute, second).timestamp()
            except ValueError:  # 29 February of another year
                continue
            if moment <= now + _A_DAY:
                return moment
        raise ValueError(stamp)


def _rejected(
    moment: float, queue_id: str, service: str, milter: str, stage: str, client: str, said: str
) -> Rejected:
    envelope = _ENVELOPE.search(said)
    sender, recipient = (envelope[1], envelope[2] or "") if envelope else ("", "")
    words = said[: envelope.start()] if envelope else said
    number = "" if queue_id == "NOQUEUE" else queue_id
    return Rejected(moment, number, service, stage, client, words, sender, recipient, bool(milter))
