# Promise: five answers are enough. What `todoku init` writes is applied as it is, and mail arrives.

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import documented
import pytest
from conftest import CONFIG, World, allow_many_messages

ANSWERS = """\
domain = "hoge.example"
hostname = "mx.hoge.example"
region = "ap-tokyo-1"
dns = "oci"
postmaster = "alice@hoge.example"
"""


@pytest.fixture
def no_settings(world: World) -> Iterator[Path]:
    """The machine has no settings file; afterwards the world's is there again."""
    before = CONFIG.read_text()
    CONFIG.unlink()
    yield CONFIG
    CONFIG.write_text(before)
    world.apply()


def test_five_answers_become_settings_with_which_mail_arrives(
    world: World, no_settings: Path, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.toml"
    answers.write_text(ANSWERS)
    done = world.todoku("init", "--answers", str(answers), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # Found out: from the DNS, and from the instance's metadata service.
    assert told["found"]["addresses"] == ["203.0.113.10", "2001:db8:10::10"]
    assert told["found"]["instance"]
    assert told["found"]["compartment"] == world.described["cloud"]["compartment"]
    assert told["next"] == "todoku settings check && todoku plan"
    assert {each["rule"] for each in told["findings"] if each["hurts"]} <= {"memory.little"}
    assert world.todoku("settings", "check").returncode == 0
    # In the world, the machine's other addresses are other hosts.
    no_settings.write_text('listen = ["203.0.113.10", "2001:db8:10::10"]\n' + no_settings.read_text())
    world.apply()
    allow_many_messages(world)  # other tests have used up the free plan that init knows of
    world.submit(world.alice, world.carol, "written by init")
    assert world.wait_for("written by init").judged["dmarc"]["result"] == "pass"
    assert world.outside_sends(world.alice.address, "to what init wrote").returncode == 0
    assert world.read(world.alice, "to what init wrote")


@pytest.mark.slow  # a plan of everything; at a terminal as tests/world/booted_systemd.py has it, too
def test_at_a_terminal_five_questions_are_asked_and_the_plan_can_be_looked_at(
    world: World, no_settings: Path, tmp_path: Path
) -> None:
    init, plan = documented.block("moving.md", "todoku init")
    answers = {
        "1 of 5": world.domain,
        "2 of 5": world.hostname,
        "3 of 5": "ap-tokyo-1",
        "4 of 5": "oci",
        "5 of 5": world.alice.address,
    }
    shown = documented.typed(init, tmp_path, answers)
    assert "Next: todoku settings check && todoku plan" in shown
    documented.run([plan], tmp_path)


def test_a_settings_file_that_is_there_is_never_overwritten(world: World, tmp_path: Path) -> None:
    before = CONFIG.read_text()
    answers = tmp_path / "answers.toml"
    answers.write_text(ANSWERS)
    done = world.todoku("init", "--answers", str(answers))
    assert done.returncode == 1
    assert "never overwritten" in done.stderr
    assert CONFIG.read_text() == before


def test_what_will_hurt_is_told(world: World, no_settings: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.toml"
    # The address resolves back to another name, the other one to none.
    answers.write_text(
        ANSWERS.replace("mx.hoge", "other.hoge") + f'addresses = ["{world.ip}", "198.51.100.77"]\n'
    )
    resolver = Path("/etc/resolv.conf")
    before = resolver.read_text()
    with socket.create_server(("127.0.0.2", 465)):
        seen = findings(world, answers)
        assert (
            f"{world.ip} has the reverse name mx.hoge.example; it should be other.hoge.example"
            in seen["ptr.missing"]
        )
        assert (
            "198.51.100.77 has no reverse name (PTR); it should be other.hoge.example" in seen["ptr.missing"]
        )
        assert "port 465 is held by python" in " ".join(seen["port.taken"])
    no_settings.unlink()
    resolver.write_text("nameserver 192.0.2.99\n")  # where nobody answers
    try:
        assert "does not answer" in findings(world, answers)["resolver.missing"][0]
    finally:
        resolver.write_text(before)


def findings(world: World, answers: Path) -> dict[str, list[str]]:
    """What `todoku init` saw, by rule."""
    done = world.todoku("init", "--answers", str(answers), "--json")
    assert done.returncode == 0, done.stderr
    seen: dict[str, list[str]] = {}
    for each in json.loads(done.stdout)["findings"]:
        seen.setdefault(each["rule"], []).append(each["seen"])
    return seen
