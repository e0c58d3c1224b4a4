# An instance in Oracle's cloud rejects everything but SSH, by rules in the machine itself that nobody sees in the
# console. A rule that is appended comes too late, and one that is not in the file is gone after the next boot.

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONFIG, OFFICE, World

from todoku import settings
from todoku.host.client import Host
from todoku.host.firewall.resources import NftablesFirewall, openings
from todoku.plan.resource import NeedsPerson

DATA = Path(__file__).parents[1] / "data"
FILES = {4: Path("/etc/iptables/rules.v4"), 6: Path("/etc/iptables/rules.v6")}
SERVER6 = "2001:db8:10::10"
# A host of the Internet at the other end of a link, as all others of the world share the server's loopback.
STREET = ("ip", "netns", "exec", "street")
_BUILD = """\
netns add street
link add street0 type veth peer name eth0 netns street
addr add 198.51.100.201/30 dev street0
addr add 2001:db8:201::1/64 dev street0 nodad
link set street0 up
"""
_THERE = """\
link set lo up
addr add 198.51.100.202/30 dev eth0
addr add 2001:db8:201::2/64 dev eth0 nodad
link set eth0 up
route add default via 198.51.100.201
route add default via 2001:db8:201::1
"""


def load(version: int, text: str) -> None:
    program = "iptables-restore" if version == 4 else "ip6tables-restore"
    subprocess.run([program], input=text, text=True, check=True, capture_output=True)


def rules(version: int) -> list[str]:
    program = "iptables-save" if version == 4 else "ip6tables-save"
    saved = subprocess.run([program, "-t", "filter"], text=True, check=True, capture_output=True)
    return [line for line in saved.stdout.splitlines() if line.startswith("-A")]


def connects(where: tuple[str, ...], address: str, port: int) -> str:
    """ "open", or in which words the network says no."""
    program = (
        "import socket\n"
        f"try: socket.create_connection(({address!r}, {port}), 2); print('open')\n"
        "except OSError as error: print(error.strerror or error)"
    )
    done = subprocess.run([*where, "python", "-c", program], text=True, check=True, capture_output=True)
    return done.stdout.strip()


_THEIRS = """
table inet guard {
    set friends { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        ip saddr @friends tcp dport 993 accept
        tcp dport { 22, 2222 } accept
        MINE
        log prefix "dropped " counter drop
    }
}
"""


@pytest.fixture
def image() -> Iterator[dict[int, str]]:
    """The rules that Oracle's images of Ubuntu load, in force and in their files; and a street."""
    text = {version: (DATA / f"oracle-ubuntu.rules.v{version}").read_text() for version in FILES}
    subprocess.run(["ip", "-batch", "-"], input=_BUILD, text=True, check=True)
    subprocess.run(["ip", "-netns", "street", "-batch", "-"], input=_THERE, text=True, check=True)
    for version, file in FILES.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text[version])
        load(version, text[version])
    yield text
    for version, file in FILES.items():
        load(version, "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n")
        file.unlink()
    subprocess.run(["ip", "netns", "del", "street"], check=True)


def test_apply_lets_mail_in_through_the_rules_of_oracles_images_and_through_a_reboot(
    world: World, image: dict[int, str]
) -> None:
    assert connects(STREET, world.ip, 25) == "No route to host"
    assert connects(OFFICE, world.ip, 993) == "No route to host"
    before = {version: rules(version) for version in FILES}

    outcome = world.apply()

    assert sorted(outcome["changed"]) == ["firewall:iptables-v4", "firewall:iptables-v6"]
    for again in (False, True):
        if again:  # as netfilter-persistent does it at boot
            for version, file in FILES.items():
                load(version, file.read_text())
        assert connects(STREET, world.ip, 25) == "open"
        assert connects(STREET, SERVER6, 25) == "open"
        for port in (465, 587, 993):
            assert connects(STREET, world.ip, port) == "No route to host"
            assert connects(STREET, SERVER6, port) != "open"
            assert connects(OFFICE, world.ip, port) == "open"
        for version in FILES:
            # Oracle's own rules, which protect the boot volume, are all there, in their order.
            assert [rule for rule in rules(version) if "todoku" not in rule] == before[version]
    for version, file in FILES.items():
        ours = [line for line in file.read_text().splitlines() if "--comment todoku" not in line]
        assert ours == image[version].splitlines()
    assert world.apply()["changed"] == []


def test_a_chain_of_nftables_is_left_alone_and_the_lines_that_the_plan_tells_open_it() -> None:
    resource = NftablesFirewall(wanted=openings(settings.load(CONFIG)), reason="mail")
    assert resource.look(Host()) is None
    subprocess.run(["nft", "-f", "-"], input=_THEIRS.replace("MINE", ""), text=True, check=True)
    try:
        with pytest.raises(
            NeedsPerson, match="the chain input of nftables' table inet guard keeps mail out"
        ) as told:
            resource.look(Host())
        lines = [line for line in str(told.value).splitlines() if line.endswith('comment "todoku"')]
        assert 'ip6 saddr fc00::/7 tcp dport { 465, 587, 993 } accept comment "todoku"' in lines
        again = "delete table inet guard\n" + _THEIRS.replace("MINE", "\n".join(lines))
        subprocess.run(["nft", "-f", "-"], input=again, text=True, check=True)
        assert resource.look(Host()) is None
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "guard"], check=True)
