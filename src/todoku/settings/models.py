"""The settings as types: what one organisation's mail system is, everything frozen.

The descriptions of the fields are the documentation: the commented example and the JSON Schema are made
from them. What a single value has to look like is in `values`; what has to fit together, in `rules`.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args, get_origin

import idna
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from todoku.settings import regions, values
from todoku.settings.problems import WrongValueError
from todoku.settings.values import (
    ClientNetwork,
    Count,
    DeviceAddress,
    DomainName,
    EnvironmentPrefix,
    FilePath,
    IpAddress,
    MailAddress,
    Ocid,
    OneOrSeveral,
    RegionId,
    Size,
)

CREDENTIAL_FILE = Path("/etc/todoku/secrets/relay")
# Oracle raises the relay's limit from 2 MB to at most 60 MB, on request.
_RELAY_SIZE = AfterValidator(
    values.between(10_000, 60_000_000, "2 MB", "the relay's limit is 2 MB, and never above 60 MB")
)
_LOCAL_SIZE = AfterValidator(
    values.between(100_000, 1_000_000_000, "25 MB", "that is no limit that people can work with")
)
PRIVATE_NETWORKS = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)


class NotKnownError(AttributeError):
    """A field of an incomplete model was asked for: its own value is wrong, so nothing follows from it."""


class Frozen(BaseModel):
    """What all parts of the settings have in common: they never change, and know no other keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    if not TYPE_CHECKING:
        # `diagnosis` makes models from the fields that are right, and leaves out the others.
        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise NotKnownError(name)
            return super().__getattr__(name)


def part_of(field: FieldInfo) -> tuple[type[Frozen] | None, bool]:
    """The model that a field holds (a table in the file), and whether several; None for a plain value."""
    members = get_args(field.annotation)
    held = members[0] if members else field.annotation
    if isinstance(held, type) and issubclass(held, Frozen):
        return held, get_origin(field.annotation) is tuple
    return None, False


class Dmarc(Frozen):
    """What the domain's DMARC record says to those who receive mail in its name (RFC 7489)."""

    policy: Literal["none", "quarantine", "reject"] = Field(
        "none",
        description="What receivers are asked to do with mail that fails: none (only report; begin with "
        "this), "
        "quarantine (treat as suspicious) or reject.",
        examples=["none"],
    )
    reports: MailAddress | None = Field(
        None,
        description="Where receivers send their daily reports. Without it nobody is asked to report.",
        examples=["postmaster@hoge.example"],
    )


class Domain(Frozen):
    """A domain that mail is received for and sent from."""

    name: DomainName = Field(
        description="The domain, the part after the @. An internationalised name is fine in either form: "
        '"ほげ.example" or "xn--18j4d.example".',
        examples=["hoge.example"],
    )
    dmarc: Dmarc = Field(Dmarc(), description="The domain's DMARC policy.")

    @property
    def unicode(self) -> str:
        """The name as people read it."""
        return idna.decode(self.name)


class RelayPlan(Frozen):
    """What the relay accepts from this account: the limits of its plan."""

    per_minute: Count = Field(
        10, description="Messages a minute. Each recipient counts as one message.", examples=[10]
    )
    per_day: Count = Field(200, description="Messages a day.", examples=[200])
    per_month: Count = Field(3000, description="Messages a month.", examples=[3000])
    message_size: Annotated[Size, _RELAY_SIZE] = Field(
        2_000_000,
        description="The largest message that the relay takes, everything included (attachments grow by a "
        "third on "
        "the way). Oracle raises it on request, to 60 MB at most.",
        examples=["2 MB"],
    )


