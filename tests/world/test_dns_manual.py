# The zone is edited by hand in a web console: Todoku says exactly what to enter, waits, and goes on when it is there.

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clouds import Tenancy, fully_aligned, plan, require_nothing_to_do, settle, waits
from conftest import CONFIG, World, wait

from todoku.rehearsal.internet.nameserver import FOLDER, replace_zone
from todoku.rehearsal.internet.zones import render


@pytest.fixture
def by_hand(world: World) -> Iterator[None]:
    """An empty zone on another name server, which nobody but a person can edit; afterwards all is as it was."""
    settings = CONFIG.read_text()
    zone = (FOLDER / f"zones/{world.domain}.zone").read_text()
    CONFIG.write_text(settings.replace('publisher = "oci"', 'publisher = "manual"'))
    replace_zone(FOLDER, world.domain, render(world.domain, [], serial=1_000_000))
    yield
    world.relay(reset=True)
    CONFIG.write_text(settings)
    replace_zone(FOLDER, world.domain, zone)
    settle(world)


@pytest.mark.usefixtures("by_hand")
def test_what_todoku_says_to_enter_is_all_that_is_needed(world: World) -> None:
    done = world.todoku("apply", "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    waiting = {each["id"]: each["reason"] for each in json.loads(done.stdout.splitlines()[-1])["waiting"]}
    assert f"dns:{world.domain}/MX" in waiting
    changed = json.loads(done.stdout.splitlines()[-1])["changed"]
    assert not [name for name in changed if name.startswith("dns:")]  # a person has to, and has not yet
    assert world.hostname in waiting[f"dns:{world.domain}/MX"]
    assert world.todoku("dns", "check").returncode == 1

    told = json.loads(world.todoku("dns", "zone", "--json").stdout)
    assert {record["zone"] for record in told["records"]} == {world.domain}
    entered = told["zones"][world.domain]
    for record in ("MX", "CNAME", "TXT", "A"):
        assert f" {record} " in entered.replace("\t", " "), entered
    replace_zone(FOLDER, world.domain, render(world.domain, [], serial=1_000_001) + _body(entered))

    assert world.todoku("dns", "check", "--wait", "20").returncode == 0
    settle(world)
    assert waits(plan(world)) == {}
    require_nothing_to_do(world)
    assert json.loads(world.todoku("dns", "zone", "--json").stdout)["records"] == []
    wait(lambda: [key.lifecycle_state for key in Tenancy(world).keys] == ["ACTIVE"], "the key to be active")
    world.submit(world.alice, world.carol, "entered by hand")
    assert not fully_aligned(world, world.wait_for("entered by hand"))


def _body(entered: str) -> str:
    """The zone file that was printed, as far as it is not what the name server has anyway."""
    lines = [line for line in entered.splitlines() if " SOA " not in line and " NS " not in line]
    return "\n".join(lines) + "\n"


@pytest.mark.slow  # a look every 15 seconds, in two rounds
@pytest.mark.usefixtures("by_hand")
def test_apply_waits_says_once_what_to_enter_and_ends_when_all_of_it_can_be_seen(
    world: World, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    entered: list[str] = []
    with said.open("w") as output:
        apply = subprocess.Popen(["todoku", "apply", "--yes", "--wait"], stdout=output, stderr=output)
    end = time.monotonic() + 200
    try:
        while apply.poll() is None and time.monotonic() < end:
            told = said.read_text()
            records = re.findall(r"(?m)^\S+\. 3600 IN .*$", told)
            if records != entered and not told.endswith(f"{records[-1]}\n"):  # all of them are told
                entered = records
                zone = render(world.domain, [], serial=1_000_010 + len(entered))
                replace_zone(FOLDER, world.domain, zone + "\n".join(entered) + "\n")
            time.sleep(0.2)
    finally:
        apply.kill()
        apply.wait()
    told = said.read_text()
    assert apply.returncode == 0, told
    # The return path is one more, when DKIM is active; none of them is asked for twice.
    assert told.count("The same as a zone file") <= 3, told
    assert len(set(entered)) == len(entered)
    assert any(f"rp.{world.domain}. 3600 IN CNAME" in line for line in entered)
    assert told.count(f"the MX record of {world.domain} has to be entered by hand") == 1
    assert f"dns:{world.domain}/MX ... is in place now" in told
    assert "records that are entered by hand can be seen" in told
    last = told[told.rindex("Done: ") :]
    assert "by hand" not in last
    require_nothing_to_do(world)


@pytest.mark.usefixtures("by_hand")
def test_each_record_is_told_in_the_two_forms_that_web_consoles_want(world: World) -> None:
    records = json.loads(world.todoku("dns", "zone", "--json").stdout)["records"]
    names = [json.dumps(record) for record in records]
    dmarc = next(text for text in names if "_dmarc" in text)
    assert f'"_dmarc.{world.domain}' in dmarc
    assert '"_dmarc"' in dmarc  # without the zone, which many consoles append
    assert Path(CONFIG).read_text().count('publisher = "manual"')
