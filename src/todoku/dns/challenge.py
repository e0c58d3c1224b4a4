"""ACME's DNS challenge (RFC 8555 8.4): a TXT record that an authority looks for, published and removed again.

The name may hold the challenges of others at the same time (a second certificate): only the one value is added, and
only it is taken away.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from todoku.dns.client import Names
from todoku.dns.lookups import Answer
from todoku.dns.publisher import ChangedMeanwhile, Found, PublisherFailed, Replacement

PATIENCE = 300.0  # seconds until every authoritative server shows it
_TTL = 60
_TRIES = 5
_PAUSE = 1.0


class ChallengeFailed(Exception):
    """The record could not be published, or is not seen. The message says what was tried, found, and what to do."""


def publish(names: Names, domain: str, value: str, patience: float = PATIENCE) -> None:
    """Add the challenge for `domain`, and wait until the authoritative servers show it. Raises ChallengeFailed."""
    name = _name(domain)
    if names.publisher.by_hand:
        raise ChallengeFailed(
            "dns.publisher is manual, so nobody can publish the challenge now: choose oci, rfc2136 or lexicon"
        )
    _change(names, name, lambda there: (*there, value) if value not in there else there)
    _wait(names, name, value, patience)


def remove(names: Names, domain: str, value: str) -> None:
    """Take the challenge away; fine when it is gone. Raises ChallengeFailed."""
    _change(names, _name(domain), lambda there: tuple(each for each in there if each != value))


def _name(domain: str) -> str:
    return f"_acme-challenge.{domain.removeprefix('*.').rstrip('.').lower()}"


def _change(names: Names, name: str, wanted: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
    for number in range(_TRIES):
        try:
            zone = names.zone(name)
            found = names.publisher.look(zone, name, "TXT")
            _refuse_alias(name, found)
            after = wanted(found.values)
            if after == found.values:
                return
            names.publisher.apply(zone, Replacement(name, "TXT", found.records, after, _TTL))
        except ChangedMeanwhile as error:
            if number + 1 == _TRIES:
                raise ChallengeFailed(str(error)) from error
            names.sleep(_PAUSE)
        except PublisherFailed as error:
            raise ChallengeFailed(str(error)) from error
        else:
            return


def _refuse_alias(name: str, found: Found) -> None:
    if "CNAME" in found.others:
        raise ChallengeFailed(
            f"{name} is a CNAME: somebody else answers challenges for this name. Remove it where the zone is edited"
        )


def _wait(names: Names, name: str, value: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    lacking = "no name server"
    while time.monotonic() < deadline:
        names.lookups.forget()
        zone = names.delegated(name)
        answers = names.lookups.ask_all(zone, name, "TXT") if zone is not None else ()
        if _shown_by_all(answers, value):
            return
        lacking = ", ".join(each.server for each in answers if value not in each.values) or lacking
        names.sleep(_PAUSE)
    raise ChallengeFailed(
        f"{name} TXT is published, but after {patience:g} s {lacking} does not show it: is the domain delegated to the "
        "name servers that it is published on (`todoku dns check`)?"
    )


def _shown_by_all(answers: tuple[Answer, ...], value: str) -> bool:
    """Whether every server that answers has it; one has to answer."""
    usable = [answer for answer in answers if answer.usable]
    return bool(usable) and all(value in answer.values for answer in usable)
