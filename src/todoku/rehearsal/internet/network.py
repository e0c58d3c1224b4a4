"""The world's network: every host of it is an address on `lo`, and the organisation's office is a namespace of
its own at the other end of a link, so that a mail program there is a real other host."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from todoku.rehearsal.internet import plan

OFFICE_COMMAND = ("ip", "netns", "exec", "office")

_FIXED = (
    plan.METADATA,
    plan.RELAY_SMTP,
    plan.CLOUD_REST,
    plan.RELAY_OUTGOING,
    plan.DNS,
    plan.RECEIVER,
    plan.RECEIVER6,
    plan.OUTSIDE,
    plan.OUTSIDE6,
    plan.AUTHORITY,
)


def up(server: Iterable[IPv4Address | IPv6Address]) -> None:
    """Bring up `lo` with every address, and the office behind a link."""
    server = tuple(server)
    own = next((str(a) for a in server if a.version == 4), str(plan.SERVER))
    commands = ["link set lo up"]
    commands += [f"addr add {address}/{address.max_prefixlen} dev lo" for address in (*server, *_FIXED)]
    # A connection to an address of this host would come from that very address: towards everybody else, we
    # are our server.
    commands += [
        f"route replace local {a} dev lo table local src {own}"
        for a in _FIXED
        if a.version == 4 and str(a) != own
    ]
    commands += [
        "netns add office",
        "link add office0 type veth peer name eth0 netns office",
        f"addr add {plan.OFFICE_GATEWAY}/24 dev office0",
        "link set office0 up",
    ]
    office = [
        "link set lo up",
        f"addr add {plan.OFFICE}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {plan.OFFICE_GATEWAY}",
    ]
    # Duplicate address detection would keep IPv6 addresses from being used for a second.
    for name in ("all", "default", "lo"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
    _batch(commands)
    _batch(office, "-netns", "office")
    resolver = Path("/etc/netns/office/resolv.conf")
    resolver.parent.mkdir(parents=True, exist_ok=True)
    resolver.write_text(f"nameserver {plan.OFFICE_GATEWAY}\n")


def _batch(commands: Sequence[str], *options: str) -> None:
    subprocess.run(
        ["ip", *options, "-batch", "-"],
        input="\n".join(commands) + "\n",
        text=True,
        check=True,
        env=os.environ | {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
    )
