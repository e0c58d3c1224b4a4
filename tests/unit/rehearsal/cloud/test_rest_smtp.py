"""From an empty tenancy to a delivered message: what the SDK makes over REST is what SMTP enforces, signs with and
sends from, as an independent receiver judges it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oci
import pytest
from cloud_side import ZoneFiles, empty
from conftest import LETTER, OUTGOING, OUTSIDE, RECEIVER, RELAY, FakeDns, plain, until

from todoku.rehearsal.cloud import CloudListens, certificate_names, write_client_config
from todoku.rehearsal.internet import pki
from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet.lookups import Resolver
from todoku.rehearsal.internet.plan import InternetPlan
from todoku.rehearsal.servers import Bindings, Internet, dump, load
from todoku.rehearsal.smtp.client import Client
from todoku.rehearsal.smtp.session import Listen

DOMAIN = "hoge.example"


def both(fixed: FakeDns, zones: ZoneFiles) -> Resolver:
    """The test's own records first, then the zones that the cloud has published; CNAMEs across both."""

    def resolve(name: str, kind: str) -> tuple[bytes, ...]:
        name = name.rstrip(".").lower()
        target = zones(name, "CNAME") if kind != "CNAME" else ()
        if target:
            return resolve(target[0].decode(), kind)
        return fixed(name, kind) or zones(name, kind)

    return resolve


