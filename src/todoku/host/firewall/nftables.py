"""nftables' rules, as `nft -j list ruleset` tells them (libnftables-json(5)): which of its input chains keep mail out.

Every base chain has to accept a packet; one that drops it has the last word. So a table of our own would open nothing
where somebody else's chain ends in a drop: their chain has to be changed, and it is written in a form of theirs
(includes, variables, sets), so a person does it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from todoku.host.firewall.model import EVERYBODY, PORTS, Chain, Network, Opening, PortRange, Rule, lets_in

_FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}


@dataclass(frozen=True, slots=True)
class Closed:
    """An input chain that keeps some of what is wanted out."""

    family: str
    table: str
    chain: str
    openings: tuple[Opening, ...]

    def instruction(self) -> list[str]:
        """The lines that have to go into the chain, in nft's own syntax."""
        return [line_for(opening) for opening in self.openings]


def closed(listing: str, wanted: Sequence[Opening], ignored: Sequence[tuple[str, str]] = ()) -> list[Closed]:
    """The base chains on input that do not accept all of `wanted`, but those in the tables (family, name) `ignored`.

    Raises ValueError when the text is not what nft prints.
    """
    tables = _tables(listing)
    found = []
    for (family, table), (chains, bases) in tables.items():
        if (family, table) in ignored or family not in _FAMILIES:
            continue
        for base in bases:
            lacking = tuple(
                opening
                for opening in wanted
                if opening.source.version in _FAMILIES[family] and not lets_in(chains, base, opening)
            )
            if lacking:
                found.append(Closed(family, table, base, lacking))
    return found


def line_for(opening: Opening) -> str:
    """A rule that lets it in, as it stands in a file of nft's."""
    everybody = opening.source == EVERYBODY[opening.source.version]
    family = "ip" if opening.source.version == 4 else "ip6"
    source = "" if everybody else f"{family} saddr {opening.source} "
    ports = (
        str(opening.ports[0]) if len(opening.ports) == 1 else f"{{ {', '.join(map(str, opening.ports))} }}"
    )
    return f'{source}tcp dport {ports} accept comment "todoku"'


_Table = tuple[dict[str, Chain], list[str]]


def _tables(listing: str) -> dict[tuple[str, str], _Table]:
    try:
        entries = json.loads(listing)["nftables"]
        rules: dict[tuple[str, str, str], list[Rule]] = {}
        policies: dict[tuple[str, str, str], str] = {}
        bases: list[tuple[str, str, str]] = []
        for entry in entries:
            if chain := entry.get("chain"):
                key = (str(chain["family"]), str(chain["table"]), str(chain["name"]))
                rules.setdefault(key, [])
                policies[key] = "drop" if chain.get("policy") == "drop" else "accept"
                if chain.get("hook") == "input" and chain.get("type") == "filter":
                    bases.append(key)
            elif rule := entry.get("rule"):
                key = (str(rule["family"]), str(rule["table"]), str(rule["chain"]))
                rules.setdefault(key, []).append(_rule(rule.get("expr", [])))
    except (KeyError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        raise ValueError(f"not a listing of nft: {error!r}") from None
    tables: dict[tuple[str, str], _Table] = {}
    for key, each in rules.items():
        chains, starts = tables.setdefault(key[:2], ({}, []))
        chains[key[2]] = Chain(tuple(each), policies.get(key, "accept"))
        if key in bases:
            starts.append(key[2])
    return tables


def _rule(expressions: Sequence[Any]) -> Rule:
    verdict, target = "", ""
    sources: tuple[Network, ...] | None = None
    ports: tuple[PortRange, ...] = (PORTS,)
    applies = certain = True
    for expression in expressions:
        kind, value = next(iter(expression.items()))
        match kind:
            case "accept":
                verdict = "accept"
            case "drop" | "reject":
                verdict = "drop"
            case "return":
                verdict = "return"
            case "jump" | "goto":
                verdict, target = kind, str(value["target"])
            case "counter" | "log" | "comment":
                pass
            case "match":
                field, right, equal = value["left"], value["right"], value.get("op") in ("==", "in")
                match _name(field):
                    case "tcp dport" if equal and (found := _ports(right)):
                        ports = found
                    case "ip saddr" | "ip6 saddr" if equal and (networks := _networks(right)):
                        sources = networks
                    case "ct state" if value.get("op") in ("==", "in"):
                        applies &= "new" in _values(right)
                    case "ip protocol" | "ip6 nexthdr" | "meta l4proto" if equal:
                        applies &= bool({"tcp", 6} & set(map(_plain, _values(right))))
                    case "meta iifname" | "meta iif" if equal and _values(right) == ["lo"]:
                        applies = False
                    case name if name.startswith(("udp ", "icmp ", "icmpv6 ", "sctp ")):
                        applies = False
                    case _:
                        certain = False
            case _:
                certain = False
    return Rule(verdict, target, sources, ports, applies, certain)


def _name(field: Any) -> str:
    if payload := field.get("payload"):
        return f"{payload.get('protocol')} {payload.get('field')}"
    if meta := field.get("meta"):
        return f"meta {meta.get('key')}"
    return f"ct {field['ct'].get('key')}" if "ct" in field else ""


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int) else str(value)


def _values(right: Any) -> list[Any]:
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    return right if isinstance(right, list) else [right]


def _ports(right: Any) -> tuple[PortRange, ...]:
    """The ports of a match; none when there is something in it that is not understood."""
    found = []
    for value in _values(right):
        if isinstance(value, int) and not isinstance(value, bool):
            found.append((value, value))
        elif isinstance(value, dict) and isinstance(value.get("range"), list) and len(value["range"]) == 2:
            first, last = value["range"]
            if not isinstance(first, int) or not isinstance(last, int):
                return ()
            found.append((first, last))
        else:
            return ()
    return tuple(found)


def _networks(right: Any) -> tuple[Network, ...]:
    found = []
    for value in _values(right):
        text = value
        if isinstance(value, dict) and isinstance(prefix := value.get("prefix"), dict):
            text = f"{prefix.get('addr')}/{prefix.get('len')}"
        try:
            found.append(ip_network(str(text)))
        except ValueError:
            return ()
    return tuple(found)
