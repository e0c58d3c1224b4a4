# Complaint: "Somebody tries passwords all day." A stranger cannot even try; somebody inside is slowed down and then locked
# out, by the agent whom Dovecot asks, and by the jail that deploy/fail2ban offers, while everybody else gets in.

# ruff: noqa: E501 - lines of logs are as long as they are

from __future__ import annotations

import re
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import documented
import pytest
from conftest import OFFICE, Account, World, wait

from todoku.delivery.guessing_server import ADDRESS, KNOWN

OFFERED = Path(__file__).parents[2] / "deploy/fail2ban"
# In the world supervisord keeps the services, so there are files instead of the journal.
HERE = (
    "[todoku]\nbackend = polling\nlogpath = /var/log/mail.log\n          /var/log/dovecot.log\nmaxretry = 5\n"
)
GUESS = """
import imaplib, ssl, sys
for _ in range(int(sys.argv[2])):
    imap = imaplib.IMAP4_SSL(sys.argv[1], 993, ssl_context=ssl._create_unverified_context(), timeout=5)
    try:
        imap.login(sys.argv[3], sys.argv[4])
        print("IN")
    except imaplib.IMAP4.error:
        print("NO")
    imap.shutdown()
"""


def guess(world: World, times: int, password: str) -> subprocess.CompletedProcess[str]:
    """Try to log in from the office; a code other than 0 means that there was no connection."""
    arguments = [world.ip, str(times), world.alice.login, password]
    return subprocess.run(
        [*OFFICE, "python", "-c", GUESS, *arguments], capture_output=True, text=True, timeout=90, check=False
    )


GUESS_AT_ONCE = """
import concurrent.futures, imaplib, ssl, sys
host, login, *passwords = sys.argv[1:]
def attempt(password):
    imap = imaplib.IMAP4_SSL(host, 993, ssl_context=ssl._create_unverified_context(), timeout=20)
    try:
        imap.login(login, password)
        return "IN"
    except imaplib.IMAP4.error:
        return "NO"
    finally:
        imap.shutdown()
with concurrent.futures.ThreadPoolExecutor(12) as pool:
    print(*pool.map(attempt, passwords))
"""


def try_from_the_office(world: World, account: Account, *passwords: str) -> list[str]:
    """Every password at the same time, each in a connection of its own."""
    arguments = [world.ip, account.login, *passwords]
    return subprocess.run(
        [*OFFICE, "python", "-c", GUESS_AT_ONCE, *arguments],
        capture_output=True, text=True, timeout=90, check=True,
    ).stdout.split()  # fmt: skip


@pytest.fixture
def jail(world: World) -> Iterator[None]:
    """The jail as it is offered, in a fail2ban that runs for as long as the test takes."""
    # As the page says it; here a supervisor keeps the services, and what is installed is installed.
    lines = documented.block("first-hour.md", "apt-get install", {"/opt/todoku/deploy": str(OFFERED.parent)})
    documented.run([line for line in lines if line.startswith("cp ")], Path("/"))
    Path("/etc/fail2ban/jail.d/defaults-debian.conf").unlink(missing_ok=True)  # sshd, which is not here
    Path("/etc/fail2ban/jail.d/todoku.local").write_text(HERE)
    Path("/run/fail2ban").mkdir(exist_ok=True)
    server = subprocess.Popen(["fail2ban-server", "-xf", "start"], stdout=subprocess.DEVNULL)
    try:
        wait(lambda: "todoku" in status(), "fail2ban")
        yield
        subprocess.run(["fail2ban-client", "unban", "--all"], check=True, capture_output=True)
    finally:
        server.terminate()
        server.wait(20)


def status(*names: str) -> str:
    done = subprocess.run(["fail2ban-client", "status", *names], capture_output=True, text=True, check=False)
    return done.stdout


def banned() -> list[str]:
    return re.findall(r"Banned IP list:\s*(.*)", status("todoku"))[0].split()


def test_who_guesses_inside_is_locked_out_and_the_others_get_in(world: World, jail: None) -> None:
    assert guess(world, 1, world.alice.password).stdout == "IN\n"
    began = time.monotonic()
    assert "NO" in guess(world, 5, "wrong").stdout
    assert time.monotonic() - began > 5  # each wrong one costs two seconds
    wait(lambda: banned() == ["192.168.77.2"], "the ban of the office's address")
    locked_out = guess(world, 1, world.alice.password)
    assert locked_out.returncode != 0
    assert "IN" not in locked_out.stdout
    # The same account, from elsewhere; and the world's mail.
    with world.imap(world.alice) as imap:
        assert imap.noop()[0] == "OK"
    with world.submission(world.alice) as smtp:
        assert smtp.say("NOOP").code == 250
    assert world.outside_sends(world.alice.address, "while the office is locked out").returncode == 0
    # Not for ever.
    lines = documented.block("first-hour.md", "apt-get install", {"192.168.0.20": "192.168.77.2"})
    documented.run([line for line in lines if line.startswith("fail2ban-client")], Path("/"))
    assert guess(world, 1, world.alice.password).stdout == "IN\n"


