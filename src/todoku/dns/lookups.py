"""Asking the DNS: the zone's authoritative servers first, because they know at once, then the resolver, which
sees what the world sees.

Every question goes to a named server with a bounded wait; how a question is sent is passed in. What comes
back is a typed answer, never an exception: a server that is silent or lame is a finding.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from todoku.dns import text

TIMEOUT = 3.0  # seconds for one question to one server
SPF_SECONDS = 20.0  # for all look-ups of one record: what receivers have to allow at least (RFC 7208 4.6.4)
_MOST_SERVERS = 6
_PAYLOAD = 1232  # bytes; what passes everywhere without fragments (DNS flag day 2020)
_CHAIN = 8  # CNAMEs followed


class Status(StrEnum):
    """What became of a question."""

    FOUND = "found"
    NO_DATA = "no such record"
    NO_NAME = "no such name"
    BROKEN = "server failure"
    REFUSED = "refused"
    LAME = "not authoritative"
    SILENT = "no answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one server said about a name and a type."""

    server: str
    status: Status
    values: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()  # the same, in presentation format
    ttl: int = 0
    cname: str | None = None  # the name is a CNAME to this one
    zone: str | None = None  # from the SOA record in the answer
    authenticated: bool = False  # the resolver says that it has validated it (RFC 4035 3.2.3)

    @property
    def usable(self) -> bool:
        return self.status in (Status.FOUND, Status.NO_DATA, Status.NO_NAME)


@dataclass(frozen=True, slots=True)
class Server:
    """An authoritative name server."""

    name: str
    address: str
    port: int = 53


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and the servers that it is delegated to."""

    name: str
    servers: tuple[Server, ...]


# query, address, port, seconds -> the answer. Raises DNSException or OSError.
Send = Callable[[dns.message.Message, str, int, float], dns.message.Message]


def send(query: dns.message.Message, address: str, port: int, timeout: float) -> dns.message.Message:
    """Ask over UDP, and over TCP when the answer does not fit."""
    answer, _ = dns.query.udp_with_fallback(
        # Whatever else arrives at our port meanwhile, forged or mangled, is not waited for and not believed.
        query,
        address,
        timeout,
        port,
        ignore_unexpected=True,
        ignore_errors=True,
    )
    return answer


class NotFound(Exception):
    """The zone of a name, or its servers, could not be found. The message says what was tried."""


@dataclass
class Lookups:
    """Questions to the DNS. Which zone a name is in, and its servers, is remembered. Safe between threads."""

    resolvers: tuple[str, ...]
    send: Send = send
    timeout: float = TIMEOUT
    _zones: dict[str, Zone] = field(default_factory=dict)
    _apexes: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def of_system(resolvers: Sequence[object] = ()) -> Lookups:
        """With the resolvers named, or those of the system. Raises NotFound when it has none."""
        if resolvers:
            return Lookups(tuple(map(str, resolvers)))
        try:
            found = dns.resolver.Resolver().nameservers
        except dns.resolver.NoResolverConfiguration:
            found = []
        names = tuple(str(name) for name in found if dns.inet.is_address(str(name)))
        if not names:
            raise NotFound(
                "/etc/resolv.conf names no resolver: add one, or write resolver = [...] below [dns]"
            )
        return Lookups(names)

    def resolve(self, name: str, type_: str, *, unchecked: bool = False) -> Answer:
        """What the world sees; `unchecked` asks the resolver not to validate (RFC 4035 3.2.2: CD)."""
        answer = Answer("", Status.SILENT)
        for address in self.resolvers:
            answer = self._ask(Server(address, address), name, type_, recursive=True, unchecked=unchecked)
            if answer.usable:
                break
        return answer

    def ask(self, server: Server, name: str, type_: str) -> Answer:
        """What an authoritative server says."""
        return self._ask(server, name, type_, recursive=False)

    def ask_all(self, zone: Zone, name: str, type_: str) -> tuple[Answer, ...]:
        """What each of the zone's servers says, asked at the same time."""
        if len(zone.servers) < 2:
            return tuple(self.ask(server, name, type_) for server in zone.servers)
        with ThreadPoolExecutor(len(zone.servers), thread_name_prefix="dns") as pool:
            return tuple(pool.map(lambda server: self.ask(server, name, type_), zone.servers))

    def zone_of(self, name: str) -> Zone:
        """The zone that `name` lies in, and its servers. Raises NotFound."""
        apex = self.apex_of(name)
        with self._lock:
            known = self._zones.get(apex)
        zone = known or Zone(apex, self._servers(apex))
        with self._lock:
            self._zones[apex] = zone
        return zone

    def apex_of(self, name: str) -> str:
        """The name of the zone that `name` lies in, found by its SOA record. Raises NotFound."""
        with self._lock:
            known = self._apexes.get(name)
        apex = known or self._apex(name)
        with self._lock:
            self._apexes |= {name: apex, apex: apex}
        return apex

    def forget(self) -> None:
        """Forget the zones: a delegation may have changed."""
        with self._lock:
            self._zones.clear()
            self._apexes.clear()

    def _apex(self, name: str) -> str:
        candidate = name
        while candidate:
            answer = self._resolve_even_if_broken(candidate, "SOA")
            if not answer.usable:
                raise NotFound(
                    f"which zone {name} lies in could not be found: the resolver "
                    f"({', '.join(self.resolvers)}) says: {answer.status.value}"
                )
            if answer.status is Status.FOUND and answer.cname is None:
                return candidate
            if answer.cname is None and answer.zone and text.within(candidate, answer.zone):
                return answer.zone
            candidate = candidate.partition(".")[2]
        raise NotFound(f"which zone {name} lies in could not be found: it is in none")

    def _servers(self, apex: str) -> tuple[Server, ...]:
        names = self._resolve_even_if_broken(apex, "NS").values[:_MOST_SERVERS]
        servers = [server for name in sorted(names) if (server := self._server(name)) is not None]
        if not servers:
            raise NotFound(
                f"the name servers of {apex} could not be found: it has no NS records with addresses"
            )
        return tuple(servers)

    def _server(self, name: str) -> Server | None:
        for type_ in ("A", "AAAA"):
            if values := self._resolve_even_if_broken(name, type_).values:
                return Server(name, values[0])
        return None

    def _resolve_even_if_broken(self, name: str, type_: str) -> Answer:
        answer = self.resolve(name, type_)
        return self.resolve(name, type_, unchecked=True) if answer.status is Status.BROKEN else answer

    def _ask(
        self, server: Server, name: str, type_: str, *, recursive: bool, unchecked: bool = False
    ) -> Answer:
        try:
            query = dns.message.make_query(f"{name}.", type_, use_edns=0, payload=_PAYLOAD)
        except dns.exception.DNSException:
            return Answer(server.name, Status.NO_NAME)  # a label too long, an empty one: it cannot exist
        query.flags = dns.flags.Flag(0)
        if recursive:
            query.flags |= dns.flags.RD | dns.flags.AD  # AD: tell whether it was validated (RFC 6840 5.7)
        if unchecked:
            query.flags |= dns.flags.CD
        try:
            reply = self.send(query, server.address, server.port, self.timeout)
        except (dns.exception.DNSException, OSError):
            return Answer(server.name, Status.SILENT)
        return _read(reply, server, name, type_, recursive=recursive)