class Relay(Frozen):
    """Oracle Cloud Infrastructure Email Delivery, through which mail leaves."""

    region: RegionId = Field(
        description="The region whose Email Delivery is used, as Oracle's console writes it.",
        examples=["ap-tokyo-1"],
    )
    port: Literal[587, 465] = Field(
        587,
        description="587 (STARTTLS) or 465 (TLS from the start). Oracle's compute instances cannot "
        "connect to port 25.",
        examples=[587],
    )
    host: DomainName | None = Field(
        None,
        description="The relay's host name. Needed only outside the commercial regions (realm oc1), where "
        "it does not "
        "follow from the region: the console shows it under Email Delivery, Configuration, as SMTP "
        "endpoint.",
        examples=["smtp.email.ap-tokyo-1.oci.oraclecloud.com"],
    )
    credential_env: EnvironmentPrefix | None = Field(
        None,
        description="Instead of a file, environment variables can hold the SMTP credential: with the "
        "prefix "
        "TODOKU_RELAY these are TODOKU_RELAY_USERNAME and TODOKU_RELAY_PASSWORD.",
        examples=["TODOKU_RELAY"],
        json_schema_extra={"alternative": True},
    )
    credential_file: FilePath | None = Field(
        default_factory=lambda known: None if known.get("credential_env") else CREDENTIAL_FILE,
        description="The file with the SMTP credential: the user name on the first line, the password on the "
        "second, both exactly as the console gives them out. Nobody else may be able to read it: chmod 600. With "
        "[cloud] Todoku writes it.",
        examples=[str(CREDENTIAL_FILE)],
    )
    spf_include: Annotated[tuple[DomainName, ...], *OneOrSeveral] = Field(
        (),
        description="What the domains' SPF records have to include for the relay. Needed only where Oracle does "
        "not publish it for the region.",
        examples=[["ap.rp.oracleemaildelivery.com"]],
    )
    plan: RelayPlan = Field(
        RelayPlan(),
        description="The limits of your Oracle account; those of the free plan unless you say otherwise.",
    )

    @property
    def hostname(self) -> str:
        """The name to connect to, and to find in the relay's certificate."""
        if self.host is not None:
            return self.host
        host = regions.REGIONS[self.region].relay_host
        assert host is not None, "the rules require relay.host outside oc1"  # noqa: S101
        return host


class Clients(Frozen):
    """Who may send and read mail from here. Port 25, where others deliver, is always open to the world."""

    networks: Annotated[tuple[ClientNetwork, ...], *OneOrSeveral] = Field(
        PRIVATE_NETWORKS,
        description="The networks from which people may use submission (587, 465) and IMAP (993), always "
        "with their "
        "password. The private ranges unless you say otherwise; an empty list leaves only this machine "
        "itself.",
        examples=[[str(network) for network in PRIVATE_NETWORKS]],
    )


class Accounts(Frozen):
    """How mailboxes are kept."""

    mode: Literal["virtual", "system"] = Field(
        "virtual",
        description="virtual: accounts are made with `todoku account add` and have nothing to do with the "
        "machine's "
        "users. system: the machine's users have mail, with their own passwords, in their home "
        "directories.",
        examples=["virtual"],
    )
    quota: Size = Field(
        2_000_000_000,
        description="How much mail each account may hold; 0 for no limit.",
        examples=["2 GB"],
    )


class Limits(Frozen):
    """What this server accepts."""

    message_size: Annotated[Size, _LOCAL_SIZE] = Field(
        25_000_000,
        description="The largest message that is accepted from others. What is sent out has the relay's "
        "limit as well.",
        examples=["25 MB"],
    )


class Gate(Frozen):
    """What the filter asks of mail. The limits are for each account, for each device and for the machine itself."""

    recipients_per_day: Count = Field(
        1000,
        description="Recipients outside your domains that one account may write to in 24 hours. An account "
        "whose password was stolen sends no more than this.",
        examples=[1000],
    )
    new_recipients_per_day: Count = Field(
        200,
        description="How many of them may be addresses that the account has not written to in the last half year.",
        examples=[200],
    )
    recipients_per_minute: Count = Field(60, description="Recipients a minute.", examples=[60])
    hide_client: bool = Field(
        True,
        description="Whether the sender's IP address and mail program are removed from mail that leaves.",
        examples=[True],
    )
    own_domain_check: bool = Field(
        True,
        description="Whether mail from outside that claims one of your domains in From is refused unless SPF or "
        "DKIM shows that it comes from there.",
        examples=[True],
    )
    honour_dmarc: bool = Field(
        True,
        description="Whether mail that fails DMARC is refused where the domain it claims asks for that "
        "(p=reject).",
        examples=[True],
    )


