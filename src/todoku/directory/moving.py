"""Accounts that come from another system: a CSV file, or a passwd-file as Dovecot reads it.

Pure: text in, accounts wanted and everything that is wrong out, each with its line. Hashes are kept as they are when
they are of a kind that is expensive to guess and that Dovecot 2.3 and 2.4 both verify; the others are named and refused
(doc.dovecot.org, "Password Schemes", "Passwd-file").
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydantic_core import PydanticCustomError

from todoku.directory import passwords
from todoku.directory.errors import PasswordRefusedError
from todoku.settings.values import size

COLUMNS = ("address", "password", "hash", "quota", "more")
LARGEST = 50_000_000  # bytes of a file
# What a hash begins with -> how Dovecot calls it. yescrypt and the like are crypt(3)'s: Debian's has them.
_KINDS = (
    (re.compile(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=1\$[^\s:]+"), "ARGON2ID"),
    (re.compile(r"\$argon2i\$v=19\$m=\d+,t=\d+,p=1\$[^\s:]+"), "ARGON2I"),
    (re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}"), "BLF-CRYPT"),
    (re.compile(r"\$6\$(rounds=\d+\$)?[^$\s:]{1,16}\$[./A-Za-z0-9]{86}"), "SHA512-CRYPT"),
    (re.compile(r"\$5\$(rounds=\d+\$)?[^$\s:]{1,16}\$[./A-Za-z0-9]{43}"), "SHA256-CRYPT"),
    (re.compile(r"\$y\$[./A-Za-z0-9]+\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}"), "CRYPT"),
)
ACCEPTED = tuple(name for _, name in _KINDS)
_NAMED = re.compile(r"\{([A-Za-z0-9._-]+)\}(.*)", re.DOTALL)
_QUOTA = re.compile(r"(?:^|\s)(?:userdb_)?quota_rule=\*:(storage|bytes)=(\d+)([kKmMgGtT]?)\b")
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


@dataclass(frozen=True, slots=True)
class Wanted:
    """An account as the file has it. Of `password` and `hashed` at most one is there."""

    line: int
    address: str
    password: str | None = field(default=None, repr=False)
    hashed: str | None = field(default=None, repr=False)  # with its scheme: "{BLF-CRYPT}$2y$..."
    quota: int | None = None  # bytes
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong in a line, and what to write instead. Never repeats a password."""

    line: int
    words: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.words}"


class _Wrong(Exception):
    pass


def read_csv(text: str) -> tuple[tuple[Wanted, ...], tuple[Mistake, ...]]:
    """A table with a first line of names, separated by comma or semicolon; `address` is the only one needed."""
    first = text.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    rows = csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=separator, strict=True)
    try:
        names = [name.strip().lower() for name in next(rows, [])]
        if unknown := [name for name in names if name not in COLUMNS]:
            return (), (Mistake(1, f'there is no column "{unknown[0]}": there are {", ".join(COLUMNS)}'),)
        if "address" not in names or len(set(names)) != len(names):
            return (), (Mistake(1, f"name each column once, and one of them address: {', '.join(COLUMNS)}"),)
        return _collect(_csv_rows(rows, names))
    except csv.Error as error:
        return (), (Mistake(rows.line_num, f"this is no CSV: {error}"),)


def _csv_rows(rows: Iterator[list[str]], names: Sequence[str]) -> Iterator[tuple[int, Wanted | _Wrong]]:
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        number = rows.line_num  # type: ignore[attr-defined]
        if not any(cell.strip() for cell in row):
            continue
        try:
            if len(row) != len(names):
                raise _Wrong(f"has {len(row)} fields, and the first line names {len(names)}")
            yield number, _of_cells(number, dict(zip(names, row, strict=True)))
        except _Wrong as wrong:
            yield number, wrong


