# The relay keeps a list of addresses that it takes mail for and sends nothing to. Who is on it, why, and how to get off
# it again is asked where the mail system is, not in a console.

from __future__ import annotations

import json

import pytest
from conftest import CONFIG, World
from test_ledger import settled

if "\n[cloud]\n" not in CONFIG.read_text():
    pytest.skip("this world has no cloud, so nobody to ask", allow_module_level=True)


def listed(world: World) -> dict[str, str]:
    done = world.todoku("suppression", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {each["address"]: each["reason"] for each in json.loads(done.stdout)["suppressions"]}


def test_lifted_and_sent_again_it_arrives(world: World) -> None:
    # A hard bounce at the far end: the relay had accepted it, and suppresses the address from then on.
    gone = world.carol.replace("carol", "unknown.lift")
    world.submit(world.alice, gone, "bounces there")
    settled(world, "bounces there", gone, "accepted")
    from conftest import wait

    wait(lambda: listed(world).get(gone) == "HARDBOUNCE", "the suppression")
    world.submit(world.alice, gone, "dropped")
    settled(world, "dropped", gone, "suppressed")
    lifted = world.todoku("suppression", "lift", gone.upper())
    assert lifted.returncode == 0, lifted.stderr
    assert "550" in lifted.stdout  # what its server had said
    assert gone not in listed(world)
    world.submit(world.alice, gone, "sent again")
    settled(world, "sent again", gone, "accepted")
    assert "is not suppressed" in world.todoku("suppression", "lift", "nobody@mailbox.example").stdout


def test_added_by_hand_nothing_is_sent_there(world: World) -> None:
    frank = world.carol.replace("carol", "frank")
    assert world.todoku("suppression", "add", frank).returncode == 0
    assert "it was suppressed" in world.todoku("suppression", "add", frank).stdout
    assert listed(world)[frank] == "MANUAL"
    assert "somebody put it on the list" in world.todoku("suppression", "list").stdout
    world.submit(world.alice, frank, "not to frank")
    settled(world, "not to frank", frank, "suppressed")
    assert world.todoku("suppression", "lift", frank).returncode == 0
    refused = world.todoku("suppression", "add", "no address")
    assert refused.returncode == 2


def test_a_cloud_that_fails_is_told_in_words(world: World) -> None:
    world.relay(rest={"status": 404, "count": 9, "operation": "list_suppressions"})
    done = world.todoku("suppression", "list")
    assert done.returncode == 1
    assert "to read suppressions in tenancy" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
