"""What the operating system's errors mean for the one who runs the program: a sentence and what to do."""

from __future__ import annotations

import errno
from subprocess import CalledProcessError, SubprocessError, TimeoutExpired

from todoku.plan.resource import ChangeFailed, LookFailed

# What can go wrong with a machine, as opposed to with the program.
EXPECTED = (ChangeFailed, LookFailed, OSError, SubprocessError)

_SENTENCES = {
    errno.ENOSPC: "the disk is full{at}: make room (`df -h` shows where), then try again",
    errno.EDQUOT: "the disk quota is used up{at}: make room or raise it, then try again",
    errno.EROFS: "the file system is read-only{at}: mount it for writing, then try again",
    errno.EACCES: "no permission{at}: run it as root (sudo), or look for what protects it",
    errno.EPERM: "not permitted{at}: run it as root (sudo), or look for what protects it (`lsattr`)",
    errno.ENOENT: "there is no such file or program{at}",
    errno.EIO: "the disk reports an input/output error{at}: look at `dmesg`",
}


def explain(error: BaseException) -> str:
    """`error` as a sentence for a person."""
    match error:
        case TimeoutExpired():
            return f"{_program(error.cmd)} did not end within {error.timeout:g} s"
        case CalledProcessError():
            return f"{_program(error.cmd)} failed with code {error.returncode}"
        case OSError() if error.errno in _SENTENCES:
            return _SENTENCES[error.errno].format(at=_at(error))
        case OSError() if error.strerror:
            return f"{error.strerror}{_at(error)}"
    if isinstance(error, EXPECTED):
        return str(error) or type(error).__name__
    return f"an error in the program itself ({type(error).__name__}); please report it"


def _at(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return f" ({' -> '.join(names)})" if names else ""


def _program(command: object) -> str:
    """The program's name alone: its arguments help nobody here."""
    return str(command[0]) if isinstance(command, list | tuple) and command else str(command).split(" ", 1)[0]
