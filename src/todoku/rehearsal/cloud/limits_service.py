"""The Limits service over REST (base path /20190729): what the relay lets the tenancy send, as it enforces it.

Names are those of Oracle's page on Email Delivery's compartment quotas. Which policy lets somebody read limits is not
published with Email Delivery; here it is "inspect limits in tenancy".
"""

from __future__ import annotations

from todoku.rehearsal.relay.state import RelayState

from .api import Call, Route, paged
from .errors import invalid
from .http_server import Answer
from .tenancy import Tenancy

BASE = "20190729"
_SERVICE = "email-delivery"


class LimitsService:
    """`relay`: the SMTP side of the same region."""

    def __init__(self, tenancy: Tenancy, relay: RelayState) -> None:
        self.tenancy, self.relay = tenancy, relay

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        return [Route("GET", "/limitValues", "list_limit_values", self.list_limit_values)]

    def list_limit_values(self, call: Call) -> Answer:
        """A bare array."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "limits", where)
        if where != self.tenancy.plan.tenancy:
            raise invalid("compartmentId has to be the tenancy's OCID")
        if call.parameter("serviceName") != _SERVICE:
            return paged(call, [])
        limits = self.relay.limits
        values = {
            "max-emails-day": limits.per_day,
            "max-message-size": limits.size,
            "sendrate": limits.per_minute,
        }
        found = [
            {"name": name, "scopeType": "REGION", "availabilityDomain": None, "value": value}
            for name, value in values.items()
        ]
        return paged(call, [each for each in found if each["name"] == call.query.get("name", each["name"])])
