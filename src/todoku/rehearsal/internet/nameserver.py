"""The rehearsal's real name servers: Knot DNS for every zone of its internet, unbound as the resolver.

Two are needed. Knot follows a CNAME no further than the zone that it lies in, but stub resolvers (glibc,
dnspython, Postfix) want the whole chain in one answer, and a DKIM CNAME crosses zones. So unbound, at the
address that /etc/resolv.conf names, asks Knot and follows. It caches nothing: a changed record is in force at
once.

Both run as root and in the foreground, started by the world; all that they write is below one folder.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.rcode

from . import plan as world
from .plan import STATE, InternetPlan
from .zones import zones

PACKAGES = ("knot", "unbound")  # Debian and Ubuntu
FOLDER = STATE / "dns"
RESOLVER = "127.0.0.1"
RESOLV_CONF = f"nameserver {RESOLVER}\noptions timeout:5 attempts:2\n"

_KNOTD, _KNOTC, _UNBOUND = "/usr/sbin/knotd", "/usr/sbin/knotc", "/usr/sbin/unbound"
_SERVERS = (str(world.DNS), RESOLVER)  # in the order of `commands`
_LOGS = ("knot.log", "unbound.log", "servers.log")  # the last: what both say before they have a log
_ROOT_FILE = "@root.zone"  # no zone is called that
_START_SECONDS = 5.0
_ANSWER_SECONDS = 0.5
_PAUSE_SECONDS = 0.01


class NameServerError(RuntimeError):
    """A name server did not start, does not answer, or did not take a zone."""


def write(plan: InternetPlan, folder: Path = FOLDER) -> None:
    """Write the configuration of both servers and all zone files into `folder`, which is made if need be."""
    for name in ("zones", "run", "db"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for left_over in (*(folder / "zones").iterdir(), *folder.glob("*.log")):
        left_over.unlink()
    texts = zones(plan)
    for name, text in texts.items():
        _zone_file(folder, name).write_text(text, encoding="ascii")
    (folder / "knot.conf").write_text(_knot_configuration(folder, list(texts)), encoding="ascii")
    (folder / "unbound.conf").write_text(_unbound_configuration(folder), encoding="ascii")


def commands(folder: Path = FOLDER) -> list[list[str]]:
    """Knot, then unbound, as commands that stay in the foreground; a TERM signal ends each.

    Start unbound only once Knot answers, or have the machine's own name in /etc/hosts: Knot looks that name
    up at its start, and a resolver that is there but cannot ask Knot yet keeps it waiting for 5 s and more.
    """
    return [
        [_KNOTD, "-c", str(folder / "knot.conf")],
        [_UNBOUND, "-d", "-c", str(folder / "unbound.conf")],
    ]


def start(folder: Path = FOLDER) -> list[subprocess.Popen[bytes]]:
    """Start both servers on what `write` wrote, and return when both answer. Raises NameServerError."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "servers.log").open("ab") as log:
            for command, server in zip(commands(folder), _SERVERS, strict=True):
                running.append(
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
                )
                _wait_for(server, _START_SECONDS, folder)
    except BaseException:
        stop(running)
        raise
    return running


def stop(running: Iterable[subprocess.Popen[bytes]]) -> None:
    """End what `start` started."""
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_answers(timeout: float = _START_SECONDS, folder: Path = FOLDER) -> None:
    """Return as soon as both servers answer for the root zone.

    Raises NameServerError when one of them does not within `timeout` seconds, with the end of the logs.
    """
    deadline = time.monotonic() + timeout
    for server in _SERVERS:
        _wait_for(server, max(0.0, deadline - time.monotonic()), folder)


def replace_zone(folder: Path, name: str, text: str) -> None:
    """Put `text` in place as zone `name` ("." is the root) of the running servers; in force on return.

    A zone that did not exist is added. Raises NameServerError when Knot does not accept the text; what was
    served before goes on being served.
    """
    path = _zone_file(folder, name)
    before = path.read_text(encoding="ascii") if path.exists() else None
    _replace(path, text)
    try:
        if before is None:
            _serve_what_is_there(folder)
        _knotc(folder, "zone-reload", _absolute(name))
    except NameServerError:
        if before is None:
            path.unlink()
            _serve_what_is_there(folder)
        else:
            _replace(path, before)
        raise


def add_zones(folder: Path, texts: Mapping[str, str]) -> None:
    """Serve these zones (name -> text) as well, all at once; in force on return. Raises NameServerError."""
    for name, text in texts.items():
        _replace(_zone_file(folder, name), text)
    try:
        _serve_what_is_there(folder)
        deadline = time.monotonic() + _START_SECONDS
        waiting = list(texts)
        while waiting:
            waiting = [name for name in waiting if not _answers(str(world.DNS), _absolute(name))]
            if waiting and time.monotonic() > deadline:
                raise NameServerError(f"Knot does not serve {', '.join(waiting)}:\n{_last_words(folder)}")
    except NameServerError:
        remove_zones(folder, texts)
        raise


