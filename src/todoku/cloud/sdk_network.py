"""The network before an instance through the SDK (oci.core, API 20160918)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from todoku.cloud import permissions
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.network import ALL, DESCRIPTION, Guard, Guards, Ingress, first_of
from todoku.cloud.sdk import Sdk
from todoku.settings import regions

_GROUP, _LIST = "network security group", "security list"


class SdkNetwork:
    """`api.NetworkApi` with the SDK."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk

    def guards(self, instance: str) -> Guards:
        region = region_of(instance, self._sdk.access.region)
        vnic = self._vnic(instance, region)
        network = self._sdk.network(region)
        attempt = self._sdk.attempt("read the instance's subnet", permissions.READ_NETWORK, region)
        subnet = self._sdk.call(attempt, network.get_subnet, vnic.subnet_id)
        guards = [self._group(each, region) for each in vnic.nsg_ids or ()]
        guards += [self._list(each, region) for each in subnet.security_list_ids or ()]
        return Guards(first_of(guards), bool(vnic.ipv6_addresses))

    def let_in(self, guard: Guard, rules: Sequence[Ingress]) -> None:
        if guard.kind == _GROUP:
            self._add_to_group(guard, rules)
        else:
            self._add_to_list(guard, rules)

    def _vnic(self, instance: str, region: str) -> Any:
        """The primary network interface."""
        attempt = self._sdk.attempt("look for the instance's network", permissions.READ_INSTANCE, region)
        compute, network = self._sdk.compute(region), self._sdk.network(region)
        compartment = self._sdk.access.compartment
        # The attachment is in the instance's compartment, which need not be the one of the settings.
        found = self._sdk.call(attempt, compute.get_instance, instance)
        attached = self._sdk.all_pages(
            attempt,
            compute.list_vnic_attachments,
            found.compartment_id or compartment,
            instance_id=instance,
        )
        vnics = [
            self._sdk.call(attempt, network.get_vnic, each.vnic_id)
            for each in attached
            if each.lifecycle_state == "ATTACHED"
        ]
        primary = next((vnic for vnic in vnics if vnic.is_primary), None)
        if primary is None:
            raise CloudError(
                f"the instance {instance} has no primary network interface: is it being made, or terminated? "
                "Correct cloud.instance",
                Trouble.LOCAL,
            )
        return primary

    def _group(self, identifier: str, region: str) -> Guard:
        network = self._sdk.network(region)
        attempt = self._sdk.attempt("read a network security group", permissions.READ_GROUP_RULES, region)
        group = self._sdk.call(attempt, network.get_network_security_group, identifier)
        rules = self._sdk.all_pages(
            attempt,
            network.list_network_security_group_security_rules,
            identifier,
            direction="INGRESS",
        )
        return Guard(_GROUP, identifier, group.display_name or identifier, tuple(map(_ingress, rules)))

    def _list(self, identifier: str, region: str) -> Guard:
        attempt = self._sdk.attempt("read a security list", permissions.READ_NETWORK, region)
        response = self._sdk.respond(attempt, self._sdk.network(region).get_security_list, identifier)
        rules = tuple(response.data.ingress_security_rules or ())
        return Guard(
            _LIST,
            identifier,
            response.data.display_name or identifier,
            tuple(map(_ingress, rules)),
            etag=str(response.headers.get("etag") or ""),
            as_read=rules,
        )

    def _add_to_group(self, guard: Guard, rules: Sequence[Ingress]) -> None:
        region, models = region_of(guard.id, self._sdk.access.region), self._sdk.core.models
        attempt = self._sdk.attempt(
            f"add a rule to the network security group {guard.name}", permissions.CHANGE_GROUP_RULES, region
        )
        added = [
            models.AddSecurityRuleDetails(direction="INGRESS", **self._rule(each, models)) for each in rules
        ]
        self._sdk.call(
            attempt,
            self._sdk.network(region).add_network_security_group_security_rules,
            guard.id,
            models.AddNetworkSecurityGroupSecurityRulesDetails(security_rules=added),
        )

    def _add_to_list(self, guard: Guard, rules: Sequence[Ingress]) -> None:
        region, models = region_of(guard.id, self._sdk.access.region), self._sdk.core.models
        attempt = self._sdk.attempt(
            f"add a rule to the security list {guard.name}", permissions.CHANGE_LIST, region
        )
        if not guard.etag:
            raise CloudError(
                f"cannot {attempt.to}: Oracle did not say which version of it was read", Trouble.WRONG
            )
        added = [models.IngressSecurityRule(**self._rule(each, models)) for each in rules]
        details = models.UpdateSecurityListDetails(ingress_security_rules=[*guard.as_read, *added])
        update = self._sdk.network(region).update_security_list
        self._sdk.call(attempt, update, guard.id, details, if_match=guard.etag)

    def _rule(self, rule: Ingress, models: Any) -> dict[str, Any]:
        assert rule.ports is not None  # noqa: S101 - ours name their port
        ports = models.PortRange(min=rule.ports[0], max=rule.ports[1])
        return {
            "source": rule.source,
            "source_type": "CIDR_BLOCK",
            "protocol": rule.protocol,
            "is_stateless": rule.stateless,
            "tcp_options": models.TcpOptions(destination_port_range=ports),
            "description": DESCRIPTION,
        }


def region_of(ocid: str, otherwise: str) -> str:
    """The region that is the fourth part of an OCID, which older ones have by its key."""
    parts = ocid.split(".")
    named = parts[3].lower() if len(parts) > 4 else ""
    if named in regions.REGIONS:
        return named
    return next((each.id for each in regions.REGIONS.values() if named and each.key == named), otherwise)


def _ingress(model: Any) -> Ingress:
    ports = None
    if (options := model.tcp_options) is not None and (range_ := options.destination_port_range) is not None:
        ports = (int(range_.min), int(range_.max))
    # A condition on the port that others connect from leaves most of them out.
    narrowed = options is not None and options.source_port_range is not None
    source = "" if narrowed else str(model.source or "")
    protocol = str(model.protocol or ALL).lower()
    return Ingress(source, protocol, ports, bool(model.is_stateless), model.description == DESCRIPTION)
