# "I opened port 25 as the forum said, and nothing comes in": the rule stood after the one that rejects everything. Or
# it stood right, and was gone after the reboot. Or the chain was flushed, and the boot volume with it.

from __future__ import annotations

import contextlib
import json
from ipaddress import ip_network
from pathlib import Path

import pytest
from fake_machine import FakeMachine
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.host.firewall import iptables, nftables
from todoku.host.firewall.iptables import NotUnderstood
from todoku.host.firewall.model import Opening
from todoku.host.firewall.resources import (
    _VERSIONS,
    Firewalld,
    IptablesFirewall,
    NftablesFirewall,
)
from todoku.plan.resource import NeedsPerson

DATA = Path(__file__).parents[2] / "data"
IMAGE = (DATA / "oracle-ubuntu.rules.v4").read_text()
IMAGE6 = (DATA / "oracle-ubuntu.rules.v6").read_text()
WORLD = Opening(ip_network("0.0.0.0/0"), (25,))
OFFICE = Opening(ip_network("10.0.0.0/8"), (465, 587, 993))
WANTED = (WORLD, OFFICE)
WANTED6 = (Opening(ip_network("::/0"), (25,)), Opening(ip_network("fc00::/7"), (465, 587, 993)))
OURS = [
    "-A INPUT -p tcp -m tcp --dport 25 -m comment --comment todoku -j ACCEPT",
    "-A INPUT -s 10.0.0.0/8 -p tcp -m multiport --dports 465,587,993 -m comment --comment todoku -j ACCEPT",
]
REJECT = "-A INPUT -j REJECT --reject-with icmp-host-prohibited"


def table(*rules: str, policy: str = "ACCEPT", more: str = "") -> str:
    return (
        "\n".join(
            [
                "*filter",
                f":INPUT {policy} [0:0]",
                ":FORWARD ACCEPT [0:0]",
                *more.splitlines(),
                *rules,
                "COMMIT",
            ]
        )
        + "\n"
    )


def test_the_rules_of_oracles_images_get_ours_before_the_reject_and_nothing_else_changes():
    lines, changed = IMAGE.splitlines(), iptables.opened(IMAGE, WANTED).splitlines()
    at = lines.index(REJECT)
    assert changed == [*lines[:at], *OURS, *lines[at:]]
    assert "-A INPUT -s fc00::/7 -p tcp" in iptables.opened(IMAGE6, WANTED6)


def test_what_is_open_stays_as_it_is():
    once = iptables.opened(IMAGE, WANTED)
    assert iptables.opened(once, WANTED) == once
    assert iptables.commands(once, WANTED) == ""
    by_hand = table("-A INPUT -p tcp -m tcp --dport 25 -j ACCEPT", REJECT)
    assert iptables.opened(by_hand, (WORLD,)) == by_hand
    for open_anyway in (
        table(),
        table("-A INPUT -j ACCEPT", REJECT),
        "*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n",
        "",
    ):
        assert iptables.opened(open_anyway, WANTED) == open_anyway


def test_a_rule_behind_the_reject_is_no_open_door():
    appended = table(REJECT, *OURS)
    assert not iptables.is_open(appended, WANTED)
    assert iptables.opened(appended, WANTED) == table(*OURS, REJECT)
    assert iptables.commands(appended, WANTED).splitlines() == [
        "*filter", "-D INPUT 3", "-D INPUT 2",
        *(f"-I INPUT {at} {rule.removeprefix('-A INPUT ')}" for at, rule in enumerate(OURS, 1)),
        "COMMIT",
    ]  # fmt: skip


def test_client_networks_that_are_no_longer_in_the_settings_are_shut_out_again():
    before = table(*OURS, REJECT)
    moved = Opening(ip_network("192.168.7.0/24"), (465, 587, 993))
    after = iptables.opened(before, (WORLD, moved))
    assert "10.0.0.0/8" not in after and iptables.rule_for(moved) in after
    assert iptables.commands(before, (WORLD, moved)).splitlines()[1:3] == ["-D INPUT 2", "-D INPUT 1"]


def test_a_policy_that_drops_has_no_last_rule():
    dropping = table("-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", policy="DROP")
    assert iptables.opened(dropping, (WORLD,)).splitlines()[-2:] == [OURS[0], "COMMIT"]


