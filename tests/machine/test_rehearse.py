# "Is it safe to run this on a machine that I need?" Whatever happens to a rehearsal, the machine is as before.

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT, TODOKU

pytestmark = pytest.mark.usefixtures("nothing_stays_behind")


def _rehearse(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TODOKU, "rehearse", *arguments], capture_output=True, text=True, timeout=280, check=False, **options
    )  # type: ignore[call-overload,no-any-return]


def test_every_expectation_holds_and_the_verdict_is_one_json_object_on_the_last_line() -> None:
    done = _rehearse("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout.splitlines()[-1])
    assert verdict["ok"]
    assert len(verdict["expectations"]) >= 15
    assert all(set(e) == {"name", "ok", "seen"} for e in verdict["expectations"])
    assert {
        "mail_from",
        "rcpt_to",
        "header_from",
        "client_ip",
        "tls",
        "spf",
        "dkim",
        "dmarc",
        "iprev",
    } <= set(verdict["messages"][0])
    assert verdict["seconds"] > 0


def test_the_last_line_is_the_three_words_that_people_look_for() -> None:
    done = _rehearse()
    assert done.stdout.splitlines()[-1] == "SPF PASS  DKIM PASS  DMARC PASS"


def test_a_command_gets_the_streams_the_folder_and_the_world_and_its_code_is_ours() -> None:
    script = (
        'cat; pwd; test -f "$TODOKU_WORLD" && command -v todoku && todoku plan --check >/dev/null && exit 7'
    )
    done = _rehearse("--", "sh", "-c", script, input="from outside\n", cwd=CHECKOUT / "tests")
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines()[:2] == ["from outside", str(CHECKOUT / "tests")]


def test_a_working_folder_below_tmp_is_kept_too(tmp_path: Path) -> None:
    (tmp_path / "my-script").write_text("#!/bin/sh\necho ran in $(pwd)\n")
    (tmp_path / "my-script").chmod(0o755)
    done = _rehearse("--", "./my-script", cwd=tmp_path)
    assert done.stdout == f"ran in {tmp_path}\n", done.stderr


def test_what_a_command_writes_is_gone_afterwards() -> None:
    probe = CHECKOUT / "written-in-the-world"
    assert _rehearse("--", "touch", str(probe), "/etc/written-in-the-world").returncode == 0
    assert not probe.exists()


def test_a_separate_file_system_is_in_the_world_and_stays_as_it_was() -> None:
    # As a separate /home or /var: here a memory file system, in mounts of the test's own.
    script = (
        "mount -t tmpfs tmpfs /srv && echo before >/srv/file && "
        f"{TODOKU} rehearse -- sh -c 'cat /srv/file; echo inside >/srv/file; cat /srv/file' && cat /srv/file"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["before", "inside", "before"], done.stderr


def test_where_memory_is_short_the_world_is_written_to_disk_and_leaves_no_file() -> None:
    from todoku.rehearsal.machine import layer, machine

    if not machine.has_loop_devices():
        pytest.skip("no loop devices here, so the writable layer can only be in memory")
    short = (
        "from todoku.rehearsal.machine import machine; machine.MEMORY_WANTED = 1 << 60; "
        "from todoku.cli.main import main"
    )
    files = set(layer.CACHE.glob("scratch-*"))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{short}; main()",
            "rehearse",
            "--",
            "sh",
            "-c",
            "grep ' / ' /proc/mounts; df -k /",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    size = int(done.stdout.splitlines()[-1].split()[1])
    assert 15 << 20 < size < 17 << 20, "the 16 GB of the file, not the size of the memory"
    assert set(layer.CACHE.glob("scratch-*")) <= files


def test_the_world_has_no_way_out() -> None:
    done = _rehearse("--", "ip", "-o", "link")
    links = {line.split(": ")[1].split("@")[0] for line in done.stdout.splitlines()}
    assert links == {"lo", "office0"}


def test_a_command_that_is_not_there_is_127() -> None:
    done = _rehearse("--", "no-such-command")
    assert done.returncode == 127
    assert "no-such-command" in done.stderr


def test_settings_with_mistakes_are_2_and_name_the_line(tmp_path: Path) -> None:
    config = tmp_path / "todoku.toml"
    config.write_text('hostname = "mx.hoge.example"\npostmastr = "alice@hoge.example"\n')
    done = _rehearse("--config", str(config))
    assert done.returncode == 2
    assert "postmaster" in done.stderr
    assert "line 2" in done.stderr or ":2" in done.stderr


def test_the_users_own_settings_are_rehearsed(tmp_path: Path) -> None:
    config = tmp_path / "todoku.toml"
    config.write_text(
        'hostname = "mail.kaisha.example"\naddresses = ["203.0.113.77"]\npostmaster = "info@kaisha.example"\n'
        '[[domains]]\nname = "kaisha.example"\n[[domains]]\nname = "とどく.example"\n'
        '[relay]\nregion = "eu-frankfurt-1"\nport = 465\n'
    )
    done = _rehearse("--config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "info@kaisha.example" in done.stdout


def test_settings_whose_records_a_person_or_a_provider_publishes_are_rehearsed(tmp_path: Path) -> None:
    # The provider does not exist in the world: what it would publish is entered by hand there.
    config = tmp_path / "todoku.toml"
    config.write_text(
        'hostname = "mx.kaisha.example"\naddresses = "203.0.113.10"\npostmaster = "info@kaisha.example"\n'
        '[[domains]]\nname = "kaisha.example"\n[relay]\nregion = "eu-frankfurt-1"\n'
        '[cloud]\ncompartment = "ocid1.compartment.oc1..aaaaaaaamine"\nauth = "instance_principal"\n'
        '[dns]\npublisher = "lexicon"\nprovider = "cloudflare"\ncredential_file = "/etc/todoku/secrets/dns"\n'
    )
    done = _rehearse("--config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "SPF PASS  DKIM PASS  DMARC PASS"


def test_an_instance_whose_sending_user_is_in_another_identity_domain_is_rehearsed(tmp_path: Path) -> None:
    config = tmp_path / "todoku.toml"
    config.write_text(
        'hostname = "mx.kaisha.example"\naddresses = "203.0.113.10"\npostmaster = "info@kaisha.example"\n'
        '[[domains]]\nname = "kaisha.example"\n[relay]\nregion = "ap-tokyo-1"\n'
        '[cloud]\ncompartment = "ocid1.compartment.oc1..aaaaaaaamine"\nauth = "instance_principal"\n'
        'identity_domain = "Staff"\n[dns]\npublisher = "oci"\n'
    )
    done = _rehearse("--config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "SPF PASS  DKIM PASS  DMARC PASS"


def test_a_relay_password_of_every_punctuation_character_reaches_the_relay(tmp_path: Path) -> None:
    config = tmp_path / "todoku.toml"
    config.write_text(
        'hostname = "mx.hoge.example"\naddresses = "203.0.113.10"\npostmaster = "alice@hoge.example"\n'
        '[[domains]]\nname = "hoge.example"\n[relay]\nregion = "ap-tokyo-1"\n'
    )
    name = "test_the_relays_password_gets_through_byte_for_byte_and_appears_nowhere_else"
    test = f"{CHECKOUT}/tests/world/test_relay_path.py::{name}"
    done = _rehearse(
        "--config", str(config), "--", "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", test
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_system_accounts_are_rehearsed_with_os_users_and_their_bare_names(tmp_path: Path) -> None:
    config = tmp_path / "todoku.toml"
    config.write_text(
        'hostname = "mx.hoge.example"\naddresses = "203.0.113.10"\npostmaster = "alice@hoge.example"\n'
        '[[domains]]\nname = "hoge.example"\n[relay]\nregion = "ap-tokyo-1"\n[accounts]\nmode = "system"\n'
    )
    done = _rehearse("--config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    script = "import json, os; print(json.load(open(os.environ['TODOKU_WORLD']))['accounts'][1]['login'])"
    asked = _rehearse("--config", str(config), "--", "python", "-c", script)
    assert asked.stdout.strip() == "bob", asked.stderr


def _started(*arguments: str) -> subprocess.Popen[str]:
    """A rehearsal whose world stands: its command has said so."""
    process = subprocess.Popen(
        [TODOKU, "rehearse", *arguments, "--", "sh", "-c", "echo inside; sleep 300"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that starts these tests in the background has them, and what they start, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "inside\n"
    return process


def test_killed_by_force_it_leaves_nothing() -> None:
    process = _started()
    process.kill()
    process.wait()


def test_a_plain_kill_leaves_nothing() -> None:
    process = _started()
    process.terminate()
    assert process.wait(20) == 130


def test_ctrl_c_leaves_nothing() -> None:
    process = _started()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) in (130, -signal.SIGINT)


def test_killed_while_the_world_is_built_it_leaves_nothing() -> None:
    for delay in (0.3, 0.8, 1.5, 3.0, 5.0):
        process = subprocess.Popen([TODOKU, "rehearse"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()


def test_keep_leaves_a_world_that_can_be_entered_and_ended() -> None:
    done = _rehearse("--keep")
    assert done.returncode == 0
    enter = re.search(r"nsenter .*", done.stderr)
    end = re.search(r"kill (\d+)", done.stderr)
    assert enter and end
    try:
        inside = subprocess.run([*enter[0].split(), "hostname"], capture_output=True, text=True, check=True)
        assert inside.stdout == "mx.hoge.example\n"
        arguments = [*enter[0].split(), "todoku", "account", "list"]
        assert (
            "alice@hoge.example"
            in subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        )
    finally:
        os.kill(int(end[1]), signal.SIGTERM)


def test_without_the_right_to_make_namespaces_it_says_what_would_work() -> None:
    # As in a container without privileges: root, but without CAP_SYS_ADMIN.
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", TODOKU, "rehearse"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "CAP_SYS_ADMIN" in done.stderr
    assert "docker run --rm -it --privileged" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_root_it_says_so() -> None:
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--clear-groups", TODOKU, "rehearse"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Permission denied" in done.stderr or done.returncode == 127:
        pytest.skip("nobody cannot even read this checkout, so there is nothing to be said")
    assert done.returncode == 2
    assert "root" in done.stderr


def test_the_progress_is_shown_on_a_terminal() -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen([TODOKU, "rehearse", "--", "true"], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    said = b""
    try:
        while chunk := os.read(master, 4096):
            said += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait(60) == 0
    assert b"todoku apply" in said