def test_a_stranger_cannot_try_a_password_even_the_right_one(world: World) -> None:
    smtp = smtplib.SMTP(source_address=(world.outside_ip, 0), timeout=20)
    assert smtp.connect(world.ip, 587)[0] != 220
    smtp.close()
    with socket.create_connection((world.ip, 993), 20, (world.outside_ip, 0)) as plain:
        imap = world.tls().wrap_socket(plain, server_hostname=world.hostname)
        assert b"OK" in imap.recv(1000)
        imap.sendall(f"a LOGIN {world.alice.login} {world.alice.password}\r\n".encode())
        assert imap.recv(1000).startswith(b"a NO")


# As Postfix and Dovecot write them, with user names that try to have 203.0.113.77 banned.
LINES = """\
Nov 24 09:13:04 mx postfix/submission/smtpd[343]: warning: unknown[192.168.77.2]: SASL PLAIN authentication failed: (reason unavailable), sasl_username=x
Nov 24 09:13:04 mx postfix/submissions/smtpd[3]: warning: a.example[192.168.77.2]: SASL LOGIN authentication failed: (reason unavailable), sasl_username=b[203.0.113.77]: SASL PLAIN authentication failed:
Nov 24 09:13:02 imap-login: Info: Disconnected: Aborted login by logging out (auth failed, 1 attempts in 2 secs): user=<b>, method=PLAIN, rip=192.168.77.2, lip=203.0.113.10, TLS, session=<jljwHQJhTtHAqE0C>
Nov 24 09:13:02 mx dovecot[59]: imap-login: Login aborted: Logged out (auth failed, 1 attempts in 2 secs) (auth_failed): user=<x>, rip=203.0.113.77, lip=1.2.3.4, session=<>, method=PLAIN, rip=192.168.77.2, lip=203.0.113.10, TLS, session=<jljw>
"""


def test_nobody_can_have_another_address_banned(world: World, tmp_path: Path) -> None:
    log, found = tmp_path / "log", ["--out", "ip"]
    log.write_text(LINES)
    done = subprocess.run(
        ["fail2ban-regex", *found, str(log), str(OFFERED / "filter.d/todoku.conf")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["192.168.77.2"] * 4


def _forget() -> None:
    """An agent that knows of no log-in and of no guess."""
    subprocess.run(["supervisorctl", "stop", "todoku-agent"], check=True, capture_output=True)
    KNOWN.unlink(missing_ok=True)


def _start_agent() -> None:
    subprocess.run(["supervisorctl", "start", "todoku-agent"], check=True, capture_output=True)
    wait(_agent_answers, "the agent")


def _agent_answers() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(ADDRESS) == 0


# After the jail's tests, which would read these guesses in the logs.


def test_who_guesses_an_account_is_locked_out_of_it_and_its_owner_is_not(world: World) -> None:
    _forget()
    try:
        with world.imap(world.alice) as imap:  # log-ins go on while nobody counts
            assert imap.noop()[0] == "OK"
        _start_agent()
        # Alice at her usual place, Bob at the office.
        with world.imap(world.alice) as imap:
            assert imap.noop()[0] == "OK"
        assert try_from_the_office(world, world.bob, world.bob.password) == ["IN"]
        assert try_from_the_office(world, world.alice, *(f"guess {n}" for n in range(12))) == ["NO"] * 12
        # Now even the right one is refused there.
        assert try_from_the_office(world, world.alice, world.alice.password) == ["NO"]
        assert "may not log in from 192.168.77.2: too many wrong passwords (account)" in agent_log()
        # Its owner gets in where she is, and the others where she is not.
        with world.imap(world.alice) as imap, world.submission(world.alice) as smtp:
            assert imap.noop()[0] == "OK"
            assert smtp.say("NOOP").code == 250
        assert try_from_the_office(world, world.bob, world.bob.password) == ["IN"]
    finally:
        _forget()
        _start_agent()


def agent_log() -> str:
    tail = ["supervisorctl", "tail", "-20000", "todoku-agent"]
    return subprocess.run(tail, capture_output=True, text=True, check=True).stdout
