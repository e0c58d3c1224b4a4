"""The mail host in the rehearsal's world, as `todoku apply` made it, and what a benchmark changes in it.

Each change is one that the throw-away copy allows and the measurement needs; docs/benchmarks.md lists them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes

QUEUE = Path("/var/spool/postfix")
MASTER = Path("/etc/postfix/master.cf")
CREDENTIAL = Path("/etc/postfix/relay_credential")
PASSWORDS = Path("/var/lib/todoku/directory/dovecot.passwd")
PKI = Path("/run/todoku-rehearsal/pki")
CERTIFICATE = "/etc/todoku/tls/self-signed.pem"
DAEMONS = ("master", "dovecot", "unbound", "todoku-gate")  # Postfix's and the resolver among them
_DRAIN = 120.0  # seconds for the queue to become empty


class BenchFailed(Exception):
    """A benchmark could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class World:
    """What `TODOKU_WORLD` says, as far as it is needed here."""

    ip: str
    hostname: str
    login: str
    password: str = field(repr=False)
    relay_hostname: str
    relay_ip: str

    @classmethod
    def read(cls) -> World:
        try:
            told = json.loads(Path(os.environ["TODOKU_WORLD"]).read_text())
        except KeyError:
            raise BenchFailed("this runs in the rehearsal's world: use script/bench") from None
        alice = told["accounts"][0]
        return cls(
            ip=told["server"]["ip"],
            hostname=told["server"]["hostname"],
            login=alice["login"],
            password=alice["password"],
            relay_hostname=told["relay"]["hostname"],
            relay_ip=told["relay"]["ip"],
        )


def daemons() -> dict[str, list[int]]:
    """The processes of the mail host: the heads of families, by name. BenchFailed when one does not run."""
    found = {name: processes.named(name) for name in DAEMONS}
    missing = [name for name, pids in found.items() if not pids]
    if missing:
        raise BenchFailed(f"not running: {', '.join(missing)}")
    return found


@contextmanager
def without_supervisord() -> Iterator[None]:
    """supervisord stands still meanwhile: that of Debian 12 sometimes spins on a descriptor that it closed
    (Supervisor's pull request 1581), and would take a whole processor from what is measured."""
    pids = processes.named("supervisord")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def postconf(**parameters: str) -> None:
    run("postconf", "-e", *(f"{name}={value}" for name, value in parameters.items()))


def reload_postfix() -> None:
    run("postfix", "reload")
    time.sleep(1)  # until the old processes are gone


def run(*command: str, said: str | None = None) -> str:
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchFailed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def queued() -> int:
    """Messages in the queue."""
    return sum(
        1
        for queue in ("maildrop", "incoming", "active", "deferred")
        for _folder, _folders, files in os.walk(QUEUE / queue)
        for _ in files
    )


def drain() -> float:
    """Waits until the queue is empty; seconds. BenchFailed when it does not become empty."""
    begin = time.monotonic()
    while left := queued():
        if time.monotonic() - begin > _DRAIN:
            raise BenchFailed(f"{left} messages are still in the queue after {_DRAIN:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - begin


def cheap_password(world: World) -> None:
    """Makes the log-in cheap: a salted SHA-256 in the place of Argon2id, whose 20 ms would hide what is measured."""
    salt = secrets.token_bytes(8)
    digest = base64.b64encode(hashlib.sha256(world.password.encode() + salt).digest() + salt).decode()
    lines = PASSWORDS.read_text().splitlines()
    changed = []
    for line in lines:
        name, _, rest = line.partition(":")
        if name == world.login:
            line = f"{name}:{{SSHA256}}{digest}:{rest.partition(':')[2]}"
        changed.append(line)
    # In place: owner and mode stay as they are.
    PASSWORDS.write_text("\n".join(changed) + "\n")


def submission_service(port: int, milter: str) -> str:
    """A line of master.cf: submission as in production, but without TLS, and with this milter or none."""
    lines = _service(MASTER.read_text(), "submission")
    own = {
        "syslog_name": f"postfix/bench-{port}",
        "smtpd_tls_security_level": "none",
        "smtpd_tls_auth_only": "no",
        "smtpd_milters": milter,
    }
    options = [line for line in lines[1:] if line.strip().removeprefix("-o ").partition("=")[0] not in own]
    head = lines[0].replace("submission", f"127.0.0.1:{port}", 1)
    return "\n".join([head, *options, *(f"    -o {name}={value}" for name, value in own.items())]) + "\n"


def _service(text: str, name: str) -> list[str]:
    """The lines of a service in master.cf."""
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if line.split()[:1] == [name]), None)
    if first is None:
        raise BenchFailed(f"master.cf has no service {name}")
    last = first + 1
    while last < len(lines) and lines[last].startswith((" ", "\t")):
        last += 1
    return lines[first:last]


@contextmanager
def added_services(text: str) -> Iterator[None]:
    """More services for Postfix, until the end of the context."""
    before = MASTER.read_text()
    MASTER.write_text(before + text)
    try:
        yield
    finally:
        MASTER.write_text(before)


@contextmanager
def started(command: Sequence[str], *, said: str = "", ready: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process of ours, ended with the context. `ready`: a line of its output to wait for."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE if ready else None, text=True
    )
    try:
        assert process.stdin is not None  # noqa: S101  (opened as a pipe above)
        process.stdin.write(said)
        process.stdin.close()
        if ready and process.stdout is not None and process.stdout.readline().strip() != ready:
            raise BenchFailed(f"{command[0]} did not start")
        yield process
    finally:
        process.terminate()
        process.wait(10)
