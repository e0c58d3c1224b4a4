"""The few Linux system calls that the rehearsal needs and Python's `os` does not offer (mount(2),
umount2(2), pivot_root(2), prctl(2)). Errors are OSError with the path in them."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def mount(source: str, target: Path, fstype: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). `source` is a device, a path, or a word for file systems without one."""
    if _libc.mount(source.encode(), bytes(target), fstype.encode(), ctypes.c_ulong(flags), options.encode()):
        _raise(f"mount {fstype or source} on {target}")


def bind(source: Path, target: Path, *, readonly: bool = False) -> None:
    """Show `source` at `target` as well (not what is mounted below it)."""
    mount(str(source), target, flags=MS_BIND)
    if readonly:
        mount(str(source), target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def unmount(target: Path, flags: int = 0) -> None:
    if _libc.umount2(bytes(target), flags):
        _raise(f"unmount {target}")


def new_namespaces(*, network: bool) -> None:
    """unshare(2): own mounts, host name and IPC, own PIDs from the next fork on, and an own network if asked."""
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | (CLONE_NEWNET if network else 0)
    if _libc.unshare(flags):
        _raise("new namespaces")


def make_private() -> None:
    """From here on no mount of this namespace reaches the machine's, or the other way round."""
    mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)


def pivot_into(root: Path) -> None:
    """Make `root`, a mount point, the root of this mount namespace, and let the old one go."""
    number = _PIVOT_ROOT.get(platform.machine())
    os.chdir(root)
    if number is None:
        os.chroot(".")
    else:
        # pivot_root(2), "pivot_root(".", ".")": the old root ends up mounted on top of the new one.
        if _libc.syscall(number, b".", b"."):
            _raise(f"pivot_root into {root}")
        unmount(Path(), MNT_DETACH)
    os.chdir("/")


def die_with_parent() -> None:
    """End this process when its parent ends, however that happens (prctl(2), PR_SET_PDEATHSIG)."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _raise(what: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code)}")
