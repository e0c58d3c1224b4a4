"""Archives are unpacked in a process that has nothing: a user of its own without a group or a file, no way to write
one, little memory and time, and a new one for each archive.

What makes these processes is forked before the service has a connection or a thread, and gets for each archive two
descriptors: the archive, and a socket at whose other end the service asks and reads.

    asked:     a JSON line: {"passwords": [hexadecimal, ...]}
    answered:  frames of a letter, the length (32 bits), and so many bytes: N a file begins (its name), D a piece of it,
               . the end (empty: all of it came), ! it cannot be opened (the word of `archive.CannotOpen`)
"""

from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from todoku.quarantine import archive
from todoku.quarantine.archive import Began, Bounds, CannotOpen

NAME = "todoku-unpack"
MEMORY = 768 * 1024 * 1024
SECONDS = 180  # of a processor
_FRAME = struct.Struct(">cI")
_LARGEST = 1024 * 1024  # bytes of a frame
_WORDS = {
    kind.word: kind for kind in (archive.WrongPassword, archive.TooMuch, archive.Broken, archive.NotSupported)
}


@dataclass(slots=True)
class Unpacker:
    """The process that makes others. `control` is ours; it ends when that is closed."""

    control: socket.socket
    pid: int

    def ask(self, file: IO[bytes], passwords: Sequence[bytes], seconds: float) -> Iterator[archive.Event]:
        """As `archive.contents`. Blocks. Raises CannotOpen, also where the process gave up or `seconds` pass between
        two answers."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(self.control, [b"a"], [theirs.fileno(), file.fileno()])
            ours.settimeout(seconds)
            ours.sendall(json.dumps({"passwords": [each.hex() for each in passwords]}).encode() + b"\n")
            try:
                yield from _answers(ours)
            except TimeoutError:
                raise archive.TooMuch("it took too long") from None

    def close(self) -> None:
        self.control.close()
        os.waitpid(self.pid, 0)


def start(user: str | None, bounds: Bounds) -> Unpacker:
    """To be called before there are threads. `user` to become, when this is root."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid:
        theirs.close()
        return Unpacker(ours, pid)
    status = 1
    try:
        ours.close()
        _make(theirs, user, bounds)
        status = 0
    finally:
        os._exit(status)


def _answers(connection: socket.socket) -> Iterator[archive.Event]:
    with connection.makefile("rb") as frames:
        while True:
            kind, length = _FRAME.unpack(_exactly(frames, _FRAME.size))
            if length > _LARGEST:
                raise archive.Broken("an answer that is too long")
            octets = _exactly(frames, length)
            if kind == b"D":
                yield octets
            elif kind == b"N":
                yield Began(octets.decode("utf-8", "replace"))
            elif kind == b".":
                return
            else:
                raise _WORDS.get(octets.decode("ascii", "replace"), archive.Broken)(NAME)


def _exactly(frames: IO[bytes], length: int) -> bytes:
    """What the limits of the process end, ends without an answer."""
    octets = frames.read(length)
    if len(octets) < length:
        raise archive.TooMuch("it takes more memory or time than there is for it")
    return octets


# -- in the process that makes others, and in those


def _make(control: socket.socket, user: str | None, bounds: Bounds) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    control = _alone(control)
    if os.geteuid() == 0 and user is not None:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    os.chdir("/")
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 16, 2)
        if not asked:
            return
        if len(descriptors) == 2 and os.fork() == 0:
            control.close()
            _unpack(descriptors[0], descriptors[1], bounds)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _alone(control: socket.socket) -> socket.socket:
    """Keep no descriptor of the service's but this one, as the lowest: `_unpack` has few to spend."""
    lowest = 3
    number = control.detach()
    if number != lowest:
        os.dup2(number, lowest)
    os.closerange(lowest + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return socket.socket(fileno=lowest)


def _unpack(connection: int, file: int, bounds: Bounds) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # nobody waits for it any more
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(2 * SECONDS)
    with socket.socket(fileno=connection) as answers, answers.makefile("rb") as asked:
        passwords = [bytes.fromhex(each) for each in json.loads(asked.readline(64 * 1024))["passwords"]]
        try:
            with os.fdopen(file, "rb") as packed:
                size = os.fstat(file).st_size
                for event in archive.contents(packed, size, passwords, bounds):
                    if isinstance(event, Began):
                        _say(answers, b"N", event.name.encode("utf-8", "replace")[:1000])
                    else:
                        _say(answers, b"D", event)
            _say(answers, b".", b"")
        except CannotOpen as problem:
            _say(answers, b"!", problem.word.encode())
        except MemoryError:
            _say(answers, b"!", archive.TooMuch.word.encode())
        except Exception as problem:  # whatever a stranger's archive makes of the library
            print(f"{NAME}: {type(problem).__name__}: {problem}", file=sys.stderr)
            _say(answers, b"!", archive.Broken.word.encode())


def _say(answers: socket.socket, kind: bytes, octets: bytes) -> None:
    answers.sendall(_FRAME.pack(kind, len(octets)) + octets)