def remove_zones(folder: Path, names: Iterable[str]) -> None:
    """Serve these zones no longer."""
    for name in names:
        _zone_file(folder, name).unlink(missing_ok=True)
    _serve_what_is_there(folder)


def _wait_for(server: str, timeout: float, folder: Path) -> None:
    deadline = time.monotonic() + timeout
    while not _answers(server):
        if time.monotonic() > deadline:
            raise NameServerError(
                f"no answer from the rehearsal's name server at {server} port 53 in {timeout:.1f} s; is it "
                f"running, and is the address there? The servers' last words:\n{_last_words(folder)}"
            )
        time.sleep(_PAUSE_SECONDS)


def _serve_what_is_there(folder: Path) -> None:
    """Make Knot serve every zone that has a file, and no other."""
    files = sorted((folder / "zones").glob("*.zone"))
    names = ["." if path.name == _ROOT_FILE else path.name.removesuffix(".zone") for path in files]
    _replace(folder / "knot.conf", _knot_configuration(folder, names))
    _knotc(folder, "reload")


def _zone_file(folder: Path, name: str) -> Path:
    return folder / "zones" / (_ROOT_FILE if name == "." else f"{name}.zone")


def _absolute(name: str) -> str:
    return "." if name == "." else f"{name}."


def _knotc(folder: Path, *arguments: str) -> None:
    command = [_KNOTC, "-c", str(folder / "knot.conf"), "-b", "-t", f"{_START_SECONDS:.0f}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NameServerError(
            f"knotc {' '.join(arguments)}: {(result.stdout + result.stderr).strip()}\n{_last_words(folder)}"
        )


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="ascii")
    new.replace(path)


def _answers(server: str, zone: str = ".") -> bool:
    question = dns.message.make_query(zone, "SOA")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(_ANSWER_SECONDS)
        try:
            udp.connect((server, 53))  # connected, so that nobody listening is an error at once
            udp.send(question.to_wire())
            answer = dns.message.from_wire(udp.recv(4096))
        except (dns.exception.DNSException, OSError):
            return False
    return answer.rcode() == dns.rcode.NOERROR and bool(answer.answer)


def _last_words(folder: Path, lines: int = 8) -> str:
    """The latest complaints in the logs; where there are none, how far each server got."""
    found: list[str] = []
    complaints: list[str] = []
    for path in (folder / name for name in _LOGS):
        text = path.read_text(errors="replace") if path.exists() else ""
        said = [f"{path.name}: {line}" for line in text.splitlines()]
        found += said[-lines // 2 :]
        complaints += [line for line in said if " info: " not in line and " notice: " not in line][-lines:]
    return "\n".join(complaints or found) or f"(nothing; the logs are in {folder})"


def _knot_configuration(folder: Path, names: list[str]) -> str:
    served = "".join(
        f'  - domain: "{_absolute(name)}"\n    file: "{_zone_file(folder, name)}"\n' for name in names
    )
    return f"""\
server:
    rundir: "{folder}/run"
    user: root:root
    listen: {world.DNS}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    automatic-acl: off

control:
    listen: "{folder}/knot.sock"

database:
    storage: "{folder}/db"

log:
  - target: "{folder}/knot.log"
    any: info

template:
  - id: default
    storage: "{folder}/zones"
    # The files are the truth: read whole, never written back, no journal beside them.
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none

zone:
{served}"""


def _unbound_configuration(folder: Path) -> str:
    return f"""\
server:
    directory: "{folder}"
    pidfile: "{folder}/unbound.pid"
    username: ""
    chroot: ""
    use-syslog: no
    logfile: "{folder}/unbound.log"
    do-daemonize: no
    num-threads: 1
    # The office's machines reach the resolver through their gateway, whose address may appear later.
    interface: {RESOLVER}
    interface: {world.OFFICE_GATEWAY}
    ip-freebind: yes
    access-control: 0.0.0.0/0 allow
    do-ip6: no

    # No signatures here; and private and documentation ranges are ordinary parts of this internet.
    module-config: "iterator"
    do-not-query-localhost: no
    unblock-lan-zones: yes
    local-zone: "test." nodefault
    local-zone: "invalid." nodefault
    local-zone: "onion." nodefault
    qname-minimisation: no

    # Do not remember that a server was away.
    infra-host-ttl: 0
    infra-keep-probing: yes

remote-control:
    control-enable: no

# Knot has the whole tree, so each question goes straight to it. Unlike cache-max-ttl: 0, this leaves the
# records their real TTL while nothing is remembered (a stub-zone's no-cache does not reach below the stub).
forward-zone:
    name: "."
    forward-addr: {world.DNS}
    forward-no-cache: yes
"""
