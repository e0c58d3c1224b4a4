# The relay's password is replaced while mail flows: no message is refused, lost or late.

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clouds import Stream, Tenancy, holders_of, kill_after, kill_at, require_nothing_to_do
from conftest import World, wait

pytestmark = pytest.mark.slow

SECRET = Path("/etc/todoku/secrets/relay")
ROOTS = ("/etc", "/var/log", "/var/lib/todoku", "/var/spool/postfix", "/var/lib/postfix", "/run/todoku")


@pytest.fixture
def tenancy(world: World) -> Tenancy:
    return Tenancy(world)


def test_no_message_of_a_stream_is_refused_or_lost(world: World, tenancy: Tenancy) -> None:
    username, password = SECRET.read_text().splitlines()
    log = len(world.log())
    with Stream(world, "new credential") as stream:
        done = world.todoku("credential", "rotate")
        assert done.returncode == 0, done.stdout + done.stderr
        so_far = len(stream.accepted)
        wait(lambda: len(stream.accepted) >= so_far + 10, "mail after the rotation")
    stream.all_arrived()
    assert "authentication failed" not in world.log()[log:]  # nothing had to be tried a second time
    after, new_password = SECRET.read_text().splitlines()
    assert after != username
    assert new_password != password
    assert [each.username for each in tenancy.credentials] == [after]
    for word in (password, new_password):
        assert word not in done.stdout + done.stderr
    assert holders_of(password, ROOTS) == set()
    holders = holders_of(new_password, ROOTS)
    assert holders == {str(SECRET), "/etc/postfix/relay_credential"}
    assert not [name for name in holders if Path(name).stat().st_mode & 0o077]
    require_nothing_to_do(world)


def test_the_new_password_is_in_no_programs_arguments_or_environment(world: World) -> None:
    assert world.todoku("credential", "rotate").returncode == 0
    password = SECRET.read_text().splitlines()[1].encode()
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                shown = (process / name).read_bytes()
            except OSError:
                continue
            assert password not in shown, process / name
    assert password.decode() not in world.todoku("plan", "--all", "--json").stdout
    assert password.decode() not in world.todoku("credential", "status", "--json").stdout


def test_a_rotation_that_is_killed_leaves_mail_and_the_next_run_nothing_behind(
    world: World, tenancy: Tenancy
) -> None:
    command = ["todoku", "credential", "rotate"]
    with Stream(world, "killed credential") as stream:
        points = ("making a new credential", "accepts the new", "is stored", "Postfix has read it")
        kills = [kill_at(command, words) for words in points]
        kills += [kill_after(command, seconds) for seconds in (0.9, 1.3, 1.7)]
        assert sum(kills) >= 4, kills
        done = world.todoku("credential", "rotate", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
    stream.all_arrived()
    assert [each.username for each in tenancy.credentials] == [SECRET.read_text().splitlines()[0]]
    assert json.loads(world.todoku("credential", "status", "--json").stdout)["ok"]
    require_nothing_to_do(world)
    world.submit(world.alice, world.carol, "after all those kills")
    world.wait_for("after all those kills")


def test_apply_also_clears_up_after_a_killed_rotation(world: World, tenancy: Tenancy) -> None:
    assert kill_at(["todoku", "credential", "rotate"], "Postfix has read it")
    assert len(tenancy.credentials) == 2
    outcome = world.apply()
    assert outcome["changed"] == ["smtp-credentials-unused:todoku-relay"]
    assert [each.username for each in tenancy.credentials] == [SECRET.read_text().splitlines()[0]]
