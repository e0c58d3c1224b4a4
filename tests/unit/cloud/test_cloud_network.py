# "Everything runs, and nobody can reach it": a security list of the cloud lets in SSH and nothing else. Changing it by
# hand replaces the whole list, and somebody else's rule with it.

from __future__ import annotations

from pathlib import Path

import pytest
from organisation import (
    Organisation,
    internet_fixture,  # noqa: F401
    organisation_fixture,  # noqa: F401
    side_fixture,  # noqa: F401
)

from todoku.cloud import destruction
from todoku.cloud.network import Guard, Guards, Ingress, IngressResource, note
from todoku.cloud.retry import Patience
from todoku.cloud.sdk_network import region_of
from todoku.plan.resource import NeedsPerson

pytest.importorskip("oci")

WORLD = "0.0.0.0/0"


@pytest.fixture
def network(organisation):
    return organisation.side.cloud.network


@pytest.fixture
def resource(organisation):
    return IngressResource(
        instance=organisation.side.cloud.tenancy.plan.instance, reason="others deliver to port 25"
    )


def apply(resource, organisation: Organisation) -> bool:
    """Whether it was changed."""
    client = organisation.client()
    change = resource.differ(resource.look(client))
    if change is not None:
        resource.change(change, client)
    return change is not None


def ports(rules) -> list[int]:
    return [rule["tcpOptions"]["destinationPortRange"]["min"] for rule in rules if rule.get("tcpOptions")]


def test_port_25_comes_in_behind_the_rules_that_are_there_and_once_only(resource, organisation, network):
    (only,) = network.lists.values()
    before = list(only.ingress)

    assert apply(resource, organisation)
    assert only.ingress[:-1] == before
    assert only.ingress[-1]["description"] == "todoku: others deliver mail"
    assert (only.ingress[-1]["source"], ports(only.ingress)) == (WORLD, [22, 25])
    assert not apply(resource, organisation)


@pytest.mark.parametrize("grouped", [False, True])
def test_destroy_tells_of_the_rule_that_it_leaves(resource, organisation, network, grouped):
    # The host stays, and mail comes in as before: that port 25 is open has to be known to whoever takes the rest away.
    if grouped:
        network.join("mail")
    cloud = organisation.settings.cloud.model_copy(update={"instance": resource.instance})
    settings = organisation.settings.model_copy(update={"cloud": cloud})
    before = destruction.made(settings, organisation.client()).kept
    assert not [kept for kept in before if "port 25" in kept]

    assert apply(resource, organisation)

    (told,) = [kept for kept in destruction.made(settings, organisation.client()).kept if "port 25" in kept]
    assert 'remove the rule "todoku: others deliver mail"' in told
    assert told.startswith("network security group mail:" if grouped else "security list ")
    network.attached = "DETACHED"
    (told,) = [kept for kept in destruction.made(settings, organisation.client()).kept if "port 25" in kept]
    assert "no primary network interface" in told


def test_a_network_security_group_gets_the_rule_and_the_list_is_left_alone(resource, organisation, network):
    group = network.join("mail")
    (only,) = network.lists.values()
    version = only.version

    assert apply(resource, organisation)
    assert ports(group.ingress) == [25]
    assert only.version == version
    assert not apply(resource, organisation)


def test_ipv6_is_let_in_where_the_interface_has_it(resource, organisation, network):
    network.ipv6 = ["2001:db8:10::10"]
    assert apply(resource, organisation)
    (only,) = network.lists.values()
    assert [rule["source"] for rule in only.ingress[-2:]] == [WORLD, "::/0"]


