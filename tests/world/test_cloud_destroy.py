# `todoku destroy` takes away what Todoku made, and nothing else; `todoku apply` leads back to working mail.

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import documented
import oci
import pytest
from clouds import Tenancy, fully_aligned, plan, require_nothing_to_do, settle, waits
from conftest import World

pytestmark = pytest.mark.slow


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    yield Tenancy(world)
    world.relay(reset=True)
    world.relay(advance_s=2 * 86_400)
    settle(world)


def test_destroy_needs_the_domain_typed(world: World, tenancy: Tenancy) -> None:
    before = tenancy.inventory()
    assert world.todoku("destroy").returncode == 2  # nobody can be asked
    assert world.todoku("destroy", "--confirm", "another.example").returncode == 1
    assert world.todoku("destroy", "--json").returncode == 2
    assert tenancy.inventory() == before


def test_destroy_leaves_nothing_behind_and_apply_leads_back_to_mail(world: World, tenancy: Tenancy) -> None:
    before = tenancy.inventory()
    done = world.todoku("destroy", "--confirm", world.domain, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["failed"] == []
    left = tenancy.inventory()
    for kind in ("domains", "keys", "senders", "return paths", "policies"):
        assert left[kind] == [], kind
    assert "todoku-relay" not in left["users"]
    assert "todoku-senders" not in left["groups"]
    assert left["records"] == before["records"]  # the DNS stays, as the command says
    again = world.todoku("destroy", "--confirm", world.domain, "--json")
    assert (again.returncode, json.loads(again.stdout)["deleted"]) == (0, [])

    world.relay(advance_s=2 * 86_400)
    settle(world)
    require_nothing_to_do(world)
    assert waits(plan(world)) == {}
    world.submit(world.alice, world.carol, "back again")
    assert not fully_aligned(world, world.wait_for("back again"))


def test_what_somebody_else_made_stays(world: World, tenancy: Tenancy) -> None:
    details = oci.email.models.CreateSenderDetails(
        compartment_id=tenancy.compartment, email_address=f"theirs@{world.domain}"
    )
    theirs = tenancy.email.create_sender(details).data
    try:
        done = world.todoku("destroy", "--confirm", world.domain, "--json")
        told = json.loads(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        assert any(f"theirs@{world.domain}" in line for line in told["kept"])
        assert [each.email_address for each in tenancy.senders] == [f"theirs@{world.domain}"]
        assert [each.name for each in tenancy.domains] == [world.domain]  # it is theirs too
    finally:
        tenancy.email.delete_sender(theirs.id)


def test_who_leaves_types_what_the_page_says(world: World, tenancy: Tenancy, tmp_path: Path) -> None:
    queue, destroy, records = documented.block("uninstalling.md", "todoku queue")
    documented.run([queue], tmp_path)
    documented.typed(destroy, tmp_path, {"Type ": world.domain})
    assert tenancy.inventory()["domains"] == []
    assert world.domain in documented.run([records], tmp_path)
