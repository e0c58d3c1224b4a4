"""iptables' rules as text (iptables-save(8)): what they let in, and the same text with our rules in it.

The same functions serve the running chain and the files in /etc/iptables, as both have the same form. Ours carry the
comment "todoku": they are the only ones that are ever moved or taken out.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from todoku.host.firewall.model import EVERYBODY, PORTS, Chain, Network, Opening, PortRange, Rule, lets_in

MARK = "todoku"
INPUT = "INPUT"
_DONE = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_GO_ON = frozenset({"LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "AUDIT", "TRACE"})
# Options whose value says nothing about which connections match.
_OF_NO_MATTER = frozenset({"-m", "--match", "--comment", "--reject-with", "--log-prefix", "--log-level"})


class NotUnderstood(Exception):
    """The rules are not of a form that can be changed safely. The message says what is unusual about them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The filter table of a text."""

    chains: dict[str, Chain]
    start: int  # the line of "*filter"
    end: int  # the line of its COMMIT
    lines: tuple[tuple[int, str], ...]  # of INPUT's rules: where they are, and as they stand there

    def catch_all(self) -> int | None:
        """The position, among INPUT's rules, of the first one that nothing passes."""
        rules = self.chains[INPUT].rules
        return next((at for at, rule in enumerate(rules) if rule.is_catch_all), None)

    def ours(self) -> list[int]:
        """The positions of our own rules."""
        return [at for at, (_, line) in enumerate(self.lines) if _is_ours(line)]


