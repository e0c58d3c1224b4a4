"""A backup: one age file (https://age-encryption.org/v1) with a tar in it, which plain tools open as well:
`age -d -i KEY FILE | tar -t`.

In it are /etc/todoku and what is below /var/lib/todoku, except what `todoku apply` makes anew; databases as a
consistent snapshot, mail only when asked for. The last member is the manifest with the checksum of every file: an
archive without it is not whole. What is encrypted cannot be changed unnoticed, but whoever knows a public key can make
an archive, so restoring (`restore`) trusts nothing in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import todoku
from todoku.host.client import Host

FORMAT = "todoku-backup-1"
MANIFEST = "manifest.json"
ROOTS = ("etc/todoku", "var/lib/todoku")
MAIL = "var/lib/todoku/mail"
# Below a root: where restoring works, and keeps what was there before.
WORK, KEPT = ".restore", "before-restore"
DATABASE = "var/lib/todoku/todoku.sqlite3"
# Made anew by `todoku apply`, of one start only, or on its way: copies that a restore would send a second time. And
# what says that a database is an older copy (`campaign.rolled_back`).
_LEFT_OUT = frozenset(
    {
        "var/lib/todoku/campaign-password",
        "var/lib/todoku/campaign/last-sent",
        "var/lib/todoku/directory",
        "var/lib/todoku/gate/pid",
        "var/lib/todoku/gate/protect",
        "var/lib/todoku/ledger-password",
        "var/lib/todoku/protect/store-credential",
        "var/lib/todoku/protect/web.pid",
        "var/lib/todoku/quarantine/door",
        "var/lib/todoku/quarantine/messages",
        "var/lib/todoku/quarantine/pid",
    }
)
_JOURNALS = ("-wal", "-shm", "-journal")
_SQLITE = b"SQLite format 3\0"
_LARGEST_WITH_PASSPHRASE = 256 * 1024 * 1024  # bytes: with a passphrase all of it is held in memory


class BackupError(Exception):
    """A backup could not be made, or is of no use. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself."""

    todoku: str  # the version that made it
    created: str  # ISO 8601, UTC
    state: float  # when what is in it last changed: seconds since 1970
    hostname: str
    schema: str  # of the database; empty when there was none
    mail: bool
    files: dict[str, str]  # name -> SHA-256
    format: str = FORMAT


@dataclass(frozen=True, slots=True)
class Key:
    """How a backup is locked: with a passphrase, or for these recipients (public keys of age or of SSH)."""

    passphrase: str = ""
    recipients: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Key({'passphrase' if self.passphrase else ', '.join(self.recipients)})"


def write(host: Host, target: Path, key: Key, *, hostname: str, schema: str, mail: bool) -> Manifest:
    """Make the backup `target` (mode 0600), whole or not at all. Raises BackupError, OSError."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            packer = _Packer(host, hostname, schema, mail=mail)
            if key.passphrase:
                _with_passphrase(packer, file, key.passphrase)
            else:
                _for_recipients(packer, file, key.recipients)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    assert packer.manifest is not None  # noqa: S101  (pack() has come to its end)
    return packer.manifest


def state_of(host: Host) -> float:
    """When the settings, the secrets or the accounts on this machine last changed; 0 when there are none."""
    times = [0.0]
    for name, path in _files(host, mail=False):
        if name.startswith("etc/") or name == DATABASE:
            candidates = [path, path.with_name(path.name + "-wal")]
            # An empty journal only says that somebody has read.
            times += [each.stat().st_mtime for each in candidates if each.exists() and each.stat().st_size]
    return max(times)


def _with_passphrase(packer: _Packer, file: IO[bytes], passphrase: str) -> None:
    import pyrage

    packed = _Bounded()
    packer.pack(packed)
    file.write(pyrage.passphrase.encrypt(packed.getvalue(), passphrase))


def _for_recipients(packer: _Packer, file: IO[bytes], recipients: tuple[str, ...]) -> None:
    import pyrage

    keys = [recipient(text) for text in recipients]
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def pack() -> None:
        try:
            with os.fdopen(writing, "wb") as pipe:
                packer.pack(pipe)
        except BaseException as error:  # told by the thread that waits for this one
            failed.append(error)

    thread = threading.Thread(target=pack)
    keep = Told(file)
    with os.fdopen(reading, "rb") as pipe:
        thread.start()
        try:
            pyrage.encrypt_io(pipe, keep, keys)
        except BaseException as error:
            # The pipe is closed with the block: the thread then fails, and ends.
            failed.insert(0, keep.error or error)
    thread.join()
    if failed:
        raise failed[0]


