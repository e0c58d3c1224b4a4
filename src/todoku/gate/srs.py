"""Return addresses for forwarded mail, after the Sender Rewriting Scheme (SRS) draft.

    bounces+SRS0=HHHHHHHH=TT=outside.example=dave@hoge.example

stands for dave@outside.example. TT is the day it was made, HHHHHHHH a keyed hash, without which anybody could have
us forward mail to anybody. bounces@ is an address that every domain of ours has, and "+" Postfix's recipient
delimiter, so that the address exists for Postfix without a look-up. Lower case throughout: some mail servers fold
the local part, and base32 does not mind.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

SECRET = Path("/var/lib/todoku/gate/srs-secret")
MAILBOX = "bounces"
VALID_DAYS = 21
_DAY = 86400
_CYCLE = 1024  # days that two base32 digits tell apart
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_LOCAL = re.compile(rf"{MAILBOX}\+SRS0=([a-z2-7]{{8}})=([a-z2-7]{{2}})=([^=@]+)=(.+)", re.IGNORECASE)
# RFC 5321 4.1.2, Dot-string: what needs no quotes
_DOT_STRING = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


class NotValid(Exception):
    """The return address cannot be used. The message says why, in words for whoever wrote to it."""


class CannotRewrite(Exception):
    """The address cannot be put into a return address; the message says why."""


def plain(domain: str) -> str:
    """Where what concerns nobody outside comes back to: the postmaster reads it."""
    return f"{MAILBOX}@{domain}"


def is_return_address(address: str) -> bool:
    """Whether it has the form of one; says nothing about its hash."""
    return bool(_LOCAL.fullmatch(address.rpartition("@")[0]))


def forward(address: str, domain: str, secret: bytes, now: float) -> str:
    """The return address at `domain` for an envelope sender; for the null sender, `plain`."""
    if not address:
        return plain(domain)
    local, _, host = address.rpartition("@")
    if not _DOT_STRING.fullmatch(local) or not re.fullmatch(r"[A-Za-z0-9.-]+", host):
        raise CannotRewrite(f"<{address}> has characters that a return address cannot carry")
    day = int(now // _DAY) % _CYCLE
    stamp = _DIGITS[day >> 5] + _DIGITS[day & 31]
    return f"{MAILBOX}+SRS0={_hash(secret, stamp, host, local)}={stamp}={host}={local}@{domain}"


def reverse(address: str, secret: bytes, now: float) -> str:
    """Whom the return address stands for. Raises NotValid."""
    found = _LOCAL.fullmatch(address.rpartition("@")[0])
    if not found:
        raise NotValid("It is no return address")
    given, stamp, host, local = found.groups()
    stamp = stamp.lower()
    if not hmac.compare_digest(given.lower(), _hash(secret, stamp, host, local)):
        raise NotValid("This return address was not given out by us, or was changed on its way")
    made = _DIGITS.index(stamp[0]) << 5 | _DIGITS.index(stamp[1])
    age = (int(now // _DAY) - made) % _CYCLE
    if age > VALID_DAYS and age != _CYCLE - 1:  # a clock that was a little ahead is forgiven
        raise NotValid(f"This return address was good for {VALID_DAYS} days only")
    return f"{local}@{host}"


def _hash(secret: bytes, stamp: str, host: str, local: str) -> str:
    text = "\0".join((stamp, host, local)).lower().encode()
    return base64.b32encode(hmac.new(secret, text, hashlib.sha256).digest())[:8].decode().lower()


def secret(path: Path = SECRET) -> bytes:
    """The secret, made at the first use; whichever process comes first, all get the same."""
    with suppress(FileNotFoundError):
        return _read(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink()
    return _read(path)


def _read(path: Path) -> bytes:
    found = path.read_bytes().strip()
    if len(found) < 32:
        raise ValueError(f"{path} holds no secret: remove it, and the gate makes a new one")
    return found
