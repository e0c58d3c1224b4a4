"""The DNS service over REST (base path /20180115), as the SDK's DnsClient calls it: public zones and their
records. What is answered with success is already in the world's DNS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .api import Call, Route, paged, select
from .clock import Clock
from .dns_zones import NAME_SERVERS, Rr, Zone, check_together, chosen, normal, read_data, read_record
from .entries import Shelf, Timing, if_match, ocid
from .errors import ApiError, conflict, invalid, missing, not_found
from .http_server import Answer
from .tenancy import Tenancy

BASE = "20180115"
_SORT = {"NAME": "name", "TIMECREATED": "timeCreated"}
_RECORD_SORT = {"DOMAIN": "domain", "RTYPE": "rtype", "TTL": "ttl"}
_OPERATIONS = ("REQUIRE", "PROHIBIT", "ADD", "REMOVE")


class DnsService:
    """The service; zones are global. `changed` is told the name of a zone whose text is a new one."""

    def __init__(
        self, tenancy: Tenancy, timing: Timing, claimed: set[str], changed: Callable[[str], None]
    ) -> None:
        self.tenancy, self.timing, self.claimed, self.changed = tenancy, timing, claimed, changed
        self.clock: Clock = tenancy.clock
        self.zones: Shelf[Zone] = Shelf()

    def hand_over(self, name: str, compartment: str) -> None:
        """A zone that the customer had before the rehearsal began: registered, delegated here, and empty."""
        now = self.clock.now()
        self.zones.put(Zone(id=ocid("dns-zone"), compartment=compartment, name=name, created=now, ready=now))
        self.changed(name)

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        zone = "/zones/{zone}"
        routes = [
            Route("GET", "/zones", "list_zones", self.list_zones),
            Route("POST", "/zones", "create_zone", self.create_zone, writes=True),
            Route("GET", zone, "get_zone", self.get_zone),
            Route("PUT", zone, "update_zone", self.update_zone, writes=True),
            Route("DELETE", zone, "delete_zone", self.delete_zone, writes=True),
            Route("GET", zone + "/content", "get_zone_content", self.get_content),
        ]
        names = {
            zone + "/records": "zone_records",
            zone + "/records/{domain}": "domain_records",
            zone + "/records/{domain}/{rtype}": "rr_set",
        }
        for pattern, name in names.items():
            routes += [
                Route("GET", pattern, f"get_{name}", self.get_records),
                Route("PUT", pattern, f"update_{name}", self.put_records, writes=True),
                Route("PATCH", pattern, f"patch_{name}", self.patch_records, writes=True),
            ]
            if name != "zone_records":
                routes.append(Route("DELETE", pattern, f"delete_{name}", self.delete_records, writes=True))
        return routes

    # -- zones

    def list_zones(self, call: Call) -> Answer:
        """Of one compartment."""
        where = call.parameter("compartmentId")
        self.tenancy.require(call.principal, "inspect", "dns-zones", where)
        part = call.query.get("nameContains", "").lower()
        found = [
            self._zone(zone)
            for zone in self.zones.values()
            if zone.compartment == where and part in zone.name and self._is_there(zone)
        ]
        for item in found:
            item.pop("nameservers")
        filters = {"name": "name", "lifecycleState": "lifecycleState", "zoneType": "zoneType"}
        if call.query.get("scope", "GLOBAL") != "GLOBAL":
            found = []
        return paged(call, select(call, found, filters, _SORT, "NAME"))

    def create_zone(self, call: Call) -> Answer:
        """Global zone names are unique in the realm (SDK: CreateZoneDetails)."""
        where = call.text("compartmentId")
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(call.principal, "manage", "dns-zones", where)
        name = normal(call.text("name", longest=254))
        if call.body.get("zoneType", "PRIMARY") != "PRIMARY" or call.body.get("scope", "GLOBAL") not in (
            None,
            "GLOBAL",
        ):
            raise invalid("only public primary zones can be made here")
        if name in self.claimed or any(
            zone.name == name and self._is_there(zone) for zone in self.zones.values()
        ):
            raise conflict(f"zone {name} already exists")
        now = self.clock.now()
        zone = Zone(
            id=ocid("dns-zone"),
            compartment=where,
            name=name,
            created=now,
            ready=now + self.timing.creating_s,
            freeform_tags=call.body.get("freeformTags") or {},
            defined_tags=call.body.get("definedTags") or {},
        )
        self.zones.put(zone)
        self.changed(name)
        return self._answer(zone, self._zone(zone), 201)

    def get_zone(self, call: Call) -> Answer:
        """By name or OCID; with the name servers to delegate to."""
        zone = self._find(call, "read", "dns-zones")
        return self._answer(zone, self._zone(zone))

    def update_zone(self, call: Call) -> Answer:
        """Tags."""
        zone = self._find(call, "use", "dns-zones")
        zone.set_tags(call.body)
        zone.touch(self.clock.now())
        return self._answer(zone, self._zone(zone))

    def delete_zone(self, call: Call) -> Answer:
        """With all that is in it."""
        zone = self._find(call, "manage", "dns-zones")
        zone.leave(self.clock.now(), self.timing.deleting_s)
        self.changed(zone.name)
        return Answer(204)

    def get_content(self, call: Call) -> Answer:
        """As a zone file."""
        zone = self._find(call, "read", "dns-zones")
        return Answer(200, zone.text(), {"etag": zone.etag})

    def _is_there(self, zone: Zone) -> bool:
        return zone.state(self.clock.now()) != "DELETED"

    def _find(self, call: Call, verb: str, kind: str) -> Zone:
        wanted = call.path["zone"]
        zone = self.zones.get(wanted) or self.zones.named(wanted.rstrip("."))
        if zone is None or not self._is_there(zone):
            raise not_found()
        self.tenancy.require(
            call.principal, verb, kind, zone.compartment, {"target.dns-zone.name": zone.name}
        )
        if call.request.method != "GET":
            if not zone.alive():
                raise not_found()
            if_match(zone, call.header("if-match"))
        return zone

    def _zone(self, zone: Zone) -> dict[str, Any]:
        shown = zone.shown(self.clock)
        for name in ("description", "timeUpdated"):
            shown.pop(name)
        address = f"https://dns.{self.tenancy.plan.home_region}.oci.oraclecloud.com/{BASE}/zones/{zone.name}"
        return shown | {
            "zoneType": "PRIMARY",
            "viewId": None,
            "scope": "GLOBAL",
            "self": address,
            "version": str(zone.version),
            "serial": zone.serial,
            "isProtected": False,
            "resolutionMode": "STATIC",
            "dnssecState": "DISABLED",
            "externalMasters": [],
            "externalDownstreams": [],
            "nameservers": [{"hostname": server} for server in NAME_SERVERS],
            "zoneTransferServers": [],
        }

    def _answer(self, zone: Zone, content: Any, status: int = 200) -> Answer:
        return Answer(status, content, {"etag": zone.etag, "x-content-type-options": "nosniff"})

    # -- records: of the zone, of a name, or of a name and type, as far as the path goes

    def _scope(self, call: Call, zone: Zone) -> tuple[str | None, str | None]:
        domain = normal(call.path["domain"]) if "domain" in call.path else None
        if domain is not None and not zone.holds(domain):
            raise invalid(f"{domain} does not lie in the zone {zone.name}")
        rtype = call.path["rtype"].upper() if "rtype" in call.path else None
        return domain, rtype

    def get_records(self, call: Call) -> Answer:
        """A record set that is not there is an empty list."""
        zone = self._find(call, "read", "dns-records")
        domain, rtype = self._scope(call, zone)
        if domain is None and call.query.get("domain"):
            domain = normal(call.query["domain"])
        rtype = rtype or (call.query.get("rtype") or "").upper() or None
        part = call.query.get("domainContains", "").lower()
        found = [record for record in chosen(zone.everything(), domain, rtype) if part in record.domain]
        items = select(call, self._items(zone, found), {}, _RECORD_SORT, "DOMAIN")
        page = paged(call, items, bare=False)
        return Answer(200, page.content, {**page.headers, "etag": zone.etag})

    def put_records(self, call: Call) -> Answer:
        """Full replacement of what the path names; the protected records stay."""
        zone = self._find(call, "use", "dns-records")
        domain, rtype = self._scope(call, zone)
        items = call.body.get("items")
        if not isinstance(items, list):
            raise missing("items")
        new = [read_record(item, zone, domain, rtype) for item in items]
        self._refuse_protected(zone, new, rtype)
        new = [record for record in new if not zone.is_protected(record)]
        replaced = set(chosen(zone.records, domain, rtype))
        return self._store(zone, [*(r for r in zone.records if r not in replaced), *new], domain, rtype)

    def patch_records(self, call: Call) -> Answer:
        """REQUIRE and PROHIBIT first, then ADD and REMOVE; all of it or nothing."""
        zone = self._find(call, "use", "dns-records")
        domain, rtype = self._scope(call, zone)
        items = call.body.get("items")
        if not isinstance(items, list):
            raise missing("items")
        records = {record.key: record for record in zone.records}
        for item in sorted(items, key=lambda i: str(i.get("operation", "ADD")).upper() in ("ADD", "REMOVE")):
            self._patch(zone, records, item, domain, rtype)
        return self._store(zone, list(records.values()), domain, rtype)

    def _patch(
        self,
        zone: Zone,
        records: dict[tuple[str, str, str], Rr],
        item: dict[str, Any],
        domain: str | None,
        rtype: str | None,
    ) -> None:
        operation = str(item.get("operation") or "ADD").upper()
        if operation not in _OPERATIONS:
            raise invalid(f"operation has to be one of {', '.join(_OPERATIONS)}, not {operation}")
        if operation == "ADD":
            record = read_record(item, zone, domain, rtype)
            self._refuse_protected(zone, [record], record.type)
            records[record.key] = record
            # A record set has one TTL (RFC 2181 5.2): that of the newest.
            for key, other in tuple(records.items()):
                if key[:2] == record.key[:2]:
                    records[key] = Rr(*other.key, record.ttl)
            return
        found = [key for key, record in records.items() if _matches(record, item, domain, rtype)]
        if operation == "REMOVE":
            for key in found:
                del records[key]
        elif bool(found) is (operation == "PROHIBIT"):
            raise ApiError(
                409, "Conflict", f"{operation} {item.get('domain') or domain} {item.get('rtype') or rtype}"
            )

    def delete_records(self, call: Call) -> Answer:
        """All that the path names."""
        zone = self._find(call, "use", "dns-records")
        domain, rtype = self._scope(call, zone)
        doomed = set(chosen(zone.records, domain, rtype))
        self._store(zone, [record for record in zone.records if record not in doomed], domain, rtype)
        return Answer(204, None, {"etag": zone.etag})

    def _refuse_protected(self, zone: Zone, records: list[Rr], rtype: str | None) -> None:
        """The protected records may be repeated as they are, but not changed."""
        known = {record.key[:2] for record in zone.everything() if zone.is_protected(record)}
        same = {record.key for record in zone.everything()}
        for record in records:
            changed = record.type != "SOA" and record.key not in same
            if record.key[:2] in known and (changed or rtype == record.type):
                raise invalid(f"{record.domain} {record.type} is protected")

    def _store(self, zone: Zone, records: list[Rr], domain: str | None, rtype: str | None) -> Answer:
        check_together([*zone.everything()[: 1 + len(NAME_SERVERS)], *records])
        serial = zone.serial
        zone.replace(records, self.clock.now())
        if zone.serial != serial:
            self.changed(zone.name)
        found = chosen(zone.everything(), domain, rtype)
        headers = {"etag": zone.etag, "opc-total-items": str(len(found))}
        return Answer(200, {"items": self._items(zone, found)}, headers)

    def _items(self, zone: Zone, records: list[Rr]) -> list[dict[str, Any]]:
        return [record.shown(zone.version, protected=zone.is_protected(record)) for record in records]


def _matches(record: Rr, item: dict[str, Any], domain: str | None, rtype: str | None) -> bool:
    """Whether an operation means a record: by its hash, or by all that it says."""
    if item.get("recordHash"):
        return bool(item["recordHash"] == record.shown(0, protected=False)["recordHash"])
    named, kind = item.get("domain") or domain, item.get("rtype") or rtype
    if named and normal(str(named)) != record.domain:
        return False
    if kind and str(kind).upper() != record.type:
        return False
    data = item.get("rdata")
    return not data or read_data(record.type, str(data)) == record.data
