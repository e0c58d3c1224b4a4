"""The container image, built from deploy/container/Containerfile as a user builds it, and its root for namespaces.

Docker does not run inside every machine that tests run on; buildah in chroot isolation does. The base is a
debootstrapped Debian instead of the one on a registry. Kept in /var/cache, and made anew when its files have changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SUITE = "trixie"
CACHE = Path("/var/cache/todoku-container")
ROOT = CACHE / "root"
_STORAGE = ("--storage-driver=vfs", f"--root={CACHE}/storage", "--runroot=/run/todoku-container")
_INPUTS = ("deploy/container", "src/todoku")


def base(checkout: Path, suite: str) -> Path:
    """The minimal Debian that script/fresh keeps. Needs a network when it has to be made."""
    root = Path("/var/cache/todoku-fresh", suite)
    if not root.with_name(f"{suite}.complete").exists():
        _run(str(checkout / "script/fresh"), suite, "true")
    return root


def prepare(checkout: Path, base: Path) -> Path:
    """The image's root, of `base`, a debootstrapped root. Needs a network when it has to be made."""
    if not shutil.which("buildah"):
        _run("apt-get", "install", "-q", "-y", "--no-install-recommends", "buildah")
    key = _key(checkout)
    stamp = CACHE / "key"
    if stamp.exists() and stamp.read_text() == key and ROOT.is_dir():
        return ROOT
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(mode=0o700)
    name = _output("buildah", *_STORAGE, "from", "scratch").strip()
    _run("buildah", *_STORAGE, "add", "--quiet", name, str(base), "/")
    _run("buildah", *_STORAGE, "commit", "--quiet", "--rm", name, "localhost/todoku-base")
    _run(
        *("buildah", *_STORAGE, "bud", "--quiet", "--isolation=chroot", "--pull-never", "--squash"),
        *("--build-arg=BASE=localhost/todoku-base", "--tag=localhost/todoku"),
        *("--file", str(checkout / "deploy/container/Containerfile"), str(checkout)),
    )
    made = _output("buildah", *_STORAGE, "from", "--pull-never", "localhost/todoku").strip()
    mounted = _output("buildah", *_STORAGE, "mount", made).strip()
    _run("cp", "--archive", mounted, str(ROOT))
    _run("buildah", *_STORAGE, "rm", made)
    _run("buildah", *_STORAGE, "rmi", "--all", "--force")
    shutil.rmtree(CACHE / "storage", ignore_errors=True)
    stamp.write_text(key)
    return ROOT


def size(root: Path = ROOT) -> int:
    """Bytes on the disk."""
    return int(_output("du", "--summarize", "--block-size=1", str(root)).split()[0])


def _key(checkout: Path) -> str:
    digest = hashlib.sha256()
    files = sorted(p for place in _INPUTS for p in (checkout / place).rglob("*") if p.is_file())
    for path in files:
        if "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(checkout)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _run(*command: str) -> None:
    _output(*command)


def _output(*command: str) -> str:
    environment = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    done = subprocess.run(
        command, env=environment | {"DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{said}"
    return done.stdout