class Tls(Frozen):
    """The server's own certificate, for those who connect to it."""

    certificate: FilePath | None = Field(
        None,
        description="The certificate with its chain (PEM), for the host name. Without certificate and "
        "key, a "
        "self-signed one is made: enough for mail from others to come in, while mail programs will warn.",
        examples=["/etc/letsencrypt/live/mx.hoge.example/fullchain.pem"],
    )
    key: FilePath | None = Field(
        None,
        description="The private key of the certificate (PEM).",
        examples=["/etc/letsencrypt/live/mx.hoge.example/privkey.pem"],
    )


class Cloud(Frozen):
    """Where in Oracle's cloud Todoku makes what the relay needs. Without this table it makes nothing there."""

    compartment: Ocid = Field(
        description="The compartment to make things in, by its OCID. Not the root compartment: rights could "
        "then not be given for less than everything.",
        examples=["ocid1.compartment.oc1..aaaaaaaaexample"],
    )
    auth: Literal["config", "instance_principal"] = Field(
        "config",
        description="How Todoku shows who it is: config (an API key in the file that Oracle's own tools use) or "
        "instance_principal (this machine is an Oracle instance that has been given the rights).",
        examples=["config"],
    )
    config_file: FilePath = Field(
        Path("/root/.oci/config"),
        description="With auth = config: the file, as `oci setup config` writes it.",
        examples=["/root/.oci/config"],
    )
    profile: str = Field("DEFAULT", description="The profile in that file.", examples=["DEFAULT"])
    identity_domain: str | None = Field(
        None,
        description="The identity domain of the group below, if it is not the Default one.",
        examples=["OracleIdentityCloudService"],
    )
    manage_iam: bool = Field(
        True,
        description="Whether Todoku makes the user who sends, its group, policy and SMTP credential. If false, "
        "relay.credential_file has to be there already.",
        examples=[True],
    )
    group: str = Field("todoku-senders", description="The group that may send.", examples=["todoku-senders"])
    user: str = Field("todoku-relay", description="The user who sends.", examples=["todoku-relay"])
    user_email: MailAddress | None = Field(
        None,
        description="The primary e-mail address of that user, which identity domains ask for. The "
        "postmaster's unless you say otherwise.",
        examples=["alice@hoge.example"],
    )
    return_path: bool = Field(
        True,
        description="Whether bounces return to a name of your own domain (a custom return path), so that SPF "
        "is aligned for DMARC as well.",
        examples=[True],
    )


class Dns(Frozen):
    """Who publishes the domains' DNS records. Without this table Todoku looks at none and changes none."""

    publisher: Literal["manual", "oci", "rfc2136", "lexicon"] = Field(
        description="manual (Todoku says what to enter), oci (Oracle's DNS service), rfc2136 (a name server "
        "that takes updates) or lexicon (any of the providers that dns-lexicon knows).",
        examples=["manual"],
    )
    provider: str | None = Field(
        None, description="With lexicon: the provider, by dns-lexicon's name.", examples=["cloudflare"]
    )
    credential_file: FilePath | None = Field(
        None,
        description="With lexicon: a file that only root can read, with the provider's options as KEY=VALUE "
        "lines, such as auth_token=...",
        examples=["/etc/todoku/secrets/dns"],
    )
    compartment: Ocid | None = Field(
        None,
        description="With oci: the compartment of the zones, if it is not that of [cloud].",
        examples=["ocid1.compartment.oc1..aaaaaaaaexample"],
    )
    server: str | None = Field(
        None,
        description="With rfc2136: the primary name server, by name or address.",
        examples=["192.0.2.53"],
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        53, description="With rfc2136: its port.", examples=[53]
    )
    tsig_name: str | None = Field(
        None, description="With rfc2136: the name of the key that signs updates.", examples=["todoku"]
    )
    tsig_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = Field(
        "hmac-sha256", description="With rfc2136: the key's algorithm.", examples=["hmac-sha256"]
    )
    tsig_secret_file: FilePath | None = Field(
        None,
        description="With rfc2136: a file that only root can read, with the key's secret in base64.",
        examples=["/etc/todoku/secrets/tsig"],
    )
    ttl: Annotated[int, Field(ge=60, le=86400)] = Field(
        3600, description="How long others may remember the records, in seconds.", examples=[3600]
    )
    tls_report: MailAddress | None = Field(
        None,
        description="Where others report trouble with TLS when they deliver here (TLS-RPT, RFC 8460).",
        examples=["postmaster@hoge.example"],
    )
    resolver: Annotated[tuple[IpAddress, ...], *OneOrSeveral] = Field(
        (), description="The resolvers to ask instead of the system's.", examples=[["192.0.2.53"]]
    )


