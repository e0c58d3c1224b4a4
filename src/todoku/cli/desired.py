"""Everything that a settings file wants, of all worlds, in the stages in which it is applied.

The rooms do not know each other: here they meet. What the cloud chooses goes to the DNS through the plan's
outputs, the credential that it gives out goes to the host through a file of root's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from todoku.plan.outputs import Outputs
    from todoku.plan.resource import Item
    from todoku.plan.show import Worlds
    from todoku.plan.stages import Stage
    from todoku.settings import Settings


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beyond what the settings say."""

    prune: bool = False  # remove what Todoku made and nothing needs any more
    force: bool = False  # replace DNS records that are somebody else's, and change much of a zone at once


def stages(settings: Settings, wishes: Wishes | None = None, config: Path | None = None) -> Sequence[Stage]:
    """The stages for `settings`, which are in the file `config`; each is called when the one before it is in place."""
    from todoku.host.desired import stages as host
    from todoku.plan.outputs import Outputs
    from todoku.settings import DEFAULT_PATH

    wishes = wishes or Wishes()
    cloud = settings.cloud
    given_out = frozenset({f"smtp-credential:{cloud.user}"}) if cloud and cloud.manage_iam else frozenset()
    packages, rest = host(settings, credential_after=given_out, config=(config or DEFAULT_PATH).absolute())
    outputs = Outputs()
    return [packages, lambda: [*rest(), *_cloud(settings, wishes, outputs), *_dns(settings, wishes, outputs)]]


def notes(settings: Settings) -> tuple[str, ...]:
    """What a person should know, though nothing has to change."""
    if settings.cloud is None:
        return ()
    from todoku.cloud import desired
    from todoku.cloud.errors import CloudError
    from todoku.plan.outputs import Outputs

    try:
        return desired.notes(settings, desired.connect(settings, Outputs()), addresses(settings))
    except CloudError:
        return ()  # the plan has said it


def worlds() -> Worlds:
    """In which of the three worlds a resource lives, by the beginning of its id."""
    from todoku.plan.show import Worlds

    cloud = (
        *("email-domain", "dkim", "dkim-active", "dkim-retired", "return-path", "return-path-active"),
        *("sender", "sender-usable", "senders-unneeded", "smtp-credential", "smtp-credentials-unused"),
        *("iam-group", "iam-user", "iam-membership", "iam-policy"),
    )
    return Worlds({**dict.fromkeys(cloud, "cloud"), "dns": "dns"})


def _cloud(settings: Settings, wishes: Wishes, outputs: Outputs) -> list[Item]:
    if settings.cloud is None:
        return []
    from todoku.cli import cloud_parts
    from todoku.cloud import desired
    from todoku.cloud.values import ACTIVE
    from todoku.dns.desired import published_ids
    from todoku.host.client import Host
    from todoku.host.relay_senders import RelaySenders
    from todoku.plan.resource import Item

    around = desired.Around(
        addresses=addresses(settings),
        published=published_ids(settings),
        credential_in_use=frozenset({"service:postfix"}),
        prune=wishes.prune,
    )
    client = desired.connect(settings, outputs)
    keeper = cloud_parts.keeper(settings, Host())
    wanted = desired.resources(settings, keeper, cloud_parts.relay(settings), around)
    senders = frozenset(resource.id for resource in wanted if resource.id.startswith("sender:"))
    known = RelaySenders(
        ask=lambda: [sender.address for sender in client.senders() if sender.state == ACTIVE],
        reason="the gate refuses at once what the relay would refuse later",
        after=senders | {"folder:/var/lib/todoku/gate"},
    )
    return [*(Item(resource, client) for resource in wanted), Item(known, Host())]


def _dns(settings: Settings, wishes: Wishes, outputs: Outputs) -> list[Item]:
    if settings.dns is None:
        return []
    from todoku.dns.desired import items

    return items(settings, outputs, force=wishes.force)


def addresses(settings: Settings) -> tuple[str, ...]:
    """Every address that people have here; none while there is no store yet."""
    from todoku import store
    from todoku.directory import place
    from todoku.directory.errors import DirectoryError

    try:
        people = place.HERE.open(settings).people()
    except (store.StoreError, DirectoryError, OSError):
        return ()
    own = [address for account in people.accounts for address in account.addresses]
    return tuple(dict.fromkeys([*own, *(alias.address for alias in people.held.aliases)]))
