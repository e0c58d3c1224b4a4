"""Email Delivery's control plane over REST (base path /20170907): email domains, the configuration, work
requests, and what all its operations share. DKIM keys and return paths are in email_keys.py, senders and
suppressions in email_senders.py.

Asynchronous operations answer with opc-work-request-id. What their work request says while a key waits for the
DNS is not published; here NEEDS_ATTENTION, so a client that waits for SUCCEEDED waits as long.
"""

from __future__ import annotations

import re
from typing import Any

from todoku.rehearsal.internet.plan import InternetPlan

from .api import Call, Route, answer, paged, select
from .email_state import Dkim, EmailDomain, EmailState, Published, Sender, WorkRequest
from .entries import Entry, Shelf, if_match, ocid, refuse_locked
from .errors import conflict, invalid, missing, not_found
from .http_server import Answer
from .tenancy import Tenancy

BASE = "20170907"
SORT = {"TIMECREATED": "timeCreated", "ID": "id", "NAME": "name"}
FILTERS = {"id": "id", "name": "name", "lifecycleState": "lifecycleState"}
# "Not a public mailbox provider", with these four named (email domain page).
_PUBLIC = ("gmail.com", "hotmail.com", "yahoo.com", "oracle.com")
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})+")
_KINDS = {"email-domain": "EMAIL_DOMAIN", "dkim": "DKIM", "email-return-path": "RETURN_PATH"}


