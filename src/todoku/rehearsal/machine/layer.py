"""The prepared layer: the packages that the world needs, installed once into a layer of their own while there
is a network, and kept in /var/cache/todoku so that the next run is warm. Nothing is ever installed on the
machine itself.

It is a loop-mounted ext4 image, or a tar file where there are no loop devices, and it is made anew when what it was
made from has changed: the packages of the lower root, its users, the list of packages wanted, and, for
another root than this machine's, the locked dependencies of Todoku itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from todoku.rehearsal.machine import machine, root

CACHE = Path("/var/cache/todoku")
_FORMAT = "2"  # raise when the way a layer is prepared changes
_OUTLIVES = 3600.0  # seconds that a layer is kept for which another was made: two checkouts may take turns
_SIZE = 16 * 1024**3  # bytes; the file is sparse, so this is only the most it can grow to


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a layer is made from."""

    lower: Path
    packages: tuple[str, ...]
    lock_file: Path | None = (
        None  # Todoku's own dependencies, when the lower root cannot share this machine's
    )

    @property
    def key(self) -> str:
        digest = hashlib.sha256()
        for part in (_FORMAT, str(self.lower), *self.packages):
            digest.update(part.encode() + b"\0")
        for name in (
            "var/lib/dpkg/status",
            "etc/os-release",
            "etc/passwd",
            "etc/group",
            "etc/apt/sources.list",
        ):
            path = self.lower / name
            digest.update(path.read_bytes() if path.is_file() else b"-")
        if self.lock_file:
            digest.update(self.lock_file.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def family(self) -> str:
        """Layers of one lower root replace each other."""
        return hashlib.sha256(str(self.lower).encode()).hexdigest()[:8]

    def file(self) -> Path:
        suffix = ".ext4" if machine.has_loop_devices() else ".tar"
        return CACHE / f"layer-{self.family}-{self.key}{suffix}"


@contextmanager
def locked() -> Iterator[None]:
    """Only one process prepares or removes layers at a time; the others wait for it."""
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_stale(wanted: Wanted) -> None:
    """Remove unfinished layers, and those of the same lower root that nobody uses any more. Only while `locked`."""
    partial = set(CACHE.glob("*.partial"))
    used_since = time.time() - _OUTLIVES
    for path in partial | set(CACHE.glob(f"layer-{wanted.family}-*")):
        if path in partial or (path != wanted.file() and path.stat().st_mtime < used_since):
            path.unlink(missing_ok=True)
    for path in CACHE.glob("scratch-*"):  # of a run that was killed before it could mount it
        if path.stat().st_mtime < used_since:
            path.unlink(missing_ok=True)


def clean() -> int:
    """Remove every prepared layer; returns the bytes that became free."""
    if not CACHE.is_dir():
        return 0
    with locked():
        freed = size()
        for path in CACHE.iterdir():
            if path.name != "lock":
                path.unlink()
    (CACHE / "lock").unlink(missing_ok=True)
    CACHE.rmdir()
    return freed


def size(path: Path | None = None) -> int:
    """Bytes on disk of one layer, or of the whole cache."""
    paths: Sequence[Path] = [path] if path else list(CACHE.glob("*"))
    return sum(p.stat().st_blocks * 512 for p in paths if p.exists())


def scratch_file() -> Path | None:
    """A new file for a writable layer on disk where memory is short; None when memory will do."""
    if machine.memory_available() >= machine.MEMORY_WANTED or not machine.has_loop_devices():
        return None
    with locked():
        # Not by the process's number: in another container that number is somebody else's.
        path = CACHE / f"scratch-{secrets.token_hex(8)}"
        root.make_image(path, _SIZE)
    return path


def new_image(path: Path) -> None:
    """An empty image file for a layer about to be prepared."""
    path.unlink(missing_ok=True)
    root.make_image(path, _SIZE)
