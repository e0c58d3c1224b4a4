"""The settings as types: what one organisation's mail system is, everything frozen.

The descriptions of the fields are the documentation: the commented example and the JSON Schema are made
from them. What a single value has to look like is in `values`; what has to fit together, in `rules`.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal, Self

import idna
from pydantic import AfterValidator, Field, model_validator

from todoku.settings import values
from todoku.settings.base import Frozen
from todoku.settings.campaign import Campaign
from todoku.settings.database import ABOUT_DATABASE, ABOUT_ITS_FILE, PasswordFile, PostgresqlUrl
from todoku.settings.firewall import Firewall
from todoku.settings.metrics import Metrics
from todoku.settings.outside import Cloud, Dns, Relay
from todoku.settings.problems import WrongValueError
from todoku.settings.protect import Protect
from todoku.settings.tls import Tls
from todoku.settings.values import (
    ClientNetwork,
    Count,
    DeviceAddress,
    DomainName,
    IpAddress,
    MailAddress,
    OneOrSeveral,
    Percent,
    Size,
)

_LOCAL_SIZE = AfterValidator(
    values.between(100_000, 1_000_000_000, "25 MB", "that is no limit that people can work with")
)
_SCANNED_SIZE = AfterValidator(
    values.between(1_000_000, 1_000_000_000, "100 MB", "that is nothing that a scanner can work with")
)
PRIVATE_NETWORKS = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)


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
    forwarded_per_day: Count = Field(
        100,
        description="How much each alias that leads outside passes on in 24 hours: strangers write there, and it "
        "counts for the relay's plan.",
        examples=[100],
    )
    reserved_share: Percent = Field(
        20,
        description="Percent of the relay's plan that are left to personal mail: what is forwarded for strangers, and "
        "bulk mail (Precedence: bulk or list, List-Id, List-Unsubscribe, or of bulk_senders) has to wait before.",
        examples=[20],
    )
    bulk_senders: Annotated[tuple[MailAddress, ...], *OneOrSeveral] = Field(
        (),
        description="Addresses of yours whose mail is all bulk, whatever its headers say, as in "
        '["news@hoge.example"].',
        examples=[[]],
    )
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
    malware: Literal["off", "clamav"] = Field(
        "off",
        description="Whether all mail, in and out, is scanned for malware: clamav installs ClamAV and refuses what "
        "it finds. With the public signatures it takes 1.2 to 1.5 GiB of memory, so off unless you say "
        "otherwise.",
        examples=["off"],
    )
    malware_failure: Literal["4xx", "pass"] = Field(
        "4xx",
        description="What becomes of mail when the scanner gives no answer: 4xx has its sender try again later, and "
        "refuses what is too large to be scanned; pass lets both through unscanned.",
        examples=["4xx"],
    )
    malware_size: Annotated[Size, _SCANNED_SIZE] = Field(
        100_000_000,
        description="The largest message that is scanned, and the largest file packed in one that is looked into.",
        examples=["100 MB"],
    )
    malware_updates: bool = Field(
        True,
        description="Whether ClamAV's own freshclam keeps the public signatures up to date. false stops it, where "
        "something else puts signatures into /var/lib/clamav.",
        examples=[True],
    )


class Ledger(Frozen):
    """What is kept of each message: who, to whom, when, and what became of it. Never its contents."""

    database: PostgresqlUrl | None = Field(
        None,
        description=f"The PostgreSQL database that it is kept in. {ABOUT_DATABASE}",
        examples=["postgresql:///todoku"],
    )
    database_password_file: PasswordFile | None = Field(
        None, description=ABOUT_ITS_FILE, examples=["/etc/todoku/secrets/ledger-database"]
    )
    days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="How many days a message is remembered.", examples=[30]
    )
    subjects: bool = Field(
        False, description="Whether the subjects of messages are kept as well.", examples=[False]
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
    protect: Protect = Field(Protect(), description="What becomes of attachments that leave.")
    metrics: Metrics | None = Field(None, description="Figures for a monitoring system.")
    ledger: Ledger = Field(Ledger(), description="What is remembered of each message.")
    campaign: Campaign | None = Field(
        None,
        description="Bulk mail: newsletters and notices to people who agreed. Without this table there is none.",
    )
    tls: Tls = Field(Tls(), description="The server's own certificate.")
    firewall: Firewall = Field(Firewall(), description="This machine's own firewall.")
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
