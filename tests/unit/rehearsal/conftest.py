"""A small internet on the loopback addresses 127.0.0.0/8, with real sockets, certificates and keys."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from todoku.rehearsal.internet import pki
from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet.lookups import LookupFailed
from todoku.rehearsal.internet.plan import InternetPlan, RelayCredential, SeededDomain
from todoku.rehearsal.servers import Bindings, Internet
from todoku.rehearsal.smtp.client import Answer, Client
from todoku.rehearsal.smtp.session import Listen

OUTGOING, OUTSIDE, RECEIVER, RELAY = "127.0.0.25", "127.0.0.80", "127.0.1.25", "127.0.0.20"
PASSWORD = "p4$s:word[#&!(<.}\"'\\`~"
LETTER = (
    b"From: Alice <alice@hoge.example>\r\nTo: carol@mailbox.example\r\nSubject: Hi\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0900\r\nMessage-ID: <1@mx.hoge.example>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nHello  world \r\n.dot\r\n\r\n\r\n"
)


@dataclass
class FakeDns:
    """Records by (name, type); a name in `broken` cannot be looked up."""

    records: dict[tuple[str, str], tuple[bytes, ...]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, name: str, kind: str) -> tuple[bytes, ...]:
        name = name.rstrip(".").lower()
        self.asked.append((name, kind))
        if name in self.broken:
            raise LookupFailed(f"{kind} {name}: SERVFAIL")
        return self.records.get((name, kind), ())

    def add(self, name: str, kind: str, *values: str | bytes) -> None:
        self.records[name, kind] = tuple(v.encode() if isinstance(v, str) else v for v in values)

    def host(self, name: str, address: str) -> None:
        self.add(name, "A" if "." in address else "AAAA", address)
        self.add(ip_address(address).reverse_pointer, "PTR", f"{name}.")


@pytest.fixture(scope="session")
def keys() -> dict[str, str]:
    return {name: pki.generate_dkim_key() for name in ("customer", "regional", "outside")}


@pytest.fixture(scope="session")
def plan(keys: dict[str, str]) -> InternetPlan:
    return InternetPlan(
        hostname="mx.hoge.example",
        addresses=(world.SERVER,),
        domains=(SeededDomain("hoge.example", "todoku-nrt", keys["customer"], "v=DMARC1; p=reject"),),
        region="ap-tokyo-1",
        region_code="nrt1",
        relay_hostname="smtp.email.ap-tokyo-1.oci.oraclecloud.com",
        credential=RelayCredential("ocid1.user.oc1..aaaa@ocid1.tenancy.oc1..bbbb.x9.com", PASSWORD),
        approved_senders=("@hoge.example", "dave@other.example", "Erin@other.example"),
        outside_selector="mail",
        outside_dkim_private_key=keys["outside"],
        regional_selector="prod-nrt-20240101",
        regional_dkim_private_key=keys["regional"],
    )


@pytest.fixture(scope="session")
def folder_with_pki(tmp_path_factory: pytest.TempPathFactory, plan: InternetPlan) -> Path:
    folder = tmp_path_factory.mktemp("internet")
    authority = pki.Authority.create(folder / "pki")
    for name in (plan.relay_hostname, world.RECEIVER_HOST, world.OUTSIDE_HOST):
        authority.issue([name], folder / "pki")
    return folder


@pytest.fixture
def dns(plan: InternetPlan, keys: dict[str, str]) -> FakeDns:
    dns = FakeDns()
    dns.host(world.RECEIVER_HOST, RECEIVER)
    dns.host(world.OUTSIDE_HOST, OUTSIDE)
    dns.host(plan.relay_outgoing_hostname, OUTGOING)
    dns.add("mailbox.example", "MX", f"10 {world.RECEIVER_HOST}.")
    dns.add("outside.example", "MX", f"10 {world.OUTSIDE_HOST}.")
    dns.add("outside.example", "TXT", f"v=spf1 ip4:{OUTSIDE} -all")
    dns.add("_dmarc.outside.example", "TXT", "v=DMARC1; p=reject")
    dns.add("mail._domainkey.outside.example", "TXT", pki.dkim_txt(keys["outside"]))
    dns.add("_dmarc.hoge.example", "TXT", "v=DMARC1; p=reject")
    dns.add("todoku-nrt._domainkey.hoge.example", "TXT", pki.dkim_txt(keys["customer"]))
    dns.add(plan.return_path_domain, "TXT", f"v=spf1 ip4:{OUTGOING} ~all")
    regional = f"{plan.regional_selector}._domainkey.{plan.return_path_domain}"
    dns.add(regional, "TXT", pki.dkim_txt(keys["regional"]))
    return dns


@dataclass
class Around:
    """A running internet and how to talk to it."""

    internet: Internet
    plan: InternetPlan
    folder: Path
    delivery_port: int

    @property
    def relay(self) -> Any:
        return self.internet.relay

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "pki/ca.pem"))

    async def submission(self, *, ehlo: bool = True, tls: bool = True, source: str = "127.0.0.1") -> Client:
        """A connection to the relay, ready for AUTH."""
        client = Client(timeout=10)
        listen = self.relay.server.listens[0]
        await client.connect(listen.host, listen.port, source)
        if ehlo:
            await client.ehlo("mx.hoge.example")
        if tls:
            await client.starttls(self.context(), self.plan.relay_hostname)
            await client.ehlo("mx.hoge.example")
        return client

    async def login(self, client: Client, password: str | None = None) -> Answer:
        credential = self.plan.credential
        return await client.say("AUTH PLAIN " + plain(credential.username, password or credential.password))

    async def authenticated(self, source: str = "127.0.0.1") -> Client:
        client = await self.submission(source=source)
        assert (await self.login(client)).code == 235
        return client

    async def submit(self, content: bytes = LETTER, sender: str = "alice@hoge.example", *to: str) -> Any:
        client = await self.authenticated()
        result = await client.send(sender, to or ("carol@mailbox.example",), content)
        await client.quit()
        return result


def plain(username: str, password: str) -> str:
    return base64.b64encode(f"\0{username}\0{password}".encode()).decode()


async def until(what: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
    return result


@pytest.fixture
def play(
    plan: InternetPlan, folder_with_pki: Path, dns: FakeDns, tmp_path: Path, unused_port: int
) -> Callable[[Callable[[Around], Awaitable[None]]], None]:
    """Run a scene on a running internet."""
    (tmp_path / "pki").symlink_to(folder_with_pki / "pki")
    bindings = Bindings(
        relay=(Listen(RELAY, 0), Listen(RELAY, 0, implicit_tls=True)),
        relay_outgoing=OUTGOING,
        switchboard=Listen(RELAY, 0),
        receiver=(Listen(RECEIVER, unused_port),),
        outside=(Listen(OUTSIDE, unused_port),),
        delivery_port=unused_port,
    )

    def play(scene: Callable[[Around], Awaitable[None]]) -> None:
        async def run() -> None:
            internet = Internet(plan, tmp_path, bindings, dns, backoff=(0.05,) * 4)
            await internet.start()
            try:
                await scene(Around(internet, plan, tmp_path, unused_port))
            finally:
                await internet.stop()

        asyncio.run(run())

    return play


@pytest.fixture
def unused_port() -> int:
    import random
    import socket

    # Below the ports that connections get, so that none of theirs is in the way of a listener.
    for port in random.sample(range(20_000, 30_000), 100):
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for address in (RECEIVER, OUTSIDE):
                probes.enter_context(socket.socket()).bind((address, port))
            return port
    raise AssertionError("no port is free")
