"""A small internet for tests: servers with zones, and a resolver that sees what it is given.

Questions and answers are real DNS messages; only the network in between is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from todoku.dns.lookups import Lookups

RESOLVER = "192.0.2.1"
Records = Mapping[tuple[str, str], Sequence[str]]  # (name, type) -> values in presentation format


@dataclass
class Internet:
    """Zones by name, each with the servers' addresses and what each of them says."""

    zones: dict[str, dict[str, Records]] = field(default_factory=dict)
    lame: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    bogus: set[str] = field(default_factory=set)  # zones whose signatures do not hold
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def zone(self, name: str, records: Records, *others: Records) -> None:
        """A zone with one server, or with several that say different things."""
        servers = {}
        ns: dict[tuple[str, str], Sequence[str]] = {}
        number = len(self.zones) * 10 + 10
        hosts = [f"ns{index}.{name}" for index in range(len(others) + 1)]
        ns[name, "SOA"] = [f"{hosts[0]}. admin.{name}. 1 2 3 4 5"]
        ns[name, "NS"] = [f"{host}." for host in hosts]
        for index, host in enumerate(hosts):
            ns[host, "A"] = [f"198.51.100.{number + index}"]
        for index, said in enumerate((records, *others)):
            servers[f"198.51.100.{number + index}"] = {**ns, **said}
        self.zones[name] = servers

    def lookups(self) -> Lookups:
        return Lookups((RESOLVER,), send=self.send, timeout=0.1)

    def send(
        self, query: dns.message.Message, address: str, _port: int, _timeout: float
    ) -> dns.message.Message:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        type_ = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((address, name, type_))
        reply = dns.message.make_response(query)
        if address in self.silent:
            raise dns.exception.Timeout
        if address == RESOLVER:
            self._resolve(reply, query, name, type_)
            return reply
        found = [(zone, servers[address]) for zone, servers in self.zones.items() if address in servers]
        if address in self.lame or not found:
            reply.set_rcode(dns.rcode.REFUSED)
            return reply
        reply.flags |= dns.flags.AA
        _answer(reply, found[0][0], found[0][1], name, type_)
        return reply

    def _resolve(self, reply: dns.message.Message, query: dns.message.Message, name: str, type_: str) -> None:
        zone = self._zone_of(name)
        if zone in self.bogus and not query.flags & dns.flags.CD:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif zone is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            reply.authority.append(
                dns.rrset.from_text("example.", 60, "IN", "SOA", "ns.example. a.example. 1 2 3 4 5")
            )
        else:
            _answer(reply, zone, next(iter(self.zones[zone].values())), name, type_)

    def _zone_of(self, name: str) -> str | None:
        holding = [zone for zone in self.zones if name == zone or name.endswith(f".{zone}")]
        return max(holding, key=len, default=None)


def _answer(reply: dns.message.Message, zone: str, records: Records, name: str, type_: str) -> None:
    while (name, type_) not in records and (name, "CNAME") in records:
        target = records[name, "CNAME"][0]
        reply.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "CNAME", target))
        name = target.rstrip(".")
    if (name, type_) in records:
        reply.answer.append(dns.rrset.from_text_list(f"{name}.", 60, "IN", type_, list(records[name, type_])))
        return
    if not reply.answer and not any(known == name or known.endswith(f".{name}") for known, _ in records):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    reply.authority.append(dns.rrset.from_text_list(f"{zone}.", 60, "IN", "SOA", list(records[zone, "SOA"])))