def recipient(text: str) -> Any:
    """The public key `text`: age1... or ssh-... Raises BackupError."""
    import pyrage

    kind = pyrage.ssh.Recipient if text.startswith("ssh-") else pyrage.x25519.Recipient
    try:
        return kind.from_str(text)
    except pyrage.RecipientError as error:
        raise BackupError(
            f"{text[:40]} is no public key of age or SSH ({error}): write age1... as age-keygen prints it, or a "
            "line of a .pub file of the kind ssh-ed25519 or ssh-rsa"
        ) from None


class Told:
    """A file to write to that remembers what the system refused: pyrage makes an error of its own of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


class _Bounded(io.BytesIO):
    def write(self, content: Any, /) -> int:
        if self.tell() + len(content) > _LARGEST_WITH_PASSPHRASE:
            raise BackupError(
                f"with a passphrase a backup can have {_LARGEST_WITH_PASSPHRASE // 2**20} MiB at most: use "
                "--recipient with a key of age instead, or leave the mail out"
            )
        return super().write(content)


class _Packer:
    """Writes the tar, and makes the manifest on the way."""

    def __init__(self, host: Host, hostname: str, schema: str, *, mail: bool) -> None:
        self._host, self._hostname, self._schema, self._mail = host, hostname, schema, mail
        self._sums: dict[str, str] = {}
        self.manifest: Manifest | None = None

    def pack(self, into: IO[bytes]) -> None:
        state = state_of(self._host)
        with tarfile.open(fileobj=into, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for name, path in _files(self._host, mail=self._mail):
                # Mail that is read or moved meanwhile has another name then: the next backup has it.
                with contextlib.suppress(FileNotFoundError):
                    self._add(tar, name, path)
            if not self._sums:
                raise BackupError(
                    "there is nothing to back up: neither /etc/todoku nor /var/lib/todoku has a file"
                )
            self.manifest = Manifest(
                todoku=todoku.__version__,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                state=state,
                hostname=self._hostname,
                schema=self._schema,
                mail=self._mail,
                files=self._sums,
            )
            content = json.dumps(asdict(self.manifest), ensure_ascii=False).encode()
            member = tarfile.TarInfo(MANIFEST)
            member.size, member.mode = len(content), 0o600
            tar.addfile(member, io.BytesIO(content))

    def _add(self, tar: tarfile.TarFile, name: str, path: Path) -> None:
        if path.is_dir():
            tar.addfile(_member(tar, name, path))
            return
        with _opened(path) as file:
            member = _member(tar, name, path)
            member.size = os.fstat(file.fileno()).st_size
            hashing = _Hashing(file)
            tar.addfile(member, hashing)
            self._sums[name] = hashing.sum.hexdigest()


class _Hashing(io.RawIOBase):
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        block = self._file.read(size)
        self.sum.update(block)
        return block


def _member(tar: tarfile.TarFile, name: str, path: Path) -> tarfile.TarInfo:
    member = tar.gettarinfo(arcname=name, fileobj=None, name=str(path.resolve()))
    if not path.is_dir():
        member.type, member.linkname = tarfile.REGTYPE, ""  # hard links are files like others
    return member


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file; of a database a snapshot, in which nothing is half written."""
    with path.open("rb") as file:
        if file.read(len(_SQLITE)) != _SQLITE:
            file.seek(0)
            yield file
            return
    with tempfile.NamedTemporaryFile(prefix=".todoku-snapshot-", dir=path.parent) as copy:
        with (
            contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy.name)) as target,
        ):
            source.backup(target)
        with Path(copy.name).open("rb") as file:
            yield file


def _files(host: Host, *, mail: bool) -> Iterator[tuple[str, Path]]:
    """What belongs into a backup, folders before what is in them: its name in the tar, and where it is."""
    for root in ROOTS:
        yield from _below(root, host.real(f"/{root}"), mail=mail)


def _below(name: str, path: Path, *, mail: bool) -> Iterator[tuple[str, Path]]:
    # Links into the system (a certificate of another program) are followed: what they lead to is kept.
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if name in _LEFT_OUT or (name == MAIL and not mail):
        return
    if stat.S_ISREG(mode):
        if not path.name.endswith(_JOURNALS) and not path.name.startswith(".todoku-snapshot-"):
            yield name, path
    elif stat.S_ISDIR(mode) and not (path.is_symlink() and name not in ROOTS):
        yield name, path
        for entry in sorted(path.iterdir()):
            if not (name in ROOTS and entry.name in (WORK, KEPT)):
                yield from _below(f"{name}/{entry.name}", entry, mail=mail)
