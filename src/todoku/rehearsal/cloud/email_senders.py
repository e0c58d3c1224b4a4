"""Approved senders and the suppression list over REST. The relay's SMTP side enforces both: a sender exists
there as soon as it is ACTIVE (and has been propagated), and the list is one and the same."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

from todoku.rehearsal.relay.state import RelayState, Suppression

from .api import Call, Route, answer, paged, select
from .email_control import EmailControl, sender_variables
from .email_state import Sender
from .errors import conflict, invalid, not_found
from .http_server import Answer

_ADDRESS = re.compile(r"[\x21-\x3f\x41-\x7e]{0,64}@[A-Za-z0-9][A-Za-z0-9.-]*\.[A-Za-z0-9-]*[A-Za-z0-9]")


class EmailSenders:
    """The operations on /senders and /suppressions. `relay`: the SMTP side of the same region."""

    def __init__(self, control: EmailControl, relay: RelayState) -> None:
        self.control, self.relay = control, relay
        self.state, self.tenancy, self.clock = control.state, control.tenancy, control.clock

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        senders, suppressions = "/senders", "/suppressions"
        return [
            Route("GET", senders, "list_senders", self.list_senders),
            Route("POST", senders, "create_sender", self.create_sender, writes=True),
            Route("GET", senders + "/{id}", "get_sender", self.get_sender),
            Route("PUT", senders + "/{id}", "update_sender", self.update_sender, writes=True),
            Route("DELETE", senders + "/{id}", "delete_sender", self.delete_sender, writes=True),
            Route(
                "POST",
                senders + "/{id}/actions/changeCompartment",
                "change_sender_compartment",
                self.move_sender,
                writes=True,
            ),
            Route("GET", suppressions, "list_suppressions", self.list_suppressions),
            Route("POST", suppressions, "create_suppression", self.create_suppression, writes=True),
            Route("GET", suppressions + "/{id}", "get_suppression", self.get_suppression),
            Route(
                "DELETE", suppressions + "/{id}", "delete_suppression", self.delete_suppression, writes=True
            ),
        ]

    # -- senders

    def list_senders(self, call: Call) -> Answer:
        """A bare array."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "approved-senders", where)
        found = [
            self.sender(sender)
            for sender in self.state.senders.values()
            if sender.compartment == where
            and call.query.get("domain", sender.domain).lower() == sender.domain
        ]
        filters = {"emailAddress": "emailAddress", "lifecycleState": "lifecycleState"}
        keys = {"TIMECREATED": "timeCreated", "EMAILADDRESS": "emailAddress"}
        return paged(call, select(call, found, filters, keys, "TIMECREATED"))

    def create_sender(self, call: Call) -> Answer:
        """One address, or `@domain` once the domain's DKIM is ACTIVE (email domain page)."""
        where, address = call.text("compartmentId"), call.text("emailAddress", longest=254)
        if where not in self.tenancy.compartments:
            raise not_found()
        domain = address.rpartition("@")[2].lower()
        self.tenancy.require(call.principal, "manage", "approved-senders", where, sender_variables(address))
        if not _ADDRESS.fullmatch(address):
            raise invalid(f"Invalid Internet Address : {address}")
        address = f"{address.rpartition('@')[0]}@{domain}"
        if self.state.senders.named(address):
            raise conflict(f"sender {address} already exists")
        email_domain = self.state.domain_named(domain)
        if address.startswith("@") and (
            email_domain is None or self.state.active_dkim(email_domain.id) is None
        ):
            raise invalid(f"{address}: a sender for a whole domain needs an email domain with an ACTIVE DKIM")
        sender = self.state.senders.put(Sender(**self.control.common(call, "emailsender", address, where)))
        return answer(sender, self.sender(sender))

    def get_sender(self, call: Call) -> Answer:
        """One."""
        sender = self.control.find(call, self.state.senders, "read", "approved-senders")
        return answer(sender, self.sender(sender))

    def update_sender(self, call: Call) -> Answer:
        """Replaces all tags (SDK: update_sender)."""
        sender = self.control.to_change(call, self.state.senders, "use", "approved-senders")
        sender.freeform_tags = call.body.get("freeformTags") or {}
        sender.defined_tags = call.body.get("definedTags") or {}
        sender.touch(self.clock.now())
        return answer(sender, self.sender(sender))

    def delete_sender(self, call: Call) -> Answer:
        """Not approved any more, at once."""
        sender = self.control.to_change(call, self.state.senders, "manage", "approved-senders")
        sender.leave(self.clock.now(), self.control.timing.deleting_s)
        return Answer(204)

    def move_sender(self, call: Call) -> Answer:
        """Into another compartment, where other policies hold."""
        sender = self.control.to_change(call, self.state.senders, "manage", "approved-senders")
        where = call.text("compartmentId")
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(call.principal, "manage", "approved-senders", where)
        sender.compartment = where
        sender.touch(self.clock.now())
        return Answer(204)

    def sender(self, sender: Sender) -> dict[str, Any]:
        """As the API shows it."""
        domain = self.state.domain_named(sender.domain)
        shown = sender.shown(self.clock)
        for name in ("name", "description", "timeUpdated"):
            shown.pop(name)
        return shown | {
            "emailAddress": sender.name,
            "emailDomainId": domain.id if domain else None,
            "isSpf": domain.is_spf if domain else False,
            "emailIpPoolId": None,
            "locks": sender.locks,
        }

    # -- suppressions: at the tenancy's level only

    def list_suppressions(self, call: Call) -> Answer:
        """A bare array, newest first."""
        self._check(call, "inspect", call.parameter("compartmentId"))
        found = []
        for entry in self.relay.suppressions.values():
            after = _moment(call.query.get("timeCreatedGreaterThanOrEqualTo"))
            before = _moment(call.query.get("timeCreatedLessThan"))
            if (after is None or entry.time >= after) and (before is None or entry.time < before):
                found.append(self._suppression(entry))
        keys = {"TIMECREATED": "timeCreated", "EMAILADDRESS": "emailAddress"}
        return paged(call, select(call, found, {"emailAddress": "emailAddress"}, keys, "TIMECREATED"))

    def create_suppression(self, call: Call) -> Answer:
        """By hand: reason MANUAL."""
        where, address = call.text("compartmentId"), call.text("emailAddress", longest=254)
        self._check(call, "manage", where)
        if not _ADDRESS.fullmatch(address) or address.startswith("@"):
            raise invalid(f"Invalid Internet Address : {address}")
        if self.relay.is_suppressed(address):
            raise conflict(f"{address.lower()} is suppressed already")
        self.relay.suppress(address, "MANUAL")
        return self._answer(self.relay.suppressions[address.lower()])

    def get_suppression(self, call: Call) -> Answer:
        """With what the other side said."""
        self._check(call, "read", self.tenancy.plan.tenancy)
        return self._answer(self._find(call))

    def delete_suppression(self, call: Call) -> Answer:
        """Mail goes there again."""
        self._check(call, "manage", self.tenancy.plan.tenancy)
        entry = self._find(call)
        del self.relay.suppressions[entry.address]
        return Answer(204)

    def _check(self, call: Call, verb: str, compartment: str) -> None:
        self.tenancy.require(call.principal, verb, "suppressions", compartment)
        if compartment != self.tenancy.plan.tenancy:
            raise invalid("compartmentId has to be the tenancy's OCID")

    def _find(self, call: Call) -> Suppression:
        for entry in self.relay.suppressions.values():
            if self._id(entry) == call.path["id"]:
                return entry
        raise not_found()

    def _id(self, entry: Suppression) -> str:
        digest = hashlib.sha256(f"{entry.address}{entry.time}".encode()).hexdigest()
        return f"ocid1.emailsuppression.oc1.{self.control.region}.aaaaaaaa{digest}"

    def _answer(self, entry: Suppression) -> Answer:
        shown = self._suppression(entry) | {
            "timeLastSuppressed": None,
            "messageId": entry.message_id or None,
            "errorDetail": entry.error_detail or None,
            "errorSource": entry.error_source or None,
        }
        return Answer(200, shown)

    def _suppression(self, entry: Suppression) -> dict[str, Any]:
        return {
            "id": self._id(entry),
            "compartmentId": self.tenancy.plan.tenancy,
            "emailAddress": entry.address,
            "reason": entry.reason,
            # The relay notes these by the real clock.
            "timeCreated": self.clock.text(entry.time + self.clock.offset),
        }


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00").replace(" ", "+")).timestamp()
    except ValueError:
        raise invalid(f"not a moment in RFC 3339: {text}") from None
