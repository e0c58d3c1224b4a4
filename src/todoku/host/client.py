"""The machine: the only place in this room that runs programs and touches files.

Files are replaced so that a reader, or a power cut, finds either the old one or the new one, whole: written
beside the target with its final mode and owner, flushed to the disk, and renamed. What the operating system
refuses is raised as it is (OSError, with the name of the file that was meant); what a program refuses is a
HostError with the program's own words.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import stat as modes
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from todoku.plan.resource import ChangeFailed, LookFailed

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Nothing else is handed on: the environment may hold the relay's password.
_HANDED_ON = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "TERM"),
    # Where an organisation's proxy looks into TLS, its authority is in a file of its own.
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
)
_LAST_LINES = 8


class HostError(LookFailed, ChangeFailed):
    """A program could not do what it was asked: a failed look while looking, else a failed change."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended. Its output may hold secrets and is not printed."""

    args: tuple[str, ...]
    code: int
    stdout: str = field(repr=False, default="")
    stderr: str = field(repr=False, default="")

    @property
    def words(self) -> str:
        """What the program said at the end, for an error message."""
        said = [line for line in (self.stderr.strip() or self.stdout.strip()).splitlines() if line.strip()]
        return "\n".join(dict.fromkeys(said[-_LAST_LINES:]))


@dataclass(frozen=True, slots=True)
class Stat:
    """What is at a path."""

    kind: str  # "file", "directory" or "other"
    mode: int  # permission bits
    owner: str  # name, or number when it has none
    group: str
    changed: float  # ctime: seconds since 1970; a rename counts


@dataclass(frozen=True, slots=True)
class Host:
    """A machine whose files lie under `root`; its programs are this machine's own."""

    root: Path = Path("/")

    def run(
        self,
        args: Sequence[str],
        *,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        check: bool = True,
    ) -> Completed:
        """Run a program to its end, in a clean environment, in /, in a session of its own.

        Its own session, because Ctrl-C must not break dpkg off in the middle. Raises HostError when the
        program is not there, takes longer than `timeout` seconds (then it is ended), or, with `check`,
        returns another code than 0.
        """
        try:
            process = subprocess.Popen(
                list(args),
                stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(env or {}),
                cwd="/",
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            reason = f"{args[0]} could not be started: {error.strerror}. Is its package installed?"
            raise HostError(reason) from error
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            raise HostError(f"`{_shown(args)}` did not end within {timeout:g} s and was stopped") from None
        completed = Completed(tuple(args), process.returncode, stdout, stderr)
        if check and completed.code != 0:
            raise HostError(f"`{_shown(args)}` failed with code {completed.code}:\n{completed.words}")
        return completed

    def send_signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process; nothing when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def has(self, program: str) -> bool:
        """Whether a program of that name can be run."""
        return shutil.which(program, path=_PATH) is not None

    def real(self, path: str) -> Path:
        """Where `path` lies on this machine."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> bytes | None:
        """The content of a file; None when there is none. Raises OSError."""
        try:
            return self.real(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def text(self, path: str) -> str:
        """The content of a file as text; empty when there is none. Raises OSError."""
        return (self.read(path) or b"").decode("utf-8", "replace")

    def entries(self, path: str) -> tuple[str, ...]:
        """The names in a folder, sorted; none when there is no such folder, or it just went away."""
        try:
            return tuple(sorted(entry.name for entry in self.real(path).iterdir()))
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            return ()

    def link(self, path: str) -> str:
        """Where a symbolic link points; empty when it is none, or it just went away."""
        try:
            return str(self.real(path).readlink())
        except OSError:
            return ""

    def stat(self, path: str) -> Stat | None:
        """What is at `path`, links followed; None when nothing is. Raises OSError."""
        try:
            found = self.real(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        kind = (
            "directory"
            if modes.S_ISDIR(found.st_mode)
            else "file"
            if modes.S_ISREG(found.st_mode)
            else "other"
        )
        mode = modes.S_IMODE(found.st_mode)
        return Stat(kind, mode, _user_name(found.st_uid), _group_name(found.st_gid), found.st_ctime)

    def has_user(self, name: str) -> bool:
        """Whether there is a user of that name."""
        with contextlib.suppress(KeyError):
            return bool(pwd.getpwnam(name))
        return False

    def has_group(self, name: str) -> bool:
        """Whether there is a group of that name."""
        with contextlib.suppress(KeyError):
            return bool(grp.getgrnam(name))
        return False

    def make_directory(self, path: str, mode: int = 0o755, owner: str = "root", group: str = "root") -> None:
        """A folder with that mode and owner, whether it was there or not; missing parents are made (0755)."""
        real = self.real(path)
        with _naming(path):
            real.parent.mkdir(parents=True, exist_ok=True)
            if not real.is_dir():
                real.mkdir(mode=0o700, exist_ok=True)
            os.chown(real, _uid(owner), _gid(group))
            real.chmod(mode)  # last: chown may clear bits

    def write(
        self, path: str, content: bytes, *, mode: int, owner: str, group: str, age: float = 0.0
    ) -> None:
        """A file that nobody reads yet, flushed to the disk. On an error nothing is left of it.

        `age`: by how many seconds its time of modification lies in the past.
        """
        real = self.real(path)
        uid, gid = _uid(owner), _gid(group)
        with _naming(path):
            real.unlink(missing_ok=True)
            descriptor = os.open(real, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fchown(descriptor, uid, gid)
                    os.fchmod(descriptor, mode)
                    if age:
                        os.utime(descriptor, (time.time() - age,) * 2)
                    os.fsync(descriptor)
            except BaseException:
                real.unlink(missing_ok=True)
                raise

    def rename(self, source: str, target: str) -> None:
        """Put `source` in the place of `target`, at once and for good. Raises OSError."""
        with _naming(target):
            self.real(source).rename(self.real(target))
            _flush_folder(self.real(target).parent)

    def replace(
        self, path: str, content: bytes, *, mode: int = 0o644, owner: str = "root", group: str = "root"
    ) -> None:
        """Put a whole file in place: readers see the old or the new one. On OSError nothing changed."""
        folder, _, name = path.rpartition("/")
        # One fixed name: what a killed run left behind is taken over by the next one.
        temporary = f"{folder}/.{name}.todoku"
        with _naming(path):
            self.write(temporary, content, mode=mode, owner=owner, group=group)
            try:
                self.rename(temporary, path)
            except BaseException:
                self.remove(temporary)
                raise

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it, if it is there. Raises OSError."""
        real = self.real(path)
        if real.is_dir() and not real.is_symlink():
            shutil.rmtree(real)
        elif os.path.lexists(real):  # asked first: a read-only file system refuses even what is not there
            real.unlink(missing_ok=True)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    return {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"} | handed_on | dict(extra)


def _shown(args: Sequence[str]) -> str:
    return " ".join(args)


def _end(process: subprocess.Popen[str]) -> None:
    for signal_number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal_number)
            process.communicate(timeout=patience)
            return


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors name the file that was meant, not the temporary one beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = path, None
        raise


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise HostError(f"there is no user {name} on this machine, who should own a file") from None


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise HostError(f"there is no group {name} on this machine, which should own a file") from None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
