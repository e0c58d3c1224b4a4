"""From the directory to the files that Postfix and Dovecot read, so that a change is in force at once.

Nothing is restarted. `postmap lmdb:` updates a map in place, in one transaction: every Postfix process that
has it open answers from the new one with its next lookup, and a killed postmap leaves the old one whole. (A
rename would leave long-running processes with the old file.) Dovecot looks at a passwd-file's whole seconds
of mtime and size once a second: so each export gets a later second than the one before, or a second
password change within the same one would go unnoticed.
"""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from todoku.directory.contents import MAPS, PASSWD, USERDB, Contents
from todoku.directory.errors import BusyError, ExportFailedError, NotInForceError

FOLDER = Path("/var/lib/todoku/directory")
MAIL = Path("/var/lib/todoku/mail")
MAIL_USER = "vmail"

_LOCK = ".lock"
_LOCK_SECONDS = 30
_POSTMAP_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Owners:
    """The numeric ids that the exported files name, or belong to."""

    mail: tuple[int, int] | None  # uid and gid of all virtual mailboxes; None where that user does not exist
    dovecot_gid: int
    postfix_gid: int
    owner_uid: int = 0


def owners_here() -> Owners:
    """The ids on this machine. Raises `ExportFailedError` while Postfix and Dovecot are not there yet."""
    mail: tuple[int, int] | None = None
    with suppress(KeyError):  # needed in virtual mode only
        entry = pwd.getpwnam(MAIL_USER)
        mail = entry.pw_uid, entry.pw_gid
    try:
        return Owners(mail, grp.getgrnam("dovecot").gr_gid, grp.getgrnam("postfix").gr_gid)
    except KeyError as error:
        raise _missing(str(error.args[0])) from None


