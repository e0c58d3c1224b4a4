"""The network of the tenancy's one instance (Core Services API, 20160918): its attachment, interface, subnet, security
lists and network security groups, as a new VCN has them: SSH and some ICMP come in, and nothing else.

The path is the one of Identity (20160918); the operations are others. Rights are those of the policy reference for
Core Services, down to the permission that a condition may name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network
from typing import Any

from .api import Call, Route, answer, paged
from .entries import Entry, Shelf, if_match, ocid
from .errors import ApiError, invalid, limit_exceeded, missing, not_found
from .http_server import Answer
from .tenancy import Tenancy

_MOST_RULES = 200  # ingress rules of a security list (service limits)
_MOST_GROUP_RULES = 120
_MOST_AT_ONCE = 25  # rules that are added to a group by one call


@dataclass(slots=True, kw_only=True)
class Holder(Entry):
    """A security list or a network security group, with its rules as the API shows them."""

    ingress: list[dict[str, Any]] = field(default_factory=list)
    egress: list[dict[str, Any]] = field(default_factory=list)


class Network:
    """All of it, in one region. A test gives the interface groups by `join`."""

    def __init__(self, tenancy: Tenancy, region: str, addresses: Sequence[Any] = ()) -> None:
        self.tenancy, self.clock, self.region = tenancy, tenancy.clock, region
        self.attachment, self.vnic = ocid("vnicattachment", region), ocid("vnic", region)
        self.attached = "ATTACHED"  # "DETACHED" once the instance is terminated
        self.subnet, self.vcn = ocid("subnet", region), ocid("vcn", region)
        self.ipv6 = [str(address) for address in addresses if isinstance(address, IPv6Address)]
        self.lists, self.groups = Shelf[Holder](), Shelf[Holder]()
        self.lists.put(self._holder("securitylist", "Default Security List for mail"))
        for rule in _DEFAULT_INGRESS:
            next(iter(self.lists.values())).ingress.append(_shown(rule))

    def join(self, name: str) -> Holder:
        """One more network security group, which the instance's interface is in."""
        return self.groups.put(self._holder("networksecuritygroup", name))

    def _holder(self, kind: str, name: str) -> Holder:
        then = self.clock.now() - 3600
        compartment = self.tenancy.plan.compartment
        return Holder(
            id=ocid(kind, self.region), compartment=compartment, name=name, created=then, ready=then
        )

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        group = "/networkSecurityGroups/{id}"
        return [
            Route("GET", "/instances/{id}", "get_instance", self.get_instance),
            Route("GET", "/vnicAttachments", "list_vnic_attachments", self.list_attachments),
            Route("GET", "/vnics/{id}", "get_vnic", self.get_vnic),
            Route("GET", "/subnets/{id}", "get_subnet", self.get_subnet),
            Route("GET", "/securityLists/{id}", "get_security_list", self.get_list),
            Route("PUT", "/securityLists/{id}", "update_security_list", self.update_list, writes=True),
            Route("GET", group, "get_network_security_group", self.get_group),
            Route(
                "GET",
                f"{group}/securityRules",
                "list_network_security_group_security_rules",
                self.group_rules,
            ),
            Route(
                "POST",
                f"{group}/actions/addSecurityRules",
                "add_network_security_group_security_rules",
                self.add_rules,
                writes=True,
            ),
        ]

    def _require(self, call: Call, verb: str, kind: str, permission: str) -> None:
        compartment = self.tenancy.plan.compartment
        self.tenancy.require(
            call.principal, verb, kind, compartment, {"request.permission": permission.lower()}
        )

    # -- the instance

    def get_instance(self, call: Call) -> Answer:
        """Where it is."""
        plan = self.tenancy.plan
        if call.path["id"] != plan.instance:
            raise not_found()
        self._require(call, "read", "instances", "INSTANCE_READ")
        shown = {"id": plan.instance, "compartmentId": plan.compartment, "displayName": "mail-host"}
        shown |= {"lifecycleState": "RUNNING", "region": self.region, "shape": "VM.Standard.A1.Flex"}
        return Answer(200, shown, {"etag": plan.instance[-12:]})

    def list_attachments(self, call: Call) -> Answer:
        """One, of the instance."""
        plan = self.tenancy.plan
        compartment = call.parameter("compartmentId")
        self._require(call, "inspect", "vnic-attachments", "VNIC_ATTACHMENT_READ")
        shown = {
            "id": self.attachment,
            "instanceId": plan.instance,
            "compartmentId": plan.compartment,
            "subnetId": self.subnet,
            "vnicId": self.vnic,
            "lifecycleState": self.attached,
            "availabilityDomain": "1",
        }
        wanted = call.query.get("instanceId") in (None, plan.instance) and compartment == plan.compartment
        return paged(call, [shown] if wanted else [])

    def get_vnic(self, call: Call) -> Answer:
        """The interface, with its groups."""
        if call.path["id"] != self.vnic:
            raise not_found()
        self._require(call, "read", "vnics", "VNIC_READ")
        shown = {
            "id": self.vnic,
            "compartmentId": self.tenancy.plan.compartment,
            "isPrimary": True,
            "lifecycleState": "AVAILABLE",
            "nsgIds": list(self.groups),
            "subnetId": self.subnet,
            "ipv6Addresses": self.ipv6,
        }
        return Answer(200, shown, {"etag": self.vnic[-12:]})

    def get_subnet(self, call: Call) -> Answer:
        """With its security lists."""
        if call.path["id"] != self.subnet:
            raise not_found()
        self._require(call, "read", "subnets", "SUBNET_READ")
        shown = {
            "id": self.subnet,
            "compartmentId": self.tenancy.plan.compartment,
            "vcnId": self.vcn,
            "lifecycleState": "AVAILABLE",
            "cidrBlock": "10.0.0.0/24",
            "securityListIds": list(self.lists),
        }
        return Answer(200, shown, {"etag": self.subnet[-12:]})

    # -- security lists

    def get_list(self, call: Call) -> Answer:
        """With its rules."""
        self._require(call, "read", "security-lists", "SECURITY_LIST_READ")
        holder = self.lists.find(call.path["id"])
        return answer(holder, self._list(holder))

    def update_list(self, call: Call) -> Answer:
        """What is given replaces all that was there."""
        self._require(call, "manage", "security-lists", "SECURITY_LIST_UPDATE")
        holder = self.lists.find(call.path["id"])
        if_match(holder, call.header("if-match"))
        rules = call.body.get("ingressSecurityRules")
        if rules is not None:
            checked = [_shown(rule) for rule in _list_of(rules, "ingressSecurityRules")]
            if len(checked) > _MOST_RULES:
                raise limit_exceeded(f"a security list has at most {_MOST_RULES} ingress rules")
            holder.ingress = checked
        holder.touch(self.clock.now())
        return answer(holder, self._list(holder))

    def _list(self, holder: Holder) -> dict[str, Any]:
        return self._common(holder) | {
            "ingressSecurityRules": holder.ingress,
            "egressSecurityRules": holder.egress,
        }

    def _common(self, holder: Holder) -> dict[str, Any]:
        shown = holder.shown(self.clock, "AVAILABLE")
        return {**shown, "displayName": shown.pop("name"), "vcnId": self.vcn}

    # -- network security groups

    def get_group(self, call: Call) -> Answer:
        """Without its rules."""
        self._require(call, "read", "network-security-groups", "NETWORK_SECURITY_GROUP_READ")
        holder = self.groups.find(call.path["id"])
        return answer(holder, self._common(holder))

    def group_rules(self, call: Call) -> Answer:
        """Those of one direction, or all."""
        permission = "NETWORK_SECURITY_GROUP_LIST_SECURITY_RULES"
        self._require(call, "use", "network-security-groups", permission)
        holder = self.groups.find(call.path["id"])
        direction = call.query.get("direction")
        return paged(call, [rule for rule in holder.ingress if direction in (None, rule["direction"])])

    def add_rules(self, call: Call) -> Answer:
        """More of them; those that are there stay."""
        permission = "NETWORK_SECURITY_GROUP_UPDATE_SECURITY_RULES"
        self._require(call, "manage", "network-security-groups", permission)
        holder = self.groups.find(call.path["id"])
        asked = _list_of(call.body.get("securityRules"), "securityRules")
        if len(asked) > _MOST_AT_ONCE:
            raise invalid(f"securityRules can have at most {_MOST_AT_ONCE} rules")
        if len(holder.ingress) + len(asked) > _MOST_GROUP_RULES:
            raise limit_exceeded(f"a network security group has at most {_MOST_GROUP_RULES} rules")
        made = []
        for number, rule in enumerate(asked, len(holder.ingress)):
            if not isinstance(rule, dict) or rule.get("direction") != "INGRESS":
                raise invalid("direction has to be INGRESS here")
            shown = _shown(rule) | {"direction": "INGRESS", "id": f"{number:06X}", "isValid": True}
            made.append(shown | {"timeCreated": self.clock.text(self.clock.now())})
        holder.ingress += made
        holder.touch(self.clock.now())
        return Answer(200, {"securityRules": made})


