"""What will hurt on this machine, seen before anything is installed: each look gives a finding or nothing.

Nothing here changes anything, and nothing is certain: a machine cannot see from inside whether the world reaches it.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPSConnection
from ipaddress import IPv4Address, IPv6Address, ip_address

import dns.exception
import dns.resolver
import dns.reversename

from todoku.host import facts, processes
from todoku.host.client import Host
from todoku.host.packages import Packages
from todoku.host.services import DOVECOT, POSTFIX, taken
from todoku.plan.resource import LookFailed

Address = IPv4Address | IPv6Address
# A machine that is sold as one with 1 GiB shows some 50 MiB less: the kernel keeps them.
_MEMORY_NEEDED = 950 * 1024  # KiB
_CLOCK_OFF = (
    60.0  # seconds: requests to the cloud are refused from 300 on, and certificates and codes depend on it
)
_PATIENCE = 4.0  # seconds for each connection and question


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that will hurt, or that is good to know. `rule` is for programs: "ptr.missing"."""

    rule: str
    hurts: bool  # False: only to know
    seen: str
    advice: str


def of_the_machine(host: Host, addresses: Sequence[Address]) -> Iterator[Finding]:
    """What this machine itself has or lacks. `addresses`: the public ones."""
    yield from _system(host)
    yield from _memory(host.text("/proc/meminfo"))
    yield from _other_mail_server(host)
    yield from _taken_ports(host, addresses)
    yield from _firewall(host)


def of_the_network(
    hostname: str, addresses: Sequence[Address], relay: str, resolver: dns.resolver.Resolver | None = None
) -> Iterator[Finding]:
    """What can be seen of the world from here. `relay`: its host name. Takes some seconds where much is silent."""
    try:
        asked = resolver or dns.resolver.Resolver()
    except dns.exception.DNSException as fault:
        yield _no_resolver(relay, fault)
        return
    asked.lifetime = _PATIENCE
    try:
        asked.resolve(relay, "A")
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        yield Finding(
            "relay.unknown",
            True,
            f"the DNS knows no address of the relay, {relay}",
            "look whether Email Delivery is offered in that region, or choose another one",
        )
    except dns.exception.DNSException as fault:
        yield _no_resolver(relay, fault)
        return
    else:
        yield from _relay(relay)
    yield from _clock(relay)
    for address in addresses:
        yield from _reverse_name(hostname, address, asked)


def public_addresses(host: Host, hostname: str) -> tuple[Address, ...]:
    """The addresses at which the world reaches this machine: those that it has, else what its name has in the DNS.

    Behind address translation, as in most clouds, the machine has only private ones.
    """
    done = host.run(["ip", "-o", "addr", "show", "scope", "global"], check=False) if host.has("ip") else None
    words = re.findall(r"(?m)^\d+: (?!lo\b)\S+\s+inet6? (\S+?)/\d+ (.*)$", done.stdout if done else "")
    own = [ip_address(address) for address, flags in words if not re.search("temporary|deprecated", flags)]
    found = [address for address in own if address.is_global or _documented(address)]
    return tuple(found) or _in_the_dns(hostname)


def _in_the_dns(hostname: str) -> tuple[Address, ...]:
    found: list[Address] = []
    for kind in ("A", "AAAA"):
        try:
            asked = dns.resolver.Resolver()
            found += [
                ip_address(record.address) for record in asked.resolve(hostname, kind, lifetime=_PATIENCE)
            ]
        except dns.exception.DNSException:
            continue
    return tuple(address for address in found if address.is_global or _documented(address))


def _documented(address: Address) -> bool:
    """Addresses for examples (RFC 5737, RFC 3849): the rehearsal's world is made of them, and nobody else has them."""
    networks = ("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:")
    return str(address).startswith(networks)


def _system(host: Host) -> Iterator[Finding]:
    name, is_known = facts.system(host)
    if not is_known:
        yield Finding(
            "os.other",
            True,
            f"this is {name}",
            "Todoku is made for Debian 12 and 13 and for Ubuntu 22.04, 24.04 and 26.04: use one of them",
        )


def _memory(meminfo: str) -> Iterator[Finding]:
    total = re.search(r"(?m)^MemTotal:\s+(\d+) kB", meminfo)
    if total and int(total[1]) < _MEMORY_NEEDED:
        yield Finding(
            "memory.little",
            True,
            f"this machine has {int(total[1]) // 1024} MiB of memory",
            "give it 1 GiB at least, or add swap: the gate alone may use several hundred MiB with large messages",
        )


def _other_mail_server(host: Host) -> Iterator[Finding]:
    try:
        Packages(names=("postfix",), reason="").look(host)
    except LookFailed as other:
        seen, _, advice = str(other).partition(": ")
        yield Finding("mta.other", True, seen, advice)


def _taken_ports(host: Host, addresses: Sequence[Address]) -> Iterator[Finding]:
    """Ports that others than Postfix and Dovecot hold: at all addresses, at the public, or at inner ones."""
    listening = processes.listeners(host)
    inner = {each.address for each in listening if each.address.is_private and not _documented(each.address)}
    mains = [processes.main_process(host, daemon.pid_file, daemon.process) for daemon in (POSTFIX, DOVECOT)]
    ours = frozenset[int]().union(*(processes.sockets(host, main.pid) or () for main in mains if main))
    holders: dict[str, set[int]] = {}
    for listener in taken(listening, (*POSTFIX.ports, *DOVECOT.ports), (*addresses, *inner)):
        if listener.inode not in ours:
            process = processes.holder(host, listener.inode)
            name = process.name if process else "a process that is not visible from here"
            holders.setdefault(name, set()).add(listener.port)
    for name, held in holders.items():
        listed = ", ".join(map(str, sorted(held)))
        yield Finding("port.taken", True, f"port {listed} is held by {name}", "stop it before `todoku apply`")


