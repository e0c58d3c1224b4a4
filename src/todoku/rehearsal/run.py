"""The rehearsal as a whole, seen from the machine: check what is possible here, have a prepared layer, then build
the world and let it play. What happens inside is in play.py."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from todoku.host import packages
from todoku.rehearsal import progress
from todoku.rehearsal.internet import authority, nameserver
from todoku.rehearsal.machine import enter, layer, machine, prepare
from todoku.settings import Settings, parse

# What the world itself is made of, besides what the production apply asks for.
WORLD_PACKAGES = (
    *nameserver.PACKAGES,
    *authority.PACKAGES,
    *(
        "bsd-mailx",
        "fail2ban",
        "iproute2",
        "iptables",
        "libnet-ssleay-perl",
        "miltertest",
        "nftables",
        "pdns-backend-sqlite3",
    ),
    "pdns-server",
    "python3-milter",
    *("procps", "s-nail", "supervisor", "swaks"),
    # Only settings that switch it on install it, which the world, without a way out, could not.
    *("clamav-daemon", "clamav-freshclam", "certbot"),
)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is to be rehearsed, and how."""

    settings_text: str
    settings_name: str  # the file it came from, for messages
    lower: Path = Path("/")
    command: tuple[str, ...] = ()
    keep: bool = False
    as_json: bool = False


def run(rehearsal: Rehearsal) -> int:
    """Build the world and play; returns the exit code. Raises machine.WorldImpossible, settings.SettingsError."""
    settings = parse(rehearsal.settings_text, rehearsal.settings_name)
    machine.require()
    enter.raise_on_terminate()
    checkout = _checkout()
    foreign = rehearsal.lower != Path("/")
    if foreign and checkout is None:
        raise machine.WorldImpossible("Another --root needs Todoku's checkout: run script/rehearse from it.")
    try:
        prepared = _layer(rehearsal.lower, settings, checkout if foreign else None)
        task = {
            "role": "play",
            "lower": str(rehearsal.lower),
            "layer": str(prepared),
            "scratch": _text(layer.scratch_file()),
            "visible": [str(p) for p in _visible(checkout, foreign=foreign)],
            "checkout": str(checkout) if foreign else None,
            "cwd": str(Path.cwd()),
            "hostname": settings.hostname,
            "python": str(prepare.VENV / "bin/python") if foreign else sys.executable,
            "settings": _beside_others(rehearsal.settings_text, settings),
            "settings_name": rehearsal.settings_name,
            "command": list(rehearsal.command),
            "json": rehearsal.as_json,
            "keep": rehearsal.keep,
        }
        ended = enter.run(task, network=False, keep=rehearsal.keep)
    except KeyboardInterrupt:
        print("Interrupted: the world is gone, nothing of it stays behind.", file=sys.stderr)
        return 130
    if ended.pid:
        _tell_how_to_enter(ended.pid)
    return ended.code


def _beside_others(text: str, settings: Settings) -> str:
    """The settings for a machine that shares its addresses with the rest of the world: it listens on its own only.

    Providers that do not exist there are replaced: somebody (world.py) enters by hand what they would publish.
    """
    if settings.dns and settings.dns.publisher in ("rfc2136", "lexicon"):
        text = re.sub(r'(?m)^(\s*publisher\s*=\s*)["\']\w+["\']', r'\1"manual"', text)
    if settings.cloud and settings.dns is None:
        text += '\n[dns]\npublisher = "manual"\n'
    if settings.tls.kind == "acme":
        text = _with_the_worlds_authority(text)
    bulk = settings.campaign
    if settings.ledger.database or (bulk and bulk.database):
        # No way leads to it from there: files do as well.
        text = re.sub(r"(?m)^\s*database(_password_file)?\s*=.*\n?", "", text)
    if settings.listen:
        return text
    own = ", ".join(f'"{address}"' for address in settings.addresses)
    return (
        f"listen = [{own}]  # in the rehearsal, the other addresses of this machine are other hosts\n{text}"
    )


def _with_the_worlds_authority(text: str) -> str:
    """The world's own certificate authority in place of the one that the settings name, or mean."""
    text = re.sub(r"(?m)^\s*acme_directory\s*=.*\n", "", text)
    ours = f'acme_directory = "{authority.DIRECTORY}"'
    return re.sub(r'(?m)^(\s*mode\s*=\s*["\']acme["\'].*)$', rf"\1\n{ours}", text, count=1)


def _layer(lower: Path, settings: Settings, checkout: Path | None) -> Path:
    """The prepared layer for this root, made now if there is none that fits."""
    lock_file = _lock_file(checkout) if checkout else None
    # One layer serves every settings file: what any of them could ask for is in it.
    python = ("python3-venv",) if checkout else ()
    names = tuple(sorted({*packages.wanted(settings), *WORLD_PACKAGES, *python}))
    wanted = layer.Wanted(lower, names, lock_file)
    with layer.locked():
        file = wanted.file()
        if file.exists():
            os.utime(file)  # for who removes layers that are not used
            progress.note(f"prepared layer: {file} ({layer.size(file) // 1_000_000} MB)")
            return file
        layer.remove_stale(wanted)
        partial = file.with_name(file.name + ".partial")
        if file.suffix == ".ext4":
            layer.new_image(partial)
        task = {
            "role": "prepare",
            "lower": str(lower),
            "image": str(partial),
            "packages": wanted.packages,
            "visible": [str(checkout)] if checkout else [],
            "lock_file": str(lock_file) if lock_file else None,
        }
        try:
            if enter.run(task, network=True).code != 0:
                raise machine.WorldImpossible("Nothing was changed on this machine.")
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
    progress.note(
        f"kept for the next run: {file} ({layer.size(file) // 1_000_000} MB; todoku rehearse --clean removes it)"
    )
    return file


def _checkout() -> Path | None:
    """The folder of the project, when this is a checkout and not an installed package."""
    folder = Path(__file__).resolve().parents[3]
    return folder if (folder / "pyproject.toml").is_file() else None


def _lock_file(checkout: Path) -> Path:
    """The lock file that this checkout's own environment was made from (script/setup says which)."""
    stamp = checkout / ".venv/todoku-setup"
    words = stamp.read_text().split() if stamp.exists() else []
    return checkout / (words[0] if words else "requirements.txt")


def _visible(checkout: Path | None, *, foreign: bool) -> Sequence[Path]:
    """The folders that have to be in the world at their own place, without those inside another of them."""
    folders = {Path.cwd()}
    if checkout:
        folders.add(checkout)
    if not foreign:
        folders |= {Path(sys.prefix), Path(sys.base_prefix)}
    folders -= {Path("/"), Path("/usr")}
    return [f for f in sorted(folders) if not any(other in f.parents for other in folders)]


def _tell_how_to_enter(pid: int) -> None:
    print(
        f"\nThe world goes on. To enter it:\n"
        f"  {'sudo ' if os.environ.get('SUDO_USER') else ''}nsenter --target {pid} --mount --uts --ipc --net --pid"
        f" /run/todoku-rehearsal/shell\nTo end it:\n  kill {pid}",
        file=sys.stderr,
    )


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
