# A DKIM key is replaced while mail flows: every message verifies at the receiver, whatever happens to the command.

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from clouds import Stream, Tenancy, fully_aligned, kill_after, kill_at, require_nothing_to_do
from conftest import World, wait

pytestmark = pytest.mark.slow

DAY = 86_400
HALF_A_YEAR = 183 * DAY


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    """A day later there is only one key again, as before; for another day the deleted one still counts, then its
    record goes."""
    yield Tenancy(world)
    world.relay(reset=True)
    world.relay(advance_s=DAY + 60)
    world.apply()
    world.relay(advance_s=DAY + 60)
    world.apply()
    require_nothing_to_do(world)


def test_every_message_of_a_stream_verifies_while_the_key_is_replaced(world: World, tenancy: Tenancy) -> None:
    (before,) = tenancy.keys
    with Stream(world, "rotated") as stream:
        done = world.todoku("dkim", "rotate", "--wait", "60")
        assert done.returncode == 0, done.stdout + done.stderr
        signed_before = len(stream.accepted)
        wait(lambda: len(stream.accepted) >= signed_before + 10, "mail after the rotation")
    arrived = stream.all_arrived()
    wrong = {str(a.message["Subject"]): why for a in arrived if (why := fully_aligned(world, a))}
    assert not wrong
    old, new = tenancy.keys
    assert (old.id, old.lifecycle_state, new.lifecycle_state) == (before.id, "INACTIVE", "ACTIVE")
    used = {s["selector"] for a in arrived for s in a.judged["dkim"] if s["domain"] == world.domain}
    assert used == {old.name, new.name}  # mail was signed by either during the stream
    status = json.loads(world.todoku("dkim", "status", "--json").stdout)
    assert [(key["selector"], key["role"]) for key in status["keys"]] == [
        (new.name, "signs"),
        (old.name, "old"),
    ]
    # What is on its way was signed with the old key: it stays for a day, and nothing takes it away earlier.
    again = json.loads(world.todoku("dkim", "rotate", "--json").stdout)
    assert [each["stage"] for each in again["rotations"]] == ["old_remains"]
    require_nothing_to_do(world)
    assert [key.id for key in tenancy.keys] == [old.id, new.id]


def test_a_rotation_that_is_killed_goes_on_where_it_stopped(world: World, tenancy: Tenancy) -> None:
    (before,) = tenancy.keys
    world.relay(dkim_activation_s=3, creating_s=1)
    command = ["todoku", "dkim", "rotate", "--wait", "60"]
    with Stream(world, "killed") as stream:
        kills = [kill_at(command, words) for words in ("making a second key", "publishing", "is visible")]
        # Wherever it stands by then: at least the first of these comes before the end.
        kills += [kill_after(command, seconds) for seconds in (0.8, 1.2, 1.6)]
        assert sum(kills) >= 3, kills
        done = world.todoku("dkim", "rotate", "--wait", "60", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
    arrived = stream.all_arrived()
    wrong = {str(a.message["Subject"]): why for a in arrived if (why := fully_aligned(world, a))}
    assert not wrong
    old, new = tenancy.keys  # never a third one
    assert old.id == before.id
    assert new.lifecycle_state == "ACTIVE"
    assert world.relay()["rest_seen"]["operations"]["create_dkim"] == 1


def test_the_old_key_goes_a_day_later_by_the_next_apply(world: World, tenancy: Tenancy) -> None:
    assert world.todoku("dkim", "rotate", "--wait", "60").returncode == 0
    old, new = tenancy.keys
    world.relay(advance_s=DAY - 600)
    assert (
        json.loads(world.todoku("dkim", "rotate", "--json").stdout)["rotations"][0]["stage"] == "old_remains"
    )
    assert [key.id for key in tenancy.keys] == [old.id, new.id]
    world.relay(advance_s=1200)
    outcome = world.apply()
    assert outcome["changed"] == [f"dkim-retired:{world.domain}"]
    assert [key.id for key in tenancy.keys] == [new.id]
    world.submit(world.alice, world.carol, "after the old key went")
    assert not fully_aligned(world, world.wait_for("after the old key went"))


def test_status_advises_a_new_key_after_half_a_year(world: World, tenancy: Tenancy) -> None:
    (key,) = json.loads(world.todoku("dkim", "status", "--json").stdout)["keys"]
    assert (key["state"], key["role"]) == ("ACTIVE", "signs")
    world.relay(advance_s=HALF_A_YEAR)
    (key,) = json.loads(world.todoku("dkim", "status", "--json").stdout)["keys"]
    assert key["age_days"] >= 183
    assert "every six months" in key["advice"]
    assert "todoku dkim rotate" in world.todoku("dkim", "status").stdout
