# `todoku apply` can be run at any time, again and again, and be killed at any moment: a second run changes nothing, an
# interrupted one is finished by the next, and a configuration that is not valid never replaces one that works.

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import World

MAIN_CF = Path("/etc/postfix/main.cf")


def _pids() -> dict[str, str]:
    return {
        "postfix": Path("/var/spool/postfix/pid/master.pid").read_text().strip(),
        "dovecot": Path("/run/dovecot/master.pid").read_text().strip(),
    }


def test_a_second_apply_changes_nothing_and_restarts_nothing(world: World) -> None:
    before = _pids()
    assert world.apply()["changed"] == []
    assert _pids() == before
    assert world.todoku("plan", "--check").returncode == 0


def test_a_changed_setting_is_shown_as_a_diff_applied_and_restarts_only_what_it_concerns(
    world: World, settings_file: Path
) -> None:
    before = _pids()
    text = settings_file.read_text()
    assert text.count("\n[relay.plan]\n") == 1
    settings_file.write_text(text.replace("\n[relay.plan]\n", "\n[relay.plan]\nmessage_size = 3000000\n"))
    planned = world.todoku("plan", "--check")
    assert planned.returncode == 2, planned.stdout + planned.stderr
    assert "+relay_size_limit = 299" in planned.stdout
    assert "-relay_size_limit = 199" in planned.stdout
    world.apply()
    after = _pids()
    assert after["dovecot"] == before["dovecot"]
    assert after["postfix"] != before["postfix"]
    with world.submission(world.alice) as smtp:
        assert smtp.say(f"MAIL FROM:<{world.alice.address}> SIZE=2500000").code == 250


def test_what_somebody_changed_by_hand_is_shown_and_put_back_and_the_previous_version_kept(
    world: World,
) -> None:
    by_hand = MAIN_CF.read_text() + "\n# my own idea\nmynetworks = 0.0.0.0/0\n"
    MAIN_CF.write_text(by_hand)
    planned = world.todoku("plan")
    assert "mynetworks = 0.0.0.0/0" in planned.stdout
    world.apply()
    assert "my own idea" not in MAIN_CF.read_text()
    assert Path("/var/lib/todoku/previous/etc/postfix/main.cf").read_text() == by_hand


def test_an_invalid_rendering_never_replaces_a_working_one(world: World) -> None:
    # The real daemon's own check is what refuses: here a postconf that finds fault with everything.
    before = MAIN_CF.read_bytes()
    MAIN_CF.write_bytes(before + b"# changed, so that there is something to do\n")
    changed = MAIN_CF.read_bytes()
    real = Path("/usr/sbin/postconf")
    kept = real.with_name("postconf.real")
    real.rename(kept)
    real.write_text(
        '#!/bin/sh\necho "postconf: warning: something is wrong" >&2\nexec /usr/sbin/postconf.real "$@"\n'
    )
    real.chmod(0o755)
    pids = _pids()
    try:
        done = world.todoku("apply", "--yes")
        assert done.returncode == 1
        assert "something is wrong" in done.stdout + done.stderr
        assert MAIN_CF.read_bytes() == changed
        assert _pids() == pids
    finally:
        kept.rename(real)
    world.apply()
    assert MAIN_CF.read_bytes() == before


def test_a_service_that_was_stopped_by_hand_is_started_again(world: World) -> None:
    subprocess.run(["supervisorctl", "stop", "todoku-dovecot"], check=True, capture_output=True)
    assert world.todoku("plan", "--check").returncode == 2
    world.apply()
    with world.imap(world.alice) as imap:
        imap.select("INBOX")


def test_a_port_that_is_already_taken_is_named_with_its_holder(world: World) -> None:
    subprocess.run(["supervisorctl", "stop", "todoku-postfix"], check=True, capture_output=True)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((world.ip, 25))
        squatter.listen()
        done = world.todoku("apply", "--yes")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "25" in said
    assert str(os.getpid()) in said
    world.apply()
    with world.port_25() as smtp:
        assert smtp.greeting.code == 220


