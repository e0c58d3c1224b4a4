"""Everything that a settings file wants, of all worlds, in the stages in which it is applied.

The rooms do not know each other: here they meet. What the cloud chooses goes to the DNS through the plan's
outputs, the credential that it gives out goes to the host through a file of root's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from todoku.cloud.client import Cloud
    from todoku.cloud.probe import Relay
    from todoku.directory.resolution import Resolution
    from todoku.plan.resource import Item
    from todoku.plan.show import Worlds
    from todoku.plan.stages import Stage
    from todoku.settings import Settings


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beyond what the settings say."""

    prune: bool = False  # remove what Todoku made and nothing needs any more
    force: bool = False  # replace DNS records that are somebody else's, and change much of a zone at once
    host_only: bool = False  # the cloud and the DNS are another machine's business


class Desired:
    """What the settings, which are in the file `config`, want in this run of the program."""

    def __init__(self, settings: Settings, wishes: Wishes | None = None, config: Path | None = None) -> None:
        from todoku.plan.outputs import Outputs

        self._settings, self._wishes, self._config = settings, wishes or Wishes(), config
        self._outputs = Outputs()
        self._client: Cloud | None = None  # the latest
        self._relay: Relay | None = None  # one for all rounds: it knows how often it has been asked in vain
        self._is_new = False
        if settings.cloud is not None and not self._wishes.host_only:
            from todoku.cloud.desired import ask_ahead

            ask_ahead(settings, self._connected(settings))
            self._is_new = True

    def stages(self) -> Sequence[Stage]:
        """The stages, each to be called when the one before it is in place. Each call looks at the cloud anew."""
        from todoku.host.desired import stages as host
        from todoku.settings import DEFAULT_PATH

        settings, cloud = self._settings, self._settings.cloud
        if self._wishes.host_only:
            return host(settings, config=(self._config or DEFAULT_PATH).absolute(), cloud=has_cloud_sdk())
        given_out = (
            frozenset({f"smtp-credential:{cloud.user}"}) if cloud and cloud.manage_iam else frozenset()
        )
        config = (self._config or DEFAULT_PATH).absolute()
        packages, rest = host(settings, credential_after=given_out, config=config)
        return [packages, lambda: [*rest(), *self._in_the_cloud(), *self._in_the_dns()]]

    def notes(self) -> tuple[str, ...]:
        """What a person should know, though nothing has to change; by what the plan has just asked."""
        if self._settings.cloud is None or self._wishes.host_only:
            return ()
        from todoku.cloud import desired
        from todoku.cloud.errors import CloudError

        try:
            return desired.notes(self._settings, self._connected(self._settings), addresses(self._settings))
        except CloudError:
            return ()  # the plan has said it

    def _connected(self, settings: Settings, *, anew: bool = False) -> Cloud:
        """The client, with connections that are kept, and a memory that is new with `anew`."""
        from todoku.cloud import desired

        if self._client is None:
            self._client = desired.connect(settings, self._outputs)
        elif anew:
            self._client = desired.anew(self._client)
        return self._client

    def _in_the_cloud(self) -> list[Item]:
        if self._settings.cloud is None:
            return []
        client = self._connected(self._settings, anew=not self._is_new)
        self._is_new = False
        if self._relay is None:
            from todoku.cli.parts import cloud as cloud_parts

            self._relay = cloud_parts.relay(self._settings)
        return _cloud(self._settings, self._wishes, client, self._relay)

    def _in_the_dns(self) -> list[Item]:
        if self._settings.dns is None:
            return []
        from todoku.dns.desired import items

        return items(self._settings, self._outputs, force=self._wishes.force)


def has_cloud_sdk() -> bool:
    """Whether Oracle's SDK is installed here: the container image leaves it out."""
    return find_spec("oci") is not None


def worlds() -> Worlds:
    """In which of the three worlds a resource lives, by the beginning of its id."""
    from todoku.plan.show import Worlds

    cloud = (
        *("email-domain", "dkim", "dkim-active", "dkim-retired", "return-path", "return-path-active"),
        *("sender", "sender-usable", "senders-unneeded", "smtp-credential", "smtp-credentials-unused"),
        *("iam-group", "iam-user", "iam-membership", "iam-policy", "ingress", "log-group", "log"),
    )
    return Worlds({**dict.fromkeys(cloud, "cloud"), "dns": "dns"})


def _cloud(settings: Settings, wishes: Wishes, client: Cloud, relay: Relay) -> list[Item]:
    from todoku.cli.parts import cloud as cloud_parts
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
    keeper = cloud_parts.keeper(settings, Host())
    wanted = desired.resources(settings, keeper, relay, around)
    senders = frozenset(resource.id for resource in wanted if resource.id.startswith("sender:"))
    known = RelaySenders(
        ask=lambda: [sender.address for sender in client.senders() if sender.state == ACTIVE],
        reason="the gate refuses at once what the relay would refuse later",
        after=senders | {"folder:/var/lib/todoku/gate"},
    )
    return [*(Item(resource, client) for resource in wanted), Item(known, Host())]


def addresses(settings: Settings) -> tuple[str, ...]:
    """Every address that people have here; none while there is no store yet."""
    people = _people(settings)
    if people is None:
        return ()
    own = [address for account in people.accounts for address in account.addresses]
    return tuple(dict.fromkeys([*own, *(alias.address for alias in people.held.aliases)]))


def forwards(settings: Settings) -> dict[str, str]:
    """Each address outside to which an alias here leads, with that alias."""
    people = _people(settings)
    return {
        target.lower(): alias.address
        for alias in (people.held.aliases if people is not None else ())
        for target in alias.targets
        if "@" in target and not settings.is_own(target)
    }


def _people(settings: Settings) -> Resolution | None:
    from todoku import store
    from todoku.directory import place
    from todoku.directory.errors import DirectoryError

    try:
        return place.HERE.open(settings).people()
    except (store.StoreError, DirectoryError, OSError):
        return None
