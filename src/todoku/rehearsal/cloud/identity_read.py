"""What clients ask Identity before they do anything: the tenancy, its regions and its compartments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from todoku.settings.regions import REGIONS

from .api import Call, Route, paged, select
from .errors import not_found
from .http_server import Answer
from .tenancy import Tenancy

_SORT = {"TIMECREATED": "timeCreated", "NAME": "name"}


class Reading:
    """The operations that change nothing. `regions`: those that the tenancy is subscribed to."""

    def __init__(self, tenancy: Tenancy, regions: Sequence[str]) -> None:
        self.tenancy, self.clock, self.regions = tenancy, tenancy.clock, regions

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        return [
            Route("GET", "/tenancies/{id}", "get_tenancy", self.get_tenancy),
            Route(
                "GET", "/tenancies/{id}/regionSubscriptions", "list_region_subscriptions", self.subscriptions
            ),
            Route("GET", "/regions", "list_regions", self.list_regions),
            Route("GET", "/compartments", "list_compartments", self.list_compartments),
            Route("GET", "/compartments/{id}", "get_compartment", self.get_compartment),
            Route("GET", "/availabilityDomains", "list_availability_domains", self.list_availability_domains),
        ]

    def get_tenancy(self, call: Call) -> Answer:
        """Name and home region."""
        self._own(call)
        home = REGIONS[self.tenancy.plan.home_region].key.upper()
        root = self.tenancy.compartments[self.tenancy.plan.tenancy]
        shown = {"id": root.id, "name": root.name, "description": root.description, "homeRegionKey": home}
        return Answer(200, shown | {"freeformTags": {}, "definedTags": {}})

    def _own(self, call: Call) -> None:
        if call.path["id"] != self.tenancy.plan.tenancy:
            raise not_found()
        self.tenancy.require(call.principal, "inspect", "tenancies", self.tenancy.plan.tenancy)

    def subscriptions(self, call: Call) -> Answer:
        """Which regions, and which of them is home."""
        self._own(call)
        home = self.tenancy.plan.home_region
        found = [
            {
                "regionKey": REGIONS[name].key.upper(),
                "regionName": name,
                "status": "READY",
                "isHomeRegion": name == home,
            }
            for name in self.regions
        ]
        return Answer(200, found)

    def list_regions(self, _call: Call) -> Answer:
        """Every region of the realm; anybody who is signed in may ask."""
        realm = REGIONS[self.tenancy.plan.home_region].realm
        known = [(name, region.key.upper()) for name, region in REGIONS.items() if region.realm == realm]
        return Answer(200, [{"key": key, "name": name} for name, key in known])

    def list_compartments(self, call: Call) -> Answer:
        """Those directly below one, or all of them below the root."""
        where = call.parameter("compartmentId")
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(call.principal, "inspect", "compartments", where)
        deep = call.query.get("compartmentIdInSubtree") == "true"
        found = [
            self._compartment(entry.id)
            for entry in self.tenancy.compartments.alive()
            if entry.compartment == where or (deep and entry.id != where)
        ]
        filters = {"name": "name", "lifecycleState": "lifecycleState"}
        return paged(call, select(call, found, filters, _SORT, "TIMECREATED"))

    def get_compartment(self, call: Call) -> Answer:
        """One; the root is one too."""
        entry = self.tenancy.compartments.find(call.path["id"])
        self.tenancy.require(call.principal, "inspect", "compartments", entry.id)
        return Answer(200, self._compartment(entry.id), {"etag": entry.etag})

    def _compartment(self, identifier: str) -> dict[str, Any]:
        entry = self.tenancy.compartments[identifier]
        shown = entry.shown(self.clock) | {"isAccessible": True}
        return shown | {"compartmentId": entry.compartment or None}

    def list_availability_domains(self, call: Call) -> Answer:
        """One is enough here."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "compartments", where)
        name = f"rhsl:{call.region.upper()}-AD-1"
        return Answer(
            200, [{"id": f"ocid1.availabilitydomain.oc1..{name}", "name": name, "compartmentId": where}]
        )
