"""What stands in the links of a message: who it went to, sealed, so that it tells nothing and nobody can make one.

AES-SIV (RFC 5297): the same message always gets the same link, without a row for it in the database; a changed octet
is noticed. The same key makes the Message-IDs, and the digests of addresses that are to be forgotten.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from todoku.campaign.errors import CampaignError

_SIZE = 64  # octets of the key: 32 for AES-SIV-256, 32 for HMAC
_PACKED = struct.Struct(">QQQ")
_ROW = struct.Struct(">Q")
MARK = 39  # characters of `Keys.mark`
_LONGEST = 100  # characters of a token; one has 56


class KeyFileError(CampaignError):
    """The key is not there, or is none."""


@dataclass(frozen=True, slots=True)
class Link:
    """`recipient` 0: not of a campaign's message, but of a form or of the command line."""

    subscriber: int
    list_id: int
    recipient: int = 0


@dataclass(frozen=True)
class Keys:
    """Made from the key file's octets."""

    octets: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.octets) != _SIZE:
            raise KeyFileError(
                f"the key has {len(self.octets)} octets instead of {_SIZE}: restore it from a backup"
            )
        object.__setattr__(self, "_siv", AESSIV(self.octets[:32]))

    def token(self, link: Link, purpose: str) -> str:
        """`purpose` is what the link is for: a token for one is none for another."""
        packed = _PACKED.pack(link.subscriber, link.list_id, link.recipient)
        sealed: bytes = self._siv.encrypt(packed, [purpose.encode()])  # type: ignore[attr-defined]
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def opened(self, token: str, purpose: str) -> Link | None:
        """None: nobody here made it."""
        if len(token) > _LONGEST or not token.isascii():
            return None
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            packed: bytes = self._siv.decrypt(sealed, [purpose.encode()])  # type: ignore[attr-defined]
            link = Link(*_PACKED.unpack(packed))
        except (InvalidTag, binascii.Error, ValueError, struct.error):
            return None
        # Base64 has several spellings of the same octets: only ours is one.
        return link if hmac.compare_digest(self.token(link, purpose), token) else None

    def mark(self, recipient: int) -> str:
        """39 small letters and digits for a return address, which some servers write in capitals."""
        sealed: bytes = self._siv.encrypt(_ROW.pack(recipient), [b"return"])  # type: ignore[attr-defined]
        return base64.b32encode(sealed).decode().rstrip("=").lower()

    def marked(self, mark: str) -> int | None:
        """The row of that mark; None: nobody here made it."""
        if len(mark) != MARK:
            return None
        try:
            sealed = base64.b32decode(mark.upper() + "=")
            (row,) = _ROW.unpack(self._siv.decrypt(sealed, [b"return"]))  # type: ignore[attr-defined]
        except (InvalidTag, binascii.Error, ValueError, struct.error):
            return None
        return int(row) if hmac.compare_digest(self.mark(row), mark.lower()) else None

    def digest(self, *words: str) -> str:
        """64 characters that say nothing about the words to those who do not have the key."""
        return hmac.digest(self.octets[32:], "\0".join(words).encode(), "sha256").hex()


def make(path: Path) -> None:
    """Make the key file where there is none. Whole or not at all; never replaces one."""
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    number = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(os.urandom(_SIZE))
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)  # does not replace one that was made meanwhile
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def read(path: Path) -> Keys:
    """Raises KeyFileError."""
    try:
        return Keys(path.read_bytes())
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}. `todoku apply` makes it") from error
