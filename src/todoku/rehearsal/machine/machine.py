"""What this machine offers for a throw-away copy of itself: rights, namespaces, overlay mounts, loop devices,
memory, and the file systems below / that have to be layered one by one (an overlay shows only the file
system that it is stacked on)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The writable layer is kept in memory when at least this much is available (bytes); below it, on disk.
MEMORY_WANTED = 1536 * 1024 * 1024

CONTAINER_COMMAND = (
    "docker run --rm -it --privileged -v /var/cache/todoku "
    '-v "$PWD":/todoku -w /todoku debian:12 script/rehearse'
)

# File systems that hold no files of the machine's own, and places that a world gets anew.
_NOT_FILES = frozenset(
    {"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs"}
    | {"efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs"}
    | {"securityfs", "selinuxfs", "squashfs", "sysfs", "tracefs", "vfat"}
)
_MADE_ANEW = ("/dev", "/proc", "/run", "/sys", "/tmp")
_NOT_WANTED = (
    "/boot",
    "/media",
    "/snap",
    "/var/cache/todoku",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/snap",
)


class WorldImpossible(Exception):
    """The world cannot be built here. The message says what is missing and what would work."""


def require() -> None:
    """Check that a world can be built on this machine; raises WorldImpossible."""
    if os.geteuid() != 0:
        raise WorldImpossible(
            "The rehearsal builds namespaces and mounts, so it needs root: use script/rehearse or sudo."
        )
    probe = [
        *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--net"),
        "sh",
        "-c",
        "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mkdir /tmp/u /tmp/w /tmp/r"
        " && mount -t overlay overlay -o lowerdir=/etc,upperdir=/tmp/u,workdir=/tmp/w /tmp/r",
    ]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        )
        raise WorldImpossible(
            f"This machine does not allow what the rehearsal is made of ({reason}).\n"
            "Missing: the right to create mount, network and PID namespaces and overlay mounts (CAP_SYS_ADMIN).\n"
            f"In a container, start it privileged, for example:\n  {CONTAINER_COMMAND}"
        )


def memory_available() -> int:
    """Bytes of memory that can be used without swapping: the machine's or, if smaller, this cgroup's."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            available = min(available, int(limit) - used)
    except (OSError, ValueError):
        pass  # no cgroup limit that we could see: the machine's figure stands
    return available


def has_loop_devices() -> bool:
    done = subprocess.run(["losetup", "--find"], capture_output=True, check=False)
    return done.returncode == 0 and _mkfs() is not None


def _mkfs() -> str | None:
    return next((path for path in ("/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4") if Path(path).exists()), None)


@dataclass(frozen=True, slots=True)
class Below:
    """One file system of the lower root: where it is mounted, seen from that root, and its name in the layer."""

    place: Path  # absolute, "/" for the root itself

    @property
    def name(self) -> str:
        return "root" if self.place == Path("/") else str(self.place).strip("/").replace("/", "+")


def file_systems(mountinfo: str) -> tuple[Below, ...]:
    """The file systems mounted on / and below it that hold files of the machine, outermost first.

    `mountinfo` is the text of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    """
    places: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        place = _unescape(left.split()[4])
        places[place] = right.split()[0]  # a later mount on the same place hides the earlier one
    wanted = {
        place
        for place, fstype in places.items()
        if fstype not in _NOT_FILES
        and not _within(place, _MADE_ANEW)
        and not _within(place, _NOT_WANTED)
        and (place == "/" or Path(place).is_dir())
    }
    return tuple(Below(Path(place)) for place in sorted(wanted | {"/"}))


def is_made_anew(place: Path) -> bool:
    """Whether `place` lies where the world has nothing of the machine's, so that it has to be shown on purpose."""
    return _within(str(place), _MADE_ANEW) or _within(str(place), _NOT_WANTED)


def _within(place: str, parents: Sequence[str]) -> bool:
    return any(place == parent or place.startswith(parent + "/") for parent in parents)


def _unescape(field: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field
