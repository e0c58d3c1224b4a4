"""Builds the throw-away root: overlays over the lower root's file systems, a prepared layer between, and the
world's own /dev, /proc, /run, /sys and /tmp. Runs inside fresh mount and PID namespaces, so that all of it is
gone when the last process in them ends.

Why it is done this way: a folder below / cannot be stacked on / itself (the kernel refuses overlapping layers), and
a folder that lies on an overlay cannot be a writable layer. So the writable layer is a file system of its
own (memory, or a loop-mounted file), and so is the prepared layer (see layer.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from todoku.rehearsal.machine import machine, syscalls

_WORK_PLACES = ("/mnt", "/srv", "/media", "/opt", "/var/tmp", "/var/mail")


@dataclass(frozen=True, slots=True)
class RootSpec:
    """What the throw-away root is made of. Paths are the machine's."""

    lower: Path  # "/" or another root file system
    below: tuple[
        machine.Below, ...
    ]  # the lower root's file systems, as they were before anything was mounted
    layer: Path | None  # the prepared layer: an image file, or a tar file where there are no loop devices
    scratch: Path | None  # a file to hold the writable layer; None: memory
    visible: tuple[
        Path, ...
    ] = ()  # folders to be shown at their own place (the checkout, the working folder)
    writable: Path | None = None  # a mounted file system to write into, instead of a new one


def lower_file_systems(lower: Path) -> tuple[machine.Below, ...]:
    """What has to be layered of `lower`: of the machine's own root, every file system mounted below it."""
    if lower != Path("/"):
        return (machine.Below(Path("/")),)
    return machine.file_systems(Path("/proc/self/mountinfo").read_text())


def build(spec: RootSpec) -> Path:
    """Mount everything; returns the folder in which the new root is mounted."""
    work = _work_place(spec)
    syscalls.mount("tmpfs", work, "tmpfs", options="mode=0755,size=100%")
    root, image = work / "root", work / "image"
    for folder in (root, image):
        folder.mkdir()
    writable = _writable(spec, work)
    layers = _layers(spec, image, writable)
    for below in spec.below:
        source = spec.lower / below.place.relative_to("/")
        _overlay(source, root / below.place.relative_to("/"), layers / below.name, writable / below.name)
    _own_places(root)
    for place in spec.visible:
        if spec.lower != Path("/") or machine.is_made_anew(place):
            target = root / place.relative_to("/")
            target.mkdir(parents=True, exist_ok=True)
            name = "visible+" + str(place).strip("/").replace("/", "+")
            _overlay(place, target, layers / name, writable / name)
    return root


def _work_place(spec: RootSpec) -> Path:
    """An existing folder to mount on, that hides nothing we need and has no other file system below it."""
    mounted = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    needed = [str(p) for p in (spec.lower, Path.cwd(), Path(__file__), *spec.visible)]
    for place in _WORK_PLACES:
        crowded = any(path == place or path.startswith(place + "/") for path in (*mounted, *needed))
        if Path(place).is_dir() and not crowded:
            return Path(place)
    raise machine.WorldImpossible(f"None of {', '.join(_WORK_PLACES)} is free to mount the world on.")


def _writable(spec: RootSpec, work: Path) -> Path:
    if spec.writable:
        return spec.writable
    folder = work / "writable"
    folder.mkdir()
    if spec.scratch is None:
        return folder
    try:
        mount_image(spec.scratch, folder)
    finally:
        spec.scratch.unlink()  # it lives on as long as it is mounted, and leaves nothing behind
    return folder


def _layers(spec: RootSpec, image: Path, writable: Path) -> Path:
    if spec.layer is None:
        return image
    if spec.layer.suffix == ".tar":
        unpacked = writable / "layer"
        unpacked.mkdir()
        _run(
            [
                "tar",
                "--extract",
                "--xattrs",
                "--xattrs-include=*",
                f"--file={spec.layer}",
                f"--directory={unpacked}",
            ]
        )
        return unpacked
    mount_image(spec.layer, image, readonly=True)
    return image


def _overlay(source: Path, target: Path, layer: Path, writable: Path) -> None:
    upper, workdir = writable / "upper", writable / "work"
    for folder in (upper, workdir):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copystat(source, upper)
    os.chown(upper, source.stat().st_uid, source.stat().st_gid)
    lowers = [str(layer / "upper"), str(source)] if (layer / "upper").is_dir() else [str(source)]
    if any(character in "".join(lowers) for character in ":,\\"):
        raise machine.WorldImpossible(f"{source}: a folder with ':' or ',' in its name cannot be layered.")
    options = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={workdir}"
    try:
        syscalls.mount("overlay", target, "overlay", options=options)
    except OSError:
        if target.parent == target or source == Path("/"):
            raise
        # Some file systems (FUSE, network, already two overlays deep) cannot be layered: shown as they are,
        # but so that nothing can be written to them.
        syscalls.bind(source, target, readonly=True)


def _own_places(root: Path) -> None:
    for name in ("dev", "proc", "run", "sys", "tmp"):
        (root / name).mkdir(exist_ok=True)
    syscalls.mount("proc", root / "proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    try:
        syscalls.mount(
            "sysfs", root / "sys", "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        )
    except OSError:
        # Only possible for the owner of the network namespace; nothing in the world needs it.
        syscalls.mount("tmpfs", root / "sys", "tmpfs", options="mode=0755")
    syscalls.mount("tmpfs", root / "run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=0755")
    syscalls.mount("tmpfs", root / "tmp", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    (root / "run/lock").mkdir(mode=0o1777)
    _devices(root / "dev")


def _devices(dev: Path) -> None:
    syscalls.mount("tmpfs", dev, "tmpfs", syscalls.MS_NOSUID, "mode=0755")
    for name in ("full", "null", "random", "tty", "urandom", "zero"):
        (dev / name).touch()
        syscalls.bind(Path("/dev") / name, dev / name)
    # Loop devices are shared with the machine: a world that rehearses inside a world needs them.
    for device in [Path("/dev/loop-control"), *Path("/dev").glob("loop[0-9]*")]:
        if device.exists():
            (dev / device.name).touch()
            syscalls.bind(device, dev / device.name)
    (dev / "pts").mkdir()
    syscalls.mount("devpts", dev / "pts", "devpts", options="newinstance,ptmxmode=0666,mode=0620,gid=5")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "shm").mkdir()
    syscalls.mount("tmpfs", dev / "shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)


def mount_image(image: Path, target: Path, *, readonly: bool = False) -> None:
    """Mount an ext4 image file; the loop device frees itself when the last mount of it goes."""
    # "noload": an image that is never written again needs no journal replay, so it can stay read-only.
    options = "loop,ro,noload" if readonly else "loop,noatime"
    _run(["mount", "-t", "ext4", "-o", options, str(image), str(target)])


def make_image(image: Path, size: int) -> None:
    """A sparse file of `size` bytes with an empty ext4 file system in it."""
    with image.open("xb") as file:
        image.chmod(0o600)
        file.truncate(size)
    _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(image)])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise machine.WorldImpossible(f"{command[0]}: {done.stderr.strip() or done.returncode}")