def _missing(what: str) -> ExportFailedError:
    return ExportFailedError(
        f"a user or group that mail needs is not there ({what}), and therefore nothing was changed: run "
        "`todoku apply`, which makes it"
    )


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes the files into `folder`. `mail`: where mailboxes are; `postmap`: the command, as a list."""

    folder: Path = FOLDER
    mail: Path = MAIL
    owners: Callable[[], Owners] = owners_here
    postmap: tuple[str, ...] = ("postmap",)

    def home(self, address: str) -> Path:
        """Where the mail of the account with this primary address is kept."""
        local, _, domain = address.rpartition("@")
        return self.mail / domain / local

    def mail_owner(self) -> tuple[int, int]:
        """The uid and gid of all virtual mailboxes. Raises `ExportFailedError` while that user is missing."""
        mail = self.owners().mail
        if mail is None:
            raise _missing(f"user {MAIL_USER}")
        return mail

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held around commit and export, so that no older export replaces a newer one. Raises `BusyError`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o755)  # whatever the umask: Postfix and Dovecot have to get in
            descriptor = os.open(self.folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _failed(self.folder, error) from error
        try:
            _acquire(descriptor, self.folder / _LOCK)
            yield
        finally:
            os.close(descriptor)

    def stage(self, contents: Contents) -> Staged:
        """Write the new files beside the old ones, complete and on the disk, without putting them in place.

        Raises `ExportFailedError`, and then has left nothing behind.
        """
        owners = self.owners()
        staged = Staged(self, self._postmap(), tuple(contents.texts()), owners)
        try:
            for name, text in contents.texts().items():
                self._write(name, text, owners)
        except OSError as error:
            staged.discard()
            raise _failed(self.folder, error) from error
        return staged

    def differences(self, contents: Contents) -> dict[str, str]:
        """What differs between `contents` and what is on the disk: file -> present text ("" when missing)."""
        self._postmap()
        owners = self.owners()
        found: dict[str, str] = {}
        for name, text in contents.texts().items():
            path = self.folder / name
            present = path.read_text() if path.exists() else ""
            if present != text or not _belongs(path, owners.owner_uid, _group(name, owners)):
                found[name] = present
        for name in MAPS:
            path = self.folder / f"{name}.lmdb"
            if (
                not _belongs(path, owners.owner_uid, owners.postfix_gid)
                or self._dump(name) != contents.maps[name]
            ):
                found.setdefault(path.name, "")
        return found

    def _write(self, name: str, text: str, owners: Owners) -> None:
        path = self.folder / name
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(_beside(path), flags, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fchown(file.fileno(), owners.owner_uid, _group(name, owners))
            os.fchmod(file.fileno(), 0o640)
            second = _next_second(path)
            os.utime(file.fileno(), (second, second))
            os.fsync(file.fileno())

    def _postmap(self) -> tuple[str, ...]:
        # The search path of a root shell does not always have the sbin folders.
        search = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
        program = shutil.which(self.postmap[0], path=search)
        if program is None:
            raise ExportFailedError(
                f"Postfix is not installed ({self.postmap[0]} was not found), and therefore nothing was "
                "changed: run `todoku apply` first, which installs it"
            )
        return (program, *self.postmap[1:])

    def _dump(self, name: str) -> dict[str, str] | None:
        """What is really in a map, as Postfix would read it; None when it cannot be read."""
        run = _run(*self._postmap(), "-s", f"lmdb:{self.folder / name}")
        if run.returncode != 0:
            return None
        lines = (line.partition("\t") for line in run.stdout.splitlines())
        return {key: value for key, _, value in lines}


@dataclass(frozen=True, slots=True)
class Staged:
    """An export that lies beside the files in use, ready to replace them."""

    exporter: Exporter
    postmap: tuple[str, ...]
    names: tuple[str, ...]
    owners: Owners

    def put_in_place(self) -> None:
        """Replace the files in use. Raises `NotInForceError`; the next export or `todoku apply` repairs."""
        folder = self.exporter.folder
        try:
            for name in self.names:
                path = folder / name
                os.replace(_beside(path), path)  # noqa: PTH105 - pairs with os.open
                if name in MAPS:
                    self._update_map(path)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except (OSError, subprocess.SubprocessError) as error:
            raise NotInForceError(_stored(f"{folder}: {error}")) from error

    def discard(self) -> None:
        """Remove what was staged."""
        for name in self.names:
            with suppress(OSError):
                _beside(self.exporter.folder / name).unlink(missing_ok=True)

    def _update_map(self, path: Path) -> None:
        database = path.with_name(f"{path.name}.lmdb")
        run = _run(*self.postmap, f"lmdb:{path}")
        if (
            run.returncode != 0
            and database.exists()
            and _run(*self.postmap, "-s", f"lmdb:{path}").returncode != 0
        ):
            # It is damaged: nothing can be updated in it, and nobody gets an answer from it.
            run = self._make_anew(path, database)
        if run.returncode != 0:
            raise NotInForceError(
                _stored(f"postmap lmdb:{path} said: {run.stderr.strip() or run.returncode}")
            )
        os.chown(database, self.owners.owner_uid, self.owners.postfix_gid)
        database.chmod(0o640)

    def _make_anew(self, path: Path, database: Path) -> subprocess.CompletedProcess[str]:
        source = path.with_name(f".{path.name}.anew")
        made = source.with_name(f"{source.name}.lmdb")
        try:
            source.write_bytes(path.read_bytes())
            run = _run(*self.postmap, f"lmdb:{source}")
            if run.returncode == 0:
                made.replace(database)
            return run
        finally:
            source.unlink(missing_ok=True)
            made.unlink(missing_ok=True)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=_POSTMAP_SECONDS, check=False)


def _stored(reason: str) -> str:
    return (
        f"the change is stored, but Postfix and Dovecot have not got all of it yet. {reason}. Correct that "
        "(df shows whether the disk is full), then run `todoku apply`: it puts it in force"
    )


def _failed(folder: Path, error: OSError) -> ExportFailedError:
    return ExportFailedError(
        f"the files for Postfix and Dovecot could not be written to {folder} ({error.strerror}), and "
        f"therefore nothing was changed: look whether the disk is full (df {folder}) or read-only, then do "
        "it again"
    )


def _acquire(descriptor: int, path: Path) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise BusyError(
                    f"another todoku command has been changing the directory for {_LOCK_SECONDS} seconds, "
                    f"and therefore nothing was changed: wait for it, or see which it is (fuser {path})"
                ) from None
            time.sleep(0.02)
        else:
            return


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _group(name: str, owners: Owners) -> int:
    return owners.dovecot_gid if name in (PASSWD, USERDB) else owners.postfix_gid


def _belongs(path: Path, user: int, group: int) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (user, group, 0o640)


def _next_second(path: Path) -> int:
    """A time for the file to replace `path`: now, or a second after the present one when that is not past."""
    try:
        return max(int(time.time()), int(path.stat().st_mtime) + 1)
    except FileNotFoundError:
        return int(time.time())
