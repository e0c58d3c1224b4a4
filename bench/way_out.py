"""Benchmark "way-out": submission with TLS and AUTH on 587, the gate, the queue, the relay with TLS and AUTH.

All of it as production has it, Argon2id passwords included; but for the relay, which is a lean sink (`bench.sink`)
in the place of the simulator, at the relay's address and with its name and certificate, on a port of its own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench import host, load, processes
from bench.host import World
from bench.sink import Taken

SIZE = 4096
CLIENTS = 10
PER_SESSION = 50
_PORT = 10587
_SHORT = 5.0  # seconds, for the price of a log-in

TARGET_RATE = 300
TARGET_CPU = 4.0
TARGET_PER_CONNECTION = 50


@dataclass(frozen=True, slots=True)
class Result:
    """`accepted_rate`: a second, while the load was on; `delivered_rate`: all messages, from the first client's start
    to the last arrival at the relay. `p50`, `p99`: milliseconds at the end of DATA. CPU in milliseconds for a message,
    until all had arrived: of the mail host by program, of the load and of the sink, which share the processors with
    it. `session_cpu`: milliseconds of the mail host for a message that has a connection and a log-in of its own."""

    seconds: float
    messages: int
    lost: int
    doubled: int
    accepted_rate: float
    delivered_rate: float
    p50: float
    p99: float
    cpu: float
    cpu_by_program: dict[str, float]
    load_cpu: float
    sink_cpu: float
    submission_sessions: int
    relay_connections: int
    session_cpu: float

    @property
    def per_connection(self) -> float:
        """Messages over one connection to the relay."""
        return self.messages / max(1, self.relay_connections)

    def as_json(self) -> dict[str, Any]:
        rounded = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return {
            **rounded,
            "size": SIZE,
            "clients": CLIENTS,
            "messages_per_session": PER_SESSION,
            "messages_per_relay_connection": round(self.per_connection, 1),
        }


def measure(world: World, seconds: float, tell: Callable[[str], None]) -> Result:
    with _relay(world) as (folder, sink):
        _submit(world, 2.0, PER_SESSION, "warm")
        host.drain()
        tell(f"submitting for {seconds:.0f} s")
        families = _families()
        before, sink_before = _cpu(families), processes.cpu([sink])
        outcome = _submit(world, seconds, PER_SESSION, "sustained")
        host.drain()
        after = _cpu(families)
        sink_used = processes.cpu([sink]) - sink_before
        taken = Taken.read(folder, "sustained")
        short_before = sum(_cpu(families).values())
        short = _submit(world, _SHORT, 1, "short")
        host.drain()
        short_used = sum(_cpu(families).values()) - short_before
    expected = {
        _load(world, PER_SESSION, "sustained").message_id(client, number)
        for client, count in enumerate(outcome.sent)
        for number in range(count)
    }
    last = max(max(times) for name, times in taken.arrivals.items() if name in expected)
    count = len(expected)
    points = quantiles(outcome.latencies, n=100)
    used = {name: (after[name] - before[name]) / count * 1000 for name in after}
    return Result(
        seconds=seconds,
        messages=count,
        lost=len(expected - taken.arrivals.keys()),
        doubled=taken.doubled,
        accepted_rate=outcome.rate,
        delivered_rate=count / (last - outcome.begin),
        p50=points[49] * 1000,
        p99=points[98] * 1000,
        cpu=sum(used.values()),
        cpu_by_program=used,
        load_cpu=outcome.cpu / count * 1000,
        sink_cpu=sink_used / count * 1000,
        submission_sessions=outcome.sessions,
        relay_connections=taken.connections,
        session_cpu=short_used / short.accepted * 1000,
    )


def _families() -> dict[str, list[int]]:
    names = {"master": "postfix", "todoku-gate": "gate"}
    return {names.get(name, name): pids for name, pids in host.daemons().items()}


def _cpu(families: dict[str, list[int]]) -> dict[str, float]:
    return {name: processes.cpu(pids) for name, pids in families.items()}


@contextmanager
def _relay(world: World) -> Iterator[tuple[Path, int]]:
    """The sink as Postfix's relay: the folder of its records, and its process."""
    before = host.run("postconf", "-h", "relayhost").strip()
    credential = host.CREDENTIAL.read_text()
    login, password = credential.strip().split(None, 1)[1].split(":", 1)
    relay = f"[{world.relay_hostname}]:{_PORT}"
    certificate = host.PKI / f"{world.relay_hostname}.pem"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "bench.sink", name, world.relay_ip, str(_PORT), str(certificate)]
        command.append(str(certificate.with_suffix(".key")))
        with host.started(command, said=f"{login}\n{password}", ready="READY") as sink:
            host.CREDENTIAL.write_text(f"{relay} {login}:{password}\n")
            host.postconf(relayhost=relay)
            host.reload_postfix()
            yield folder, sink.pid
            host.CREDENTIAL.write_text(credential)
            host.postconf(relayhost=before)
            host.reload_postfix()


def _load(world: World, per_session: int, tag: str) -> load.Load:
    return load.Load(
        host=world.ip,
        port=587,
        login=world.login,
        password=world.password,
        tag=tag,
        size=SIZE,
        clients=CLIENTS,
        per_session=per_session,
        tls=host.CERTIFICATE,
        hostname=world.hostname,
    )


def _submit(world: World, seconds: float, per_session: int, tag: str) -> load.Outcome:
    return load.run(_load(world, per_session, tag), seconds)


def table(result: Result) -> str:
    programs = ", ".join(f"{name} {value:.2f}" for name, value in result.cpu_by_program.items())
    rows = [
        (
            "submitted",
            f"{result.messages} messages of {SIZE // 1024} KB in {result.seconds:.0f} s by {CLIENTS} clients with "
            f"STARTTLS and AUTH, {PER_SESSION} over a connection ({result.submission_sessions} log-ins, Argon2id)",
        ),
        ("the relay", "a lean sink with STARTTLS and AUTH, not the rehearsal's simulator"),
        ("accepted", f"{result.accepted_rate:.0f} a second"),
        ("delivered", f"{result.delivered_rate:.0f} a second, counted until the last had arrived"),
        ("end of DATA", f"p50 {result.p50:.1f} ms, p99 {result.p99:.1f} ms"),
        ("CPU, mail host", f"{result.cpu:.2f} ms a message ({programs})"),
        (
            "CPU beside it",
            f"load {result.load_cpu:.2f} ms, sink {result.sink_cpu:.2f} ms a message, on the same cores",
        ),
        (
            "relay",
            f"{result.relay_connections} connections: {result.per_connection:.0f} messages over each",
        ),
        ("lost, doubled", f"{result.lost}, {result.doubled}"),
        ("log-in each", f"{result.session_cpu:.1f} ms of CPU for a message with a connection of its own"),
    ]
    return "\n".join(f"  {name:<16}{text}" for name, text in rows) + "\n"


def verdicts(result: Result) -> list[tuple[str, float, float, bool]]:
    """What was aimed at, the target, the figure, and whether it was reached."""
    return [
        (
            "delivered a second: at least",
            TARGET_RATE,
            result.delivered_rate,
            result.delivered_rate >= TARGET_RATE,
        ),
        ("CPU ms a message: at most", TARGET_CPU, result.cpu, result.cpu <= TARGET_CPU),
        (
            "messages over a relay connection: at least",
            TARGET_PER_CONNECTION,
            result.per_connection,
            result.per_connection >= TARGET_PER_CONNECTION,
        ),
        ("lost or doubled: at most", 0, result.lost + result.doubled, result.lost + result.doubled == 0),
    ]