def _of_cells(number: int, cells: dict[str, str]) -> Wanted:
    password, hashed = cells.get("password") or None, (cells.get("hash") or "").strip() or None
    if password and hashed:
        raise _Wrong("has a password and a hash: leave one of them empty")
    if password:
        try:
            passwords.check(password)
        except PasswordRefusedError as error:
            raise _Wrong(str(error)) from error
    return Wanted(
        number,
        _address(cells["address"]),
        password,
        accepted(hashed) if hashed else None,
        _size(cells.get("quota", "").strip()),
        tuple(re.split(r"[\s,;]+", more.strip())) if (more := cells.get("more", "")).strip() else (),
    )


def read_passwd_file(text: str, domain: str) -> tuple[tuple[Wanted, ...], tuple[Mistake, ...]]:
    """user:password:uid:gid:gecos:home:shell:extra. A user without a domain gets `domain`."""

    def rows() -> Iterator[tuple[int, Wanted | _Wrong]]:
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                yield number, _of_passwd_line(number, line.rstrip("\r"), domain)
            except _Wrong as wrong:
                yield number, wrong

    return _collect(rows())


def _of_passwd_line(number: int, line: str, domain: str) -> Wanted:
    user, colon, rest = line.partition(":")
    if not colon:
        raise _Wrong("has no colon, so this is no passwd-file: user:password:uid:gid::home::extra")
    # The extra fields, the eighth, may have colons of their own.
    parts = rest.split(":", 6)
    hashed, extra = parts[0], parts[6] if len(parts) > 6 else ""
    if re.search(r"(?:^|\s)nopassword\b", extra):
        raise _Wrong("lets its user in without a password (nopassword): take it out, and use --generate")
    found = _QUOTA.search(extra)
    quota = None
    if found:
        # A number alone is in KiB for "storage", in bytes for "bytes".
        unit = found[3].lower() or ("k" if found[1] == "storage" else "")
        quota = int(found[2]) * _UNITS[unit]
    return Wanted(
        number,
        _address(user if "@" in user else f"{user}@{domain}"),
        hashed=accepted(hashed) if hashed else None,
        quota=quota,
    )


def accepted(text: str) -> str:
    """The hash with its scheme, as Dovecot reads it. Raises an error that names the kind, and never the hash."""
    named = _NAMED.fullmatch(text)
    scheme, value = (named[1].upper(), named[2]) if named else ("", text)
    for pattern, name in _KINDS:
        if pattern.fullmatch(value):
            if scheme in ("", name, "CRYPT"):
                return f"{{{name}}}{value}"
            raise _Wrong(
                f"says {{{scheme}}}, and is {name}: correct it, or leave it empty, and use --generate"
            )
    kind = f"of the kind {scheme}" if scheme else "of an unknown or old kind"
    raise _Wrong(
        f"has a password {kind}, which is not taken over: {', '.join(ACCEPTED)} are. Leave it empty, and use --generate"
    )


def _address(text: str) -> str:
    address = text.strip()
    if not address.strip("@") or any(ord(character) < 33 for character in address):
        raise _Wrong("has no address")
    return address


def _size(text: str) -> int | None:
    if not text:
        return None
    try:
        return size(int(text) if text.isascii() and text.isdigit() else text)
    except (PydanticCustomError, ValueError) as error:
        raise _Wrong('has a quota that is no size: write a number of bytes, or a text like "5 GB"') from error


def _collect(rows: Iterator[tuple[int, Wanted | _Wrong]]) -> tuple[tuple[Wanted, ...], tuple[Mistake, ...]]:
    wanted: list[Wanted] = []
    mistakes: list[Mistake] = []
    seen: dict[str, int] = {}
    for number, row in rows:
        if isinstance(row, _Wrong):
            mistakes.append(Mistake(number, str(row)))
            continue
        for address in (row.address, *row.more):
            before = seen.setdefault(address.lower(), number)
            if before != number:
                mistakes.append(Mistake(number, f"{address} is in line {before} already"))
        wanted.append(row)
    return tuple(wanted), tuple(mistakes)
