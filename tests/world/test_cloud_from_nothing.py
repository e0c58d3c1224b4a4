# The world began with an empty tenancy and an empty zone, and `todoku apply` alone. What came of it is looked at
# with tools that nobody here wrote: the receiver's judgement, Oracle's SDK, Oracle's command line.

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

import pytest
from clouds import Tenancy, fully_aligned, plan, require_nothing_to_do, writes
from conftest import World

LATENCY = 0.5  # seconds, before each answer of the cloud


@pytest.fixture
def tenancy(world: World) -> Tenancy:
    return Tenancy(world)


def test_spf_dkim_and_dmarc_pass_and_both_are_aligned(world: World) -> None:
    world.submit(world.alice, world.carol, "aligned twice")
    arrived = world.wait_for("aligned twice")
    assert not fully_aligned(world, arrived)
    # Through the return path of the domain's own, not through Oracle's: else SPF passes for somebody else's name.
    assert arrived.judged["spf"]["domain"] == f"nrt1.rp.{world.domain}"


def test_a_second_apply_changes_nothing_and_asks_for_no_change(world: World) -> None:
    world.relay(reset=True)
    outcome = world.apply()
    assert outcome["changed"] == []
    assert outcome["waiting"] == []
    assert writes(world) == {}
    require_nothing_to_do(world)


def test_dns_check_finds_every_record_published_and_seen(world: World) -> None:
    done = world.todoku("dns", "check", "--json")
    checked = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {(row["name"], row["type"]) for row in checked["records"]} >= {
        (world.domain, "MX"),
        (world.domain, "TXT"),
        (world.hostname, "A"),
        (world.hostname, "TXT"),
        (f"_dmarc.{world.domain}", "TXT"),
        (f"nrt1.rp.{world.domain}", "CNAME"),
    }
    for row in checked["records"]:
        assert row["seen"], row
        assert row["published"], row


def test_oracles_sdk_lists_what_todoku_made_once_each(tenancy: Tenancy, world: World) -> None:
    assert [each.name for each in tenancy.domains] == [world.domain]
    assert [each.lifecycle_state for each in tenancy.domains] == ["ACTIVE"]
    assert [each.lifecycle_state for each in tenancy.keys][-1] == "ACTIVE"
    assert [each.name for each in tenancy.return_paths] == [f"nrt1.rp.{world.domain}"]
    assert f"@{world.domain}" in [each.email_address for each in tenancy.senders]
    assert len(tenancy.credentials) == 1
    (group,) = [each for each in tenancy.groups if each.name == "todoku-senders"]
    memberships = tenancy.identity.list_user_group_memberships(
        tenancy.config["tenancy"], user_id=tenancy.relay_user.id
    ).data
    assert [each.group_id for each in memberships] == [group.id]
    (policy,) = [each for each in tenancy.policies if each.name == "todoku-senders"]
    (statement,) = policy.statements  # least privilege: one statement, for sending and nothing else
    assert "to use email-family in compartment id" in statement


def test_oracles_command_line_lists_the_same(tenancy: Tenancy, world: World) -> None:
    (domain,) = _oci("email", "domain", "list", "-c", tenancy.compartment)["items"]
    assert domain["name"] == world.domain
    keys = _oci("email", "dkim", "list", "--email-domain-id", domain["id"])["items"]
    assert "ACTIVE" in [each["lifecycle-state"] for each in keys]
    senders = _oci("email", "sender", "list", "-c", tenancy.compartment)
    assert f"@{world.domain}" in [each["email-address"] for each in senders]
    credentials = _oci("iam", "smtp-credential", "list", "--user-id", tenancy.relay_user.id)
    assert [each["description"] for each in credentials] == [f"todoku {world.hostname}"]
    records = _oci("dns", "record", "zone", "get", "--zone-name-or-id", world.domain)["items"]
    assert f"10 {world.hostname}." in [each["rdata"] for each in records if each["rtype"] == "MX"]


def _oci(*arguments: str) -> Any:
    """What Oracle's command line prints under "data"."""
    environment = {**os.environ, "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True"}
    done = subprocess.run(
        ["oci", *arguments], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]


def test_a_plan_asks_for_each_thing_once_and_at_the_same_time(world: World) -> None:
    # Many resources look at the same lists, and the cloud is far away: what does not follow from another answer is
    # asked for at the same time. So latency counts a few times for a plan, not once for each call or resource.
    world.relay(reset=True)
    world.relay(advance_s=3700)  # senders that are older are not asked for at the relay
    world.todoku("plan")  # so that nothing has to be read from the disk for the first time
    world.relay(reset=True)
    world.relay(latency_ms=LATENCY * 1000)
    planned = plan(world)
    seen = world.relay(latency_ms=20)["rest_seen"]
    assert planned["changes"] == 0
    assert len(planned["steps"]) > 30
    assert writes(world) == {}
    operations = dict(seen["operations"])
    assert operations.pop("list_policies") <= 2  # of the compartment, and of the tenancy
    assert max(operations.values()) == 1, operations
    calls = [call["time"] for call in seen["calls"]]
    assert max(calls) - min(calls) < 0.6 * len(calls) * LATENCY, operations

    began = time.monotonic()
    plan(world)
    print(
        f"\na plan of {len(planned['steps'])} resources with 20 ms latency: {time.monotonic() - began:.2f} s"
    )
