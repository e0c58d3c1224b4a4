"""What an SPF record costs those who check it, counted by really resolving it (RFC 7208 4.6.4).

At most 10 terms that ask the DNS (include, a, mx, ptr, exists, redirect), those of included records as well;
at most 10 names behind an `mx`; at most 2 look-ups that find nothing. Beyond that a receiver answers
permerror, and the record is as good as none. Libraries that check SPF stop at the limit and do not say who
used it up, so the walk is our own; tests hold it against pyspf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from todoku.dns import spf
from todoku.dns.problems import SpfProblem

MOST_LOOKUPS, MOST_VOID, MOST_NAMES = 10, 2, 10
_COSTS = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})

# name, type ("TXT", "A", "MX") -> values, none when there is nothing there. Raises LookupError when the DNS
# does not answer.
Resolve = Callable[[str, str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Charge:
    """What one term costs by itself."""

    path: tuple[str, ...]  # the terms that lead to it, from the record itself down
    lookups: int = 1
    void: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a whole record costs, term by term, and what is wrong besides."""

    charges: tuple[Charge, ...]
    faults: tuple[str, ...] = ()

    @property
    def lookups(self) -> int:
        return sum(charge.lookups for charge in self.charges)

    @property
    def void(self) -> int:
        return sum(charge.void for charge in self.charges)

    @property
    def too_much(self) -> bool:
        return self.lookups > MOST_LOOKUPS or self.void > MOST_VOID

    def by_term(self) -> dict[str, tuple[int, int]]:
        """Term of the record itself -> look-ups and void look-ups, with everything below it."""
        sums: dict[str, tuple[int, int]] = {}
        for charge in self.charges:
            lookups, void = sums.get(charge.path[0], (0, 0))
            sums[charge.path[0]] = (lookups + charge.lookups, void + charge.void)
        return sums


def require_affordable(record: str, domain: str, resolve: Resolve) -> None:
    """Raises SpfProblem, with the list of who costs what, when receivers would give up on `record`."""
    cost = count(record, domain, resolve)
    if not cost.too_much and not cost.faults:
        return
    listed = "; ".join(
        f"{term}: {lookups}" + (f" ({void} of them find nothing)" if void else "")
        for term, (lookups, void) in sorted(cost.by_term().items(), key=lambda one: -one[1][0])
    )
    if cost.too_much:
        raise SpfProblem(
            f"the SPF record of {domain} with the relay in it would need {cost.lookups} look-ups (at most "
            f"{MOST_LOOKUPS}), {cost.void} of them finding nothing (at most {MOST_VOID}), so that receivers "
            f"ignore it (RFC 7208 4.6.4). Remove what does not send any more. Look-ups by term: {listed}"
        )
    raise SpfProblem(f"the SPF record of {domain} does not work: {'; '.join(cost.faults)}. By term: {listed}")


def count(record: str, domain: str, resolve: Resolve) -> Cost:
    """What `record`, published at `domain`, costs. Raises SpfProblem when it cannot be read, and LookupError."""
    walk = _Walk(resolve)
    walk.record(spf.parse(record), (domain.lower(),), ())
    return Cost(tuple(walk.charges), tuple(walk.faults))


@dataclass
class _Walk:
    resolve: Resolve
    charges: list[Charge] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def record(self, record: spf.Record, within: tuple[str, ...], path: tuple[str, ...]) -> None:
        """Walk one record; `within` are the names of the records that led here, its own last."""
        domain = within[-1]
        for term in _evaluated(record):
            here = (*path, term.text)
            if len(self.charges) > 4 * MOST_LOOKUPS:
                return  # the verdict does not change any more
            match term.name:
                case "include" | "redirect":
                    self._other_record(term, within, here)
                case "a" | "exists":
                    self._charge(here, void=self._void(term, domain, "A"))
                case "mx":
                    self._mail_exchangers(term, domain, here)
                case _:  # ptr: which names there are depends on the sender's address
                    self._charge(here)

    def _other_record(self, term: spf.Term, within: tuple[str, ...], path: tuple[str, ...]) -> None:
        name = _expanded(term.value, within[-1])
        if name is None:
            self._charge(path)
            return
        found = list(self.resolve(name, "TXT"))
        self._charge(path, void=not found)
        records = [text for text in found if spf.is_spf(text)]
        if len(records) != 1:
            number = "no SPF record" if not records else f"{len(records)} SPF records"
            self.faults.append(f"{' > '.join(path)}: {name} has {number}")
        elif name in within:
            self.faults.append(f"{' > '.join(path)} goes in a circle")
        else:
            try:
                inner = spf.parse(records[0])
            except SpfProblem as problem:
                self.faults.append(f"{' > '.join(path)}: {problem}")
                return
            self.record(inner, (*within, name), path)

    def _mail_exchangers(self, term: spf.Term, domain: str, path: tuple[str, ...]) -> None:
        name = _expanded(term.value or "%{d}", domain)
        hosts = [value.split()[-1] for value in self.resolve(name, "MX")] if name else []
        void = int(bool(name) and not hosts)
        if len(hosts) > MOST_NAMES:
            self.faults.append(f"{' > '.join(path)}: {name} has {len(hosts)} MX hosts, at most {MOST_NAMES}")
        void += sum(not self.resolve(host, "A") for host in hosts[:MOST_NAMES])
        self.charges.append(Charge(path, 1, void))

    def _void(self, term: spf.Term, domain: str, type_: str) -> bool:
        name = _expanded(term.value or "%{d}", domain)
        # The relay sends over IPv4, so A is what receivers ask for.
        return name is not None and not self.resolve(name, type_)

    def _charge(self, path: tuple[str, ...], *, void: bool = False) -> None:
        self.charges.append(Charge(path, 1, int(void)))


def _evaluated(record: spf.Record) -> Iterator[spf.Term]:
    """The terms that ask the DNS, as far as an evaluation goes that nothing matches."""
    for term in record.terms:
        if term.name == "all" and not term.modifier:
            return
        if term.name in _COSTS and not (term.modifier and term.name != "redirect"):
            if term.name == "redirect":
                continue
            yield term
    if (target := record.redirect) is not None:
        yield next(term for term in record.terms if term.modifier and term.value == target)


def _expanded(value: str, domain: str) -> str | None:
    """The name that `value` stands for; None when it depends on the message (RFC 7208 7)."""
    name = value.replace("%{d}", domain).replace("%{D}", domain)
    return None if "%" in name else name.removesuffix(".").lower()