@pytest.mark.parametrize(
    "rule",
    [
        "-A INPUT -s 192.0.2.0/24 -p tcp -m tcp --dport 25 -j ACCEPT",
        "-A INPUT -p udp -m udp --dport 25 -j ACCEPT",
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -p tcp -m tcp ! --dport 22 -j ACCEPT",
        "-A INPUT -p tcp -m set --match-set friends src -m tcp --dport 25 -j ACCEPT",
        "-A INPUT -p tcp -m state --state ESTABLISHED -m tcp --dport 25 -j ACCEPT",
        "-A INPUT -d 203.0.113.99/32 -p tcp -m tcp --dport 25 -j ACCEPT",
    ],
)
def test_a_door_that_is_not_open_to_everybody_is_not_taken_for_one(rule):
    assert not iptables.is_open(table(rule, REJECT), (WORLD,))


def test_a_chain_that_rejects_in_another_one_is_left_alone():
    hidden = table("-A INPUT -j strict", more=":strict - [0:0]\n-A strict -j DROP")
    with pytest.raises(NotUnderstood, match="in another chain"):
        iptables.opened(hidden, (WORLD,))


@pytest.mark.parametrize(
    "text",
    [
        "*filter\n:INPUT ACCEPT\n",
        "*filter\nCOMMIT\n",
        "*filter\n:INPUT ACCEPT\nhello\nCOMMIT",
        "*filter\n:INPUT DROP\nCOMMIT\n*filter\n:INPUT DROP\nCOMMIT\n",
        '*filter\n:INPUT DROP\n-A INPUT --comment "open\nCOMMIT\n',
    ],
)
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(NotUnderstood):
        iptables.opened(text, WANTED)


_OPTIONS = st.sampled_from(
    [
        "-p tcp", "-p udp", "-i lo", "-i ens3", "-s 10.1.0.0/16", "-s 0.0.0.0/0", "-m state --state NEW", "!",
        "-m tcp --dport 25", "-m multiport --dports 1:600,993", "--dport x", "-m comment --comment todoku", "--syn",
        "-j ACCEPT", "-j DROP", "-j REJECT", "-j LOG", "-j other", "-g other", "-j RETURN", "-d 10.0.0.1/32",
    ]
)  # fmt: skip
_RULES = st.builds(
    lambda chain, options: f"-A {chain} {' '.join(options)}",
    st.sampled_from(["INPUT", "INPUT", "other", "FORWARD"]),
    st.lists(_OPTIONS, max_size=5),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_RULES, max_size=8), st.sampled_from(["ACCEPT", "DROP"]))
def test_whatever_the_rules_are_they_are_opened_for_good_or_refused_and_nobodys_rules_are_lost(rules, policy):
    text = table(*rules, policy=policy, more=":other - [0:0]")
    try:
        changed = iptables.opened(text, WANTED)
    except NotUnderstood:
        return
    assert iptables.is_open(changed, WANTED)
    assert iptables.opened(changed, WANTED) == changed

    def others(each: str) -> list[str]:
        return [line for line in each.splitlines() if "--comment todoku" not in line]

    assert others(changed) == others(text)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("*:-A INPUT filter\n\"'COMMIT[0]todoku25"), max_size=120))
def test_any_text_is_changed_or_refused_and_nothing_else_happens(text):
    with contextlib.suppress(NotUnderstood):
        assert iptables.is_open(iptables.opened(text, WANTED), WANTED)


# --- nftables ---


def listing(*rules: list[dict], policy: str = "accept", family: str = "inet") -> str:
    place = {"family": family, "table": "filter"}
    chain = {**place, "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": policy}
    entries = [{"metainfo": {}}, {"table": {"family": family, "name": "filter"}}, {"chain": chain}]
    entries += [
        {"rule": {**place, "chain": "input", "handle": at, "expr": expr}} for at, expr in enumerate(rules)
    ]
    return json.dumps({"nftables": entries})


def dport(right: object) -> dict:
    return {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}}


def test_a_chain_of_nftables_that_drops_is_told_with_the_lines_that_are_lacking():
    (closed,) = nftables.closed(listing([dport(22), {"accept": None}], policy="drop"), (*WANTED, *WANTED6))
    assert closed.instruction() == [
        'tcp dport 25 accept comment "todoku"',
        'ip saddr 10.0.0.0/8 tcp dport { 465, 587, 993 } accept comment "todoku"',
        'tcp dport 25 accept comment "todoku"',
        'ip6 saddr fc00::/7 tcp dport { 465, 587, 993 } accept comment "todoku"',
    ]


