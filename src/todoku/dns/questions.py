"""What is published at a name, told by asking authoritative servers record type by record type: for
publishers that offer no list of their own."""

from __future__ import annotations

from collections.abc import Sequence

from todoku.dns.lookups import Answer, Lookups, Server, Status
from todoku.dns.publisher import Found, Published, PublisherFailed

# What a name can have beside a CNAME only by mistake, of the types that people use.
_COMMON = ("A", "AAAA", "MX", "NS", "SRV", "TXT")


def found(lookups: Lookups, servers: Sequence[Server], name: str, type_: str) -> Found:
    """What the first of `servers` that answers has at `name`. Raises PublisherFailed when none does."""
    said: list[str] = []
    for server in servers:
        answer = lookups.ask(server, name, type_)
        if answer.usable:
            return _found(lookups, server, answer, name, type_)
        said.append(f"{server.name} ({server.address}): {answer.status.value}")
    raise PublisherFailed(
        f"what is published at {name} could not be read, none of its name servers answers: {'; '.join(said)}"
    )


def _found(lookups: Lookups, server: Server, answer: Answer, name: str, type_: str) -> Found:
    if answer.cname is not None and type_ != "CNAME":
        return Found(others=frozenset({"CNAME"}))
    records = tuple(
        Published(name, type_, value, answer.ttl, raw)
        for value, raw in zip(answer.values, answer.raw, strict=True)
    )
    others: frozenset[str] = frozenset()
    if type_ == "CNAME" and not records and answer.status is Status.NO_DATA:
        answers = {other: lookups.ask(server, name, other) for other in _COMMON}
        others = frozenset(other for other, said in answers.items() if said.values and said.cname is None)
    return Found(records, others)
