"""Todoku and the queues that it is compared with, each run once; and which of them are missing here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import campaign_feed, campaign_letter, campaign_sink, host, processes
from bench.host import BenchFailed

_HERE = Path(__file__).parent
_IN_PORT = 10726
_FEEDERS = 10
_TIME = 300.0  # seconds for one run


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds of the clock, from the first message to the last record; seconds of the processor; bytes."""

    seconds: float
    cpu: float
    memory: int
    feed_cpu: float = 0.0
    recorded: int = 0


Run = Callable[[Path, int, int, Path], Figures]


@dataclass(frozen=True, slots=True)
class Peer:
    """`run(folder, count, port of the sink, folder of the sink's records)`; `records`: what became of each."""

    name: str
    records: str
    run: Run


def all_of_them(packages: Path, connections: int) -> tuple[list[Peer], dict[str, str]]:
    """Those that can be run here; why the others cannot."""
    peers, missing = [Peer("Todoku", "a row", _todoku(connections))], {}
    python, node = packages / "python", packages / "node" / "node_modules"
    if (python / "post_office").is_dir():
        peers.append(Peer("django-post_office", "a row", _post_office(python, connections)))
    else:
        missing["django-post_office"] = "its packages could not be fetched"
    runs_node = shutil.which("node") is not None
    if runs_node and (node / "nodemailer").is_dir():
        peers.append(Peer("nodemailer", "no", _nodemailer(node, connections)))
    else:
        missing["nodemailer"] = "there is no Node, or it could not be fetched"
    if runs_node and (node / "Haraka").is_dir():
        peers.append(Peer("Haraka", "a file, until it is sent", _haraka(node, connections)))
    else:
        missing["Haraka"] = "there is no Node, or it could not be fetched"
    if host.MASTER.exists() and "TODOKU_WORLD" in os.environ:
        peers.append(Peer("Postfix", "a file, and a line of the log", _postfix(connections)))
    else:
        missing["Postfix"] = "it runs in the world only"
    return peers, missing


def said(*command: str, given: str = "", more: Mapping[str, str] | None = None) -> dict[str, float]:
    """What a program prints as JSON on its last line. BenchFailed."""
    environment = {**os.environ, **(more or {})}
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, env=environment, timeout=3600
    )
    if done.returncode != 0:
        raise BenchFailed(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _figures(found: Mapping[str, float]) -> Figures:
    return Figures(found["seconds"], found["cpu"], int(found["memory"]), recorded=int(found["recorded"]))


def todoku_sends(folder: Path, port: int, connections: int) -> Figures:
    command = (sys.executable, "-m", "bench.campaign_todoku", "send")
    return _figures(said(*command, str(folder), str(port), str(connections)))


def _todoku(connections: int) -> Run:
    def run(folder: Path, count: int, port: int, _records: Path) -> Figures:
        said(sys.executable, "-m", "bench.campaign_todoku", "prepare", str(folder), str(count))
        return todoku_sends(folder, port, connections)

    return run


def _post_office(python: Path, connections: int) -> Run:
    """Two processes, as there are two cores; each has half of the connections."""
    script, more = str(_HERE / "post_office_queue.py"), {"PYTHONPATH": str(python)}

    def run(folder: Path, count: int, port: int, _records: Path) -> Figures:
        said(sys.executable, script, "prepare", str(folder), str(count), more=more)
        command = (sys.executable, script, "send", str(folder), str(port), "2", str(connections // 2))
        return _figures(said(*command, more=more))

    return run


def _nodemailer(node: Path, connections: int) -> Run:
    def run(_folder: Path, count: int, port: int, _records: Path) -> Figures:
        names = ("SENDER", "SUBJECT", "TEXT", "HTML")
        letter = json.dumps({name.lower(): getattr(campaign_letter, name) for name in names})
        command = ("node", str(_HERE / "nodemailer_pool.js"), str(count), str(port), str(connections))
        return _figures(said(*command, given=letter, more={"NODE_PATH": str(node)}))

    return run


def _haraka(node: Path, connections: int) -> Run:
    """A process for each core, as its documentation advises."""

    def run(folder: Path, count: int, port: int, records: Path) -> Figures:
        for name in ("config", "plugins", "queue"):
            (folder / name).mkdir()
        shutil.copy(_HERE / "haraka_plugin.js", folder / "plugins" / "bench.js")
        shutil.copy(node / "Haraka" / "config" / "connection.ini", folder / "config")
        files = {
            "plugins": "bench\n",
            "smtp.ini": f"listen=127.0.0.1:{_IN_PORT}\nnodes={os.cpu_count()}\n",
            "log.ini": "[main]\nlevel=error\nformat=default\n",
            "outbound.ini": f"enable_tls=false\nconcurrency_max={connections}\n",
            "sink.json": json.dumps({"port": port}),
            "me": "mx.hoge.example\n",
        }
        for name, text in files.items():
            (folder / "config" / name).write_text(text)
        command = ["node", str(node / "Haraka" / "bin" / "haraka"), "-c", str(folder)]
        with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
            try:
                _wait_for_port(_IN_PORT)
                return _fed([server.pid], count, records)
            finally:
                server.terminate()

    return run


def _postfix(connections: int) -> Run:
    """That of the world, by a service without milters and a transport without TLS."""

    def run(_folder: Path, count: int, port: int, records: Path) -> Figures:
        options = {
            "smtpd_milters": "",
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": "permit_mynetworks,reject",
            "smtpd_recipient_restrictions": "",
            "smtpd_sender_restrictions": "",
            "smtpd_client_restrictions": "",
            "smtpd_helo_restrictions": "",
            "smtpd_data_restrictions": "",
            "smtpd_end_of_data_restrictions": "",
            "smtpd_tls_security_level": "none",
            "smtpd_client_connection_count_limit": "0",
        }
        service = f"127.0.0.1:{_IN_PORT} inet n - n - - smtpd\n" + "".join(
            f"    -o {name}={value}\n" for name, value in options.items()
        )
        out = f"benchout unix - - n - {connections} smtp\n" + "".join(
            f"    -o {option}\n"
            for option in (
                "smtp_tls_security_level=none",
                "smtp_sasl_auth_enable=no",
                "smtp_connection_cache_on_demand=yes",
            )
        )
        before = {
            name: host.run("postconf", "-h", name).strip() for name in ("default_transport", "relayhost")
        }
        with host.added_services(service + out):
            host.postconf(default_transport=f"benchout:[127.0.0.1]:{port}", relayhost="")
            host.reload_postfix()
            try:
                _wait_for_port(_IN_PORT)
                return _fed(host.daemons()["master"], count, records)
            finally:
                host.postconf(**before)

    return run


def _fed(families: list[int], count: int, records: Path) -> Figures:
    """A server that is given all of it, until the sink has all of it."""
    begun, before = time.monotonic(), processes.cpu(families)
    used = campaign_feed.feed(_IN_PORT, range(count), _FEEDERS)
    memory = processes.memory(families).pss
    while (there := campaign_sink.count(records)) < count:
        if time.monotonic() - begun > _TIME:
            raise BenchFailed(f"{there} of {count} messages had arrived after {_TIME:.0f} s")
        time.sleep(0.02)
    return Figures(time.monotonic() - begun, processes.cpu(families) - before, memory, used)


def _wait_for_port(port: int) -> None:
    import socket

    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise BenchFailed(f"nothing listens on port {port}") from None
            time.sleep(0.1)
