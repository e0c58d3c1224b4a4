# "I run everything in containers." The image is built as a user builds it, its root is rehearsed as any machine's is,
# and its first process runs as compose.yaml has it: read-only, with few rights, in the world's network.

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import booted_root
import container_image
import pytest
from conftest import CHECKOUT, TODOKU

# Three minutes when the image has to be built (with a network), and two for the rehearsal of its root.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1700)]

LARGEST = 560  # MB, most of it Debian; 70 are numpy, which encrypts attachments


@pytest.fixture(scope="module")
def base() -> Path:
    """The minimal Debian that script/fresh keeps."""
    return container_image.base(CHECKOUT, container_image.SUITE)


@pytest.fixture(scope="module")
def image(base: Path) -> Iterator[Path]:
    with booted_root.alone(container_image.CACHE):
        yield container_image.prepare(CHECKOUT, base)


def test_the_image_is_small_and_has_no_cloud_sdk_and_no_compiler_in_it(image: Path, base: Path) -> None:
    size = container_image.size(image) // 1_000_000
    print(f"{size} MB, of which the base has {container_image.size(base) // 1_000_000}")
    assert size < LARGEST
    assert not list(image.glob("usr/lib/todoku/venv/lib/python3*/site-packages/oci"))
    assert not (image / "usr/lib/todoku/src/todoku/rehearsal").exists()
    assert not (image / "usr/bin/gcc").exists()


def test_it_starts_within_seconds_read_only_keeps_mail_and_queue_and_says_whether_it_is_healthy(
    image: Path,
) -> None:
    config = CHECKOUT / "tests/machine/container.toml"
    done = subprocess.run(
        [TODOKU, "rehearse", "--config", config, "--", "env", f"IMAGE_ROOT={image}", "python", "-m", "pytest", "-q",
         "-s", "--tb=short", "-p", "no:cacheprovider", "tests/world/container.py"],
        cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=500, check=False,
    )  # fmt: skip
    print(done.stdout)
    if done.returncode:
        pytest.fail("the words above say why", pytrace=False)


def test_the_whole_rehearsal_runs_on_the_root_of_the_image(image: Path) -> None:
    done = subprocess.run(
        [TODOKU, "rehearse", "--root", str(image), "--json"],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=1000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict["ok"]
    print(f"{len(verdict['expectations'])} expectations held, in {verdict['seconds']:.0f} s")
