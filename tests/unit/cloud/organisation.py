"""An organisation with a tenancy in the rehearsal's cloud on loopback, for tests with the real SDK over real HTTPS."""

import ssl
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cloud_fake import Keeper, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "rehearsal" / "cloud"))
from cloud_side import Side, empty, running

from todoku.cloud.client import Cloud
from todoku.cloud.desired import Around, resources
from todoku.cloud.probe import Endpoint, Relay
from todoku.cloud.retry import Patience
from todoku.cloud.sdk_api import access_of, open_api
from todoku.plan.apply import apply
from todoku.plan.outputs import Outputs, Reference
from todoku.plan.resource import Item
from todoku.rehearsal.internet import pki
from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet.plan import InternetPlan
from todoku.settings import RelayCredential


@pytest.fixture(scope="session", name="internet")
def internet_fixture() -> InternetPlan:
    """Keys take a while: once for all."""
    return InternetPlan(
        hostname="mx.hoge.example",
        addresses=(world.SERVER,),
        domains=(),
        region="ap-tokyo-1",
        region_code="nrt1",
        relay_hostname="smtp.email.ap-tokyo-1.oci.oraclecloud.com",
        credential=None,
        approved_senders=(),
        outside_selector="mail",
        outside_dkim_private_key=pki.generate_dkim_key(),
        regional_selector="prod-nrt-20240101",
        regional_dkim_private_key=pki.generate_dkim_key(),
    )


@pytest.fixture(name="side")
def side_fixture(internet, tmp_path):
    """A tenancy with nothing in it but a second identity domain, Staff, in which there is nobody."""
    plan = empty(internet)
    yield from running(replace(plan, cloud=replace(plan.cloud, identity_domains=("Staff",))), tmp_path)


class Organisation:
    """Settings for the simulated tenancy, this host's file, and runs of the real client against it."""

    def __init__(self, side: Side, **cloud):
        self.side = side
        wanted = settings()
        compartment = side.config.compartment
        table = wanted.cloud.model_copy(
            update={"compartment": compartment, "config_file": side.config.config_file} | cloud
        )
        self.settings = wanted.model_copy(update={"cloud": table})
        self.keeper = Keeper()
        listen = side.relay.server.listens[0]
        context = lambda: ssl.create_default_context(cafile=side.ca)  # noqa: E731
        endpoint = Endpoint("127.0.0.1", listen.port, "mx.hoge.example", context)
        self.relay = Relay(endpoint, lambda: RelayCredential(*self.keeper.kept))

    def client(self, patience=None):
        services = ("email", "identity", "identity_domains", "logging", "loggingsearch", "network", "compute")
        endpoints = dict.fromkeys(services, self.side.endpoint)
        api = open_api(access_of(self.settings, endpoints))
        return Cloud(api, Outputs(), patience or Patience(first=0.05, longest=0.2, total=20))

    def items(self, client, **around):
        around = {"patience": 0.0} | around
        wanted = resources(self.settings, self.keeper, self.relay, Around(**around))
        return [Item(resource, client) for resource in wanted]

    def apply(self, retry=None, **around):
        client = self.client(retry)
        outcome = apply(self.items(client, **around), lambda _event: None)
        outcome.raise_bug()
        self.outputs = client.outputs
        return outcome

    def publish(self):
        """What the DNS room does, while the cloud's resources are waited for."""
        for resource in ("dkim:hoge.example", "return-path:hoge.example"):
            name = self.outputs.known(Reference(resource, "name"))
            if name:
                self.side.dns.cname(name, self.outputs.known(Reference(resource, "cname")))

    def apply_all(self, **around):
        """`apply` until nothing waits, with a DNS that publishes."""
        self.side.switch(
            limits={"auth_failures": 100}
        )  # so many tries in a minute are a test's, not a person's
        for _ in range(6):
            outcome = self.apply(**{"patience": 3.0} | around)
            assert not outcome.failed, outcome
            if not outcome.waits:
                return
            self.publish()
        raise AssertionError(outcome)


@pytest.fixture(name="organisation")
def organisation_fixture(side, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", side.ca)
    return Organisation(side)
