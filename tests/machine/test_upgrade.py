# Complaint: "After the upgrade from Debian 12 to 13, Dovecot did not start any more, and would not have read my mail."
# One state is carried from a world on the one to a world on the other, as a disk is.

from __future__ import annotations

import subprocess
from pathlib import Path

import container_image
import pytest
from conftest import CHECKOUT, TODOKU

# Two roots with packages: some minutes when their layers have to be prepared (with a network), else about one.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1700)]


def rehearse(root: Path, script: str, **streams: object) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [TODOKU, "rehearse", "--root", root, "--config", CHECKOUT / "tests/machine/container.toml", "--",
         "python", CHECKOUT / "tests/machine/upgraded_state.py", script],
        cwd=CHECKOUT, stderr=subprocess.PIPE, timeout=800, check=False, **streams,
    )  # type: ignore[call-overload]  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return done  # type: ignore[no-any-return]


def test_mail_and_accounts_of_debian_12_are_there_on_debian_13(tmp_path: Path) -> None:
    old, new = (container_image.base(CHECKOUT, suite) for suite in ("bookworm", "trixie"))
    disk = tmp_path / "disk.tar"
    with disk.open("wb") as written:
        rehearse(old, "before", stdout=written)
    with disk.open("rb") as read:
        done = rehearse(new, "after", stdin=read, stdout=subprocess.PIPE)
    print(done.stdout.decode())
