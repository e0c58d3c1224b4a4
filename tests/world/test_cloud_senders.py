# Approved senders: a new one is used only once the relay takes it, and those that nobody needs any more go only when
# somebody asks for it.

from __future__ import annotations

import json
from collections.abc import Iterator

import oci
import pytest
from clouds import Tenancy, fully_aligned, plan, require_nothing_to_do, settle, waits
from conftest import World, wait

pytestmark = pytest.mark.slow  # they wait for a relay that takes its time

LONG = 900.0  # seconds: a new sender was seen to be refused for a quarter of an hour


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    world.relay(reset=True)
    yield Tenancy(world)
    world.relay(reset=True)
    settle(world)
    require_nothing_to_do(world)


def approved(tenancy: Tenancy) -> set[str]:
    return {each.email_address for each in tenancy.senders}


def forget(tenancy: Tenancy, world: World) -> None:
    """Take all of Todoku's senders away, as somebody in the console would."""
    for sender in tenancy.senders:
        tenancy.email.delete_sender(sender.id)


def test_a_new_sender_is_waited_for_and_used_only_once_the_relay_takes_it(
    world: World, tenancy: Tenancy
) -> None:
    forget(tenancy, world)
    world.relay(sender_propagation_s=LONG)
    outcome = (
        world.apply()
    )  # bounded: it does not sit there for a quarter of an hour, nor for this test's five minutes
    whole = f"@{world.domain}"
    waiting = {each["id"]: each["reason"] for each in outcome["waiting"]}
    assert whole in approved(tenancy)  # the cloud says that it is there, and the relay does not yet
    reasons = "\n".join(reason for name, reason in waiting.items() if name.startswith("sender-usable:"))
    assert "535 Authorization failed" in reasons
    assert "15 minutes" in waiting[f"sender-usable:{whole}"]
    # Asked with MAIL and RSET, not with mail; and so seldom that the relay does not shut its door.
    seen = world.relay()["seen"]
    assert seen["messages"] == 0
    assert seen["reply_codes"]["535"] <= 3
    assert "421" not in seen["reply_codes"]
    assert f"sender-usable:{whole}" in waits(plan(world)) or plan(world)["changes"]
    # What is sent meanwhile is not lost: it waits in the queue. The relay refuses the sender, or, as it has said so
    # to the probes, the connection.
    world.submit(world.alice, world.carol, "before the relay takes it")
    wait(lambda: "delay_reason" in str(world.queue()), "the message in the queue", 60)

    world.relay(advance_s=LONG + 1)
    settle(world)
    require_nothing_to_do(world)
    world.flush()
    assert not fully_aligned(world, world.wait_for("before the relay takes it"))
    world.submit(world.alice, world.carol, "once the relay takes it")
    assert not fully_aligned(world, world.wait_for("once the relay takes it"))


def test_what_nobody_needs_any_more_goes_on_request_and_only_todokus_own(
    world: World, tenancy: Tenancy
) -> None:
    create = oci.email.models.CreateSenderDetails
    theirs = tenancy.email.create_sender(
        create(compartment_id=tenancy.compartment, email_address=f"theirs@{world.domain}")
    ).data
    ours = f"gone@{world.domain}"
    tenancy.email.create_sender(
        create(compartment_id=tenancy.compartment, email_address=ours, freeform_tags={"todoku": "managed"})
    )
    try:
        settle(world)
        world.relay(advance_s=3600)
        (note,) = [each for each in plan(world)["notes"] if "not needed any more" in each]
        assert ours in note
        assert theirs.email_address not in note
        assert world.apply()["changed"] == []  # not without being asked
        assert ours in approved(tenancy)

        done = world.todoku("apply", "--yes", "--prune", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "senders-unneeded" in json.loads(done.stdout.splitlines()[-1])["changed"]
        assert approved(tenancy) == {f"@{world.domain}", theirs.email_address}
        assert not [each for each in plan(world)["notes"] if "not needed any more" in each]
        world.submit(world.alice, world.carol, "after the pruning")
        assert not fully_aligned(world, world.wait_for("after the pruning"))
    finally:
        tenancy.email.delete_sender(theirs.id)
