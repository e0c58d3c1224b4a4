# A throw-away copy of the machine has to show all of it: an overlay covers only the file system it is stacked on.

from __future__ import annotations

import os
from pathlib import Path

import pytest

from todoku.rehearsal.machine import layer, machine

_LINE = "{number} 1 8:1 / {place} rw,relatime - {fstype} {source} rw\n"


def _places(*mounts: tuple[str, str]) -> list[str]:
    lines = [
        _LINE.format(number=number, place=place, fstype=fstype, source="/dev/x")
        for number, (place, fstype) in enumerate(mounts, start=20)
    ]
    return [str(below.place) for below in machine.file_systems("".join(lines))]


def test_separate_file_systems_are_layered_one_by_one_outermost_first() -> None:
    assert _places(("/usr", "ext4"), ("/", "ext4"), ("/var", "xfs"), ("/home", "btrfs")) == [
        "/",
        "/home",
        "/usr",
        "/var",
    ]


def test_what_the_world_has_of_its_own_and_what_is_no_file_of_the_machine_is_left_out() -> None:
    others = [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/shm", "tmpfs"), ("/run/user/0", "tmpfs")]
    others += [
        ("/tmp", "tmpfs"),
        ("/boot", "ext4"),
        ("/snap/core/1", "squashfs"),
        ("/var/lib/docker/x", "overlay"),
    ]
    assert _places(("/", "ext4"), *others) == ["/"]


def test_a_single_file_that_is_mounted_is_no_folder_to_layer(tmp_path: Path) -> None:
    # Containers mount /etc/resolv.conf and /etc/hosts like that.
    file = tmp_path / "resolv.conf"
    file.touch()
    assert str(file) not in _places(("/", "ext4"), (str(file), "ext4"))


def test_a_place_with_a_space_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    folder = Path("/var/tmp") / tmp_path.name / "two words"
    folder.mkdir(parents=True)
    try:
        assert str(folder) in _places(("/", "ext4"), (str(folder).replace(" ", "\\040"), "ext4"))
    finally:
        folder.rmdir()
        folder.parent.rmdir()


def test_two_file_systems_never_share_a_layers_folder() -> None:
    assert len({machine.Below(Path(place)).name for place in ("/", "/home", "/home/a", "/srv")}) == 4


@pytest.mark.parametrize(
    ("place", "anew"), [("/tmp/x", True), ("/run/x", True), ("/root/x", False), ("/tmpx", False)]
)
def test_folders_that_the_world_would_hide_are_shown_on_purpose(place: str, anew: bool) -> None:
    assert machine.is_made_anew(Path(place)) is anew


def _root(folder: Path) -> Path:
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "etc").mkdir()
    (folder / "var/lib/dpkg/status").write_text("Package: a\n")
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    return folder


def test_the_prepared_layer_is_made_anew_when_what_it_was_made_from_has_changed(tmp_path: Path) -> None:
    lower = _root(tmp_path / "root")
    lock = tmp_path / "requirements.txt"
    lock.write_text("a==1\n")
    keys = [layer.Wanted(lower, ("knot",), lock).key]
    assert layer.Wanted(lower, ("knot",), lock).key == keys[0]
    keys.append(layer.Wanted(lower, ("knot", "unbound"), lock).key)
    for path, text in (
        ("var/lib/dpkg/status", "Package: b\n"),
        ("etc/passwd", "vmail:x:1:1::/:/bin/false\n"),
    ):
        (lower / path).write_text(text)
        keys.append(layer.Wanted(lower, ("knot",), lock).key)
    lock.write_text("a==2\n")
    keys.append(layer.Wanted(lower, ("knot",), lock).key)
    assert len(set(keys)) == len(keys)


def test_layers_of_one_root_that_are_not_used_any_more_make_room_and_others_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "CACHE", tmp_path / "cache")
    here, there = (layer.Wanted(_root(tmp_path / name), ("knot",)) for name in ("here", "there"))
    with layer.locked():
        for name in (
            here.file().name,
            f"layer-{here.family}-old.tar",
            f"layer-{here.family}-of-another-checkout.tar",
            there.file().name,
            "x.partial",
            "scratch-killed",
            "scratch-about-to-be-mounted",
        ):
            (layer.CACHE / name).write_text("x")
        for path in (
            *layer.CACHE.glob("*-old.tar"),
            *layer.CACHE.glob("*-killed"),
            here.file(),
            there.file(),
        ):
            os.utime(path, (0, 0))
        layer.remove_stale(here)
    assert {path.name for path in layer.CACHE.iterdir()} == {
        "lock",
        here.file().name,
        f"layer-{here.family}-of-another-checkout.tar",
        there.file().name,
        "scratch-about-to-be-mounted",
    }
    assert layer.clean() > 0
    assert not layer.CACHE.exists()
