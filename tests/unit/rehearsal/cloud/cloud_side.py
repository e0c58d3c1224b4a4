"""A cloud on loopback in a thread of its own, so that blocking clients that nobody here wrote can talk to it."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dns.name
import dns.rdatatype
import dns.zone
import pytest

from todoku.rehearsal.cloud import (
    ClientConfig,
    Cloud,
    CloudListens,
    certificate_names,
    new_tenancy,
    write_client_config,
)
from todoku.rehearsal.internet import pki
from todoku.rehearsal.internet.plan import InternetPlan
from todoku.rehearsal.relay.relay import Relay
from todoku.rehearsal.smtp.client import Courier
from todoku.rehearsal.smtp.session import Listen
from todoku.rehearsal.switchboard import Switchboard


@dataclass
class ZoneFiles:
    """The world's DNS in memory: takes zone files, answers as lookups.Resolver."""

    zones: dict[str, dns.zone.Zone] = field(default_factory=dict)
    extra: dict[tuple[str, str], tuple[bytes, ...]] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)

    def publish(self, name: str, text: str) -> None:
        zone = dns.zone.from_text(text, origin=f"{name.rstrip('.')}.", relativize=False, check_origin=True)
        self.zones[name] = zone
        self.published.append(name)

    def __call__(self, name: str, kind: str) -> tuple[bytes, ...]:
        name = name.rstrip(".").lower()
        if (name, kind) in self.extra:
            return self.extra[name, kind]
        holding = [zone for zone in self.zones if name == zone or name.endswith(f".{zone}")]
        if not holding:
            return ()
        node = self.zones[max(holding, key=len)].get_node(dns.name.from_text(name))
        if node is None:
            return ()
        for rdataset in node:
            if rdataset.rdtype == dns.rdatatype.from_text(kind):
                if kind == "TXT":
                    return tuple(b"".join(record.strings) for record in rdataset)
                return tuple(record.to_text().encode() for record in rdataset)
            if rdataset.rdtype == dns.rdatatype.CNAME and kind != "CNAME":
                return self(rdataset[0].target.to_text(), kind)
        return ()

    def cname(self, name: str, target: str) -> None:
        self.extra[name, "CNAME"] = (f"{target}.".encode(),)


@dataclass
class Side:
    """A running cloud with its relay and switchboard, and what clients need."""

    cloud: Cloud
    relay: Relay
    dns: ZoneFiles
    config: ClientConfig
    folder: Path
    switchboard: Switchboard
    loop: asyncio.AbstractEventLoop
    clients: dict[type, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.cloud.rest.listen.port}"

    @property
    def ca(self) -> str:
        return str(self.folder / "pki/ca.pem")

    def sdk_config(self) -> dict[str, Any]:
        import oci

        return oci.config.from_file(str(self.config.config_file), self.config.profile)

    def client(self, kind: type, config: dict[str, Any] | None = None, **options: Any) -> Any:
        if config or options:
            return kind(config or self.sdk_config(), service_endpoint=self.endpoint, **options)
        if kind not in self.clients:  # reading the key takes its time
            self.clients[kind] = kind(self.sdk_config(), service_endpoint=self.endpoint)
        return self.clients[kind]

    def email(self, **options: Any) -> Any:
        import oci

        return self.client(oci.email.EmailClient, **options)

    def identity(self, **options: Any) -> Any:
        import oci

        return self.client(oci.identity.IdentityClient, **options)

    def zones(self, **options: Any) -> Any:
        import oci

        return self.client(oci.dns.DnsClient, **options)

    def switch(self, **keys: Any) -> dict[str, Any]:
        """Ask the switchboard over HTTP."""
        listen = self.switchboard.listen
        content = json.dumps(keys).encode() if keys else None
        request = urllib.request.Request(f"http://{listen.host}:{listen.port}/", content)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.load(response)
        except urllib.error.HTTPError as problem:
            raise AssertionError(problem.read().decode()) from problem

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)


def until(what: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return result


def empty(plan: InternetPlan, **changes: Any) -> InternetPlan:
    """The same internet, where nothing has been made in the cloud yet."""
    nothing = {"domains": (), "credential": None, "approved_senders": ()}
    return replace(plan, **nothing, cloud=new_tenancy(changes.pop("home_region", plan.region)), **changes)


def build(plan: InternetPlan, folder: Path) -> tuple[Cloud, Relay, Switchboard, ZoneFiles]:
    assert plan.cloud is not None
    authority = pki.Authority.create(folder / "pki")
    names = certificate_names(plan)
    certificate, key = authority.issue([*names, "127.0.0.1"], folder / "pki")
    contexts = []
    for _ in range(2):
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        contexts[-1].load_cert_chain(certificate, key)
    zones = ZoneFiles()
    courier = Courier("out.example", {4: "127.0.0.1"}, zones, 25, folder / "pki/ca.pem")
    relay = Relay(plan, (Listen("127.0.0.1", 0),), contexts[0], courier)
    listens = CloudListens(Listen("127.0.0.1", 0), Listen("127.0.0.1", 0))
    cloud = Cloud(
        plan,
        plan.cloud,
        relay.state,
        listens,
        contexts[1],
        resolver=zones,
        publish=zones.publish,
        latency_ms=lambda: relay.faults.latency_ms,
    )
    cloud.timing.creating_s = cloud.timing.deleting_s = 0.1
    cloud.timing.dkim_activation_s = cloud.timing.return_path_activation_s = 0.0
    return cloud, relay, Switchboard(relay, Listen("127.0.0.1", 0), cloud), zones


def running(plan: InternetPlan, folder: Path) -> Iterator[Side]:
    """Start it all in a thread; stop it afterwards."""
    assert plan.cloud is not None
    cloud, relay, switchboard, zones = build(plan, folder)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    config = write_client_config(folder, plan.cloud, plan.region)
    side = Side(cloud, relay, zones, config, folder, switchboard, loop)
    servers = (relay, cloud, switchboard)
    try:
        for server in servers:
            side.run(server.start())
        yield side
    finally:
        for server in servers:
            side.run(server.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(name="side")
def side_fixture(plan: InternetPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Side]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "pki/ca.pem"))
    yield from running(empty(plan), tmp_path)