def parse(text: str) -> Rules | None:
    """The filter table, or None where there is none. Raises NotUnderstood."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip() == "*filter"]
    if not starts:
        return None
    if len(starts) > 1:
        raise NotUnderstood("the table filter is in it more than once")
    start = starts[0]
    end = next((at for at in range(start, len(lines)) if lines[at].strip() == "COMMIT"), None)
    if end is None:
        raise NotUnderstood("the table filter has no COMMIT")
    policies: dict[str, str] = {}
    rules: dict[str, list[Rule]] = {}
    placed: list[tuple[int, str]] = []
    for number in range(start + 1, end):
        line = lines[number].strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("*"):
            raise NotUnderstood("a table begins before the table filter ends")
        if line.startswith(":"):
            name, _, policy = line[1:].partition(" ")
            policies[name] = policy.split()[0] if policy.split() else "-"
            rules.setdefault(name, [])
            continue
        chain, rule = _rule(line)
        rules.setdefault(chain, []).append(rule)
        if chain == INPUT:
            placed.append((number, line))
    if INPUT not in policies:
        raise NotUnderstood("the table filter has no chain INPUT")
    known = {
        name: Chain(tuple(each), "drop" if policies.get(name) == "DROP" else "accept")
        for name, each in rules.items()
    }
    return Rules(known, start, end, tuple(placed))


def is_open(text: str, wanted: Sequence[Opening]) -> bool:
    """Whether these rules let all of `wanted` in. Raises NotUnderstood."""
    rules = parse(text)
    return rules is None or all(lets_in(rules.chains, INPUT, opening) for opening in wanted)


def opened(text: str, wanted: Sequence[Opening]) -> str:
    """`text` with what lets `wanted` in; every other line stays as it is. Raises NotUnderstood."""
    rules = parse(text)
    if rules is None:
        return text
    lines = text.splitlines(keepends=True)
    needed = _needed(rules, wanted)
    if [rules.lines[at][1] for at in rules.ours()] == needed and is_open(text, wanted):
        return text
    gone = {rules.lines[at][0] for at in rules.ours()}
    catch_all = rules.catch_all()
    there = rules.end if catch_all is None else rules.lines[catch_all][0]
    changed = "".join(
        ("".join(f"{rule}\n" for rule in needed) if number == there else "")
        + ("" if number in gone else line)
        for number, line in enumerate(lines)
    )
    if not is_open(changed, wanted):
        raise NotUnderstood("the chain INPUT rejects, in another chain that it calls, before its own end")
    return changed


def commands(text: str, wanted: Sequence[Opening]) -> str:
    """What iptables-restore --noflush has to be told to make the running rules, which are `text`, let `wanted` in;
    nothing when they do. Raises NotUnderstood."""
    if opened(text, wanted) == text:
        return ""
    rules = parse(text)
    assert rules is not None  # noqa: S101 - opened would have returned the text
    ours = rules.ours()
    # From the last to the first: a number counts only until something before it is taken out.
    told = [f"-D {INPUT} {at + 1}" for at in reversed(ours)]
    catch_all = rules.catch_all()
    there = len(rules.lines) if catch_all is None else catch_all
    there -= sum(1 for at in ours if at < there)
    for number, rule in enumerate(_needed(rules, wanted), there + 1):
        told.append(f"-I {INPUT} {number} {rule.removeprefix(f'-A {INPUT} ')}")
    return "\n".join(["*filter", *told, "COMMIT", ""])


def rule_for(opening: Opening) -> str:
    """Our rule, as iptables-save writes it."""
    everybody = opening.source == EVERYBODY[opening.source.version]
    source = "" if everybody else f"-s {opening.source} "
    ports = (
        f"-m tcp --dport {opening.ports[0]}"
        if len(opening.ports) == 1
        else f"-m multiport --dports {','.join(map(str, opening.ports))}"
    )
    return f"-A {INPUT} {source}-p tcp {ports} -m comment --comment {MARK} -j ACCEPT"


def _needed(rules: Rules, wanted: Sequence[Opening]) -> list[str]:
    """Our rules for what the others do not let in anyway."""
    others = tuple(
        rule
        for rule, (_, line) in zip(rules.chains[INPUT].rules, rules.lines, strict=True)
        if not _is_ours(line)
    )
    without = {**rules.chains, INPUT: Chain(others, rules.chains[INPUT].policy)}
    return [rule_for(opening) for opening in wanted if not lets_in(without, INPUT, opening)]


def _is_ours(line: str) -> bool:
    words = _words(line)
    return any(words[at : at + 2] == ["--comment", MARK] for at in range(len(words)))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        raise NotUnderstood(f"this line is not one of iptables-save: {line[:100]}") from None


def _rule(line: str) -> tuple[str, Rule]:
    """The chain and the rule of a line."""
    words = _words(line)
    if words and words[0].startswith("[") and words[0].endswith("]"):  # counters, by iptables-save -c
        words = words[1:]
    if len(words) < 2 or words[0] not in ("-A", "--append"):
        raise NotUnderstood(f"this line is not one of iptables-save: {line[:100]}")
    read = _Reader(words[2:])
    return words[1], read.rule()


class _Reader:
    """Reads the options of one rule."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._applies = self._certain = True
        self._sources: tuple[Network, ...] | None = None
        self._ports: tuple[PortRange, ...] = (PORTS,)
        self._verdict, self._target = "", ""

    def rule(self) -> Rule:
        while self._words:
            option = self._words.pop(0)
            if option == "!":
                self._certain = False
                option = self._words.pop(0) if self._words else ""
            self._option(option)
        return Rule(self._verdict, self._target, self._sources, self._ports, self._applies, self._certain)

    def _option(self, option: str) -> None:
        match option:
            case "-s" | "--source":
                self._sources = self._networks(self._value())
            case "-p" | "--protocol":
                self._applies &= self._value() in ("tcp", "all", "6", "0")
            case "-i" | "--in-interface":
                # An interface by name: which one others come in by is not known here.
                self._applies &= self._value() != "lo"
                self._certain = False
            case "--dport" | "--destination-port" | "--dports" | "--destination-ports":
                self._ports = self._port_ranges(self._value())
            case "--state" | "--ctstate":
                self._applies &= "NEW" in self._value().split(",")
            case "--tcp-flags":
                mask, flags = self._value(), self._value()
                self._applies &= flags == "SYN" and "SYN" in mask.split(",")
            case "--syn":
                pass
            case "-j" | "--jump":
                self._go(self._value(), "jump")
            case "-g" | "--goto":
                self._verdict, self._target = "goto", self._value()
            case _ if option in _OF_NO_MATTER:
                self._value()
            case _:
                self._certain = False

    def _value(self) -> str:
        return self._words.pop(0) if self._words else ""

    def _go(self, target: str, how: str) -> None:
        if target in _DONE:
            self._verdict = _DONE[target]
        elif target not in _GO_ON:
            self._verdict, self._target = how, target

    def _networks(self, text: str) -> tuple[Network, ...] | None:
        try:
            found = tuple(ip_network(part, strict=False) for part in text.split(","))
        except ValueError:
            self._certain = False
            return None
        return None if any(each.prefixlen == 0 for each in found) else found

    def _port_ranges(self, text: str) -> tuple[PortRange, ...]:
        ranges = []
        for part in text.split(","):
            first, colon, last = part.partition(":")
            try:
                ranges.append((int(first or 0), int(last or 65535) if colon else int(first)))
            except ValueError:
                self._certain = False
        return tuple(ranges) or (PORTS,)
