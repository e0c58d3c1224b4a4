"""The cloud's own firewall before an instance: port 25 is let in there, and nothing else.

An instance is reached when a security list of its subnet or a network security group of its interface lets the packet
in. Where there is a group, a rule of ours is added to it, which touches no other rule. A security list can only be
replaced as a whole: it is read, ours is put behind the others, and it is written back only if nobody changed it
meanwhile (if-match).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from todoku.cloud import permissions
from todoku.cloud.client import Cloud
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.resource import CloudResource
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, NeedsPerson

OTHERS_DELIVER = 25
FOR_CLIENTS = (465, 587, 993)
TCP, ALL = "6", "all"
DESCRIPTION = "todoku: others deliver mail"
_TRIES = 3  # somebody else may be changing the same list


@dataclass(frozen=True, slots=True)
class Ingress:
    """A rule that lets something in."""

    source: str  # CIDR, or what else Oracle has as a source (a group's OCID, a service)
    protocol: str = TCP  # by its number, or "all"
    ports: tuple[int, int] | None = None  # the destination's, first and last; None: all
    stateless: bool = False
    ours: bool = field(default=False, compare=False)  # Todoku added it

    def lets_in(self, source: str, port: int) -> bool:
        """Whether everybody in the network `source` may connect to `port`, and gets answers."""
        return (
            not self.stateless
            and self.protocol in (TCP, ALL)
            and (self.protocol == ALL or self.ports is None or self.ports[0] <= port <= self.ports[1])
            and _holds(self.source, source)
        )


@dataclass(frozen=True, slots=True)
class Guard:
    """A network security group or a security list that an instance has before it."""

    kind: str  # "network security group" or "security list"
    id: str
    name: str
    rules: tuple[Ingress, ...]
    etag: str = ""  # of a list, when it was read
    as_read: tuple[Any, ...] = field(
        default=(), repr=False
    )  # of a list: Oracle's own rules, to be written back


@dataclass(frozen=True, slots=True)
class Guards:
    """All that stands before an instance; one of them suffices to let something in."""

    guards: tuple[Guard, ...]  # groups first
    has_ipv6: bool

    def lets_in(self, source: str, port: int) -> bool:
        return any(rule.lets_in(source, port) for guard in self.guards for rule in guard.rules)

    @property
    def lacking(self) -> tuple[Ingress, ...]:
        """The rules without which others cannot deliver here."""
        everybody = ("0.0.0.0/0", "::/0") if self.has_ipv6 else ("0.0.0.0/0",)
        return tuple(
            Ingress(source, TCP, (OTHERS_DELIVER, OTHERS_DELIVER))
            for source in everybody
            if not self.lets_in(source, OTHERS_DELIVER)
        )

    @property
    def open_for_all(self) -> tuple[int, ...]:
        """Ports for mail programs that the whole world may connect to."""
        everybody = ("0.0.0.0/0", "::/0")
        return tuple(port for port in FOR_CLIENTS if any(self.lets_in(source, port) for source in everybody))


@dataclass(frozen=True, kw_only=True)
class IngressResource(CloudResource[Guards]):
    """Port 25 of the instance is open to the world."""

    instance: str

    @property
    def id(self) -> str:
        return "ingress:25"

    def look(self, client: Cloud) -> Guards:
        try:
            seen = client.guards(self.instance)
        except CloudError as error:
            if error.trouble is not Trouble.DENIED:
                raise
            raise NeedsPerson(
                f"whether port 25 comes in is not known: {error}\n{self._rights(client)}"
            ) from error
        if not seen.guards:
            raise LookFailed(
                f"the instance {self.instance} has neither a security list nor a network security group, so nothing "
                "can let mail in: give its subnet one in the console, then apply again"
            )
        return seen

    def differ(self, seen: Guards) -> Change | None:
        if not seen.lacking:
            return None
        guard = seen.guards[0]
        detail = "\n".join(f"+ {rule.source} tcp {OTHERS_DELIVER}" for rule in seen.lacking)
        return Change(Action.UPDATE, f"let port 25 in: the {guard.kind} {guard.name}", detail)

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002 - what is there now decides
        for number in range(_TRIES):
            client.forget("guards")
            seen = self.look(client)
            if not seen.lacking:
                return
            try:
                client.api.let_in(seen.guards[0], seen.lacking)
            except CloudError as error:
                # Changed by somebody else, or the answer was lost: what is there now decides.
                if error.trouble is Trouble.DENIED:
                    raise NeedsPerson(
                        f"port 25 does not come in, and the rule may not be added: {error}\n{self._rights(client)}"
                    ) from error
                may_help = error.trouble in (Trouble.CONFLICT, Trouble.UNSURE, Trouble.THROTTLED)
                if number + 1 == _TRIES or not may_help:
                    raise
                client.patience.sleep(error.retry_after or client.patience.first)
            finally:
                client.forget("guards")
        if client.guards(self.instance).lacking:
            raise ChangeFailed(f"Oracle took the rule for port 25 of {self.instance}, but does not show it")

    def _rights(self, client: Cloud) -> str:
        caller = client.api.attempt("", permissions.READ_INSTANCE).caller
        statements = (right.statement(caller, client.api.compartment) for right in permissions.INSTANCE)
        return "All that is needed:\n  " + "\n  ".join(statements)


def note(seen: Guards) -> list[str]:
    """What a person should know about the ports that are open."""
    if not seen.open_for_all:
        return []
    ports = ", ".join(map(str, seen.open_for_all))
    names = ", ".join(f"{guard.kind} {guard.name}" for guard in seen.guards)
    return [
        f"the cloud lets the whole world connect to port {ports} of this instance, where people log in ({names}): "
        "narrow it to the networks that they come from, or to a VPN"
    ]


def left_open(seen: Guards) -> list[str]:
    """The rules that Todoku added and that stay when its things are taken away: mail comes in as before."""
    return [
        f'{guard.kind} {guard.name}: mail still comes in by port 25; remove the rule "{DESCRIPTION}" in the console '
        "when it should not any more"
        for guard in seen.guards
        if any(rule.ours for rule in guard.rules)
    ]


def _holds(outer: str, inner: str) -> bool:
    """Whether the network `outer` has all of `inner` in it; a source that is no network has nobody for certain."""
    try:
        there, wanted = ip_network(outer, strict=False), ip_network(inner)
    except ValueError:
        return False
    if isinstance(there, IPv4Network) and isinstance(wanted, IPv4Network):
        return wanted.subnet_of(there)
    return isinstance(there, IPv6Network) and isinstance(wanted, IPv6Network) and wanted.subnet_of(there)


def first_of(guards: Sequence[Guard]) -> tuple[Guard, ...]:
    """Groups before lists: a rule is added to a group without touching the others."""
    return tuple(sorted(guards, key=lambda guard: guard.kind != "network security group"))
