"""What runs and what listens, read from /proc (proc(5)): the same under every service manager."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from todoku.host.client import Host

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"  # include/net/tcp_states.h


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; `started` in seconds since 1970."""

    pid: int
    name: str
    started: float


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket."""

    address: IPv4Address | IPv6Address
    port: int
    inode: int


def process(host: Host, pid: int) -> Process | None:
    """The process with that number, if it is alive."""
    found = _stat(host, pid)
    if found is None:
        return None
    name, fields = found
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return Process(pid, name, boot + int(fields[19]) / _TICKS)


def workers(host: Host, parent: int, name: str) -> tuple[Process, ...]:
    """The processes called `name` that `parent` has started."""
    found = []
    for entry in host.entries("/proc"):
        stat = _stat(host, int(entry)) if entry.isdecimal() else None
        if stat is not None and stat[0] == name and int(stat[1][1]) == parent:
            found.append(process(host, int(entry)))
    return tuple(each for each in found if each is not None)


def _stat(host: Host, pid: int) -> tuple[str, list[str]] | None:
    """The name and what follows it in /proc/PID/stat, of a process that is alive."""
    try:
        stat = host.text(f"/proc/{pid}/stat")
    except ProcessLookupError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")  # the name may itself hold brackets and spaces
    fields = rest.split()
    return (name, fields) if fields and fields[0] not in "ZX" else None


def main_process(host: Host, pid_file: str, name: str) -> Process | None:
    """The process that a pid file names, if it is alive and still called `name`."""
    number = host.text(pid_file).strip()
    if not number.isdecimal():
        return None
    found = process(host, int(number))
    return found if found is not None and found.name == name else None


def listeners(host: Host) -> tuple[Listener, ...]:
    """All TCP sockets of this machine that listen."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in host.text(table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING:
                address, _, port = fields[1].partition(":")
                found.append(Listener(_address(address), int(port, 16), int(fields[9])))
    return tuple(found)


def sockets(host: Host, pid: int) -> frozenset[int] | None:
    """The inodes of the sockets that a process holds open; None where we may not know, as in most containers."""
    folder = f"/proc/{pid}/fd"
    if not _may_list(host, folder):
        return None
    links = (host.link(f"{folder}/{number}") for number in host.entries(folder))
    return frozenset(int(link[8:-1]) for link in links if link.startswith("socket:["))


def _may_list(host: Host, folder: str) -> bool:
    """Of a process that has changed its user only who may trace it (CAP_SYS_PTRACE) sees what it holds."""
    try:
        for entry in host.entries(folder):
            host.real(f"{folder}/{entry}").readlink()
            break
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def holder(host: Host, inode: int) -> Process | None:
    """A process that holds the socket; None when it is in another container."""
    for entry in host.entries("/proc"):
        if entry.isdecimal() and inode in (sockets(host, int(entry)) or ()):
            return process(host, int(entry))
    return None


def _address(text: str) -> IPv4Address | IPv6Address:
    """From the kernel's notation: 32-bit words in the byte order of the machine."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    packed = b"".join(words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
