"""The five ways to run the same Postfix: without a milter, and with each of four; and that each does its work.

OpenDKIM and pymilter come from Debian, are unpacked into the throw-away copy by `script/bench`, and run as processes
of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import host, load, processes
from bench.host import BenchFailed, World

_FOLDER = host.QUEUE / "bench"
_FIRST_PORT = 10601


@dataclass(frozen=True, slots=True)
class Variant:
    """`families`: the heads of the milter's processes. `mark`: a header that it adds; "refuses" if it is the one that
    takes no message with two subjects."""

    name: str
    port: int
    milter: str
    families: tuple[int, ...]
    mark: str


@contextmanager
def all_of_them(world: World, packages: Path) -> Iterator[tuple[Variant, ...]]:
    """Postfix listens for each of them, on a port of its own; everything else is the same for all."""
    _unpack(packages)
    _FOLDER.mkdir(exist_ok=True)
    with ExitStack() as running:
        opendkim = running.enter_context(host.started(_opendkim(world.login.partition("@")[2]))).pid
        script = str(Path(__file__).with_name("header_milter.py"))
        socket = f"unix:{_FOLDER}/pymilter"
        pymilter = running.enter_context(host.started(["/usr/bin/python3", script, socket])).pid
        floor = running.enter_context(
            host.started(["/usr/bin/python3", script, f"unix:{_FOLDER}/floor", "floor"])
        ).pid
        variants = (
            Variant("bare", _FIRST_PORT, "", (), ""),
            Variant(
                "gate",
                _FIRST_PORT + 1,
                "unix:todoku/gate",
                tuple(host.daemons()["todoku-gate"]),
                "refuses",
            ),
            Variant("opendkim", _FIRST_PORT + 2, "unix:bench/opendkim", (opendkim,), "DKIM-Signature"),
            Variant("pymilter", _FIRST_PORT + 3, "unix:bench/pymilter", (pymilter,), "X-Bench"),
            Variant("floor", _FIRST_PORT + 4, "unix:bench/floor", (floor,), ""),
        )
        for name in ("opendkim", "pymilter", "floor"):
            _open_to_postfix(_FOLDER / name)
        services = "".join(host.submission_service(each.port, each.milter) for each in variants)
        discard = "discard     unix  -       -       n       -       -       discard\n"
        running.enter_context(host.added_services(services + discard))
        # What was accepted is thrown away at once: the way out is measured by a benchmark of its own.
        before = host.run("postconf", "-h", "default_transport").strip()
        host.cheap_password(world)
        host.postconf(default_transport="discard:", defer_transports="discard")
        host.reload_postfix()
        for variant in variants:
            _does_its_work(world, variant)
        host.run("postsuper", "-d", "ALL")
        host.postconf(defer_transports="")
        host.reload_postfix()
        yield variants
        host.postconf(default_transport=before)


def _unpack(packages: Path) -> None:
    """Not configured: that would make users and start services."""
    host.run("dpkg", "--force-depends", "--unpack", *map(str, sorted(packages.glob("*.deb"))))
    host.run("ldconfig")


def _opendkim(domain: str) -> list[str]:
    """Signs with RSA-2048, everything else as it comes."""
    key, config = _FOLDER / "key", _FOLDER / "opendkim.conf"
    host.run("openssl", "genrsa", "-traditional", "-out", str(key), "2048")
    key.chmod(0o600)
    config.write_text(
        f"Mode s\nCanonicalization relaxed/simple\nDomain {domain}\nSelector bench\nKeyFile {key}\n"
        f"Socket local:{_FOLDER}/opendkim\nUMask 000\nSyslog no\n"
    )
    return ["/usr/sbin/opendkim", "-f", "-x", str(config)]


def _open_to_postfix(socket: Path) -> None:
    deadline = time.monotonic() + 10
    while not socket.exists():
        if time.monotonic() > deadline:
            raise BenchFailed(f"nothing listens on {socket}")
        time.sleep(0.05)
    shutil.chown(socket, "postfix", "postfix")
    socket.chmod(0o770)


def _does_its_work(world: World, variant: Variant) -> None:
    """One message is accepted and looked at in the queue, where nothing is delivered yet."""
    what = settings(world, variant, tag="trial", size=4096)
    session = load.Session(what, None)
    session.submit(world.login, "carol@mailbox.example", what.message(0, 0, "carol@mailbox.example"))
    session.close()
    text = ""
    for _ in range(100):
        names = [name for _, _, files in os.walk(host.QUEUE / "deferred") for name in files]
        if names:
            text = subprocess.run(
                ["postcat", "-qh", names[0]], capture_output=True, text=True, check=True
            ).stdout
            break
        time.sleep(0.1)
    host.run("postsuper", "-d", "ALL")
    headers = {line.partition(":")[0] for line in text.splitlines()}
    seen = {
        "DKIM-Signature": "DKIM-Signature" in headers,
        "X-Bench": "X-Bench" in headers,
        "refuses": _refuses(world, what),
    }
    for mark, there in seen.items():
        if not headers or there != (mark == variant.mark):
            raise BenchFailed(f"{variant.name} does not do its work: the message has {sorted(headers)}")


def _refuses(world: World, what: load.Load) -> bool:
    session = load.Session(what, None)
    twice = b"Subject: and once more\r\n" + what.message(0, 1, "carol@mailbox.example")
    try:
        session.submit(world.login, "carol@mailbox.example", twice)
    except load.Refused:
        return True
    finally:
        session.close()
        host.run("postsuper", "-d", "ALL")
    return False


def settings(world: World, variant: Variant, *, tag: str, size: int, per_session: int = 1) -> load.Load:
    """How a variant is loaded."""
    return load.Load(
        host="127.0.0.1",
        port=variant.port,
        login=world.login,
        password=world.password,
        tag=tag,
        size=size,
        per_session=per_session,
    )


def memory(variant: Variant) -> processes.Memory:
    return processes.memory(variant.families)
