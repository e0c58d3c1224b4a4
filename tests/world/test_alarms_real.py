# A disk that is full, a certificate that ends, a message that has been waiting: each is brought about, and the
# postmaster is told of it. What else is told, and that all of it is told once, is in test_alarms.py.

from __future__ import annotations

import email
import email.policy
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alarmed import all_clear, postmaster, told
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


@pytest.fixture
def bad_day(world: World) -> Iterator[str]:
    """All three; the address of the recipient whose mail waits."""
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
        yield late
    finally:
        subprocess.run(["umount", "--lazy", LOG], check=True)
        shutil.rmtree(kept)
        certificate.write_bytes(before)
        os.chown(certificate, owner.st_uid, owner.st_gid)
        subprocess.run(["postfix", "reload"], check=True, capture_output=True)
        world.relay(down=False)
        subprocess.run(["postsuper", "-d", "ALL"], check=True, capture_output=True)
        anew("what the postmaster was told")  # a disk that was full is only believed to be well after an hour


@pytest.mark.slow  # some 15 s: what is wrong is looked for every five seconds, and other alarms have to be over before
@pytest.mark.timeout(240)
def test_a_full_disk_a_certificate_that_ends_and_a_message_that_waits_are_told(
    world: World, bad_day: str
) -> None:
    expected = {f"disk:{LOG}", "certificate", "queue:old"}
    wait(lambda: expected <= told().keys(), f"the alarms, and not only {told()}", 60)
    words = wait(lambda: all_told(world), "the mail to the postmaster", 60)
    assert f"{LOG} has 2% free" in words or f"{LOG} has 1% free" in words or f"{LOG} has 0% free" in words
    assert "The certificate ends in 10 days" in words
    assert "The oldest message has been waiting for 2.0 hours" in words
    status = world.todoku("status")
    assert status.returncode == 1
    assert "the oldest message has been waiting for 2.0 hours" in status.stdout


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