def _firewall(host: Host) -> Iterator[Finding]:
    """The images of Oracle's instances reject whatever is not allowed before the last rule of the chain."""
    for program in ("iptables", "ip6tables"):
        if host.has(program) and rejects_25(host.run([program, "-S", "INPUT"], check=False).stdout):
            yield Finding(
                "port_25.rejected",
                True,
                f"this machine's own firewall ({program}) rejects what comes in on port 25",
                "`todoku apply` lets it in, before the rule that rejects all; in Oracle's cloud with cloud.instance in "
                "the security list as well (docs/firewalls.md)",
            )


def rejects_25(rules: str) -> bool:
    """Whether a chain, as `iptables -S INPUT` prints it, lets no new connection to TCP port 25 through.

    Only what is plain is understood: rules for a source, an interface or a state are taken as not concerned.
    """
    policy = re.search(r"(?m)^-P INPUT (\w+)", rules)
    for rule in re.findall(r"(?m)^-A INPUT (.*)$", rules):
        target = re.search(r"-j (\w+)", rule)
        if target is None or re.search(r"(^| )(-s|-i|--state|--ctstate|! )", rule):
            continue
        protocol, ports = re.search(r"-p (\w+)", rule), re.search(r"--dports? (\S+)", rule)
        if protocol and protocol[1] not in ("tcp", "all"):
            continue
        if ports and not any(_covers(port, 25) for port in ports[1].split(",")):
            continue
        if target[1] in ("ACCEPT", "REJECT", "DROP"):
            return target[1] != "ACCEPT"
    return bool(policy and policy[1] == "DROP")


def _covers(ports: str, port: int) -> bool:
    low, _, high = ports.partition(":")
    return low.isdecimal() and int(low) <= port <= int(high or low)


def _no_resolver(relay: str, fault: Exception) -> Finding:
    return Finding(
        "resolver.missing",
        True,
        f"the resolver of this machine does not answer (asked for {relay}: {type(fault).__name__})",
        "without one every connection waits for names that never come: put a working one into /etc/resolv.conf, "
        "best on this machine itself: apt-get install unbound, then nameserver 127.0.0.1",
    )


def _relay(relay: str) -> Iterator[Finding]:
    if not any(_connects(relay, port) for port in (587, 465)):
        yield Finding(
            "relay.closed",
            True,
            f"neither port 587 nor 465 of the relay, {relay}, can be reached from here",
            "allow outgoing connections to it: no mail leaves otherwise",
        )
    elif not _connects(relay, 25):
        yield Finding(
            "port_25.outgoing",
            False,
            "outgoing port 25 is blocked here",
            "nothing to do: the relay takes mail on 587",
        )


def _connects(name: str, port: int) -> bool:
    try:
        with socket.create_connection((name, port), _PATIENCE):
            return True
    except OSError:
        return False


def _clock(relay: str) -> Iterator[Finding]:
    """Compared with the Date that Oracle's web server gives (RFC 9110 6.6.1), which is good to a second or two."""
    said = _date_of(f"identity.{relay.partition('.email.')[2]}")
    off = offset(said, datetime.now(UTC)) if said else 0.0
    if abs(off) > _CLOCK_OFF:
        yield Finding(
            "clock.off",
            True,
            f"the clock of this machine is {abs(off):.0f} s {'behind' if off > 0 else 'ahead'}",
            "set it, and keep it right: apt-get install chrony (or systemd-timesyncd)",
        )


def _date_of(name: str) -> str:
    # A clock that is wrong makes every certificate look expired or not yet valid. Nothing is sent, and of the answer
    # only the time of day is taken, for a warning.
    careless = ssl._create_unverified_context()  # noqa: S323
    connection = HTTPSConnection(name, timeout=_PATIENCE, context=careless)
    try:
        connection.request("HEAD", "/")
        return connection.getresponse().getheader("Date") or ""
    except (OSError, HTTPException):
        return ""
    finally:
        connection.close()


def offset(said: str, now: datetime) -> float:
    """By how many seconds `now` is behind the time that an HTTP Date header tells; 0 where it tells none."""
    try:
        return (parsedate_to_datetime(said).astimezone(UTC) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _reverse_name(hostname: str, address: Address, asked: dns.resolver.Resolver) -> Iterator[Finding]:
    reverse = dns.reversename.from_address(str(address))
    try:
        names = [str(record.target).rstrip(".").lower() for record in asked.resolve(reverse, "PTR")]
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        names = []
    except dns.exception.DNSException:
        return  # nothing is known of it
    if hostname.lower() not in names:
        has = f"has the reverse name {', '.join(names)}" if names else "has no reverse name (PTR)"
        yield Finding(
            "ptr.missing",
            True,
            f"{address} {has}; it should be {hostname}",
            "have whoever gave you the address set it: in Oracle's cloud a support request, elsewhere mostly a "
            "field in the console",
        )
