"""Everything that a settings file wants in the cloud, as resources: the same settings in, the same out.

What the DNS has to publish is told to it through the outputs of "dkim:NAME" and "return-path:NAME"; what
waits for it ("dkim-active:NAME", "return-path-active:NAME") comes after the ids in `published`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from todoku.cloud import permissions
from todoku.cloud.client import Cloud
from todoku.cloud.dkim import DkimActive, DkimResource, DkimRetired, look_at
from todoku.cloud.domain import EmailDomainResource
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.iam import GroupResource, MembershipResource, PolicyResource, UserResource
from todoku.cloud.logs import CATEGORIES, LogGroupResource, LogResource
from todoku.cloud.network import IngressResource, note
from todoku.cloud.probe import Endpoint, Relay
from todoku.cloud.resource import SOON, CloudResource
from todoku.cloud.return_path import ReturnPathActive, ReturnPathResource
from todoku.cloud.sdk_api import access_of, open_api
from todoku.cloud.senders import SenderResource, SendersUnneeded, SenderUsable, domain_of, unneeded
from todoku.cloud.smtp_credential import SmtpCredentialResource, Store, UnusedCredentials
from todoku.cloud.values import ACTIVE
from todoku.plan.outputs import Outputs
from todoku.settings import RelayCredential, Settings
from todoku.settings.outside import Cloud as CloudSettings

_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Around:
    """What the other rooms contribute: ids of their resources, and what they know."""

    addresses: Sequence[str] = ()  # that people have here: accounts, further addresses, aliases
    published: Mapping[str, frozenset[str]] = field(default_factory=dict)  # domain: its DNS resources
    credential_in_use: frozenset[str] = _NOBODY  # once these are in place, Postfix logs in with the file's
    prune: bool = False  # remove what is not needed any more
    patience: float = 20.0  # seconds that each thing which takes its time is waited for


def connect(settings: Settings, outputs: Outputs) -> Cloud:
    """The client for these settings. Asks nothing yet. Raises ValueError without a [cloud] table."""
    return Cloud(open_api(access_of(settings)), outputs)


def anew(client: Cloud) -> Cloud:
    """A client with the same connections that remembers nothing, and has retry tokens of its own."""
    return Cloud(client.api, client.outputs)


def ask_ahead(settings: Settings, client: Cloud) -> None:
    """Begin to ask the cloud for all that a plan looks at, while others compute what they want."""
    cloud = settings.cloud
    if cloud is None:
        return

    def keys(name: str) -> None:
        domain = client.email_domain(name)
        if domain is not None:
            client.all_dkims(domain)

    def people(cloud: CloudSettings) -> None:
        user, group = client.user(cloud.user), client.group(cloud.group)
        if user is not None:
            client.smtp_credentials(user)
        if user is not None and group is not None:
            client.is_member(user, group)

    asks: list[Callable[[], object]] = [
        *(partial(keys, domain.name) for domain in settings.domains),
        client.senders,
        client.all_return_paths,
        client.regions,
        client.smtp_host,
    ]
    if cloud.logs:
        asks.append(client.logs)
    if cloud.instance is not None:
        asks.append(partial(client.guards, cloud.instance))
    if cloud.manage_iam:
        asks += [
            partial(people, cloud),
            partial(client.group, cloud.group),
            partial(client.policies, cloud.compartment),
            lambda: client.policies(client.api.tenancy),
            client.compartment_name,
            client.identity_domains,
        ]
    client.ask_ahead(asks)


def relay_of(settings: Settings, login: Callable[[], RelayCredential]) -> Relay:
    """The relay that the settings name, to be asked with the credential that `login` reads."""
    return Relay(Endpoint(settings.relay.hostname, settings.relay.port, settings.hostname), login)


def resources(
    settings: Settings, keeper: Store, relay: Relay, around: Around | None = None
) -> list[CloudResource[Any]]:
    """All that the settings want in the cloud; nothing without a [cloud] table."""
    cloud = settings.cloud
    if cloud is None:
        return []
    around = around or Around()
    wanted: list[CloudResource[Any]] = []
    if cloud.manage_iam:
        wanted += _people(settings, cloud, keeper, relay, around)
    for domain in settings.domains:
        wanted += _domain(domain.name, cloud, around)
    if cloud.logs:
        wanted += _logs(settings, around)
    wanted += _senders(settings, cloud, relay, around)
    if cloud.instance is not None:
        wanted.append(
            IngressResource(
                instance=cloud.instance,
                reason="others deliver to port 25; the cloud's own firewall comes first",
            )
        )
    return wanted


def _logs(settings: Settings, around: Around) -> list[CloudResource[Any]]:
    soon = min(SOON, around.patience)
    wanted: list[CloudResource[Any]] = [LogGroupResource(reason="the relay's logs are in it", soon=soon)]
    reasons = ("what the relay took, and what it did not", "whether the recipient's own server took it")
    for domain in settings.domains:
        for category, reason in zip(CATEGORIES, reasons, strict=True):
            wanted.append(LogResource(domain=domain.name, category=category, reason=reason, soon=soon))
    return wanted


def single_addresses(settings: Settings, addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses that mail is sent from, one by one: ours, the devices', and those of the people."""
    devices = [device.sender for device in settings.devices]
    domains = {domain.name for domain in settings.domains}
    everybody = (settings.postmaster, settings.host_sender, *devices, *addresses)
    lowered = [address.lower() for address in everybody]
    return tuple(dict.fromkeys(address for address in lowered if domain_of(address) in domains))


