"""Real name servers for the tests of publishing, beside the world's own: Knot that takes signed updates, PowerDNS with
its API, and unbound as a resolver that checks DNSSEC."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dns.message
import dns.query
import pytest

from todoku.dns.lookups import Lookups, Send, Server
from todoku.dns.rfc2136 import Key

ADDRESS = "127.0.0.54"  # of Knot or PowerDNS: the tests run one at a time
RESOLVER = "127.0.0.55"
API = 8054
WORLD = "192.0.2.53"  # the world's own, for everything else


def to_port(port: int) -> Send:
    """Every question goes to that port: the zones say where their servers are, but not on which port."""

    def ask(query: dns.message.Message, address: str, _port: int, timeout: float) -> dns.message.Message:
        return dns.query.udp_with_fallback(query, address, timeout, port)[0]

    return ask


def wait_for(answers: Callable[[], object], log: Path) -> None:
    log.touch()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if answers():
                return
        time.sleep(0.05)
    pytest.fail(f"the name server does not answer:\n{log.read_text(errors='replace')[-3000:]}")


def _soa(zone: str, port: int, address: str = ADDRESS) -> Callable[[], object]:
    lookups = Lookups((), send=to_port(port), timeout=0.2)
    return lambda: lookups.ask(Server("it", address, port), zone, "SOA").values


@contextlib.contextmanager
def knot(
    folder: Path, key: Key, zones: dict[str, str], *, port: int, signed: bool = False, transfer: bool = True
) -> Iterator[Path]:
    """Knot with these zones (name -> text), which takes updates that are signed with `key`; its configuration."""
    (folder / "db").mkdir()
    actions = "[update, transfer]" if transfer else "update"
    served = ""
    for name, text in zones.items():
        (folder / name).write_text(text)
        signing = "    dnssec-signing: on\n    dnssec-policy: plain\n" if signed else ""
        served += f'  - domain: {name}\n    file: "{folder / name}"\n    acl: todoku\n{signing}'
    policy = (
        "policy:\n  - id: plain\n    manual: off\n    nsec3: off\n    single-type-signing: on\n"
        if signed
        else ""
    )
    (folder / "knot.conf").write_text(f"""\
server:
    rundir: "{folder}"
    user: root:root
    listen: {ADDRESS}@{port}
control:
    listen: "{folder}/knot.sock"
database:
    storage: "{folder}/db"
log:
  - target: "{folder}/log"
    any: info
key:
  - id: {key.name}
    algorithm: {key.algorithm}
    secret: "{base64.b64encode(key.secret).decode()}"
acl:
  - id: todoku
    key: {key.name}
    action: {actions}
{policy}template:
  - id: default
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
zone:
{served}""")
    with _running(["/usr/sbin/knotd", "-c", str(folder / "knot.conf")]):
        for name in zones:
            wait_for(_soa(name, port), folder / "log")
        yield folder / "knot.conf"


@contextlib.contextmanager
def powerdns(folder: Path, token: str, zone: str, text: str, *, port: int) -> Iterator[None]:
    """PowerDNS with one zone, and its API behind `token`."""
    database = folder / "pdns.sqlite3"
    schema = next(Path("/usr/share").glob("**/pdns-backend-sqlite3/**/schema.sqlite3.sql"))
    sqlite3.connect(database).executescript(schema.read_text())
    (folder / "pdns.conf").write_text(f"""\
launch=gsqlite3
gsqlite3-database={database}
local-address={ADDRESS}
local-port={port}
api=yes
api-key={token}
webserver=yes
webserver-address=127.0.0.1
webserver-port={API}
socket-dir={folder}
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
""")
    (folder / "zone").write_text(text)
    config = f"--config-dir={folder}"
    loading = ["pdnsutil", config, "load-zone", zone, str(folder / "zone")]
    subprocess.run(loading, check=True, capture_output=True)
    with _running(["pdns_server", config, "--daemon=no", "--guardian=no"], folder / "log"):
        wait_for(_soa(zone, port), folder / "log")
        wait_for(lambda: socket.create_connection(("127.0.0.1", API), 1), folder / "log")
        yield


@contextlib.contextmanager
def unbound(folder: Path, zones: Sequence[str], anchors: Sequence[str], now: str = "") -> Iterator[None]:
    """A resolver at RESOLVER that checks signatures: `zones` are at ADDRESS, the rest is the world's.

    `anchors` are DS records; `now` is its idea of the date (YYYYMMDDHHMMSS), if it is not the clock's.
    """
    trusted = "".join(f'    trust-anchor: "{anchor}"\n' for anchor in anchors)
    override = f'    val-override-date: "{now}"\n' if now else ""
    forwards = "".join(
        f'forward-zone:\n    name: "{name}"\n    forward-addr: {address}\n    forward-no-cache: yes\n'
        for name, address in (*((zone, ADDRESS) for zone in zones), (".", WORLD))
    )
    (folder / "unbound.conf").write_text(f"""\
server:
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    username: ""
    chroot: ""
    use-syslog: no
    logfile: "{folder}/unbound.log"
    do-daemonize: no
    interface: {RESOLVER}
    access-control: 0.0.0.0/0 allow
    do-ip6: no
    module-config: "validator iterator"
    do-not-query-localhost: no
    unblock-lan-zones: yes
    qname-minimisation: no
{trusted}{override}remote-control:
    control-enable: no
{forwards}""")
    with _running(["/usr/sbin/unbound", "-d", "-c", str(folder / "unbound.conf")], folder / "unbound.out"):
        wait_for(
            lambda: Lookups((RESOLVER,), timeout=0.2).resolve("outside.example", "MX").values,
            folder / "unbound.log",
        )
        yield


def ds_records(configuration: Path, zone: str) -> list[str]:
    """What the registrar would have for the zone."""
    command = ["keymgr", "-c", str(configuration), zone, "ds"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in listed if line.split()[-2:-1] and " 13 2 " in line]


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path = Path(os.devnull)) -> Iterator[None]:
    with log.open("wb") as file:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield
    finally:
        daemon.terminate()
        daemon.wait(10)
