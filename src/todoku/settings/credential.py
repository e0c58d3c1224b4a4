"""The relay's user name and password, read from where the settings say they are, byte for byte.

Oracle's passwords are full of punctuation. Nothing is stripped, unquoted or expanded here but the line end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from todoku.settings.outside import Relay

_HOW = "write the user name on the first line and the password on the second, as Oracle's console showed them"
_HOW_STORE = "write the access key on the first line and the secret key on the second"
_HOW_ALONE = "write the password alone into it, on one line"
_LARGEST = 4096  # bytes; a user name has about 200 characters, a password 20


class CredentialError(Exception):
    """The credential is not there, or not as it has to be; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class RelayCredential:
    """The SMTP user name and password that Oracle's console gave out."""

    username: str
    password: str = field(repr=False)


def read(relay: Relay, environ: Mapping[str, str]) -> RelayCredential:
    """The credential from the file or from `environ`, whichever `relay` names. Raises `CredentialError`."""
    if relay.credential_env is not None:
        return _from_environment(relay.credential_env, environ)
    assert relay.credential_file is not None, "the rules require one of the two"  # noqa: S101
    return RelayCredential(*_two_lines(relay.credential_file, "the relay's credential", _HOW))


@dataclass(frozen=True, slots=True)
class StoreCredential:
    """An access key of an object store and its secret (at Oracle, a Customer Secret Key)."""

    access_key: str
    secret_key: str = field(repr=False)


def read_store(path: Path) -> StoreCredential:
    """The object store's credential from the administrator's file. Raises `CredentialError`."""
    return StoreCredential(*_two_lines(path, "the object store's credential", _HOW_STORE))


def read_password(path: Path, whose: str) -> str:
    """The password alone in a file that nobody else can read. Raises `CredentialError`, which never repeats it."""
    (password,) = _lines(path, whose, _HOW_ALONE, ("password",))
    return password


def _from_environment(prefix: str, environ: Mapping[str, str]) -> RelayCredential:
    values = []
    for name, what in ((f"{prefix}_USERNAME", "user name"), (f"{prefix}_PASSWORD", "password")):
        value = environ.get(name, "")
        if not value:
            raise CredentialError(
                f"the environment variable {name}, which should hold the relay's {what}, is "
                f"{'empty' if name in environ else 'not set'}: set it, or use relay.credential_file"
            )
        _check_characters(value, what, f"the environment variable {name}")
        values.append(value)
    return RelayCredential(*values)


def _two_lines(path: Path, whose: str, how: str) -> tuple[str, str]:
    named = ("user name", "password") if how is _HOW else ("access key", "secret key")
    first, second = _lines(path, whose, how, named)
    return first, second


def _lines(path: Path, whose: str, how: str, named: Sequence[str]) -> list[str]:
    """As many as there are names for what is on them."""
    text = _private_text(path, whose, how)
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    if len(lines) != len(named):
        raise CredentialError(f"{path} has {len(lines)} lines, not {len(named)}: {how}")
    for line, what in zip(lines, named, strict=True):
        if not line:
            raise CredentialError(f"{path}: the line of the {what} is empty: {how}")
        _check_characters(line, what, str(path), how)
    return lines


def _check_characters(value: str, what: str, place: str, how: str = _HOW) -> None:
    # A space inside a password is conceivable; one at either end is a slip of the copying hand.
    bad = next((at for at, character in enumerate(value, 1) if not " " <= character <= "~"), None)
    if bad is not None:
        raise CredentialError(
            f"{place}: character {bad} of the {what} is not printable ASCII: copy it again; {how}"
        )
    if value != value.strip(" "):
        raise CredentialError(f"{place}: the {what} begins or ends with a space: remove it")


def _private_text(path: Path, whose: str, how: str) -> str:
    """The content of a file that is a regular file and that nobody else can read."""
    try:
        # Opened first, asked afterwards: what is checked is what is read. A FIFO must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise CredentialError(f"{path}, which should hold {whose}, does not exist: {how}") from None
    except OSError as error:
        raise CredentialError(f"cannot read {path}, {whose}: {error.strerror}") from None
    try:
        content = _read_private(descriptor, path, whose, how)
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST:
        raise CredentialError(f"{path} is larger than {_LARGEST} bytes, it is not a credential: {how}")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        place = f"{path}: byte {error.start + 1}"
        raise CredentialError(f"{place} is not ASCII: copy the credential again; {how}") from None


def _read_private(descriptor: int, path: Path, whose: str, how: str) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise CredentialError(f"{path}, which should hold {whose}, is not a file: {how}")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise CredentialError(f"{path} can be used by others (mode {mode:04o}): run `chmod 600 {path}`")
    if status.st_uid not in (0, os.geteuid()):
        raise CredentialError(
            f"{path} belongs to another user (id {status.st_uid}), who could read and change it: "
            f"run `chown root:root {path}`"
        )
    return os.read(descriptor, _LARGEST + 1)