def notes(settings: Settings, client: Cloud, addresses: Sequence[str] = ()) -> tuple[str, ...]:
    """What a person should know, though nothing has to change. Raises CloudError only for a failed login."""
    return _told([*_standing(settings, client, addresses), lambda: _unsigned_note(settings, client)])


def standing_notes(settings: Settings, client: Cloud, addresses: Sequence[str] = ()) -> tuple[str, ...]:
    """Those that time does not settle: about the region, the relay's name, senders that nobody needs."""
    return _told(_standing(settings, client, addresses))


def _standing(settings: Settings, client: Cloud, addresses: Sequence[str]) -> list[Callable[[], list[str]]]:
    return [
        lambda: _region_note(settings.relay.region, client),
        lambda: _host_note(settings, client),
        lambda: _unneeded_note(settings, client, addresses),
        lambda: _ports_note(settings, client),
    ]


def _told(looks: Sequence[Callable[[], list[str]]]) -> tuple[str, ...]:
    told: list[str] = []
    for look in looks:
        try:
            told += look()
        except CloudError as error:
            if error.trouble in (Trouble.UNKNOWN_CALLER, Trouble.LOCAL):
                if told:  # a region without a subscription does not know us: that has been told then
                    break
                raise
    return tuple(told)


def _people(
    settings: Settings, cloud: CloudSettings, keeper: Store, relay: Relay, around: Around
) -> list[CloudResource[Any]]:
    reason = "the relay takes mail only from those who log in"
    return [
        GroupResource(name=cloud.group, reason="rights are given to groups"),
        UserResource(name=cloud.user, email=cloud.user_email or settings.postmaster, reason=reason),
        MembershipResource(user=cloud.user, group=cloud.group, reason="so the user has the group's right"),
        PolicyResource(
            name=cloud.group,
            group=cloud.group,
            compartment=cloud.compartment,
            identity_domain=cloud.identity_domain,
            reason="the group may send as the approved senders, and nothing else",
        ),
        SmtpCredentialResource(user=cloud.user, hostname=settings.hostname, keeper=keeper, reason=reason),
        UnusedCredentials(
            user=cloud.user,
            hostname=settings.hostname,
            keeper=keeper,
            relay=relay,
            reason="what was interrupted leaves nothing behind",
            after=around.credential_in_use,
            soon=around.patience,
        ),
    ]


