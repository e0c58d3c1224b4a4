"""What has to fit together in the settings: each rule looks at several values and yields what is wrong.

A rule only ever sees values that are right on their own. Where one of them is missing, because the file has
it wrong, the rest of that rule is left out (`NotKnownError`): it is checked when that is corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from todoku.settings import regions
from todoku.settings.base import Frozen, NotKnownError
from todoku.settings.database import databases_fit
from todoku.settings.models import Settings
from todoku.settings.problems import Fault, KeyPath
from todoku.settings.returns import LONGEST_LOCAL
from todoku.settings.values import Network, size_text

Rule = Callable[[Settings], Iterator[Fault]]


def faults(settings: Settings) -> list[Fault]:
    """All that does not fit together in `settings`."""
    found: list[Fault] = []
    for rule in _RULES:
        with suppress(NotKnownError):
            for fault in rule(settings):
                found.append(fault)  # one by one: what was found before the exception is kept
    return found


def _something_to_serve(settings: Settings) -> Iterator[Fault]:
    with suppress(NotKnownError):
        if not settings.addresses:
            yield Fault(("addresses",), "is empty", 'write the public address: addresses = "203.0.113.10"')
    if not settings.domains:
        yield Fault(
            ("domains",), "is empty", 'write at least one: [[domains]], and below it name = "hoge.example"'
        )


def _addresses_differ(settings: Settings) -> Iterator[Fault]:
    for index, first in _repeated(enumerate(settings.addresses)):
        yield Fault(
            ("addresses", index),
            f"is {settings.addresses[index]}, which is listed already (addresses[{first}])",
            "remove one of the two",
        )


def _domains_differ(settings: Settings) -> Iterator[Fault]:
    for index, first in _repeated(_each(settings.domains, "name")):
        yield Fault(
            ("domains", index, "name"),
            f"is {settings.domains[index].name}, the same domain as domains[{first}]",
            "remove one of the two (both forms of an internationalised name are one domain)",
        )


def _host_is_not_a_domain(settings: Settings) -> Iterator[Fault]:
    for index, name in _each(settings.domains, "name"):
        if name == settings.hostname:
            yield Fault(
                ("domains", index, "name"),
                f"is {name}, the host name itself, but mail for the host's own name is handled apart from "
                f"the domains",
                f'give the host a name of its own, for example hostname = "mx.{name}"',
            )


def _addresses_are_our_own(settings: Settings) -> Iterator[Fault]:
    own = settings.own_domains
    if not own:
        return
    addresses: list[tuple[KeyPath, str]] = []
    with suppress(NotKnownError):
        addresses.append((("postmaster",), settings.postmaster))
    with suppress(NotKnownError):
        if "host_sender" in settings.model_fields_set:  # else it is the postmaster's
            addresses.append((("host_sender",), settings.host_sender))
    with suppress(NotKnownError):
        addresses += [
            (("devices", index, "sender"), sender) for index, sender in _each(settings.devices, "sender")
        ]
    with suppress(NotKnownError):
        if settings.campaign is not None:
            for key in ("sender", "return_address"):
                if given := getattr(settings.campaign, key):
                    addresses.append((("campaign", key), given))
    example = settings.domains[0].name
    for path, address in addresses:
        local, _, domain = address.rpartition("@")
        if domain not in own:
            yield Fault(
                path,
                f"is {address}, which is not within one of the domains ({', '.join(sorted(own))})",
                f'write an address like "{local}@{example}", or add {domain} as [[domains]]',
            )


def _devices_differ(settings: Settings) -> Iterator[Fault]:
    networks = [(index, ip_network(address)) for index, address in _each(settings.devices, "address")]
    for position, (index, network) in enumerate(networks):
        for earlier, other in networks[:position]:
            if network.version == other.version and network.overlaps(other):
                same = network == other
                yield Fault(
                    ("devices", index, "address"),
                    f"is {_short(network)}, which "
                    + ("is" if same else "overlaps with")
                    + f" that of devices[{earlier}]"
                    + ("" if same else f" ({_short(other)})"),
                    "give each device one entry: an address can have one sender only",
                )
                break


def _clients_are_not_the_world(settings: Settings) -> Iterator[Fault]:
    networks = settings.clients.networks
    for index, first in _repeated(enumerate(networks)):
        yield Fault(
            ("clients", "networks", index),
            f"is {networks[index]}, which is listed already ([{first}])",
            "remove it",
        )
    for version, much in ((4, 2**30), (6, 2**124)):
        # Each is narrow enough by itself, but many together are the world as well.
        total = sum(network.num_addresses for network in set(networks) if network.version == version)
        if total >= much:
            yield Fault(
                ("clients", "networks"),
                f"is together a large part of all IPv{version} addresses: submission would be open to the "
                f"world",
                "write only the networks that people really use",
            )


def _relay_has_a_host(settings: Settings) -> Iterator[Fault]:
    relay = settings.relay
    region = regions.REGIONS[relay.region]
    if relay.host is None and region.relay_host is None:
        yield Fault(
            ("relay", "host"),
            f"is missing: {region.id} is in the realm {region.realm}, where the relay's name does not "
            "follow from the region",
            'add host = "..." under [relay]: the SMTP endpoint that Oracle\'s console shows under '
            "Developer Services, Email Delivery, Configuration",
        )


def _one_credential(settings: Settings) -> Iterator[Fault]:
    relay = settings.relay
    if relay.credential_env is not None and relay.credential_file is not None:
        yield Fault(
            ("relay", "credential_env"),
            "is given together with credential_file, but the credential can come from one place only",
            "remove one of the two",
        )
    if relay.credential_env is None and relay.credential_file is None:
        yield Fault(("relay", "credential_file"), "is missing", "write credential_file or credential_env")


def _plan_is_possible(settings: Settings) -> Iterator[Fault]:
    plan = settings.relay.plan
    for smaller, larger in (("per_minute", "per_day"), ("per_day", "per_month")):
        with suppress(NotKnownError):
            low, high = getattr(plan, smaller), getattr(plan, larger)
            if low > high:
                yield Fault(
                    ("relay", "plan", smaller),
                    f"is {low}, more than {larger} ({high})",
                    f"correct one of the two: {smaller} can be at most {larger}",
                )


def _certificate_has_a_key(settings: Settings) -> Iterator[Fault]:
    tls = settings.tls
    if (tls.certificate is None) != (tls.key is None):
        there, missing = ("certificate", "key") if tls.key is None else ("key", "certificate")
        yield Fault(
            ("tls", there),
            f"is given without {missing}",
            f'add {missing} = "/path/of/the/{missing}.pem", or remove {there}',
        )


def _mode_has_what_it_needs(settings: Settings) -> Iterator[Fault]:
    tls = settings.tls
    named = tls.certificate is not None or tls.key is not None
    if tls.mode == "files" and not named:
        yield Fault(
            ("tls", "mode"),
            "is files, but no files are named",
            "add certificate and key below [tls], or remove mode",
        )
    if tls.mode not in ("auto", "files") and named:
        there = "certificate" if tls.certificate is not None else "key"
        yield Fault(
            ("tls", there),
            f"is given, but with mode {tls.mode} Todoku has the certificate made itself",
            'remove certificate and key, or write mode = "files"',
        )
    with suppress(NotKnownError):
        if tls.mode == "acme" and settings.dns is None:
            yield Fault(
                ("tls", "mode"),
                "is acme, for which a record has to be published, but the settings do not say by whom",
                "add [dns] with its publisher",
            )
    with suppress(NotKnownError):
        if tls.internal_name is not None and tls.internal_name == settings.hostname:
            yield Fault(
                ("tls", "internal_name"),
                "is the host name itself",
                'write a second name, or use mode = "own-ca" for the host name',
            )


def _a_mailbox_holds_a_message(settings: Settings) -> Iterator[Fault]:
    quota, message = settings.accounts.quota, settings.limits.message_size
    if 0 < quota < message:
        yield Fault(
            ("accounts", "quota"),
            f"is {size_text(quota)}, less than one message may have (limits.message_size is "
            f"{size_text(message)})",
            'write a size like "2 GB", or 0 for no limit',
        )


def _cloud_writes_the_credential(settings: Settings) -> Iterator[Fault]:
    if settings.cloud and settings.cloud.manage_iam and settings.relay.credential_env is not None:
        yield Fault(
            ("relay", "credential_env"),
            "is given, but with cloud.manage_iam Todoku makes the credential and keeps it in a file",
            "write credential_file instead, or manage_iam = false below [cloud]",
        )


_DNS_KEYS = {
    "oci": (),
    "manual": (),
    "rfc2136": ("server", "tsig_name", "tsig_secret_file"),
    "lexicon": ("provider", "credential_file"),
}


def _publisher_has_what_it_needs(settings: Settings) -> Iterator[Fault]:
    dns = settings.dns
    if dns is None:
        return
    for key in _DNS_KEYS[dns.publisher]:
        if getattr(dns, key) is None:
            field = type(dns).model_fields[key]
            example = (field.examples or [""])[0]
            yield Fault(
                ("dns", key),
                f"is missing: the publisher {dns.publisher} needs it",
                f'add {key} = "{example}" below [dns]',
            )
    if dns.publisher == "oci" and dns.compartment is None and settings.cloud is None:
        yield Fault(
            ("dns", "compartment"),
            "is missing: without [cloud] the publisher oci does not know where the zones are",
            "add [cloud] with its compartment",
        )


# What a privacy text has to have in it, so that it says what is counted.
_SAYS = {
    "count_opens": {"privacy_ja": ("開封",), "privacy_en": ("open",)},
    "count_clicks": {"privacy_ja": ("クリック",), "privacy_en": ("click",)},
}


def _what_is_counted_is_said(settings: Settings) -> Iterator[Fault]:
    if settings.campaign is None:
        return
    for key, texts in _SAYS.items():
        if not getattr(settings.campaign, key):
            continue
        given = {name: text for name in texts if (text := getattr(settings.campaign, name))}
        if not given:
            yield Fault(
                ("campaign", key),
                "is on, but nobody is told: there is no privacy text",
                "add privacy_ja or privacy_en below [campaign], which says that it is counted",
            )
        for name, text in given.items():
            if not any(word in text.lower() for word in texts[name]):
                yield Fault(
                    ("campaign", name),
                    f'does not say what {key} does: there is no "{texts[name][0]}" in it',
                    f"say in it that it is counted, or remove {key}",
                )


def _return_address_has_room(settings: Settings) -> Iterator[Fault]:
    if settings.campaign is None or settings.campaign.return_address is None:
        return
    if len(settings.campaign.return_address.rpartition("@")[0]) > LONGEST_LOCAL:
        yield Fault(
            ("campaign", "return_address"),
            "is too long: a mark is added to it that says which message it was",
            f"at most {LONGEST_LOCAL} characters before the @, as bounces",
        )


def _what_is_held_can_be_scanned(settings: Settings) -> Iterator[Fault]:
    if settings.protect.holds and settings.gate.malware == "off":
        yield Fault(
            ("protect", "incoming_zip"),
            'is "quarantine", which protects nobody without a scanner: the password would be asked for, and '
            "what it opens delivered unseen",
            'write malware = "clamav" below [gate], or incoming_zip = "mark"',
        )


_RULES: tuple[Rule, ...] = (
    _something_to_serve,
    _addresses_differ,
    _domains_differ,
    _host_is_not_a_domain,
    _addresses_are_our_own,
    _devices_differ,
    _clients_are_not_the_world,
    _relay_has_a_host,
    _one_credential,
    _plan_is_possible,
    _certificate_has_a_key,
    _mode_has_what_it_needs,
    _a_mailbox_holds_a_message,
    _cloud_writes_the_credential,
    _publisher_has_what_it_needs,
    _what_is_counted_is_said,
    _return_address_has_room,
    _what_is_held_can_be_scanned,
    databases_fit,
)


def _each(items: Iterable[Frozen], field: str) -> Iterator[tuple[int, Any]]:
    """The index and the value of `field` for each of the items in which it is known."""
    for index, item in enumerate(items):
        with suppress(NotKnownError):
            yield index, getattr(item, field)


def _repeated(items: Iterable[tuple[int, Hashable]]) -> Iterator[tuple[int, int]]:
    """The index of each value that was there before, and the index where it was."""
    first: dict[Hashable, int] = {}
    for index, value in items:
        if (earlier := first.setdefault(value, index)) != index:
            yield index, earlier


def _short(network: Network) -> str:
    return str(network.network_address if network.num_addresses == 1 else network)