class Customer:
    """Everything that a customer does, with the SDK."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self.cloud = internet.cloud
        assert self.cloud is not None
        plan = internet.relay.plan
        self.config = write_client_config(folder, plan.cloud, plan.region)
        config = oci.config.from_file(str(self.config.config_file))
        endpoint = f"https://127.0.0.1:{self.cloud.rest.listen.port}"
        self.email = oci.email.EmailClient(config, service_endpoint=endpoint)
        self.identity = oci.identity.IdentityClient(config, service_endpoint=endpoint)
        self.dns = oci.dns.DnsClient(config, service_endpoint=endpoint)

    def record(self, name: str, kind: str, data: str) -> None:
        item = oci.dns.models.RecordDetails(domain=name, rtype=kind, rdata=data, ttl=60)
        self.dns.update_rr_set(DOMAIN, name, kind, oci.dns.models.UpdateRRSetDetails(items=[item]))

    def make_dns(self) -> None:
        details = oci.dns.models.CreateZoneDetails(name=DOMAIN, compartment_id=self.config.compartment)
        self.dns.create_zone(details)
        self.record(DOMAIN, "TXT", '"v=spf1 include:ap.rp.oracleemaildelivery.com ~all"')
        self.record(f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=reject"')

    def wait(self, get: Callable[[str], Any], identifier: str) -> None:
        client = self.email
        oci.wait_until(
            client, get(identifier), "lifecycle_state", "ACTIVE", max_interval_seconds=1, max_wait_seconds=9
        )

    def make_domain(self, models: Any = oci.email.models) -> str:
        details = models.CreateEmailDomainDetails(name=DOMAIN, compartment_id=self.config.compartment)
        domain = self.email.create_email_domain(details).data.id
        self.wait(self.email.get_email_domain, domain)
        dkim = self.email.create_dkim(models.CreateDkimDetails(name="s1", email_domain_id=domain)).data
        self.record(dkim.dns_subdomain_name, "CNAME", f"{dkim.cname_record_value}.")
        self.wait(self.email.get_dkim, dkim.id)
        return str(domain)

    def make_return_path(self, domain: str, models: Any = oci.email.models) -> None:
        details = models.CreateEmailReturnPathDetails(name=f"bounce.{DOMAIN}", parent_resource_id=domain)
        path = self.email.create_email_return_path(details).data
        self.record(path.dns_subdomain_name, "CNAME", f"{path.cname_record_value}.")
        self.wait(self.email.get_email_return_path, path.id)

    def make_sender(self, address: str) -> None:
        where = self.config.compartment
        details = oci.email.models.CreateSenderDetails(email_address=address, compartment_id=where)
        self.wait(self.email.get_sender, self.email.create_sender(details).data.id)

    def make_user(self, models: Any = oci.identity.models) -> tuple[str, str, str]:
        """User OCID, user name and password for SMTP."""
        base = {"compartment_id": self.config.tenancy, "description": "Todoku"}
        client = self.identity
        user = client.create_user(
            models.CreateUserDetails(name="relay", email="a@hoge.example", **base)
        ).data.id
        details = models.CreateSmtpCredentialDetails(description="")
        credential = client.create_smtp_credential(details, user).data
        return user, credential.username, credential.password

    def permit(self, user: str, models: Any = oci.identity.models) -> None:
        base = {"compartment_id": self.config.tenancy, "description": "Todoku"}
        group = self.identity.create_group(models.CreateGroupDetails(name="senders", **base)).data.id
        self.identity.add_user_to_group(models.AddUserToGroupDetails(user_id=user, group_id=group))
        statement = "Allow group senders to use email-family in compartment mail"
        self.identity.create_policy(
            models.CreatePolicyDetails(name="senders", statements=[statement], **base)
        )


async def submit(internet: Internet, ca: Path, username: str, password: str) -> Any:
    client = Client(timeout=10)
    listen = internet.relay.server.listens[0]
    await client.connect(listen.host, listen.port, "127.0.0.1")
    await client.ehlo("mx.hoge.example")
    context = ssl.create_default_context(cafile=str(ca))
    await client.starttls(context, internet.relay.plan.relay_hostname)
    await client.ehlo("mx.hoge.example")
    answer = await client.say("AUTH PLAIN " + plain(username, password))
    if answer.code != 235:
        return answer
    return await client.send(f"alice@{DOMAIN}", ("carol@mailbox.example",), LETTER)


@pytest.fixture
def scene(
    plan: InternetPlan, dns: FakeDns, tmp_path: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], None]:
    plan = load(dump(empty(plan)))  # as the world hands it over
    authority = pki.Authority.create(tmp_path / "pki")
    for name in (plan.relay_hostname, world.RECEIVER_HOST, world.OUTSIDE_HOST):
        authority.issue([name], tmp_path / "pki")
    authority.issue([*certificate_names(plan), "127.0.0.1"], tmp_path / "pki")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "pki/ca.pem"))
    for name in ("_dmarc.hoge.example", "todoku-nrt._domainkey.hoge.example"):
        del dns.records[name, "TXT"]
    zones = ZoneFiles()
    bindings = Bindings(
        relay=(Listen(RELAY, 0),),
        relay_outgoing=OUTGOING,
        switchboard=Listen(RELAY, 0),
        receiver=(Listen(RECEIVER, unused_port),),
        outside=(Listen(OUTSIDE, unused_port),),
        delivery_port=unused_port,
        cloud=CloudListens(Listen("127.0.0.1", 0), Listen("127.0.0.1", 0)),
    )

    def play(act: Any) -> None:
        async def run() -> None:
            internet = Internet(
                plan, tmp_path, bindings, both(dns, zones), (0.05,) * 4, publish=zones.publish
            )
            await internet.start()
            try:
                await act(internet, Customer(internet, tmp_path), tmp_path)
            finally:
                await internet.stop()

        asyncio.run(run())

    return play


def test_from_an_empty_tenancy_to_spf_dkim_and_dmarc_that_pass_and_are_aligned(scene: Any):
    async def act(internet: Internet, customer: Customer, folder: Path) -> None:
        ca = folder / "pki/ca.pem"
        await asyncio.to_thread(customer.make_dns)
        domain = await asyncio.to_thread(customer.make_domain)
        user, name, password = await asyncio.to_thread(customer.make_user)
        await asyncio.to_thread(customer.make_sender, f"@{DOMAIN}")
        await until(lambda: name in internet.relay.state.credentials)
        # Without a policy the user is let in, but no sender is theirs.
        refused = await submit(internet, ca, name, password)
        assert "Authorization failed: Envelope From address alice@hoge.example not authorized" in str(refused)
        await asyncio.to_thread(customer.permit, user)
        await submit(internet, ca, name, password)
        first = await until(lambda: judged(folder, 1))
        assert (first["dmarc"]["result"], first["spf"]["result"], first["spf"]["aligned"]) == (
            "pass",
            "pass",
            False,
        )
        assert first["mail_from"].endswith("@nrt1.rp.oracleemaildelivery.com")
        await asyncio.to_thread(customer.make_return_path, domain)
        await until(lambda: internet.relay.state.return_paths)
        await submit(internet, ca, name, password)
        second = await until(lambda: judged(folder, 2))
        assert second["mail_from"].endswith(f"@bounce.{DOMAIN}")
        assert (second["spf"]["result"], second["spf"]["aligned"]) == ("pass", True)
        own = [signature for signature in second["dkim"] if signature["domain"] == DOMAIN]
        assert [(s["result"], s["selector"], s["aligned"]) for s in own] == [("pass", "s1", True)]
        assert second["dmarc"] == {"result": "pass", "policy": "reject", "domain": DOMAIN}
        assert "535" in str(await submit(internet, ca, name, password + "x"))

    scene(act)


def judged(folder: Path, number: int) -> Any:
    path = folder / f"inbox/{number}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
