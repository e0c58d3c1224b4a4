"""DNS questions as the rehearsal's mail servers ask them, and a domain's mail exchanges (RFC 5321 5.1).

Everything takes a `Resolver`, a function of name and type, so that tests answer with a dictionary and the
world with its real name server. "No such name" and "no such record" are an empty answer; `LookupFailed`
means that nobody knows, which every caller has to treat as temporary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import dns.exception
import dns.rdatatype
import dns.resolver

# One element per record: an address (A, AAAA), a name (PTR), `preference name` (MX), the joined text (TXT).
Resolver = Callable[[str, str], tuple[bytes, ...]]

ADDRESS_TYPES = {4: "A", 6: "AAAA"}


class LookupFailed(Exception):
    """The question could not be answered now (time out, SERVFAIL)."""


class NoExchange(Exception):
    """The domain takes no mail: it does not exist, has no address, or says so (null MX, RFC 7505)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One address of one mail exchange."""

    name: str
    address: str


def system_resolver(seconds: float = 5.0) -> Resolver:
    """A resolver that asks the servers of /etc/resolv.conf, each question for at most `seconds`.

    Nothing is remembered between questions: in the rehearsal, what was just published has to be seen.
    """
    return from_dnspython(dns.resolver.Resolver(), seconds)


def from_dnspython(resolver: dns.resolver.Resolver, seconds: float = 5.0) -> Resolver:
    """The same with a resolver of the caller's making."""
    resolver.timeout = min(2.0, seconds)

    def look_up(name: str, kind: str) -> tuple[bytes, ...]:
        try:
            answer = resolver.resolve(name, kind, lifetime=seconds, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except (dns.exception.SyntaxError, dns.exception.FormError, ValueError, UnicodeError):
            return ()  # not a name that anybody could have published
        except (dns.exception.DNSException, OSError) as problem:
            raise LookupFailed(f"{kind} {name}: {problem}") from problem
        if kind == "TXT":
            return tuple(b"".join(record.strings) for record in answer)
        return tuple(record.to_text().encode() for record in answer)

    return look_up


def names(records: Iterable[bytes]) -> tuple[str, ...]:
    """Records that are names or addresses, lower-cased, without the final dot."""
    return tuple(record.decode("ascii", "replace").rstrip(".").lower() for record in records)


def exchanges(domain: str, resolver: Resolver, families: Iterable[int] = (4, 6)) -> tuple[Exchange, ...]:
    """Where mail for `domain` goes, best first, over the address families that the caller has.

    Raises `NoExchange` (for good) or `LookupFailed` (for now).
    """
    families = tuple(families)
    if domain.startswith("[") or not domain:
        raise NoExchange(f"{domain or 'nothing'} is not a domain name")
    hosts = _hosts(domain, resolver)
    found = [Exchange(host, address) for host in hosts for address in addresses(host, resolver, families)]
    if not found:
        raise NoExchange(f"{domain} has no mail exchange with an address")
    return tuple(found)


def _hosts(domain: str, resolver: Resolver) -> list[str]:
    records = resolver(domain, "MX")
    if not records:
        return [domain]  # RFC 5321 5.1: no MX means the name itself
    pairs = [record.decode().split() for record in records]
    if [name for _, name in pairs] == ["."]:
        raise NoExchange(f"{domain} accepts no mail (null MX)")
    random.shuffle(pairs)  # RFC 5321 5.1: equal preferences share the load
    return [name.rstrip(".").lower() for _, name in sorted(pairs, key=lambda pair: int(pair[0]))]


def addresses(host: str, resolver: Resolver, families: Iterable[int] = (4, 6)) -> tuple[str, ...]:
    """The addresses of `host`, which may be one already."""
    families = tuple(families)
    try:
        literal = ip_address(host)
    except ValueError:
        return tuple(found for family in families for found in names(resolver(host, ADDRESS_TYPES[family])))
    return (host,) if literal.version in families else ()
