"""The DNS records that the settings need, each with its reason. Pure: settings in, records out.

What the cloud chooses (the DKIM name and its target, the return path's target) stands here as a Reference
and is known once the cloud has been looked at. Names are A-labels without the final dot; values are as
`text` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from todoku.dns import silent_names, text
from todoku.dns.merging import Merge, settle
from todoku.dns.problems import NotKnownByOracle
from todoku.plan.outputs import Reference
from todoku.settings import Settings
from todoku.settings.models import Domain
from todoku.settings.regions import REGIONS, dkim_record_type

Value = str | Reference
# (name, type) -> the values that are published there
Existing = Mapping[tuple[str, str], tuple[str, ...]]

_TTL = 3600
_OTHER = "other_"  # how the cloud's second key of a domain is told


@dataclass(frozen=True, slots=True)
class RecordSet:
    """All that one name shall say of one type, and why."""

    name: Value
    type: str
    values: tuple[Value, ...]
    ttl: int  # seconds
    why: str
    merge: Merge = Merge.CONFLICT
    optional: bool = False  # needed only while there is something to refer to
    harmless: bool = False  # published only where it breaks nothing of others: `silent_names`

    @property
    def id(self) -> str:
        """Its name in the plan; one whose name the cloud chooses is called after what it belongs to."""
        if not isinstance(self.name, Reference):
            return f"dns:{self.name}/{self.type}"
        other = "other-" if self.name.name.startswith(_OTHER) else ""
        return f"dns:{other}{self.name.resource}/{self.type}"

    @property
    def references(self) -> frozenset[str]:
        """The resources that have to be known first."""
        parts = (self.name, *self.values)
        return frozenset(part.resource for part in parts if isinstance(part, Reference))

    def settled(self, existing: Existing) -> RecordSet:
        """This record set with what is published merged in. Raises RecordProblem."""
        values = [value for value in self.values if isinstance(value, str)]
        if not isinstance(self.name, str) or len(values) < len(self.values):
            return self
        there = existing.get((self.name, self.type), ())
        return replace(self, values=settle(self.merge, self.type, values, there))


def all_records(settings: Settings, existing: Existing | None = None) -> list[RecordSet]:
    """Everything that the settings need, the host first. Raises RecordProblem."""
    wanted = [*host_records(settings, existing), *page_records(settings, existing)]
    for domain in settings.domains:
        wanted += records(settings, domain, existing)
    return wanted


def host_records(settings: Settings, existing: Existing | None = None) -> list[RecordSet]:
    """What the mail host's own name needs; nothing when that name is not within one of the domains."""
    if not _is_ours(settings.hostname, settings):
        return []
    wanted = []
    for type_ in ("A", "AAAA"):
        addresses = tuple(
            str(address)
            for address in settings.addresses
            if isinstance(address, IPv4Address) == (type_ == "A")
        )
        if addresses:
            why = "the mail host is reached at this address"
            wanted.append(RecordSet(settings.hostname, type_, addresses, _ttl(settings), why))
    wanted.append(
        sends_nothing(settings, settings.hostname, "the host sends nothing as itself: all goes by the relay")
    )
    return [record.settled(existing or {}) for record in wanted]


def page_records(settings: Settings, existing: Existing | None = None) -> list[RecordSet]:
    """What the names need that serve pages and send nothing."""
    why = "only pages are at this name: nobody may send mail as it"
    wanted = [
        replace(sends_nothing(settings, name, why), harmless=True) for name in silent_names.names(settings)
    ]
    return [record.settled(existing or {}) for record in wanted]


def records(settings: Settings, domain: Domain, existing: Existing | None = None) -> list[RecordSet]:
    """What `domain` needs, with what is published (`existing`) merged in. Raises RecordProblem."""
    wanted = [_mx(settings, domain), _spf(settings, domain), *cloud_records(settings, domain)]
    wanted += [_dmarc(settings, domain), *_report_authorisation(settings, domain)]
    if settings.dns is not None and settings.dns.tls_report is not None:
        wanted.append(_tls_report(settings, domain, settings.dns.tls_report))
    return [record.settled(existing or {}) for record in wanted]


def cloud_records(settings: Settings, domain: Domain) -> list[RecordSet]:
    """What the cloud wants to find: the DKIM keys' records, and the return path's."""
    if settings.cloud is None:
        return []
    wanted = [dkim(settings, domain), dkim(settings, domain, other=True)]
    return [*wanted, _return_path(settings, domain)] if settings.cloud.return_path else wanted


def dkim(settings: Settings, domain: Domain, *, other: bool = False) -> RecordSet:
    """The record of the domain's DKIM key, or of the `other` one that it has while keys are changed."""
    resource, prefix = f"dkim:{domain.name}", _OTHER if other else ""
    type_ = dkim_record_type(settings.relay.region, domain.name)
    output = type_.lower()
    why = "receivers find the key here with which the relay signs: DKIM, and through it DMARC"
    if other:
        why = "the key before or after the present one: mail that is under way, or the next rotation"
    return RecordSet(
        Reference(resource, f"{prefix}name"),
        type_,
        (Reference(resource, f"{prefix}{output}"),),
        _ttl(settings),
        why,
        Merge.OURS,
        optional=other,
    )


