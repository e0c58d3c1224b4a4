# A DKIM key can need an hour until Oracle has found its record. Nothing else waits for it, mail flows meanwhile,
# and what was begun is finished later, without anything being made twice.

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator

import pytest
from clouds import Tenancy, fully_aligned, plan, require_nothing_to_do, settle, waits, writes
from conftest import World, wait

pytestmark = pytest.mark.slow

HOUR = 3900.0  # 65 minutes were seen


@pytest.fixture
def emptied(world: World) -> Iterator[Tenancy]:
    """The tenancy as before the first apply, and an Oracle that takes its time; afterwards all is as it was."""
    destroy(world)
    world.relay(dkim_activation_s=HOUR, return_path_activation_s=HOUR)
    yield Tenancy(world)
    world.relay(reset=True)
    settle(world)


def destroy(world: World) -> None:
    done = world.todoku("destroy", "--confirm", world.domain, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    world.relay(advance_s=2 * 86_400)  # what was deleted still counts for a day


def test_apply_ends_well_says_what_waits_and_mail_flows_meanwhile(world: World, emptied: Tenancy) -> None:
    done = world.todoku("apply", "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["ok"]
    waiting = {each["id"]: each["reason"] for each in outcome["waiting"]}
    assert "can take an hour or more" in waiting[f"dkim-active:{world.domain}"]
    (key,) = emptied.keys
    assert key.name in waiting[f"dkim-active:{world.domain}"]
    assert f"@{world.domain}" not in [each.email_address for each in emptied.senders]
    assert world.alice.address in [each.email_address for each in emptied.senders]
    world.submit(world.alice, world.carol, "before the key signs")
    judged = world.wait_for("before the key signs").judged
    # Nobody signs for the domain yet, so DMARC cannot pass by DKIM; with p=none that is no reason to refuse.
    assert judged["spf"]["result"] == "pass"
    assert not [s for s in judged["dkim"] if s["domain"] == world.domain]
    assert world.todoku("plan").returncode == 0

    # An hour later the next apply finishes, and makes only what was missing.
    made = writes(world)
    assert made["create_dkim"] == made["create_email_domain"] == made["create_smtp_credential"] == 1
    world.relay(advance_s=HOUR + 1, dkim_activation_s=0.5, return_path_activation_s=0.5)
    outcome = world.apply()
    assert f"sender:@{world.domain}" in outcome["changed"]
    settle(world)
    assert {name: n for name, n in writes(world).items() if n > made.get(name, 0)}.keys() <= {
        "create_sender",
        "create_email_return_path",
    }
    assert writes(world)["create_sender"] - made["create_sender"] == 1
    world.submit(world.alice, world.carol, "now the key signs")
    assert not fully_aligned(world, world.wait_for("now the key signs"))


def test_apply_while_waiting_makes_nothing_twice(world: World, emptied: Tenancy) -> None:
    world.apply()
    before, made = emptied.inventory(), writes(world)
    outcome = world.apply()
    assert f"dkim-active:{world.domain}" in [each["id"] for each in outcome["waiting"]]
    assert emptied.inventory() == before
    repeated = {name for name, count in writes(world).items() if count > made.get(name, 0)}
    assert repeated <= {
        "create_email_return_path"
    }  # Oracle refuses it before DKIM is active; it is tried again
    assert waits(plan(world)) or plan(world)["changes"]


@pytest.mark.timeout(600)  # rounds of half a minute and more, on a machine that may be busy
def test_apply_wait_goes_on_until_oracle_is_done(world: World, emptied: Tenancy) -> None:
    process = subprocess.Popen(
        ["todoku", "apply", "--yes", "--wait", "--json"], stdout=subprocess.PIPE, text=True
    )
    lines: list[str] = []

    def is_waiting() -> bool:
        told = [json.loads(line) for line in tuple(lines)]
        return ("waits", f"dkim-active:{world.domain}") in {
            (each.get("event"), each.get("id")) for each in told
        }

    reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()))
    reader.start()
    try:
        wait(is_waiting, "waiting", 180)
        assert process.poll() is None
        world.relay(dkim_activation_s=0.5, return_path_activation_s=0.5)
        assert process.wait(300) == 0
    finally:
        process.kill()
        reader.join()
        print(*lines, sep="")  # shown when the test fails
    outcome = json.loads(lines[-1])
    assert outcome["waiting"] == []
    assert f"sender:@{world.domain}" in outcome["changed"]
    require_nothing_to_do(world)


def test_a_return_path_that_failed_after_72_hours_is_made_again(world: World, emptied: Tenancy) -> None:
    world.relay(dkim_activation_s=0.5, return_path_activation_s=4 * 86_400)
    world.apply()
    (path,) = emptied.return_paths
    world.relay(advance_s=73 * 3600)
    wait(lambda: [p.lifecycle_state for p in emptied.return_paths] == ["FAILED"], "Oracle to give up")
    world.relay(return_path_activation_s=0.5)
    outcome = world.apply()
    assert f"return-path:{world.domain}" in outcome["changed"]
    settle(world)
    (again,) = emptied.return_paths
    assert again.id != path.id
    assert again.lifecycle_state == "ACTIVE"
