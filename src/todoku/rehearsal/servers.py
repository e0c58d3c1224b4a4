"""The rehearsal's internet in one process: relay, cloud, mail provider, outside sender, and switchboard.

    python -m todoku.rehearsal.servers --plan PLAN.json --state DIR

prints READY when all of them listen. DIR/pki has the certificates (NAME.pem, NAME.key for each host name,
ca.pem); what arrives is in DIR/inbox and DIR/outside-inbox. Ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from todoku.rehearsal.cloud import Cloud, CloudListens, certificate_names
from todoku.rehearsal.cloud.publishing import Publish
from todoku.rehearsal.internet import nameserver
from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet.lookups import Resolver, system_resolver
from todoku.rehearsal.internet.plan import InternetPlan
from todoku.rehearsal.internet.plan_file import PlanUnreadable, dump, load, read
from todoku.rehearsal.receiver import Provider
from todoku.rehearsal.relay.delivery import BACKOFF
from todoku.rehearsal.relay.relay import Relay
from todoku.rehearsal.smtp.client import Courier
from todoku.rehearsal.smtp.server import PortTaken
from todoku.rehearsal.smtp.session import Listen
from todoku.rehearsal.switchboard import Switchboard

__all__ = ["Bindings", "Internet", "dump", "load", "main"]


_CLOUD = CloudListens(Listen(str(world.CLOUD_REST), 443), Listen(str(world.METADATA), 80))
_SWITCHBOARD = Listen(str(world.RELAY_SMTP), world.SWITCHBOARD_PORT)


@dataclass(frozen=True, slots=True)
class Bindings:
    """Where everybody listens and sends from; the defaults are the world's."""

    relay: tuple[Listen, ...] = (
        Listen(str(world.RELAY_SMTP), 25),
        Listen(str(world.RELAY_SMTP), 587),
        Listen(str(world.RELAY_SMTP), 465, implicit_tls=True),
    )
    relay_outgoing: str = str(world.RELAY_OUTGOING)
    switchboard: Listen = _SWITCHBOARD
    receiver: tuple[Listen, ...] = (Listen(str(world.RECEIVER), 25), Listen(str(world.RECEIVER6), 25))
    outside: tuple[Listen, ...] = (Listen(str(world.OUTSIDE), 25), Listen(str(world.OUTSIDE6), 25))
    cloud: CloudListens = _CLOUD
    delivery_port: int = 25


class Internet:
    """Everybody together."""

    def __init__(
        self,
        plan: InternetPlan,
        folder: Path,
        bindings: Bindings | None = None,
        resolver: Resolver | None = None,
        backoff: tuple[float, ...] = BACKOFF,
        publish: Publish | None = None,
    ) -> None:
        bindings = bindings or Bindings()
        resolver = resolver or system_resolver()
        pki = folder / "pki"
        courier = Courier(
            plan.relay_outgoing_hostname,
            {4: bindings.relay_outgoing},  # seen with IPv4 addresses only
            resolver,
            bindings.delivery_port,
            pki / "ca.pem",
        )
        self.relay = Relay(plan, bindings.relay, _tls(pki, plan.relay_hostname), courier, backoff=backoff)
        self.cloud = (
            Cloud(
                plan,
                plan.cloud,
                self.relay.state,
                bindings.cloud,
                _tls(pki, certificate_names(plan)[0]),
                resolver=resolver,
                publish=publish or partial(nameserver.replace_zone, folder / "dns"),
                latency_ms=lambda: self.relay.faults.latency_ms,
            )
            if plan.cloud
            else None
        )
        self.switchboard = Switchboard(self.relay, bindings.switchboard, self.cloud)
        self.receiver, self.outside = (
            Provider(domain, host, listens, _tls(pki, host), folder / inbox, resolver)
            for domain, host, listens, inbox in (
                (world.RECEIVER_DOMAIN, world.RECEIVER_HOST, bindings.receiver, "inbox"),
                (world.OUTSIDE_DOMAIN, world.OUTSIDE_HOST, bindings.outside, "outside-inbox"),
            )
        )

    async def start(self) -> None:
        """Listen everywhere; raises `PortTaken`."""
        cloud = (self.cloud,) if self.cloud else ()
        for server in (self.relay, *cloud, self.switchboard, self.receiver, self.outside):
            await server.start()

    async def stop(self) -> None:
        """Hang up everywhere."""
        cloud = (self.cloud,) if self.cloud else ()
        for server in (self.switchboard, *cloud, self.relay, self.receiver, self.outside):
            await server.stop()


def _tls(pki: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
    return context


async def _serve(plan: InternetPlan, folder: Path) -> None:
    internet = Internet(plan, folder)
    await internet.start()
    print("READY", flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await internet.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m todoku.rehearsal.servers", description="The mail servers."
    )
    parser.add_argument("--plan", type=Path, required=True, help="the InternetPlan as JSON, mode 0600")
    parser.add_argument(
        "--state", type=Path, required=True, help="folder with pki/, for inbox/ and outside-inbox/"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    try:
        asyncio.run(_serve(read(options.plan), options.state))
    except (PlanUnreadable, PortTaken) as problem:
        print(f"the rehearsal's mail servers cannot start: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        print(
            "the rehearsal's mail servers cannot start: "
            f"{problem.filename or options.state}: {problem.strerror}; "
            "the certificates have to be in pki/ below --state",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