def _start_over() -> None:
    """Everything that Todoku made on this host, gone; what is installed stays."""
    for name in ("todoku-postfix", "todoku-dovecot"):
        subprocess.run(["supervisorctl", "stop", name], check=False, capture_output=True)
        Path(f"/etc/supervisor/conf.d/{name}.conf").unlink(missing_ok=True)
    subprocess.run(["supervisorctl", "update"], check=False, capture_output=True)
    for path in ("/etc/todoku/tls", "/var/lib/todoku/previous", "/run/todoku"):
        shutil.rmtree(path, ignore_errors=True)
    for pattern in ("main.cf", "master.cf", "*.cidr", "*.regexp", "relay_credential"):
        for path in Path("/etc/postfix").glob(pattern):
            path.unlink()
    Path("/etc/dovecot/dovecot.conf").unlink(missing_ok=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "stride",
    [
        pytest.param(4, id="every fourth"),
        pytest.param(1, id="every", marks=pytest.mark.slow),  # two minutes
    ],
)
def test_an_apply_killed_at_any_step_is_finished_by_the_next(
    world: World, settings_file: Path, stride: int
) -> None:
    # The host's steps; those in the cloud and in the DNS are cut one by one in their own tests.
    settings_file.write_text(settings_file.read_text().partition("\n[cloud]\n")[0])
    number, step = 0, None
    while True:
        _start_over()
        step = _apply_killed_at(number)
        outcome = world.apply()
        assert world.apply()["changed"] == [], f"killed at {step}"
        if step is None:
            break
        assert outcome["ok"], f"killed at {step}: {outcome}"
        number += stride
    assert number > 5
    world.submit(world.alice, world.bob.address, "after all those kills")
    world.read(world.bob, "after all those kills")


def _apply_killed_at(number: int) -> str | None:
    """Run apply and kill -9 it as soon as it says that its `number`th change has started; None when it has ended."""
    process = subprocess.Popen(
        ["todoku", "apply", "--yes", "--json"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    started = 0
    for line in process.stdout:
        event = json.loads(line)
        if event.get("event") == "started":
            if started == number:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return str(event["id"])
            started += 1
    process.wait()
    return None


@pytest.fixture
def something_to_do() -> Iterator[None]:
    before = MAIN_CF.read_bytes()
    MAIN_CF.write_bytes(before + b"# so that there is something to do\n")
    yield


def test_a_read_only_etc_gets_a_clear_error_and_changes_nothing(world: World, something_to_do: None) -> None:
    before, pids = MAIN_CF.read_bytes(), _pids()
    subprocess.run(["mount", "--bind", "/etc", "/etc"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", "/etc"], check=True)
    try:
        done = world.todoku("apply", "--yes")
    finally:
        subprocess.run(["umount", "/etc"], check=True)
    assert done.returncode == 1
    assert "read-only" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr
    assert MAIN_CF.read_bytes() == before
    assert _pids() == pids
    world.apply()


def test_a_full_disk_gets_a_clear_error_and_leaves_the_working_configuration(
    world: World, something_to_do: None
) -> None:
    pids = _pids()
    small = Path("/run/todoku-test-etc")
    small.mkdir()
    # As much room as /etc/postfix has now, and hardly more.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=True)
    subprocess.run(["cp", "-a", "/etc/postfix/.", str(small)], check=True)
    filler = os.open(small / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(filler, b"x" * 4096)
    os.close(filler)
    subprocess.run(["mount", "--bind", str(small), "/etc/postfix"], check=True)
    before = {p.name: p.read_bytes() for p in small.iterdir() if p.is_file()}
    try:
        done = world.todoku("apply", "--yes")
        after = {p.name: p.read_bytes() for p in small.iterdir() if p.is_file()}
    finally:
        subprocess.run(["umount", "/etc/postfix"], check=True)
        subprocess.run(["umount", str(small)], check=True)
        small.rmdir()
    assert done.returncode == 1
    assert "full" in (done.stdout + done.stderr).lower() or "space" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr
    assert after == before
    assert _pids() == pids
    world.apply()


def test_apt_without_a_network_says_so(world: World) -> None:
    # A package that is wanted is not installed as far as dpkg knows, and the world has no way out to fetch it.
    status = Path("/var/lib/dpkg/status")
    before = status.read_text()
    known = before.split("\n\n")
    status.write_text("\n\n".join(p for p in known if not p.startswith("Package: postfix-lmdb\n")))
    try:
        done = world.todoku("apply", "--yes")
    finally:
        status.write_text(before)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "postfix-lmdb" in said
    assert "network" in said.lower(), said
    assert "Traceback" not in said
    assert world.todoku("plan", "--check").returncode == 0


def test_without_root_nothing_is_tried(world: World) -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--clear-groups", "todoku", "apply", "--yes"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "root" in done.stderr


def test_two_applies_at_once_do_not_meet(world: World, something_to_do: None) -> None:
    first = subprocess.Popen(
        ["todoku", "apply", "--yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.05)
    second = subprocess.run(["todoku", "apply", "--yes"], capture_output=True, text=True, check=False)
    out, err = first.communicate()
    codes = {first.returncode, second.returncode}
    assert 0 in codes
    if codes != {0}:
        assert "apply" in second.stderr + err + second.stdout + out