_DEFAULT_INGRESS: tuple[dict[str, Any], ...] = (
    {
        "source": "0.0.0.0/0",
        "protocol": "6",
        "tcpOptions": {"destinationPortRange": {"min": 22, "max": 22}},
    },
    {"source": "0.0.0.0/0", "protocol": "1", "icmpOptions": {"type": 3, "code": 4}},
    {"source": "10.0.0.0/16", "protocol": "1", "icmpOptions": {"type": 3}},
)


def _list_of(value: Any, name: str) -> list[Any]:
    if value is None:
        raise missing(name)
    if not isinstance(value, list):
        raise invalid(f"{name} has to be a list")
    return value


def _shown(rule: Any) -> dict[str, Any]:
    """A rule as it is kept: checked, with what was left out. Raises `ApiError` 400."""
    if not isinstance(rule, dict):
        raise invalid("a rule has to be an object")
    for name in ("source", "protocol"):
        if not isinstance(rule.get(name), str) or not rule[name]:
            raise missing(name)
    if rule.get("sourceType", "CIDR_BLOCK") == "CIDR_BLOCK":
        try:
            ip_network(rule["source"])
        except ValueError:
            raise invalid(f"source: {rule['source']} is not a CIDR block") from None
    if not (rule["protocol"] == "all" or rule["protocol"].isdigit()):
        raise invalid(f"protocol has to be a number or all, not {rule['protocol']}")
    _check_ports(rule)
    kept = ("icmpOptions", "tcpOptions", "udpOptions", "description")
    return {
        "source": rule["source"],
        "sourceType": rule.get("sourceType") or "CIDR_BLOCK",
        "protocol": rule["protocol"],
        "isStateless": bool(rule.get("isStateless")),
        **{name: rule.get(name) for name in kept},
    }


def _check_ports(rule: dict[str, Any]) -> None:
    for name, protocol in (("tcpOptions", "6"), ("udpOptions", "17")):
        options = rule.get(name)
        if options is None:
            continue
        if rule["protocol"] != protocol:
            raise invalid(f"{name} needs the protocol {protocol}")
        for range_ in (options.get("destinationPortRange"), options.get("sourcePortRange")):
            if range_ is None:
                continue
            low, high = range_.get("min"), range_.get("max")
            if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high <= 65535):
                raise ApiError(400, "InvalidParameter", f"{name}: {low} to {high} is no range of ports")
