"""Publishing by hand: Todoku says exactly what to enter, and sees when it is there."""

from __future__ import annotations

from todoku.dns import questions, zonefile
from todoku.dns.lookups import Lookups, NotFound
from todoku.dns.publisher import Found, Published, Publisher, PublisherFailed, Replacement
from todoku.plan.resource import ByHand


class Manual(Publisher):
    """A zone that a person edits. Nothing is ever changed from here."""

    by_hand = True

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    def look(self, zone: str, name: str, type_: str) -> Found:  # noqa: ARG002 - the zone follows from the name
        try:
            servers = self._lookups.zone_of(name).servers
        except NotFound as error:
            raise PublisherFailed(str(error)) from None
        return questions.found(self._lookups, servers, name, type_)

    def content(self, zone: str) -> tuple[Published, ...] | None:  # noqa: ARG002
        return None  # nobody lists a zone for strangers

    def zone_of(self, name: str) -> str | None:  # noqa: ARG002
        return None

    def apply(self, zone: str, replacement: Replacement) -> None:
        raise ByHand(zonefile.instructions(zone, replacement), zonefile.entry(zone, replacement))
