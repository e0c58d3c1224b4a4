# After ten rotations there used to be ten dead DKIM records in the zone, and nobody dared to remove them.

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clouds import Tenancy, fully_aligned, plan, require_nothing_to_do, settle
from conftest import World

pytestmark = pytest.mark.slow  # a rotation and its days after

DAY = 86_400


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    tenancy = Tenancy(world)
    before = {(r.domain, r.rtype) for r in tenancy.records()}
    yield tenancy
    world.relay(reset=True)
    settle(world)
    for record in {(r.domain, r.rtype) for r in tenancy.records()} - before:
        if "._domainkey." not in record[0] or "theirs" in record[0]:
            tenancy.put(*record)


def test_the_record_of_an_old_key_goes_when_its_days_are_over_and_no_other(
    world: World, tenancy: Tenancy
) -> None:
    settle(world)
    (old,) = [key.name for key in tenancy.keys]
    record = f"{old}._domainkey.{world.domain}"
    theirs = {
        f"theirs._domainkey.{world.domain}": "theirs.outside.example.",
        f"todoku-nrt1-202001._domainkey.{world.domain}": "todoku-nrt1-202001.theirs.outside.example.",
        f"todoku-fra1-202001._domainkey.{world.domain}": (
            f"todoku-fra1-202001.{world.domain}.dkim.fra1.oracleemaildelivery.com."
        ),
    }
    for name, target in theirs.items():
        tenancy.put(name, "CNAME", target)
    done = world.todoku("dkim", "rotate", "--wait", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    (new,) = [key.name for key in tenancy.keys if key.name != old]

    require_nothing_to_do(world)  # for a day there are two keys
    world.relay(advance_s=DAY + 60)
    assert world.apply()["changed"] == [f"dkim-retired:{world.domain}"]
    require_nothing_to_do(world)  # for another day Oracle keeps what it published: mail on its way verifies
    assert tenancy.values(record, "CNAME")

    world.relay(advance_s=DAY + 60)
    (step,) = [step for step in plan(world)["steps"] if step["action"]]
    assert (step["id"], step["action"]) == (f"dns:retired-dkim:{world.domain}", "delete")
    assert step["detail"].startswith(f"- {record} CNAME ")
    assert "\n" not in step["detail"]
    assert world.apply()["changed"] == [step["id"]]
    assert tenancy.values(record, "CNAME") == []
    assert tenancy.values(f"{new}._domainkey.{world.domain}", "CNAME")
    for name, target in theirs.items():
        assert tenancy.values(name, "CNAME") == [target]
        tenancy.put(name, "CNAME")
    require_nothing_to_do(world)
    world.submit(world.alice, world.carol, "with the new key alone")
    assert not fully_aligned(world, world.wait_for("with the new key alone"))
