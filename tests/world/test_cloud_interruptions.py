# The network breaks, Oracle asks to slow down, somebody pulls the plug: then `todoku apply` again, and there is
# everything once: no duplicates, no orphans.

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from clouds import Tenancy, fully_aligned, require_nothing_to_do, settle, writes
from conftest import World

pytestmark = pytest.mark.slow

# What is made one by one: nothing in the way of the others, so that a kill comes after each of them.
_MADE = ("create_", "add_user", "patch_rr_set", "update_user")


@pytest.fixture
def emptied(world: World) -> Iterator[Tenancy]:
    """The tenancy as before the first apply; afterwards all is as it was, and mail is signed."""
    tenancy = Tenancy(world)
    before = tenancy.inventory()
    done = world.todoku("destroy", "--confirm", world.domain, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    world.relay(reset=True)
    world.relay(advance_s=2 * 86_400)
    yield tenancy
    world.relay(reset=True)
    settle(world)
    after = tenancy.inventory()
    for kind in ("domains", "return paths", "users", "groups", "policies"):
        assert after[kind] == before[kind], kind
    for kind in ("keys", "senders", "records"):  # those for single addresses may be new, a key has a new name
        assert len(after[kind]) == len(set(after[kind])), kind
    assert len(after["keys"]) == 1
    assert len(tenancy.credentials) == 1
    require_nothing_to_do(world)


def test_every_answer_to_a_change_is_lost_and_nothing_is_made_twice(world: World, emptied: Tenancy) -> None:
    # Done, but the connection breaks before the answer: the request must not simply be sent again.
    world.relay(rest={"cut": "after", "operation": "create_[!s]*", "count": 1000})
    world.apply()
    assert world.relay()["rest_seen"]["statuses"]["0"] >= 6
    for name in ("email_domain", "dkim", "user", "group", "policy"):
        assert writes(world)[f"create_{name}"] == 1, name  # looked for, and found: not asked for again


def test_a_lost_answer_with_the_password_leaves_no_orphaned_credential(
    world: World, emptied: Tenancy
) -> None:
    world.relay(rest={"cut": "after", "operation": "create_smtp_credential", "count": 1})
    world.apply()
    assert writes(world)["create_smtp_credential"] == 2
    assert writes(world)["delete_smtp_credential"] == 1
    assert len(emptied.credentials) == 1


def test_the_connection_is_cut_before_several_changes_and_nothing_is_missing(
    world: World, emptied: Tenancy
) -> None:
    world.relay(rest={"cut": "before", "operation": "writes", "count": 5, "skip": 1})
    world.apply()
    assert world.relay()["rest_seen"]["statuses"]["0"] == 5


def test_apply_that_is_killed_after_each_change_in_turn_goes_on(world: World, emptied: Tenancy) -> None:
    kills = 0
    for _ in range(30):
        before = _changes(world)
        process = subprocess.Popen(
            ["todoku", "apply", "--yes"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and _changes(world) == before:
            time.sleep(0.002)
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
    assert kills >= 5
    settle(world)
    world.submit(world.alice, world.carol, "after all those kills of apply")
    assert not fully_aligned(world, world.wait_for("after all those kills of apply"))


def _changes(world: World) -> int:
    return sum(count for name, count in writes(world).items() if name.startswith(_MADE))


def test_a_storm_of_429_is_waited_out(world: World, emptied: Tenancy) -> None:
    world.relay(rest={"status": 429, "count": 25})
    world.apply()
    assert world.relay()["rest_seen"]["statuses"]["429"] == 25
    settle(world)


def test_a_service_that_has_trouble_for_a_moment_is_asked_again(world: World, emptied: Tenancy) -> None:
    # 500 and 503 leave open whether it was done: it is looked for before it is asked for again.
    for status in (500, 503):
        world.relay(rest={"status": status, "count": 8})
        world.apply()
        assert world.relay()["rest_seen"]["statuses"][str(status)] == 8
    settle(world)