def test_what_somebody_else_adds_at_the_same_time_is_not_lost(resource, organisation, network):
    # Between our reading of the list and our writing it.
    (only,) = network.lists.values()
    client = organisation.client(Patience(first=0.01, longest=0.02))
    change = resource.differ(resource.look(client))
    let_in, theirs = client.api.let_in, {**only.ingress[0], "description": "a web server"}

    def late(guard, rules):
        if theirs not in only.ingress:
            only.ingress.append(theirs)
            only.touch(0)
        let_in(guard, rules)

    client.api.let_in = late  # type: ignore[method-assign]
    resource.change(change, client)
    assert theirs in only.ingress and ports(only.ingress) == [22, 22, 25]


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("grouped", [True, False])
def test_a_lost_answer_makes_no_second_rule(resource, organisation, network, cut, grouped):
    group = network.join("mail") if grouped else None
    organisation.side.switch(rest={"cut": cut, "operation": "add_*" if grouped else "update_*", "count": 1})
    apply(resource, organisation)
    (only,) = network.lists.values()
    assert ports(group.ingress if group else only.ingress).count(25) == 1


def test_a_missing_right_is_told_as_the_statement_that_is_missing(resource, organisation, network):
    cloud = organisation.side.cloud
    policy = next(iter(cloud.tenancy.policies.values()))
    policy.parsed = ()
    with pytest.raises(
        NeedsPerson, match=r"read instance-family in compartment id (?s:.)*manage security-lists"
    ):
        resource.look(organisation.client(Patience(tries=1)))


def test_the_right_to_look_is_not_the_right_to_change(resource, organisation, network):
    from todoku.cloud import permissions
    from todoku.rehearsal.cloud.policies import parse

    policy = next(iter(organisation.side.cloud.tenancy.policies.values()))
    who, compartment = "group Administrators", organisation.settings.cloud.compartment
    policy.parsed = tuple(parse(each.statement(who, compartment)) for each in permissions.INSTANCE[:3])
    with pytest.raises(NeedsPerson, match="the rule may not be added"):
        apply(resource, organisation)


def test_the_page_lists_these_rights():
    from todoku.cloud import permissions

    page = (Path(__file__).parents[3] / "docs/firewalls.md").read_text()
    compartment = "ocid1.compartment.oc1..aaaaaaaaexample"
    needed = [right.statement("group todoku-admins", compartment) for right in permissions.INSTANCE]
    assert "```text\n" + "\n".join(needed) + "\n```" in page


def test_the_rights_that_are_documented_are_enough(resource, organisation, network):
    from todoku.cloud import permissions
    from todoku.rehearsal.cloud.policies import parse

    cloud = organisation.side.cloud
    policy = next(iter(cloud.tenancy.policies.values()))
    who, compartment = "group Administrators", organisation.settings.cloud.compartment
    policy.parsed = tuple(parse(each.statement(who, compartment)) for each in permissions.INSTANCE)
    assert apply(resource, organisation)
    network.join("mail")
    assert not apply(resource, organisation)


def guards(*rules: Ingress, has_ipv6: bool = False) -> Guards:
    return Guards((Guard("security list", "id", "Default", rules),), has_ipv6)


@pytest.mark.parametrize(
    "rule",
    [
        Ingress("10.0.0.0/8", "6", (25, 25)),
        Ingress(WORLD, "17", (25, 25)),
        Ingress(WORLD, "6", (26, 99)),
        Ingress(WORLD, "6", (25, 25), stateless=True),
        Ingress("ocid1.networksecuritygroup.oc1..a", "6", (25, 25)),
    ],
)
def test_a_rule_that_does_not_let_everybody_in_is_not_taken_for_one(rule):
    assert guards(rule).lacking == (Ingress(WORLD, "6", (25, 25)),)
    assert guards(rule, Ingress(WORLD, "all")).lacking == ()


def test_ports_for_mail_programs_that_are_open_to_the_world_are_told_and_left_alone():
    told = note(guards(Ingress(WORLD, "6", (400, 600)), Ingress("::/0", "6", (993, 993))))
    assert "port 465, 587, 993" in told[0]
    assert note(guards(Ingress("10.0.0.0/8", "6", (993, 993)))) == []


def test_the_region_is_the_instances_own():
    assert region_of("ocid1.instance.oc1.iad.abc", "ap-tokyo-1") == "us-ashburn-1"
    assert region_of("ocid1.instance.oc1.eu-zurich-1.abc", "ap-tokyo-1") == "eu-zurich-1"
    assert region_of("ocid1.instance.oc1..abc", "ap-tokyo-1") == "ap-tokyo-1"
