# A disk that is full, a certificate that ends, a message that has been waiting: each is brought about, and the
# postmaster is told of it. What else is told, and that all of it is told once, is in test_alarms.py.

from __future__ import annotations

import email
import email.policy
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alarmed import all_clear, on_their_way, postmaster, told
from conftest import CONFIG, World, wait
from test_ledger import agents
from test_waiting import HOUR, date_back, queued

from todoku.host import endpoint
from todoku.settings import load

LOG = Path("/var/log")
LEDGER = Path("/var/lib/todoku/ledger/ledger.sqlite3")


def anew(forget: str = "") -> None:
    """The agent is killed; it asks for the certificate when it begins, and then once an hour."""
    if forget:
        with closing(sqlite3.connect(LEDGER, timeout=30)) as connection, connection:
            connection.execute("DELETE FROM checkpoint WHERE source = ?", (forget,))
    for process in agents()[-1:]:
        os.kill(process, signal.SIGKILL)


@contextmanager
def bad_day(world: World) -> Iterator[None]:
    """All three."""
    all_clear(world)
    settings = load(CONFIG)
    certificate, key = Path(endpoint.certificate(settings)), Path(endpoint.key(settings))
    before, owner = certificate.read_bytes(), certificate.stat()
    late = f"oldest.{os.getpid()}@mailbox.example"
    world.relay(down=True)
    world.submit(world.alice, late, f"for {late}")
    date_back(queued(world, late), 2 * HOUR)
    # The log, on a small file system of its own: whoever has it open goes on with the one beneath.
    kept = Path("/run/kept-log")
    shutil.copytree(LOG, kept, dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size * 2 + 4_000_000}", "full", LOG], check=True)
    try:
        shutil.copytree(kept, LOG, dirs_exist_ok=True)
        free = shutil.disk_usage(LOG).free
        with (LOG / "filler").open("wb") as file:
            file.write(bytes(free - free // 50))
        subprocess.run(
            ["openssl", "req", "-x509", "-key", key, "-days", "10", "-subj", f"/CN={settings.hostname}",
             "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run(["postfix", "reload"], check=True, capture_output=True)
        anew()
        yield
    finally:
        meanwhile = (LOG / "mail.log").read_bytes()
        subprocess.run(["umount", "--lazy", LOG], check=True)
        with (LOG / "mail.log").open("ab") as file:  # so that the agent knows where it is
            file.write(meanwhile[file.tell() :])
        shutil.rmtree(kept)
        certificate.write_bytes(before)
        os.chown(certificate, owner.st_uid, owner.st_gid)
        subprocess.run(["postfix", "reload"], check=True, capture_output=True)
        world.relay(down=False)
        subprocess.run(["postsuper", "-d", "ALL"], check=True, capture_output=True)
        anew("what the postmaster was told")  # a disk that was full is only believed to be well after an hour


@pytest.mark.slow  # 7 s when nothing else runs: other alarms have to be over before
@pytest.mark.timeout(240)
def test_a_full_disk_a_certificate_that_ends_and_a_message_that_waits_are_told(world: World) -> None:
    expected = {f"disk:{LOG}", "certificate", "queue:old"}
    with bad_day(world):
        wait(lambda: expected <= told().keys() or None, "all three alarms", 60)
        wait(lambda: not on_their_way(), "the mail to the postmaster", 60)
        status = world.todoku("status")
    assert status.returncode == 1
    assert "the oldest message has been waiting for 2.0 hours" in status.stdout
    # Read once the certificate is one that a mail program believes.
    words = wait(lambda: all_told(world), "the mail in the mailbox", 60)
    assert re.search(f"{LOG} has [0-9]% free", words), words
    assert "The certificate ends in 10 days" in words
    assert "The oldest message has been waiting for 2.0 hours" in words


def all_told(world: World) -> str:
    """What the postmaster was told of late, once it is all that is expected."""
    with world.imap(postmaster(world)) as imap:
        imap.select("INBOX", readonly=True)
        numbers = imap.search(None, "SUBJECT", '"ALARM:"')[1][0].split()[-3:]
        parts = [imap.fetch(number.decode(), "(BODY.PEEK[])")[1][0] for number in numbers]
    letters = [
        email.message_from_bytes(part[1], policy=email.policy.default)
        for part in parts
        if isinstance(part, tuple)
    ]
    words = " ".join(" ".join(letter.get_content().split()) for letter in letters)
    begun = (f"{LOG} has", "The certificate ends", "The oldest message")
    return words if all(each in words for each in begun) else ""