def _domain(name: str, cloud: CloudSettings, around: Around) -> list[CloudResource[Any]]:
    published = around.published.get(name, _NOBODY)
    # Each waits for its own record only: a return path may itself have to wait until DKIM is active.
    of_dkim = frozenset(each for each in published if f"return-path:{name}" not in each)
    of_path = frozenset(each for each in published if f"dkim:{name}" not in each)
    wanted: list[CloudResource[Any]] = [
        EmailDomainResource(name=name, reason="Email Delivery signs for domains that it knows"),
        DkimResource(domain=name, reason="receivers trust mail that its domain has signed"),
        DkimActive(
            domain=name,
            reason="mail is signed only when Oracle has found the record",
            after=of_dkim,
            soon=around.patience,
        ),
        DkimRetired(domain=name, reason="a domain can have two keys, and the next rotation needs room"),
    ]
    if cloud.return_path:
        wanted += [
            ReturnPathResource(
                domain=name, reason="SPF aligns only with an envelope of our own", soon=around.patience
            ),
            ReturnPathActive(
                domain=name,
                reason="the envelope is ours only when Oracle has found the record",
                after=of_path,
                soon=around.patience,
            ),
        ]
    return wanted


def _senders(
    settings: Settings, cloud: CloudSettings, relay: Relay, around: Around
) -> list[CloudResource[Any]]:
    domains = tuple(domain.name for domain in settings.domains)
    single = single_addresses(settings, around.addresses)
    every = (*(f"@{domain}" for domain in domains), *single)
    usable_after = _NOBODY
    if cloud.manage_iam:
        usable_after = frozenset({f"iam-policy:{cloud.group}", f"smtp-credential:{cloud.user}"})
    statements = permissions.sending(cloud.group, cloud.compartment, cloud.identity_domain)
    wanted: list[CloudResource[Any]] = []
    for address in every:
        whole = address.startswith("@")
        reason = "anyone in the domain may send" if whole else "until the whole domain can be approved"
        wanted.append(
            SenderResource(address=address, reason=reason, relay=relay, soon=min(SOON, around.patience))
        )
        wanted.append(
            SenderUsable(
                address=address,
                relay=relay,
                together=every,
                statements=statements if cloud.manage_iam else (),
                reason="the relay learns of a new sender only after a while",
                after=usable_after,
                soon=around.patience,
            )
        )
    wanted.append(
        SendersUnneeded(
            domains=domains,
            wanted=frozenset(single),
            prune=around.prune,
            reason="only what is needed is approved",
            after=frozenset(f"sender:@{domain}" for domain in domains),
        )
    )
    return wanted


def _region_note(region: str, client: Cloud) -> list[str]:
    regions = client.regions()
    home = next((each.name for each in regions if each.home), None)
    if regions and region not in {each.name for each in regions}:
        names = ", ".join(sorted(each.name for each in regions))
        return [
            f"relay.region is {region}, but the tenancy is not subscribed to it (it is to {names}): correct it, or "
            "subscribe in the console under Governance, Region management"
        ]
    if home is not None and home != region:
        return [
            f"relay.region is {region}, but the tenancy's home region is {home}: the always-free quota of Email "
            "Delivery is reported to apply only in the home region"
        ]
    return []


def _host_note(settings: Settings, client: Cloud) -> list[str]:
    said = client.smtp_host().lower().rstrip(".")
    if not said or said == settings.relay.hostname:
        return []
    return [
        f"Email Delivery says that its SMTP host in {settings.relay.region} is {said}, the settings use "
        f"{settings.relay.hostname}: if mail does not leave, set relay.host"
    ]


def _unneeded_note(settings: Settings, client: Cloud, addresses: Sequence[str]) -> list[str]:
    domains = tuple(domain.name for domain in settings.domains)
    gone = unneeded(client, domains, frozenset(single_addresses(settings, addresses)))
    if not gone:
        return []
    names = ", ".join(sender.address for sender in gone)
    return [f"not needed any more: the approved senders {names}; `todoku apply --prune` deletes them"]


def _ports_note(settings: Settings, client: Cloud) -> list[str]:
    """Where people log in is nobody else's business."""
    instance = settings.cloud.instance if settings.cloud else None
    return [] if instance is None else note(client.guards(instance))


def _unsigned_note(settings: Settings, client: Cloud) -> list[str]:
    """Mail can leave already, and receivers may judge it before the key signs."""
    told = []
    for domain in settings.domains:
        key = look_at(domain.name, client).keys.current
        if key is not None and key.state != ACTIVE and any(each.state == ACTIVE for each in client.senders()):
            told.append(
                f"no DKIM key signs for {domain.unicode} yet: mail that is sent now may fail DMARC, so a policy of "
                "quarantine or reject should wait until it does"
            )
    return told
