"""A packet filter's input chain, as far as it matters here: would it let a new connection in?

What is not understood is never taken for an open door: a rule with a condition that is unknown here is not counted
on to accept anything. Nor is it counted as a closed one: such rules keep single addresses out (fail2ban, block
lists), and that is somebody's intention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network
PortRange = tuple[int, int]  # first, last

EVERYBODY: Mapping[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
PORTS = (0, 65535)
_DEEPEST = 32  # jumps; netfilter itself refuses loops


@dataclass(frozen=True, slots=True)
class Opening:
    """Who may connect to which TCP ports."""

    source: Network
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, for new TCP connections. `verdict`: accept, drop (or reject), return, jump, goto, or none."""

    verdict: str
    target: str = ""  # of jump and goto
    sources: tuple[Network, ...] | None = None  # None: everybody
    ports: tuple[PortRange, ...] = (PORTS,)
    applies: bool = True  # False: not to new TCP connections from another host
    certain: bool = True  # False: there is a condition that is not understood here

    @property
    def is_catch_all(self) -> bool:
        """Whether nothing that comes after it is ever reached."""
        everything = self.applies and self.certain and self.sources is None and PORTS in self.ports
        return everything and self.verdict in ("accept", "drop", "goto")

    def takes(self, source: Network, port: int) -> bool:
        """Whether every connection from `source` to `port` matches, for certain."""
        return (
            self.applies
            and self.certain
            and any(first <= port <= last for first, last in self.ports)
            and (self.sources is None or any(_within(source, each) for each in self.sources))
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """Rules in their order. `policy`: what becomes of the rest, of a base chain."""

    rules: tuple[Rule, ...]
    policy: str = "accept"


def lets_in(chains: Mapping[str, Chain], start: str, opening: Opening) -> bool:
    """Whether the base chain `start` accepts all that `opening` says."""
    return all(
        (_verdict(chains, start, opening.source, port) or chains[start].policy) == "accept"
        for port in opening.ports
    )


def _verdict(chains: Mapping[str, Chain], name: str, source: Network, port: int, depth: int = 0) -> str:
    """accept or drop; empty when the chain comes to its end."""
    chain = chains.get(name)
    if chain is None or depth > _DEEPEST:
        return "drop"  # not understood
    for rule in chain.rules:
        if not rule.takes(source, port):
            continue
        if rule.verdict in ("accept", "drop"):
            return rule.verdict
        if rule.verdict == "return":
            return ""
        if rule.verdict in ("jump", "goto"):
            found = _verdict(chains, rule.target, source, port, depth + 1)
            if found or rule.verdict == "goto":
                return found
    return ""


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False