class EmailControl:
    """The service in one region. `claimed`: domains that belong to another tenancy."""

    def __init__(
        self, plan: InternetPlan, region: str, state: EmailState, tenancy: Tenancy, claimed: set[str]
    ) -> None:
        self.plan, self.region, self.state, self.tenancy = plan, region, state, tenancy
        self.clock, self.timing, self.claimed = state.clock, state.timing, claimed

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        domains, work = "/emailDomains", "/workRequests"
        return [
            Route("GET", "/configuration", "get_email_configuration", self.configuration),
            Route("GET", domains, "list_email_domains", self.list_domains),
            Route("POST", domains, "create_email_domain", self.create_domain, writes=True),
            Route("GET", domains + "/{id}", "get_email_domain", self.get_domain),
            Route("PUT", domains + "/{id}", "update_email_domain", self.update_domain, writes=True),
            Route("DELETE", domains + "/{id}", "delete_email_domain", self.delete_domain, writes=True),
            Route(
                "POST",
                domains + "/{id}/actions/changeCompartment",
                "change_email_domain_compartment",
                self.move_domain,
                writes=True,
            ),
            Route("GET", work, "list_work_requests", self.list_work),
            Route("GET", work + "/{id}", "get_work_request", self.get_work),
            Route("GET", work + "/{id}/errors", "list_work_request_errors", self.work_errors),
            Route("GET", work + "/{id}/logs", "list_work_request_logs", self.work_logs),
        ]

    # -- shared

    def common(self, call: Call, kind: str, name: str, compartment: str) -> dict[str, Any]:
        """The fields of a new entry."""
        now = self.clock.now()
        return {
            "id": ocid(kind, self.region),
            "compartment": compartment,
            "name": name,
            "description": call.text("description", required=False) or None,
            "created": now,
            "ready": now + self.timing.creating_s,
            "freeform_tags": call.body.get("freeformTags") or {},
            "defined_tags": call.body.get("definedTags") or {},
        }

    def find(self, call: Call, shelf: Shelf[Any], verb: str, kind: str) -> Any:
        """The entry of the path, if the caller may."""
        entry = shelf.find(call.path["id"])
        self.tenancy.require(call.principal, verb, kind, entry.compartment, self._variables(entry))
        return entry

    def _variables(self, entry: Entry) -> dict[str, str]:
        """What conditions of policies can ask about an entry (Email Delivery's policy page)."""
        if isinstance(entry, Sender):
            return sender_variables(entry.name)
        if isinstance(entry, EmailDomain):
            return {"target.email-domain.name": u_label(entry.name), "target.email-domain.id": entry.id}
        if isinstance(entry, Dkim) and entry.domain in self.state.domains:
            return {"target.dkim.email-domain": u_label(self.state.domains[entry.domain].name)}
        return {}

    def to_change(self, call: Call, shelf: Shelf[Any], verb: str, kind: str) -> Any:
        """The same, where it is to be changed: if-match and locks count."""
        entry = self.find(call, shelf, verb, kind)
        if not entry.alive():
            raise not_found()
        if_match(entry, call.header("if-match"))
        refuse_locked(entry, call.query.get("isLockOverride"))
        return entry

    def begin(self, operation: str, kind: str, entry: Entry) -> dict[str, str]:
        """A new work request, as the header that names it."""
        request = WorkRequest(
            id=ocid("emailworkrequest", self.region),
            operation=f"{operation}_{_KINDS[kind]}",
            entity=kind,
            entity_id=entry.id,
            compartment=entry.compartment,
            accepted=self.clock.now(),
        )
        self.state.work[request.id] = request
        return {"opc-work-request-id": request.id}

    def update(self, call: Call, entry: Entry, kind: str) -> Answer:
        """Description and tags are all that can be changed."""
        if "description" in call.body:
            entry.description = call.text("description", required=False) or None
        entry.set_tags(call.body)
        entry.touch(self.clock.now())
        return Answer(202, None, self.begin("UPDATE", kind, entry))

    def configuration(self, call: Call) -> Answer:
        """Where to submit; the compartment has to be the tenancy."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "read", "email-configuration", where)
        if where != self.tenancy.plan.tenancy:
            raise invalid("compartmentId has to be the tenancy's OCID")
        smtp = self.plan.relay_hostname.replace(self.plan.region, self.region)
        shown = {
            "compartmentId": where,
            "smtpSubmitEndpoint": smtp,
            "httpSubmitEndpoint": smtp.replace("smtp.email", "cell0.submit.email", 1),
        }
        return Answer(200, shown)

    # -- email domains

    def list_domains(self, call: Call) -> Answer:
        """Those of one compartment."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "email-domains", where)
        found = [self.domain(d) for d in self.state.domains.values() if d.compartment == where]
        for item in found:  # the summary has less
            for name in ("isSpf", "domainVerificationStatus", "domainVerificationId"):
                item.pop(name)
        return paged(call, select(call, found, FILTERS, SORT, "TIMECREATED"), bare=False)

    def create_domain(self, call: Call) -> Answer:
        """Unique in the region for this tenancy (SDK: CreateEmailDomainDetails)."""
        where, name = call.text("compartmentId"), call.text("name", longest=254)
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(
            call.principal, "manage", "email-domains", where, {"target.email-domain.name": u_label(name)}
        )
        name = name.lower()
        if not name.isascii():
            name = name.encode("idna").decode()
        if not _DOMAIN.fullmatch(name) or name in _PUBLIC:
            raise invalid(f"name: {name} is not a domain that mail can be sent from here")
        if self.state.domains.named(name) or name in self.claimed:
            raise conflict(f"email domain {name} already exists")
        domain = self.state.domains.put(EmailDomain(**self.common(call, "emaildomain", name, where)))
        return answer(domain, self.domain(domain), 202, **self.begin("CREATE", "email-domain", domain))

    def get_domain(self, call: Call) -> Answer:
        """One."""
        domain = self.find(call, self.state.domains, "read", "email-domains")
        return answer(domain, self.domain(domain))

    def update_domain(self, call: Call) -> Answer:
        """The name never."""
        return self.update(
            call, self.to_change(call, self.state.domains, "use", "email-domains"), "email-domain"
        )

    def delete_domain(self, call: Call) -> Answer:
        """Not published what happens to keys and return paths that are left; here it is refused."""
        domain = self.to_change(call, self.state.domains, "manage", "email-domains")
        left: list[Published] = [d for d in self.state.dkims.alive() if d.domain == domain.id]
        left += [p for p in self.state.return_paths.alive() if p.domain == domain.id]
        if left:
            raise conflict(f"email domain {domain.name} still has {', '.join(e.name for e in left)}")
        domain.leave(self.clock.now(), self.timing.deleting_s)
        return Answer(202, None, self.begin("DELETE", "email-domain", domain))

    def move_domain(self, call: Call) -> Answer:
        """Its keys move with it."""
        domain = self.to_change(call, self.state.domains, "manage", "email-domains")
        where = call.text("compartmentId")
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(call.principal, "manage", "email-domains", where)
        parts: list[Entry] = [domain, *self.state.dkims_of(domain.id)]
        parts += [path for path in self.state.return_paths.values() if path.domain == domain.id]
        for entry in parts:
            entry.compartment = where
        domain.touch(self.clock.now())
        return Answer(202, None, self.begin("MOVE", "email-domain", domain))

    def domain(self, domain: EmailDomain) -> dict[str, Any]:
        """As the API shows it."""
        active = self.state.active_dkim(domain.id)
        return domain.shown(self.clock) | {
            "activeDkimId": active.id if active else None,
            "isSpf": domain.is_spf,
            "domainVerificationStatus": "NONE",
            "domainVerificationId": None,
            "locks": domain.locks,
        }

    # -- work requests

    def list_work(self, call: Call) -> Answer:
        """Of one compartment, newest first."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "email-work-requests", where)
        found = [self._work(w) for w in reversed(self.state.work.values()) if w.compartment == where]
        filters = {"workRequestId": "id", "status": "status", "operationType": "operationType"}
        keys = {"TIMEACCEPTED": "timeAccepted"}
        return paged(call, select(call, found, filters, keys, "TIMEACCEPTED"), bare=False)

    def get_work(self, call: Call) -> Answer:
        """How far it is."""
        return Answer(200, self._work(self._find_work(call)), {"etag": "1", "retry-after": "1"})

    def work_errors(self, call: Call) -> Answer:
        """What went wrong."""
        request = self._find_work(call)
        entry = self._entry(request)
        found = []
        if isinstance(entry, Published) and entry.status == "FAILED":
            when = self.clock.text(entry.updated or entry.created)
            found.append({"code": "FAILED", "message": entry.details, "timestamp": when})
        return paged(call, found, bare=False)

    def work_logs(self, call: Call) -> Answer:
        """What happened."""
        request = self._find_work(call)
        when = self.clock.text(request.accepted)
        return paged(call, [{"message": f"{request.operation} accepted", "timestamp": when}], bare=False)

    def _find_work(self, call: Call) -> WorkRequest:
        request = self.state.work.get(call.path["id"])
        if request is None:
            raise not_found()
        self.tenancy.require(call.principal, "read", "email-work-requests", request.compartment)
        return request

    def _entry(self, request: WorkRequest) -> Entry | None:
        shelves: tuple[Shelf[Any], ...] = (self.state.domains, self.state.dkims, self.state.return_paths)
        return next((shelf[request.entity_id] for shelf in shelves if request.entity_id in shelf), None)

    def _work(self, request: WorkRequest) -> dict[str, Any]:
        entry = self._entry(request)
        state = entry.state(self.clock.now()) if entry else "DELETED"
        status = "SUCCEEDED"
        if request.operation.startswith("CREATE") and state in ("CREATING", "NEEDS_ATTENTION", "FAILED"):
            status = "IN_PROGRESS" if state == "CREATING" else state
        elif request.operation.startswith("DELETE") and state == "DELETING":
            status = "IN_PROGRESS"
        done = status in ("SUCCEEDED", "FAILED")
        action = {"CREATE": "CREATED", "DELETE": "DELETED"}.get(request.operation.split("_")[0], "UPDATED")
        resource = {
            "entityType": request.entity,
            "actionType": action if done else "IN_PROGRESS",
            "identifier": request.entity_id,
            "entityUri": f"/{BASE}/{request.entity}/{request.entity_id}",
        }
        return {
            "id": request.id,
            "operationType": request.operation,
            "status": status,
            "compartmentId": request.compartment,
            "resources": [resource],
            "percentComplete": 100.0 if done else 50.0,
            "timeAccepted": self.clock.text(request.accepted),
            "timeStarted": self.clock.text(request.accepted),
            "timeFinished": self.clock.text(self.clock.now()) if done else None,
        }


def sender_variables(address: str) -> dict[str, str]:
    """What conditions of policies can ask about an approved sender."""
    return {
        "target.approved-sender.emailaddress": address,
        "target.approved-sender.email-domain": u_label(address.rpartition("@")[2].lower()),
    }


def u_label(domain: str) -> str:
    """As policies have to write a domain ("Policies should use the U-label form of the domain")."""
    try:
        return domain.encode("ascii").decode("idna")
    except UnicodeError:
        return domain


class Locks:
    """addLock and removeLock, which several kinds have. A kind: path, operation's name, shelf, permission."""

    def __init__(self, control: EmailControl, kinds: list[tuple[str, str, Shelf[Any], str, Any]]) -> None:
        self.control, self.kinds = control, kinds

    def routes(self) -> list[Route]:
        """Two for each kind."""
        found = []
        for path, name, shelf, kind, shown in self.kinds:
            for verb, operation in (("addLock", f"add_{name}_lock"), ("removeLock", f"remove_{name}_lock")):
                handler = self._handler(verb, shelf, kind, shown)
                found.append(Route("POST", f"/{path}/{{id}}/actions/{verb}", operation, handler, writes=True))
        return found

    def _handler(self, verb: str, shelf: Shelf[Any], kind: str, shown: Any) -> Any:
        def handle(call: Call) -> Answer:
            entry = self.control.find(call, shelf, "manage", kind)
            if_match(entry, call.header("if-match"))
            if call.body.get("type") not in ("FULL", "DELETE"):
                raise missing("type")
            if verb == "addLock":
                entry.locks.append({"compartmentId": entry.compartment, **call.body})
            else:
                entry.locks = [lock for lock in entry.locks if lock["type"] != call.body["type"]]
            entry.touch(self.control.clock.now())
            return answer(entry, shown(entry))

        return handle
