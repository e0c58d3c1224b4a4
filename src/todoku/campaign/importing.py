"""Subscribers from a CSV file (RFC 4180): a line each, with what they agreed to, and a report line by line.

The first line names the columns. `address` (or `email`) and `evidence` are the file's own; every other column is an
attribute. A file with faults imports nothing unless that is asked for; who unsubscribed, bounced, complained or asked
to be forgotten is passed over whatever the file says.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select

from todoku.campaign import lists
from todoku.campaign.errors import CampaignError, NotSoError
from todoku.campaign.lists import Evidence, Membership
from todoku.campaign.opened import Opened
from todoku.store import campaign_schema as schema

LARGEST = 500_000_000  # bytes of a file
_ADDRESS = ("address", "email", "e-mail", "mail", "メールアドレス")
_EVIDENCE = ("evidence", "consent", "同意")
_LANGUAGE = ("language", "言語")


class FileError(CampaignError):
    """The file cannot be read as a whole."""


@dataclass(frozen=True, slots=True)
class Line:
    """One that can be imported. `number` is that of the file's line on which it ends."""

    number: int
    address: str
    evidence: str
    language: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    number: int
    words: str


@dataclass(slots=True)
class Report:
    """What an import does, or would do. `passed_over` and `faults` name the lines."""

    added: int = 0
    known: int = 0
    without_evidence: int = 0
    passed_over: list[Fault] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    done: bool = False


def decoded(octets: bytes) -> str:
    """UTF-8, with or without its mark; or Shift_JIS, as spreadsheets in Japan save CSV. Raises FileError."""
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return octets.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise FileError("the file is neither UTF-8 nor Shift_JIS: save it as CSV in UTF-8")


def lines(text: str) -> Iterator[Line | Fault]:
    """Every line of the file, good or bad. Raises FileError when the first line names no address."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise FileError(f"line 1 is no CSV: {error}") from error
    columns = _Columns.of(header or [])
    seen: dict[str, int] = {}
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Fault(reader.line_num, f"is no CSV: {error}; what follows cannot be read either")
            return
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        yield _line(columns, cells, reader.line_num, seen)


@dataclass(frozen=True, slots=True)
class _Columns:
    names: tuple[str, ...]
    address: int
    evidence: int | None
    language: int | None

    @classmethod
    def of(cls, header: Sequence[str]) -> _Columns:
        names = tuple(name.strip().lower() for name in header)
        address = _index(names, _ADDRESS)
        if address is None:
            raise FileError('the first line has to name the columns, and one of them "address"')
        if len(set(names)) < len(names):
            raise FileError("the first line names a column twice")
        return cls(names, address, _index(names, _EVIDENCE), _index(names, _LANGUAGE))


def _index(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(each) for each in wanted if each in names), None)


def _line(columns: _Columns, cells: Sequence[str], number: int, seen: dict[str, int]) -> Line | Fault:
    if len(cells) != len(columns.names):
        return Fault(number, f"has {len(cells)} columns instead of {len(columns.names)}")
    own = {columns.address, columns.evidence, columns.language}
    given = {name: cells[at].strip() for at, name in enumerate(columns.names) if at not in own}
    language = cells[columns.language].strip().lower() if columns.language is not None else "ja"
    try:
        address = lists.check_address(cells[columns.address])
        attributes = lists.check_attributes({name: value for name, value in given.items() if value})
    except NotSoError as error:
        return Fault(number, str(error))
    if language not in ("", "ja", "en"):
        return Fault(number, f'has the language "{language[:20]}": ja or en')
    if address in seen:
        return Fault(number, f"has {address} again, which is on line {seen[address]}")
    seen[address] = number
    evidence = cells[columns.evidence].strip() if columns.evidence is not None else ""
    return Line(number, address, evidence, language or "ja", attributes)


def run(opened: Opened, list_name: str, path: Path, *, dry: bool, despite_faults: bool) -> Report:
    """Import the file into the list, all of it in one transaction. Raises CampaignError, StoreError."""
    try:
        if path.stat().st_size > LARGEST:
            raise FileError(f"{path} is larger than {LARGEST // 1_000_000} MB: split it")
        text = decoded(path.read_bytes())
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    # Read twice, instead of keeping a million lines until it is known whether one of them is wrong.
    report = Report(faults=[each for each in lines(text) if isinstance(each, Fault)])
    writes = not dry and (despite_faults or not report.faults)
    with opened.write() if writes else opened.read() as connection:
        found = lists.find(connection, list_name)
        refused = _forgotten(connection)
        for line in lines(text):
            if isinstance(line, Line):
                _put(opened, connection, found.id, line, path.name, refused, report, writes=writes)
    report.done = writes
    return report


def _forgotten(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(select(schema.forgotten.c.digest)).scalars())


def _put(
    opened: Opened,
    connection: Connection,
    list_id: int,
    line: Line,
    file: str,
    refused: frozenset[str],
    report: Report,
    *,
    writes: bool,
) -> None:
    if refused and opened.keys.digest("forgotten", line.address) in refused:
        report.passed_over.append(Fault(line.number, "is somebody who asked to be forgotten"))
        return
    person = lists.subscriber(connection, line.address)
    if person is not None and person.blocked:
        report.passed_over.append(Fault(line.number, f"{line.address} has {_HAS[person.blocked]}"))
        return
    known = lists.membership(connection, list_id, person.id) if person is not None else None
    if known is not None and known.state == Membership.UNSUBSCRIBED:
        report.passed_over.append(Fault(line.number, f"{line.address} has unsubscribed"))
        return
    if known is not None:
        report.known += 1
    else:
        report.added += 1
        report.without_evidence += not line.evidence
    if not writes:
        return
    now = opened.clock()
    number = lists.put_subscriber(connection, line.address, line.attributes, line.language, now)
    if known is None:
        evidence = Evidence("imported", f"{file}, line {line.number}", line.evidence)
        lists.set_membership(connection, list_id, number, Membership.CONFIRMED, evidence, now)


_HAS = {
    "bounced": "bounced",
    "complained": "complained",
    "suppressed": "been put on the relay's suppression list",
}
