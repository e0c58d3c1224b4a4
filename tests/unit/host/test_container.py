# A container begins with empty places and a volume that may be older than the image: what has to be there is, what is
# missing in how it was started is said, and logs do not fill the volume.

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from todoku.host import container
from todoku.host.container import IN_MEMORY, KEPT_LOGS, NotPrepared, prepare, rotate

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for place in (*IN_MEMORY, container.STATE):
        (root / str(place).lstrip("/")).mkdir(parents=True)
    return root


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    skeleton = tmp_path / "skeleton"
    (skeleton / "etc/postfix/sasl").mkdir(parents=True, mode=0o750)
    (skeleton / "etc/postfix/dynamicmaps.cf").write_text("lmdb")
    (skeleton / "etc/postfix/link").symlink_to("dynamicmaps.cf")
    (skeleton / "var/lib/todoku/queue/maildrop").mkdir(parents=True)
    (skeleton / "var/lib/todoku/queue/maildrop").chmod(0o1730)
    return skeleton


def test_a_first_start_finds_what_the_packages_brought(root: Path, skeleton: Path) -> None:
    prepare(root, skeleton)
    assert (root / "etc/postfix/dynamicmaps.cf").read_text() == "lmdb"
    assert (root / "etc/postfix/link").readlink() == Path("dynamicmaps.cf")
    assert (root / "var/lib/todoku/queue/maildrop").stat().st_mode & 0o7777 == 0o1730
    assert (root / "var/lib/todoku/tmp").stat().st_mode & 0o7777 == 0o1777


def test_the_queue_of_an_older_volume_is_left_as_it_is(root: Path, skeleton: Path) -> None:
    prepare(root, skeleton)
    waiting = root / "var/lib/todoku/queue/maildrop/A1"
    waiting.write_text("waits")
    prepare(root, skeleton)
    assert waiting.read_text() == "waits"


@pytest.mark.parametrize("place", ["/etc/postfix", "/run", "/var/lib/todoku"])
def test_a_mount_that_was_forgotten_is_named(root: Path, skeleton: Path, place: str) -> None:
    real = root / place.lstrip("/")
    for left in sorted(real.rglob("*"), reverse=True):
        left.rmdir()
    real.rmdir()
    with pytest.raises(NotPrepared, match=place):
        prepare(root, skeleton)


def test_compose_mounts_every_place_that_is_written_to() -> None:
    mail = yaml.safe_load((CHECKOUT / "deploy/container/compose.yaml").read_text())["services"]["mail"]
    mounted = {mount.partition(":")[0] for mount in mail["tmpfs"]}
    assert mounted == set(IN_MEMORY)
    assert mail["read_only"] is True
    assert [port.partition(":")[0] for port in mail["ports"]] == ["25"]
    assert mail["cap_drop"] == ["ALL"]


def test_logs_do_not_fill_the_volume(tmp_path: Path) -> None:
    log, asked = tmp_path / "mail.log", []
    for number in range(KEPT_LOGS + 3):
        log.write_text(f"{number} " + "x" * 100)
        assert rotate(lambda command: asked.append(command[0]), [log], largest=50) == (log,)
    assert log.read_text() == ""
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["mail.log", *(f"mail.log.{number}" for number in range(1, KEPT_LOGS + 1))]
    assert (tmp_path / "mail.log.1").read_text().startswith(f"{KEPT_LOGS + 2} ")
    assert asked[:2] == ["postfix", "doveadm"]
    log.write_text("short")
    assert rotate(lambda command: asked.append(command[0]), [log], largest=50) == ()
