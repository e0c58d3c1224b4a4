"""Who is who in the rehearsal's internet: every name and address, as one frozen value.

The addresses are fixed (documentation ranges, RFC 5737 and RFC 3849) so that tests and people's own scripts
can rely on them; the names of our own side come from the settings that are rehearsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

RELAY_SMTP = IPv4Address("192.0.2.20")
CLOUD_REST = IPv4Address("192.0.2.21")
RELAY_OUTGOING = IPv4Address("192.0.2.25")
DNS = IPv4Address("192.0.2.53")
RECEIVER = IPv4Address("198.51.100.25")
RECEIVER6 = IPv6Address("2001:db8:25::25")
OUTSIDE = IPv4Address("198.51.100.80")
OUTSIDE6 = IPv6Address("2001:db8:80::80")
SERVER = IPv4Address("203.0.113.10")
SERVER6 = IPv6Address("2001:db8:10::10")
AUTHORITY = IPv4Address("192.0.2.14")  # a public certificate authority, which speaks ACME
METADATA = IPv4Address("169.254.169.254")  # what a cloud instance asks about itself
# A machine in the organisation's own network, behind a link of its own (veth): where mail programs run.
OFFICE_GATEWAY = IPv4Address("192.168.77.1")
OFFICE = IPv4Address("192.168.77.2")

RECEIVER_DOMAIN = "mailbox.example"
RECEIVER_HOST = "mx.mailbox.example"
OUTSIDE_DOMAIN = "outside.example"
OUTSIDE_HOST = "mail.outside.example"
AUTHORITY_DOMAIN = "authority.example"
AUTHORITY_HOST = "acme.authority.example"
SWITCHBOARD_PORT = 8025  # on RELAY_SMTP

STATE = Path("/run/todoku-rehearsal")
INSTANCES = "mail-hosts"
_STRANGERS = ("eu-frankfurt-1", "us-ashburn-1", "uk-london-1")


@dataclass(frozen=True, slots=True)
class RelayCredential:
    """The user name and password that the relay gave out: two OCIDs with an "@" between, and 20 or so characters
    with much punctuation."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"RelayCredential({self.username!r}, ...)"


@dataclass(frozen=True, slots=True)
class SeededDomain:
    """A domain of the organisation as the relay knows it before a cloud room exists to create it there."""

    name: str  # A-labels
    selector: str
    dkim_private_key: str  # PEM; RSA-2048
    dmarc: str = "v=DMARC1; p=none"


@dataclass(frozen=True, slots=True)
class CloudPlan:
    """A customer's tenancy as Oracle hands it over: nothing in it but one compartment and one administrator."""

    tenancy: str  # OCID, as are the next two
    compartment: str  # the only one below the root
    user: str
    api_private_key: str  # PEM, RSA; the cloud itself uses its public half only
    home_region: str
    instance: str  # OCID of the instance that the metadata service speaks for; it lies in the compartment
    zones: tuple[
        str, ...
    ] = ()  # of the customer's domains: empty, in the compartment, served by the DNS service
    identity_domains: tuple[str, ...] = ()  # beside Default
    instance_may: tuple[
        str, ...
    ] = ()  # policy statements for the dynamic group INSTANCES, which the instance is in
    compartment_name: str = "mail"
    user_name: str = "administrator"

    def __repr__(self) -> str:
        return f"CloudPlan({self.tenancy!r}, ...)"


@dataclass(frozen=True, slots=True)
class InternetPlan:
    """Everything that the world's DNS, relay, receiver and outside sender have to know."""

    hostname: str  # of our server, A-labels
    addresses: tuple[IPv4Address | IPv6Address, ...]  # of our server
    domains: tuple[SeededDomain, ...]  # those that need not be created in the cloud first
    region: str  # "ap-tokyo-1"
    region_code: str  # "nrt1": the region key and a digit, in DKIM and return-path names
    relay_hostname: str  # "smtp.email.ap-tokyo-1.oci.oraclecloud.com"
    credential: RelayCredential | None  # None: it is created in the cloud
    approved_senders: tuple[str, ...]  # "alice@hoge.example", or "@hoge.example" for a whole domain
    outside_selector: str
    outside_dkim_private_key: str
    regional_selector: (
        str  # the relay's own signature: s=prod-nrt-20240101; d=nrt1.rp.oracleemaildelivery.com
    )
    regional_dkim_private_key: str
    cloud: CloudPlan | None = None  # None: there is no REST side
    empty_zones: tuple[str, ...] = ()  # our domains that have a zone with nothing in it yet

    @property
    def cloud_regions(self) -> tuple[str, ...]:
        """The regions in which the cloud answers: ours, the home region, and one without a subscription."""
        known = (self.region, self.cloud.home_region if self.cloud else self.region)
        return tuple(dict.fromkeys((*known, next(name for name in _STRANGERS if name not in known))))

    @property
    def return_path_domain(self) -> str:
        return f"{self.region_code}.rp.oracleemaildelivery.com"

    @property
    def relay_outgoing_hostname(self) -> str:
        return f"aib29agh025.{self.region_code}.oracleemaildelivery.com"
