"""What others do for us, as types: the relay through which mail leaves, the cloud that it belongs to, and whoever
publishes the DNS records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from todoku.settings import regions, values
from todoku.settings.base import Frozen
from todoku.settings.values import (
    Count,
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
    instance: Ocid | None = Field(
        None,
        description="This machine, if it is an instance of Oracle's cloud, by its OCID: `todoku apply` then lets port "
        "25 in through the network security group of its interface, or the security list of its subnet.",
        examples=["ocid1.instance.oc1.ap-tokyo-1.aaaaaaaaexample"],
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
    logs: bool = Field(
        True,
        description="Whether Todoku switches on the relay's own log, which says whether a recipient's server took a "
        "message. Oracle keeps the first 10 GB a month for nothing; a record is about 1 kB.",
        examples=[True],
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
