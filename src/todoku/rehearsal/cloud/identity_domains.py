"""Identity domains over the IAM API, as the SDK's IdentityClient calls it: which there are, another one, and the
work request of its making. What is in them is served by scim.py, at the address that each of them has.
"""

from __future__ import annotations

from typing import Any

from todoku.settings.regions import REGIONS

from .api import Call, Route, answer, paged, select
from .entries import ocid
from .errors import conflict, invalid, not_found
from .http_server import Answer
from .tenancy import DEFAULT_DOMAIN, IdentityDomain, Tenancy

_SORT = {"TIMECREATED": "timeCreated", "NAME": "displayName"}
_FILTERS = {"displayName": "displayName", "name": "displayName", "url": "url"} | {
    "type": "type",
    "lifecycleState": "lifecycleState",
}


class IdentityDomains:
    """The operations on domains."""

    def __init__(self, tenancy: Tenancy) -> None:
        self.tenancy, self.clock = tenancy, tenancy.clock
        self._requests: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        return [
            Route("GET", "/domains", "list_domains", self.list_domains),
            Route("GET", "/domains/{id}", "get_domain", self.get_domain),
            Route("POST", "/domains", "create_domain", self.create_domain, writes=True),
            Route("GET", "/iamWorkRequests/{id}", "get_iam_work_request", self.get_work_request),
        ]

    def list_domains(self, call: Call) -> Answer:
        """Those of one compartment; Default is in the root."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "domains", where)
        here = [self._shown(domain) for domain in self.tenancy.domains.alive() if domain.compartment == where]
        return paged(call, select(call, here, _FILTERS, _SORT, "TIMECREATED"))

    def get_domain(self, call: Call) -> Answer:
        """One."""
        domain = self.tenancy.domains.find(call.path["id"])
        self.tenancy.require(call.principal, "inspect", "domains", domain.compartment)
        return answer(domain, self._shown(domain))

    def create_domain(self, call: Call) -> Answer:
        """One more, with nobody in it."""
        where = call.text("compartmentId")
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(call.principal, "manage", "domains", where)
        name, about = call.text("displayName", longest=100), call.text("description", longest=400)
        for required in ("homeRegion", "licenseType"):
            call.text(required)
        if call.text("homeRegion") not in REGIONS:
            raise invalid("homeRegion has to be the name of a region")
        if self.tenancy.domains.named(name):
            raise conflict(f"Domain with name {name} already exists", "DomainAlreadyExists")
        domain = self.tenancy.add_domain(name, where, about)
        domain.freeform_tags = call.body.get("freeformTags") or {}
        request = ocid("iamworkrequest")
        now = self.clock.text(domain.created)
        self._requests[request] = {
            "id": request,
            "operationType": "CREATE_DOMAIN",
            "status": "SUCCEEDED",
            "compartmentId": where,
            "resources": [{"entityType": "Domain", "actionType": "CREATED", "identifier": domain.id}],
            "percentComplete": 100.0,
            "timeAccepted": now,
            "timeStarted": now,
            "timeFinished": now,
        }
        return Answer(202, None, {"opc-work-request-id": request})

    def get_work_request(self, call: Call) -> Answer:
        """How the making of a domain went."""
        request = self._requests.get(call.path["id"])
        if request is None:
            raise not_found()
        self.tenancy.require(call.principal, "inspect", "domains", request["compartmentId"])
        return Answer(200, request)

    def _shown(self, domain: IdentityDomain) -> dict[str, Any]:
        shown = domain.shown(self.clock) | {
            "displayName": domain.name,
            "url": domain.url,
            "homeRegionUrl": domain.url,
            "homeRegion": self.tenancy.plan.home_region,
            "replicaRegions": [],
            "type": "DEFAULT" if domain.name == DEFAULT_DOMAIN else "SECONDARY",
            "licenseType": "free",
            "isHiddenOnLogin": False,
        }
        return {key: value for key, value in shown.items() if key not in ("name", "timeUpdated")}
