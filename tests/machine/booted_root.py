"""A fresh Debian that boots: what somebody has who got a new machine, with git, and Todoku set up as README.md says.

Everything that needs a network happens here, before the world, which has none: the base system (debootstrap), the
README's `git clone` and `script/setup`, and the download of the packages that `todoku apply` installs later. Kept in
/var/cache, so that only the first run takes minutes; the clone is made anew each time. All runs on a machine share it:
one waits for another.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUITE = "trixie"
CACHE = Path("/var/cache/todoku-booted")
ROOT = CACHE / SUITE
# What a machine has that boots, besides the README's git: an init, its bus, and the tools to see addresses.
_INCLUDED = "ca-certificates,dbus,git,iproute2,procps,systemd,systemd-sysv"
# What is cloned: a repository of its own, as the checkout may be a worktree of one that lies elsewhere.
_REPOSITORY = CACHE / "source.git"
_AUTHORITIES = Path("/usr/local/share/ca-certificates")

# In a mount and PID namespace of its own: nothing of it stays on the machine.
_IN_ROOT = """
mount --make-rprivate /
cd "$ROOT"
mount --rbind /dev dev
mount -t proc proc proc
mount -t tmpfs tmpfs tmp
mkdir -p source
mount --bind "$SOURCE" source
# Debian's image has a file here; systemd-resolved's is a link into /run.
rm -f etc/resolv.conf
cat /etc/resolv.conf >etc/resolv.conf
exec env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  PIP_CERT=/etc/ssl/certs/ca-certificates.crt chroot . sh -euc "$COMMANDS"
"""


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Nobody else on this machine changes what is kept in `cache` meanwhile, under a world that stands on it."""
    cache.mkdir(mode=0o700, exist_ok=True)
    with cache.with_name(f"{cache.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(checkout: Path, packages: tuple[str, ...], readme: list[str]) -> Path:
    """The root, with `readme`'s first commands done in it and `packages` downloaded. Needs a network."""
    if not shutil.which("debootstrap") or not shutil.which("systemd-nspawn"):
        _install_tools()
    _run("rm", "-rf", str(_REPOSITORY))
    _run("git", "-c", "safe.directory=*", "clone", "--quiet", "--bare", str(checkout), str(_REPOSITORY))
    complete = CACHE / f"{SUITE}.complete"
    if not complete.exists():
        _bootstrap()
        _inside("apt-get update -q")
        complete.touch()
    # The environment of an earlier run is kept: script/setup sees itself whether it still fits.
    _inside("rm -rf /opt/kept; if [ -d /opt/todoku ]; then mv /opt/todoku /opt/kept; fi")
    clone = readme[0].replace("URL_OF_THIS_REPOSITORY", "/source")
    assert clone.startswith("git clone /source /opt/todoku && cd /opt/todoku"), clone
    keep = "if [ -d /opt/kept/.venv ]; then mv /opt/kept/.venv .; fi; rm -rf /opt/kept"
    trust = "git config --global --add safe.directory '*'"
    _inside("\n".join([trust, clone, keep, *readme[1:]]))
    _inside(f"apt-get install -q -y --no-install-recommends --download-only {' '.join(packages)}")
    return ROOT


def _bootstrap() -> None:
    subprocess.run(["rm", "-rf", "--one-file-system", str(ROOT)], check=True)
    ROOT.mkdir(parents=True)
    _run("debootstrap", "--variant=minbase", f"--include={_INCLUDED}", SUITE, str(ROOT))
    # What this machine's package clients need to work, they need there too.
    if _AUTHORITIES.is_dir():
        shutil.copytree(_AUTHORITIES, ROOT / "usr/local/share/ca-certificates", dirs_exist_ok=True)
    for file in Path("/etc/apt/apt.conf.d").iterdir():
        if not file.name.startswith(("docker-", "20packagekit", "50appstream")):
            shutil.copy(file, ROOT / "etc/apt/apt.conf.d")
    _run("chroot", str(ROOT), "update-ca-certificates")


def _install_tools() -> None:
    _run("apt-get", "update", "-q")
    _run(
        *("apt-get", "install", "-q", "-y", "--no-install-recommends"), *("debootstrap", "systemd-container")
    )


def _inside(commands: str) -> None:
    environment = {"ROOT": str(ROOT), "SOURCE": str(_REPOSITORY), "COMMANDS": commands}
    _run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", _IN_ROOT), extra=environment
    )


def _run(*command: str, extra: dict[str, str] | None = None) -> None:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        command, env={"PATH": path, "DEBIAN_FRONTEND": "noninteractive", **(extra or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}"