def test_a_chain_of_nftables_that_lets_mail_in_is_fine():
    assert nftables.closed(listing(), WANTED) == []
    ports = dport({"set": [22, 25, {"range": [400, 1000]}]})
    assert nftables.closed(listing([ports, {"accept": None}], [{"drop": None}]), WANTED) == []
    assert nftables.closed(listing([{"drop": None}], [ports, {"accept": None}]), WANTED) != []
    assert nftables.closed(listing([{"drop": None}], family="ip"), WANTED6) == []


_KEYS = [
    *("match", "accept", "drop", "jump", "op", "left"),
    *("right", "payload", "set", "range", "ct", "prefix"),
]
_JSON = st.recursive(
    st.none() | st.integers(-1, 70000) | st.sampled_from(["lo", "new", "tcp", "dport", "10.0.0.0/8", "drop"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(_KEYS),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(_JSON, max_size=3))
def test_any_listing_of_nftables_is_read_or_refused(expressions):
    try:
        nftables.closed(listing(expressions, policy="drop"), WANTED)
    except ValueError as error:
        assert "not a listing of nft" in str(error)


# --- the resources, on a machine whose programs answer from a table ---

V4 = _VERSIONS[0]


def the_firewall() -> IptablesFirewall:
    return IptablesFirewall(version=V4, wanted=WANTED, reason="mail")


def machine(root: Path, running: str, file: str | None = IMAGE, **more: list) -> FakeMachine:
    host = FakeMachine(root, {"iptables-save": [(0, running, "")], **more})
    if file is not None:
        host.real(V4.file).parent.mkdir(parents=True)
        host.real(V4.file).write_text(file)
    return host


def test_no_firewall_no_change(tmp_path):
    host = FakeMachine(tmp_path)
    for resource in (
        the_firewall(),
        Firewalld(wanted=WANTED, reason=""),
        NftablesFirewall(wanted=WANTED, reason=""),
    ):
        assert resource.differ(resource.look(host)) is None


def test_the_plan_shows_which_rule_comes_where(tmp_path):
    change = the_firewall().differ(the_firewall().look(machine(tmp_path, IMAGE)))
    assert change is not None
    assert change.summary == "let mail in: the running rules and /etc/iptables/rules.v4"
    assert [line for line in change.detail.splitlines() if line[0] in "+-"] == [f"+{rule}" for rule in OURS]


def test_rules_that_come_from_nowhere_known_are_a_persons_business(tmp_path):
    with pytest.raises(NeedsPerson, match=r"somewhere else than /etc/iptables/rules.v4"):
        the_firewall().look(machine(tmp_path, IMAGE, file=None))


def test_a_file_that_is_not_understood_stays_as_it_is_with_an_instruction(tmp_path):
    host = machine(tmp_path, IMAGE, file="*filter\nnonsense\nCOMMIT\n")
    with pytest.raises(NeedsPerson, match=r"not one of iptables-save: nonsense(?s:.)*--dport 25"):
        the_firewall().look(host)
    assert host.text(V4.file) == "*filter\nnonsense\nCOMMIT\n"


def test_ufw_is_never_called_but_named(tmp_path):
    ufw = table("-A INPUT -j ufw-before-input", more=":ufw-before-input - [0:0]\n-A ufw-before-input -j DROP")
    with pytest.raises(NeedsPerson, match=r"ufw allow 25/tcp\nufw allow proto tcp from 10.0.0.0/8 to any"):
        the_firewall().look(host := machine(tmp_path, ufw, file=None))
    assert not any("ufw" in asked for asked in host.asked)


def test_firewalld_gets_a_port_and_rich_rules_now_and_for_the_next_boot(tmp_path):
    rich = 'rich-rule=rule family="ipv4" source address="10.0.0.0/8" port port="993" protocol="tcp" accept'
    host = FakeMachine(
        tmp_path,
        {
            "firewall-cmd --state": [(0, "running", "")],
            "firewall-cmd --get-default-zone": [(0, "public\n", "")],
            "firewall-cmd --get-active-zones": [
                (0, "public\n  interfaces: ens3\nhome\n  sources: 10.9.0.0/16\n", "")
            ],
            "firewall-cmd --zone=public --query-": [(1, "no", "")],
            "firewall-cmd --permanent --zone=public --query-": [(1, "no", "")],
        },
    )
    resource = Firewalld(wanted=WANTED, reason="mail")
    change = resource.differ(resource.look(host))
    assert change is not None and change.summary == "let mail in: firewalld's zone public"
    resource.change(change, host)
    assert "firewall-cmd --permanent --zone=public --add-port=25/tcp" in host.asked
    assert f"firewall-cmd --zone=public --add-{rich}" in host.asked
