"""The Logging service: log groups, the service logs of email domains in them (API 20200531), and the search in what was
logged (API 20190909), at one and the same address.

Only what a log is switched on for is logged, and it can be found only after a while (`Timing.log_delay_s`; Oracle's
pages give no number). A record may be found later than one that is younger: what was written with a longer delay.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .api import Call, Route, paged, select
from .email_state import EmailState
from .entries import E, Entry, Shelf, Timing, if_match, ocid
from .errors import conflict, invalid, missing, not_found
from .http_server import Answer
from .log_query import Query, parse
from .tenancy import Tenancy

MANAGEMENT, SEARCH = "20200531", "20190909"
SERVICE = "emaildelivery"
CATEGORIES = ("outboundaccepted", "outboundrelayed")
KEPT = 100_000  # records; older ones are forgotten
LONGEST_SPAN = 14 * 86_400.0  # seconds that one search may cover


@dataclass(slots=True, kw_only=True)
class Log(Entry):
    """A service log; `resource` is the OCID of an email domain."""

    group: str
    resource: str
    category: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Record:
    """`time` is the real one, seconds since 1970; `findable` a moment of the cloud's clock."""

    scope: tuple[str, str, str]  # compartment, group, log
    time: float
    findable: float
    content: dict[str, Any]


class LoggingService:
    """One region's."""

    def __init__(self, region: str, email: EmailState, tenancy: Tenancy, timing: Timing) -> None:
        self.region, self.email, self.tenancy, self.timing = region, email, tenancy, timing
        self.clock = tenancy.clock
        self.groups: Shelf[Entry] = Shelf()
        self.logs: Shelf[Log] = Shelf()
        self.records: deque[Record] = deque(maxlen=KEPT)

    def management_routes(self) -> list[Route]:
        """Groups and logs."""
        groups, logs = "/logGroups", "/logGroups/{group}/logs"
        return [
            Route("GET", groups, "list_log_groups", self.list_groups),
            Route("POST", groups, "create_log_group", self.create_group, writes=True),
            Route("GET", groups + "/{group}", "get_log_group", self.get_group),
            Route("DELETE", groups + "/{group}", "delete_log_group", self.delete_group, writes=True),
            Route("GET", logs, "list_logs", self.list_logs),
            Route("POST", logs, "create_log", self.create_log, writes=True),
            Route("GET", logs + "/{id}", "get_log", self.get_log),
            Route("PUT", logs + "/{id}", "update_log", self.update_log, writes=True),
            Route("DELETE", logs + "/{id}", "delete_log", self.delete_log, writes=True),
        ]

    def search_routes(self) -> list[Route]:
        """The search."""
        return [Route("POST", "/search", "search_logs", self.search)]

    # -- what the relay has to say

    def write(self, domain: str, category: str, data: Mapping[str, Any]) -> None:
        """One record of an email domain (its name), if a log is switched on for it."""
        found = self.email.domain_named(domain)
        if found is None:
            return
        now, moment = self.clock.now(), time.time()
        for log in self.logs.alive():
            if (log.resource, log.category) != (found.id, category) or not log.enabled:
                continue
            if log.state(now) != "ACTIVE":
                continue
            when = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
            content = {
                "data": dict(data),
                "id": str(uuid.uuid4()),
                "oracle": {
                    "compartmentid": log.compartment,
                    "ingestedtime": when,
                    "loggroupid": log.group,
                    "logid": log.id,
                    "tenantid": self.tenancy.plan.tenancy,
                },
                "source": found.name,
                "specversion": "1.0",
                "subject": "",
                "time": when,
                "type": f"com.oraclecloud.{SERVICE}.emaildomain.{category}",
            }
            scope = (log.compartment, log.group, log.id)
            self.records.append(Record(scope, moment, now + self.timing.log_delay_s, content))

    # -- groups

    def list_groups(self, call: Call) -> Answer:
        """A bare array."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "log-groups", where)
        shown = [self._shown(each) for each in self._there(self.groups) if each.compartment == where]
        keys = {"TIMECREATED": "timeCreated", "DISPLAYNAME": "displayName"}
        return paged(call, select(call, shown, {"displayName": "displayName"}, keys, "TIMECREATED"))

    def _there(self, shelf: Shelf[E]) -> list[E]:
        """There is no state DELETED here (SDK: LogGroupSummary, LogSummary): what is gone is not listed."""
        return [entry for entry in shelf.values() if entry.state(self.clock.now()) != "DELETED"]

    def create_group(self, call: Call) -> Answer:
        """Named once in a compartment."""
        where, name = call.text("compartmentId"), call.text("displayName", longest=255)
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(call.principal, "manage", "log-groups", where)
        if any(group.compartment == where and group.name == name for group in self.groups.alive()):
            raise conflict(f"a log group {name} exists already")
        self.groups.put(Entry(**self._common(call, "loggroup", name, where)))
        return self._begun()

    def get_group(self, call: Call) -> Answer:
        """One."""
        group = self._group(call, "read")
        return Answer(200, self._shown(group), {"etag": group.etag})

    def delete_group(self, call: Call) -> Answer:
        """Only an empty one."""
        group = self._group(call, "manage")
        if any(log.group == group.id for log in self.logs.alive()):
            raise conflict(f"the log group {group.name} still has logs", "IncorrectState")
        group.leave(self.clock.now(), self.timing.deleting_s)
        return self._begun()

    def _group(self, call: Call, verb: str) -> Entry:
        group = self.groups.find(call.path["group"])
        self.tenancy.require(call.principal, verb, "log-groups", group.compartment)
        if not group.alive():
            raise not_found()
        return group

    # -- logs

    def list_logs(self, call: Call) -> Answer:
        """Those of one group, a bare array."""
        group = self._group(call, "inspect")
        logs = [log for log in self._there(self.logs) if log.group == group.id]
        for parameter, value in (("sourceService", SERVICE), ("logType", "SERVICE")):
            if call.query.get(parameter, value) != value:
                logs = []
        if "sourceResource" in call.query:
            logs = [log for log in logs if log.resource == call.query["sourceResource"]]
        keys = {"TIMECREATED": "timeCreated", "DISPLAYNAME": "displayName"}
        names = {"displayName": "displayName", "lifecycleState": "lifecycleState"}
        return paged(call, select(call, [self._log(log) for log in logs], names, keys, "TIMECREATED"))

    def create_log(self, call: Call) -> Answer:
        """A category of a resource is logged once (not published: which error a second log gets)."""
        group = self._group(call, "manage")
        if group.state(self.clock.now()) != "ACTIVE":
            raise conflict(f"the log group {group.name} is not ACTIVE yet", "IncorrectState")
        name, resource, category = self._wanted(call)
        domain = self.email.domains.find(resource)
        self.tenancy.require(call.principal, "use", "email-domains", domain.compartment)
        for log in self.logs.alive():
            if (log.resource, log.category) == (resource, category):
                raise conflict(f"{category} of {resource} is logged already")
            if log.group == group.id and log.name == name:
                raise conflict(f"a log {name} exists already")
        enabled = call.body.get("isEnabled", True) is True
        more: dict[str, Any] = {
            "group": group.id,
            "resource": resource,
            "category": category,
            "enabled": enabled,
        }
        self.logs.put(Log(**self._common(call, "log", name, group.compartment), **more))
        return self._begun()

    def _wanted(self, call: Call) -> tuple[str, str, str]:
        name = call.text("displayName", longest=255)
        configuration = call.body.get("configuration")
        if call.text("logType") != "SERVICE" or not isinstance(configuration, dict):
            raise invalid("only logs with logType SERVICE and a configuration are made here")
        source = configuration.get("source")
        if not isinstance(source, dict):
            raise missing("configuration.source")
        kind, service = source.get("sourceType"), source.get("service")
        resource, category = source.get("resource"), source.get("category")
        if (kind, service) != ("OCISERVICE", SERVICE) or category not in CATEGORIES:
            raise invalid(f"no log of {kind}, {service}, {category} is known")
        if not isinstance(resource, str):
            raise missing("configuration.source.resource")
        return name, resource, str(category)

    def get_log(self, call: Call) -> Answer:
        """One."""
        log = self._find(call, "read")
        return Answer(200, self._log(log), {"etag": log.etag})

    def update_log(self, call: Call) -> Answer:
        """Switched on and off; its name."""
        log = self._find(call, "manage")
        if_match(log, call.header("if-match"))
        if "isEnabled" in call.body:
            log.enabled = call.body["isEnabled"] is True
        log.name = call.text("displayName", required=False) or log.name
        log.set_tags(call.body)
        log.touch(self.clock.now())
        return self._begun()

    def delete_log(self, call: Call) -> Answer:
        """What was logged can still be found."""
        log = self._find(call, "manage")
        log.leave(self.clock.now(), self.timing.deleting_s)
        return self._begun()

    def _find(self, call: Call, verb: str) -> Log:
        group = self._group(call, verb)
        log = self.logs.find(call.path["id"])
        if log.group != group.id or not log.alive():
            raise not_found()
        return log

    # -- the search

    def search(self, call: Call) -> Answer:
        """A page of records; the newest come last unless the query says otherwise."""
        start, end = _moment(call.text("timeStart")), _moment(call.text("timeEnd"))
        if not start <= end or end - start > LONGEST_SPAN:
            raise invalid("timeStart has to be before timeEnd, by at most 14 days")
        query = parse(call.text("searchQuery", longest=10_000))
        for scope in query.scopes:
            if scope[0] not in (*self.tenancy.compartments, self.tenancy.plan.tenancy):
                raise not_found()
            self.tenancy.require(call.principal, "read", "log-content", scope[0])
        found = self._found(query, start, end)
        # A page belongs to its query, which is in the body.
        about = replace(call, query={**call.query, "body": call.request.body.decode("utf-8", "replace")})
        page = paged(about, found)
        shown = [
            {"data": {"datetime": int(each.time * 1000), "logContent": each.content}} for each in page.content
        ]
        content = {"results": shown, "fields": [], "summary": {"resultCount": len(found), "fieldCount": 0}}
        return Answer(200, content, page.headers)

    def _found(self, query: Query, start: float, end: float) -> list[Record]:
        now = self.clock.now()
        found = [
            record
            for record in self.records
            if start <= record.time <= end
            and record.findable <= now
            and any(record.scope[: len(scope)] == scope for scope in query.scopes)
            and all(test(record.content) for test in query.tests)
        ]
        found.sort(key=lambda record: record.time, reverse=query.newest_first)
        return found[: query.most]

    # -- as the API shows them

    def _shown(self, entry: Entry) -> dict[str, Any]:
        shown = entry.shown(self.clock)
        return {
            **shown,
            "displayName": shown.pop("name"),
            "timeLastModified": shown.pop("timeUpdated"),
        }

    def _log(self, log: Log) -> dict[str, Any]:
        source = {
            "sourceType": "OCISERVICE",
            "service": SERVICE,
            "resource": log.resource,
            "category": log.category,
            "parameters": {},
        }
        return self._shown(log) | {
            "logGroupId": log.group,
            "tenancyId": self.tenancy.plan.tenancy,
            "logType": "SERVICE",
            "isEnabled": log.enabled,
            "retentionDuration": 30,
            "configuration": {"compartmentId": log.compartment, "source": source},
        }

    def _common(self, call: Call, kind: str, name: str, compartment: str) -> dict[str, Any]:
        now = self.clock.now()
        return {
            "id": ocid(kind, self.region),
            "compartment": compartment,
            "name": name,
            "created": now,
            "ready": now + self.timing.creating_s,
            "freeform_tags": call.body.get("freeformTags") or {},
            "defined_tags": call.body.get("definedTags") or {},
        }

    def _begun(self) -> Answer:
        """Everything here is done later; no content, and a work request that nobody needs to ask about."""
        return Answer(
            202, None, {"opc-work-request-id": f"ocid1.logworkrequest.oc1..{secrets.token_hex(16)}"}
        )


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise invalid(f"not a moment in RFC 3339: {text}") from None
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
