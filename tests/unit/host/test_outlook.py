# Complaint: "It was set up, and then nothing arrived." What will hurt is told before anything is installed.

from __future__ import annotations

import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import dns.resolver
import pytest
from fake_machine import FakeMachine

from todoku.host import outlook
from todoku.host.client import Host
from todoku.host.outlook import Finding, of_the_machine, of_the_network

# As the images of Oracle's instances have it.
ORACLE = """\
-P INPUT ACCEPT
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
"""


def rules(found: Iterable[Finding]) -> dict[str, Finding]:
    return {each.rule: each for each in found}


def test_a_system_that_todoku_is_not_made_for_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    release = tmp_path / "etc/os-release"
    release.write_text('PRETTY_NAME="Fedora Linux 43"\nVERSION_CODENAME=""\n')
    assert rules(of_the_machine(Host(tmp_path), ()))["os.other"].seen == "this is Fedora Linux 43"
    release.write_text('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_CODENAME=trixie\n')
    assert "os.other" not in rules(of_the_machine(Host(tmp_path), ()))


def test_another_mail_server_and_a_firewall_are_seen(tmp_path: Path) -> None:
    every = "exim4-daemon-light\tii \texim4\tmail-transport-agent, default-mta\n"
    machine = FakeMachine(
        tmp_path,
        {
            "dpkg-query -W -f ${Package}\t${db:Status-Abbrev}\t${source": [(0, every, "")],
            "dpkg-query": [(1, "", "")],
            "iptables": [(0, ORACLE, "")],
        },
    )
    found = rules(of_the_machine(machine, ()))
    assert "exim4-daemon-light" in found["mta.other"].seen + found["mta.other"].advice
    assert found["port_25.rejected"].hurts


class Nobody(dns.resolver.Resolver):
    """Knows one address, and no reverse names."""

    def __init__(self, address: str) -> None:
        super().__init__(configure=False)
        self.address = address

    def resolve(self, name: object, kind: str = "A", *_: object, **__: object) -> object:  # type: ignore[override]
        if kind == "PTR":
            raise dns.resolver.NXDOMAIN
        return [self.address]


def test_outgoing_ports_and_the_clock_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    # Real listeners stand for the relay; which ports it has open is what is told apart.
    with socket.create_server(("127.0.0.1", 0)) as relay, socket.create_server(("127.0.0.1", 0)) as closed:
        is_open, is_closed = relay.getsockname()[1], closed.getsockname()[1]
        closed.close()

        def asked(ports: dict[int, int], date: str) -> dict[str, Finding]:
            connects = outlook._connects
            monkeypatch.setattr(outlook, "_connects", lambda _, port: connects("127.0.0.1", ports[port]))
            monkeypatch.setattr(outlook, "_date_of", lambda _: date)
            try:
                return rules(
                    of_the_network("mx.hoge.example", (), "relay.email.example", Nobody("127.0.0.1"))
                )
            finally:
                monkeypatch.undo()

        now = format_datetime(datetime.now(UTC), usegmt=True)
        assert asked({587: is_open, 465: is_open, 25: is_open}, now) == {}
        blocked = asked({587: is_open, 465: is_open, 25: is_closed}, now)
        assert not blocked["port_25.outgoing"].hurts
        assert asked({587: is_closed, 465: is_closed, 25: is_closed}, now)["relay.closed"].hurts
        behind = format_datetime(datetime.now(UTC) + timedelta(minutes=20), usegmt=True)
        assert "behind" in asked({587: is_open, 465: is_open, 25: is_open}, behind)["clock.off"].seen
