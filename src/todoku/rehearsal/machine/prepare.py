"""Prepares the layer: installs the world's packages, and for a foreign root Todoku itself, into an overlay over
the lower root, with the machine's network. Runs inside the namespaces that enter.py made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from todoku.rehearsal import progress
from todoku.rehearsal.machine import root, syscalls

# Of a foreign root; on this machine's own root the running environment is visible.
VENV = Path("/opt/todoku/venv")
CHECKOUT = Path("/opt/todoku/checkout")  # a link that each world makes to the checkout it was started from

_POLICY = "#!/bin/sh\n# Nothing starts while the layer is prepared.\nexit 101\n"
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NOWARNINGS": "yes", "LC_ALL": "C.UTF-8"}


def build(task: dict[str, Any], spec: root.RootSpec, resolver: str) -> None:
    """Mount the root with the layer-to-be as its writable layer, and move into it."""
    image = Path(task["image"])
    mounted: Path | None = None
    if image.name.removesuffix(".partial").endswith(".ext4"):
        mounted = Path("/srv") if Path("/srv").is_dir() else Path("/media")
        root.mount_image(image, mounted)
    new_root = root.build(replace(spec, writable=mounted))
    if mounted is None:
        # Without loop devices the layer is written to memory and packed by `work` from there.
        syscalls.mount(str(new_root.parent / "writable"), new_root / "srv", flags=syscalls.MS_BIND)
        target = new_root / "media"
        syscalls.mount(str(image.parent), target, flags=syscalls.MS_BIND)
    syscalls.pivot_into(new_root)
    resolv = Path("/etc/resolv.conf")
    resolv.unlink(missing_ok=True)
    resolv.write_text(resolver)


def without_places(outside: Mapping[str, str]) -> dict[str, str]:
    """The environment without the names of folders for temporary files, which another root does not have: what
    packages do when they are configured would fail there."""
    return {name: value for name, value in outside.items() if name not in ("TMPDIR", "TMP", "TEMP")}


def work(task: dict[str, Any]) -> int:
    """Install; 0 when the layer is complete."""
    environment = without_places(os.environ) | _ENVIRONMENT
    try:
        with _no_daemons():
            _install(task["packages"], environment)
        if task.get("lock_file"):
            _install_todoku(task, environment)
        _tidy()
        if task["image"].removesuffix(".partial").endswith(".tar"):
            _pack(Path("/media") / Path(task["image"]).name)
        os.sync()
    except _Failed as failed:
        print(f"The layer could not be prepared: {failed}", file=sys.stderr)
        return 1
    return 0


class _Failed(Exception):
    pass


@contextmanager
def _no_daemons() -> Iterator[None]:
    policy = Path("/usr/sbin/policy-rc.d")
    before = policy.read_bytes() if policy.exists() else None
    policy.write_text(_POLICY)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
        if before is not None:
            policy.write_bytes(before)
            policy.chmod(0o755)


def _install(packages: Sequence[str], environment: dict[str, str]) -> None:
    if not Path("/usr/bin/apt-get").exists():
        raise _Failed("this root has no apt-get; the rehearsal runs on Debian and Ubuntu")
    with progress.step("reading the package lists"):
        _run(["apt-get", "update", "-q"], environment, "apt-get update failed: is there a network?")
    subprocess.run(
        ["debconf-set-selections"],
        input=b"postfix postfix/main_mailer_type select No configuration\n",
        env=environment,
        check=False,  # absent in the smallest roots, where the question is not asked either
        capture_output=True,
    )
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0"]
    with progress.step(f"installing {len(packages)} packages into the layer") as tell:
        _run_with_apt_status([*command, *packages], environment, tell)


def _install_todoku(task: dict[str, Any], environment: dict[str, str]) -> None:
    pip = [str(VENV / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    with progress.step("installing Todoku into the layer"):
        python = _newest_python()
        _run(
            [python, "-m", "venv", "--clear", str(VENV)], environment, "no virtual environment could be made"
        )
        _run([*pip, "--require-hashes", "-r", task["lock_file"]], environment, "pip failed")
        site = subprocess.run(
            [str(VENV / "bin/python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        Path(site, "todoku.pth").write_text(f"{CHECKOUT}/src\n")
        script = VENV / "bin/todoku"
        script.write_text(f"#!{VENV}/bin/python\nfrom todoku.cli.main import main\n\nmain()\n")
        script.chmod(0o755)


def _newest_python() -> str:
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        check = [name, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"]
        try:
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                return name
        except FileNotFoundError:
            continue
    raise _Failed("this root has no Python 3.11 or later")


def _tidy() -> None:
    """What apt downloaded is of no use to the world; the package lists are not either."""
    subprocess.run(["apt-get", "clean"], check=False, capture_output=True)
    for path in Path("/var/lib/apt/lists").glob("*_*"):
        path.unlink()


def _pack(target: Path) -> None:
    _run(
        [
            "tar",
            "--create",
            "--xattrs",
            "--xattrs-include=*",
            f"--file={target}",
            "--exclude=*/work",
            "--directory=/srv",
            ".",
        ],
        dict(os.environ),
        "tar failed",
    )


def _run(command: Sequence[str], environment: dict[str, str], failure: str) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _Failed(f"{failure}\n{_last_lines(done.stderr or done.stdout)}")


def _run_with_apt_status(command: list[str], environment: dict[str, str], tell: progress.Tell) -> None:
    """Run apt-get and pass on its machine-readable progress ("pmstatus:PACKAGE:PERCENT:WORDS")."""
    status_read, status_write = os.pipe()
    process = subprocess.Popen(
        [*command[:2], "-o", f"APT::Status-Fd={status_write}", *command[2:]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=(status_write,),
    )
    os.close(status_write)
    with os.fdopen(status_read) as status, progress.drain(process.stdout) as output:
        for line in status:
            kind, _, rest = line.partition(":")
            fields = rest.split(":", 2)
            if kind in ("dlstatus", "pmstatus") and len(fields) == 3:
                share = float(fields[1]) / 2 + (50 if kind == "pmstatus" else 0)
                tell(f"{share:.0f} % {fields[2].strip()}")
        code = process.wait()
    if code != 0:
        raise _Failed(f"apt-get install failed\n{_last_lines(''.join(output))}")


def _last_lines(text: str, count: int = 8) -> str:
    return "\n".join("  " + line for line in text.strip().splitlines()[-count:])
