"""Passwords for ZIPs that were agreed on with a partner once: kept encrypted, for an address or a domain.

AES-256-GCM. The key is derived from the gate's own secret, which is another file: who gets hold of this
one alone, learns nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from todoku.protect.policy import names

FILE = Path("/var/lib/todoku/gate/zip-passwords")
SHORTEST = 12
_NONCE = 12


class NotReadable(ValueError):
    """The file is damaged, or was written with another secret."""


class Agreed:
    """Read anew at each use: what is set is in force at once. OSError where the file cannot be used."""

    def __init__(self, path: Path, secret: bytes) -> None:
        self._path = path
        self._cipher = AESGCM(hashlib.sha256(b"todoku zip passwords\0" + secret).digest())

    def find(self, recipient: str) -> tuple[str, str] | None:
        """The nearest name that a password was agreed on with (address, domain, domain above), and the password."""
        sealed = self._read()
        who = next((name for name in names(recipient.lower()) if name in sealed), None)
        return None if who is None else (who, self._open(who, sealed[who]))

    def all(self) -> list[str]:
        return sorted(self._read())

    def set(self, who: str, password: str) -> None:
        """ValueError for a password that programs would read differently, or that is too short."""
        if len(password) < SHORTEST or not password.isascii() or not password.isprintable():
            raise ValueError(
                f"a password for ZIPs needs at least {SHORTEST} characters, all of them printable ASCII: programs do "
                "not agree on others"
            )
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, password.encode(), who.encode())
        self._write(self._read() | {who: base64.b64encode(sealed).decode()})

    def remove(self, who: str) -> bool:
        """Whether there was one."""
        known = self._read()
        if known.pop(who, None) is None:
            return False
        self._write(known)
        return True

    def _open(self, who: str, sealed: str) -> str:
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], who.encode()).decode()
        except (InvalidTag, ValueError):
            raise NotReadable(
                f"the password agreed on with {who} in {self._path} cannot be read: set it again"
            ) from None

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise NotReadable(f"{self._path} is damaged: remove it, and set the passwords again") from None
        if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
            raise NotReadable(f"{self._path} is damaged: remove it, and set the passwords again")
        return found

    def _write(self, known: dict[str, str]) -> None:
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        descriptor = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(known, file)
            file.flush()
            os.fsync(descriptor)
        beside.rename(self._path)