def _read(reply: dns.message.Message, server: Server, name: str, type_: str, *, recursive: bool) -> Answer:
    code = reply.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Answer(server.name, Status.REFUSED if code == dns.rcode.REFUSED else Status.BROKEN)
    vouched = recursive and bool(reply.flags & dns.flags.AD)
    zone = next((_name(r.name) for r in reply.authority if r.rdtype == dns.rdatatype.SOA), None)
    if not recursive and not reply.flags & dns.flags.AA:
        return Answer(server.name, Status.LAME)
    owner, first = name, None
    for _ in range(_CHAIN):
        found = _rrset(reply, owner, type_)
        if found is not None:
            values = tuple(text.of_rdata(rdata) for rdata in found)
            raw = tuple(rdata.to_text() for rdata in found)
            return Answer(server.name, Status.FOUND, values, raw, found.ttl, first, zone, vouched)
        alias = _rrset(reply, owner, "CNAME")
        if alias is None:
            break
        owner = text.of_rdata(alias[0])
        first = first or owner
    status = Status.NO_NAME if code == dns.rcode.NXDOMAIN and first is None else Status.NO_DATA
    return Answer(server.name, status, cname=first, zone=zone)


def _rrset(reply: dns.message.Message, owner: str, type_: str) -> dns.rrset.RRset | None:
    wanted = dns.rdatatype.from_text(type_)
    return next((r for r in reply.answer if r.rdtype == wanted and _name(r.name) == owner), None)


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def spf_resolve(lookups: Lookups, seconds: float = SPF_SECONDS) -> Callable[[str, str], tuple[str, ...]]:
    """The look-up that `spf_cost` wants: through the resolver. Raises LookupError when it does not answer, and when
    all look-ups together take longer than `seconds`."""
    deadline = time.monotonic() + seconds

    def resolve(name: str, type_: str) -> tuple[str, ...]:
        if time.monotonic() > deadline:
            raise LookupError(f"{text.short(name)} {type_}: more than {seconds:g} s for the whole record")
        answer = lookups.resolve(name, type_)
        if not answer.usable:
            raise LookupError(f"{text.short(name)} {type_}: {answer.status.value}")
        return answer.values

    return resolve
