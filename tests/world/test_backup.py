# Complaint: "The disk is gone." What was saved makes the same mail host again: accounts, passwords, and mail.

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import documented
import pyrage
import pytest
from conftest import CONFIG, World

SERVICES = ("todoku-postfix", "todoku-dovecot", "todoku-gate")
FOLDERS = (Path("/etc/todoku"), Path("/var/lib/todoku"))


def stop() -> None:
    for service in SERVICES:
        subprocess.run(["supervisorctl", "stop", service], check=True, capture_output=True)


def test_a_destroyed_host_is_restored_with_its_mail(world: World, tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    identity = tmp_path / "key"
    identity.touch(mode=0o600)
    identity.write_text(f"# made for this test\n{key}\n")
    world.submit(world.bob, world.alice.address, "before the disk was gone")
    assert world.read(world.alice, "before the disk was gone")
    granted = world.todoku("account", "send-as", "grant", world.bob.address, world.alice.address)
    assert granted.returncode == 0, granted.stderr
    saved, settings = tmp_path / "backup", CONFIG.read_bytes()
    done = world.todoku("backup", str(saved), "--mail", "--recipient", str(key.to_public()), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mail"]

    # Not over a host that runs, and not over what is newer.
    refused = world.todoku("restore", str(saved), "--identity", str(identity), "--yes")
    assert refused.returncode == 1
    assert "todoku-gate runs" in refused.stderr
    made = world.todoku("account", "add", "eve@hoge.example", "--generate")
    assert made.returncode == 0, made.stderr
    stop()
    refused = world.todoku("restore", str(saved), "--identity", str(identity), "--yes")
    assert refused.returncode == 1
    assert "--over-newer" in refused.stderr
    assert "eve@hoge.example" in world.todoku("account", "list").stdout

    # The disk is gone, and with it who owned the mail.
    for folder in FOLDERS:
        shutil.rmtree(folder)
    subprocess.run(["userdel", "vmail"], check=True)
    done = world.todoku("restore", str(saved), "--identity", str(identity), "--yes")
    assert done.returncode == 0, done.stderr
    assert CONFIG.read_bytes() == settings
    world.apply()
    assert world.read(world.alice, "before the disk was gone")  # with her password
    assert "eve@hoge.example" not in world.todoku("account", "list").stdout
    revoked = world.todoku("account", "send-as", "revoke", world.bob.address, world.alice.address)
    assert revoked.returncode == 0, revoked.stderr
    world.submit(world.alice, world.carol, "after the restore")
    assert world.wait_for("after the restore").judged["dmarc"]["result"] == "pass"
    assert world.outside_sends(world.alice.address, "in after the restore").returncode == 0
    assert world.read(world.alice, "in after the restore")
    assert world.todoku("plan", "--check").returncode == 0


def test_a_passphrase_comes_from_a_file_of_roots_alone(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o644)
    refused = world.todoku("backup", str(tmp_path / "b"), "--passphrase-file", str(secret))
    assert refused.returncode == 2
    assert "can be read by others" in refused.stderr
    secret.chmod(0o600)
    done = world.todoku("backup", str(tmp_path / "b"), "--passphrase-file", str(secret))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    refused = world.todoku("backup", str(tmp_path / "b"))
    assert refused.returncode == 2
    assert "no terminal" in refused.stderr


@pytest.mark.slow  # two backups, and all services are stopped and started
def test_the_commands_of_the_page_save_and_restore(world: World, tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    identity = tmp_path / "key.txt"
    identity.touch(mode=0o600)
    identity.write_text(f"{key}\n")
    example = {"age1...": str(key.to_public()), "/root/key.txt": str(identity), "/root/": f"{tmp_path}/"}
    first, second, restore, apply = documented.block("backup.md", "todoku backup", example)
    hidden = ("Passphrase", "The same once more")
    documented.typed(first, tmp_path, dict.fromkeys(hidden, "correct horse battery"), hidden)
    documented.run([second], tmp_path)
    stop()
    documented.typed(restore, tmp_path, {"Put it in place?": "y"})
    documented.run([f"{apply} --yes"], tmp_path)  # what it asks depends on what it finds
    world.submit(world.alice, world.carol, "after the page's restore")
    assert world.wait_for("after the page's restore")