def sends_nothing(settings: Settings, name: str, why: str) -> RecordSet:
    """An SPF record for a name that never sends mail (RFC 7208 10.1.2)."""
    return RecordSet(name, "TXT", ("v=spf1 -all",), _ttl(settings), why, Merge.KEEP)


def advice(settings: Settings) -> list[str]:
    """What has to be seen to elsewhere, because it lies in zones that are not ours."""
    told = []
    if not _is_ours(settings.hostname, settings):
        addresses = ", ".join(map(str, settings.addresses))
        told.append(
            f"{settings.hostname} is not within one of your domains: whoever has that zone has to give it the "
            f"address {addresses}."
        )
    for domain in settings.domains:
        place = _report_place(domain)
        if place is not None and not _is_ours(place, settings):
            told.append(
                f"DMARC reports about {domain.name} go to {domain.dmarc.reports}: receivers send them only if "
                f'the owner of {place} publishes "v=DMARC1" as TXT at {domain.name}._report._dmarc.{place} '
                "(RFC 9990)."
            )
        if settings.cloud is None:
            told.append(
                f"Without [cloud] the DKIM record of {domain.name} is not known here: Oracle's console shows it "
                "under Email Delivery, Email domains, DKIM."
            )
    told.append(
        f"The reverse name of {', '.join(map(str, settings.addresses))} should be {settings.hostname}; whoever "
        "provides the address sets it."
    )
    return told


def _mx(settings: Settings, domain: Domain) -> RecordSet:
    return RecordSet(
        domain.name,
        "MX",
        (f"10 {settings.hostname}",),
        _ttl(settings),
        "others deliver mail for the domain here",
    )


def _spf(settings: Settings, domain: Domain) -> RecordSet:
    terms = " ".join(f"include:{name}" for name in _relay_includes(settings))
    return RecordSet(
        domain.name,
        "TXT",
        (f"v=spf1 {terms} ~all",),
        _ttl(settings),
        "the relay may send in the domain's name: SPF",
        Merge.SPF,
    )


def _relay_includes(settings: Settings) -> tuple[str, ...]:
    region = REGIONS[settings.relay.region]
    own: tuple[str, ...] = getattr(settings.relay, "spf_include", ())
    if includes := own or region.spf_include:
        return includes
    raise NotKnownByOracle(
        f"what SPF has to include for the relay in {region.id} (realm {region.realm}) is not published by Oracle "
        "where everybody can read it, and is not guessed: look it up in Oracle's console or its page about SPF "
        "for your realm, and write it as spf_include = [...] below [relay]"
    )


def _dmarc(settings: Settings, domain: Domain) -> RecordSet:
    tags = [f"v=DMARC1; p={domain.dmarc.policy}"]
    if domain.dmarc.reports:
        tags.append(f"rua=mailto:{domain.dmarc.reports}")
    return RecordSet(
        f"_dmarc.{domain.name}",
        "TXT",
        ("; ".join(tags),),
        _ttl(settings),
        "tells receivers what to do with mail that fails SPF and DKIM: DMARC",
        Merge.DMARC,
    )


def _return_path(settings: Settings, domain: Domain) -> RecordSet:
    resource = f"return-path:{domain.name}"
    return RecordSet(
        Reference(resource, "name"),
        "CNAME",
        (Reference(resource, "cname"),),
        _ttl(settings),
        "bounces return to a name of the domain, so that SPF is aligned for DMARC",
        Merge.OURS,
    )


def _report_authorisation(settings: Settings, domain: Domain) -> list[RecordSet]:
    place = _report_place(domain)
    if place is None or not _is_ours(place, settings):
        return []
    return [
        RecordSet(
            f"{domain.name}._report._dmarc.{place}",
            "TXT",
            ("v=DMARC1",),
            _ttl(settings),
            f"{place} agrees to take the DMARC reports about {domain.name} (RFC 9990)",
            Merge.KEEP,
        )
    ]


def _report_place(domain: Domain) -> str | None:
    """The other domain that reports go to; within one organisation's names no agreement is needed."""
    if domain.dmarc.reports is None:
        return None
    place = domain.dmarc.reports.rpartition("@")[2]
    same = text.within(place, domain.name) or text.within(domain.name, place)
    return None if same else place


def _tls_report(settings: Settings, domain: Domain, address: str) -> RecordSet:
    return RecordSet(
        f"_smtp._tls.{domain.name}",
        "TXT",
        (f"v=TLSRPTv1; rua=mailto:{address}",),
        _ttl(settings),
        "others report here when TLS fails as they deliver to the domain (RFC 8460)",
        Merge.KEEP,
    )


def _is_ours(name: str, settings: Settings) -> bool:
    return any(text.within(name, domain) for domain in settings.own_domains)


def _ttl(settings: Settings) -> int:
    return settings.dns.ttl if settings.dns is not None else _TTL
