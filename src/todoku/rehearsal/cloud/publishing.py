"""How what the cloud publishes gets into the world's DNS: the public keys of its DKIMs, the zones of its DNS
service, and its name servers' names. `Publish` puts the text of one zone in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet import zones
from todoku.rehearsal.internet.plan import InternetPlan
from todoku.rehearsal.internet.zones import DELIVERY_ZONE, Record

from .dns_zones import NAME_SERVER_ZONE, NAME_SERVERS, Zone
from .email_state import Dkim

LONGEST_NAME = 253  # RFC 1035 3.1

# The name of a zone, and its whole text as a zone file. Blocks; raises when it could not be done.
Publish = Callable[[str, str], None]


class Publisher:
    """Keeps the world's DNS up to date. Zones that are no more get back the text they had in the plan."""

    def __init__(self, plan: InternetPlan, publish: Publish) -> None:
        self._publish = publish
        self._base = zones.records(plan)
        self._serial = 1
        self._dkims: tuple[tuple[str, str], ...] = ()
        self._dirty: set[str] = {NAME_SERVER_ZONE}
        self._lock = asyncio.Lock()

    def changed(self, zone: str) -> None:
        """A zone of the DNS service is a new one."""
        self._dirty.add(zone)

    async def flush(self, dkims: Iterable[Dkim], customers: Iterable[Zone]) -> None:
        """Put in force what has changed; on return it is."""
        # Where the CNAME's target is too long for a name, the customer publishes the TXT value itself.
        keys = tuple((dkim.cname, dkim.txt) for dkim in dkims if len(dkim.cname) <= LONGEST_NAME)
        if keys != self._dkims:
            self._dkims = keys
            self._dirty.add(DELIVERY_ZONE)
        if not self._dirty:
            return
        by_name = {zone.name: zone.text() for zone in customers}
        texts = {name: self._text(name, by_name) for name in sorted(self._dirty)}
        self._dirty.clear()
        async with self._lock:
            for name, text in texts.items():
                await asyncio.to_thread(self._publish, name, text)

    def _text(self, name: str, customers: dict[str, str]) -> str:
        self._serial += 1
        if name in customers:
            return customers[name]
        records = list(self._base.get(name, ()))
        if name == DELIVERY_ZONE:
            records += [Record(target, "TXT", text) for target, text in self._dkims]
        elif name == NAME_SERVER_ZONE:
            records += [Record(server, "A", str(world.DNS)) for server in NAME_SERVERS]
        return zones.render(name, records, self._serial)