class Device(Frozen):
    """A printer, scanner or the like that cannot log in: it may send from its address without a password."""

    address: DeviceAddress = Field(
        description="The device's IP address, or a network of at most 256 addresses for several of a kind.",
        examples=["192.168.0.20"],
    )
    sender: MailAddress = Field(
        description="The one address that it sends as, within one of the domains.",
        examples=["scanner@hoge.example"],
    )


class Settings(Frozen):
    """One organisation's mail system."""

    hostname: DomainName = Field(
        description="The full name of this mail server, to which its address also resolves back. It is "
        "not one of the "
        "mail domains: mx.hoge.example, not hoge.example.",
        examples=["mx.hoge.example"],
    )
    addresses: Annotated[tuple[IpAddress, ...], *OneOrSeveral] = Field(
        description="The public addresses at which the world reaches this server, IPv4 or IPv6 or both.",
        examples=[["203.0.113.10", "2001:db8:10::10"]],
    )
    listen: Annotated[tuple[IpAddress, ...], *OneOrSeveral] = Field(
        (),
        description="The machine's own addresses at which to take mail and mail programs; loopback is always "
        "one of them. All of the machine's addresses unless you say otherwise.",
        examples=[["203.0.113.10", "2001:db8:10::10"]],
    )
    postmaster: MailAddress = Field(
        description="Who looks after the mail system, an address within one of the domains: gets the mail "
        "to "
        "postmaster@ and abuse@ of every domain, and the notices of the system itself.",
        examples=["alice@hoge.example"],
    )
    host_sender: MailAddress = Field(
        default_factory=lambda known: known.get("postmaster", ""),
        description="The address within one of the domains that mail made on this machine itself (cron, "
        "monitoring, "
        "web applications) is sent as. The postmaster's unless you say otherwise.",
        examples=["alice@hoge.example"],
    )
    domains: tuple[Domain, ...] = Field(
        description="The mail domains, one [[domains]] for each, at least one. The first is the main one."
    )
    relay: Relay = Field(description="The relay through which mail leaves.")
    cloud: Cloud | None = Field(None, description="What Todoku makes in Oracle's cloud.")
    dns: Dns | None = Field(None, description="Who publishes the domains' DNS records.")
    clients: Clients = Field(Clients(), description="Who may send and read mail from here.")
    accounts: Accounts = Field(Accounts(), description="How mailboxes are kept.")
    limits: Limits = Field(Limits(), description="What this server accepts.")
    gate: Gate = Field(Gate(), description="What the filter asks of mail that leaves, or comes in.")
    tls: Tls = Field(Tls(), description="The server's own certificate.")
    devices: tuple[Device, ...] = Field(
        (), description="Printers, scanners and the like that cannot log in, one [[devices]] for each."
    )

    @property
    def own_domains(self) -> frozenset[str]:
        """The names of the mail domains, as A-labels."""
        return frozenset(domain.name for domain in self.domains)

    def is_own(self, address: str) -> bool:
        """Whether `address` is within one of the mail domains; upper case and U-labels are understood."""
        _, at, domain = address.rpartition("@")
        if domain.isascii():
            return bool(at) and domain.lower() in self.own_domains
        try:
            return bool(at) and values.domain_name(domain) in self.own_domains
        except WrongValueError:
            return False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        from todoku.settings import rules

        if faults := rules.faults(self):
            raise ValueError("; ".join(f"{fault.message} ({fault.fix})" for fault in faults))
        return self
