"""What the world's tests are written with. They run inside the rehearsal's world:

    script/test        or        todoku rehearse -- python -m pytest tests/world

Everything they touch is real: Postfix, Dovecot, Knot, mail programs. Every test begins with a relay without
faults, and leaves the host as it found it.
"""

from __future__ import annotations

import email
import email.policy
import email.utils
import imaplib
import json
import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar

import pytest

from todoku.rehearsal.smtp.dialogue import Dialogue

pytest_plugins = ["parts"]

if "TODOKU_WORLD" not in os.environ:
    collect_ignore_glob = ["*"]
    pytest.exit("these tests run inside the rehearsal's world: use script/test", returncode=2)

T = TypeVar("T")
CONFIG = Path("/etc/todoku/todoku.toml")
WATCH = Path("/etc/supervisor/conf.d/todoku-relay.conf")  # there is one only with a cloud
OFFICE = ("ip", "netns", "exec", "office")


@dataclass(frozen=True)
class Account:
    address: str
    login: str
    password: str


@dataclass(frozen=True)
class Arrived:
    """A message as the receiving provider got it, with its judgement."""

    raw: bytes
    judged: dict[str, Any]

    @property
    def message(self) -> EmailMessage:
        message = email.message_from_bytes(self.raw, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


class World:
    """The world in which the tests run, read from TODOKU_WORLD."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described
        self.hostname: str = described["server"]["hostname"]
        self.ip: str = described["server"]["ip"]
        self.alice, self.bob = (Account(**a) for a in described["accounts"][:2])
        self.domain = self.alice.address.partition("@")[2]
        self.carol = f"carol@{described['receiver']['domain']}"
        self.dave = f"dave@{described['outside']['domain']}"
        self.inbox = Path(described["receiver"]["inbox"])
        self.outside_inbox = self.inbox.parent / "outside-inbox"
        self.watches = True  # whether todoku-relay runs
        self.outside_ip: str = described["outside"]["ip"]

    # --- connections ---

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile="/etc/todoku/tls/self-signed.pem")

    def port_25(self, *, helo: str | None = "mail.outside.example", source: str | None = None) -> Dialogue:
        """A connection to port 25 from the outside sender's address, greeted unless `helo` is None."""
        smtp = Dialogue(self.ip, 25, source=source or self.outside_ip, hostname=self.hostname)
        if helo:
            smtp.say(f"EHLO {helo}")
        return smtp

    def submission(
        self, account: Account | None, *, helo: str = "laptop", source: str | None = None
    ) -> Dialogue:
        """A connection to 587 with STARTTLS done, and authenticated when there is an account."""
        smtp = Dialogue(self.ip, 587, source=source, hostname=self.hostname)
        smtp.say(f"EHLO {helo}")
        smtp.starttls(self.tls())
        smtp.say(f"EHLO {helo}")
        if account:
            assert smtp.auth_plain(account.login, account.password).code == 235
        return smtp

    def submit(self, account: Account, to: str, subject: str, body: str = "text\n", extra: str = "") -> None:
        with self.submission(account) as smtp:
            assert smtp.say(f"MAIL FROM:<{account.address}>").code == 250
            assert smtp.say(f"RCPT TO:<{to}>").code == 250
            message_id = f"<{subject.replace(' ', '-')}@{self.domain}>"
            head = f"From: {account.address}\nTo: {to}\nSubject: {subject}\nDate: {_now()}\nMessage-ID: {message_id}\n"
            reply = smtp.message(f"{head}{extra}\n{body}")
            assert reply.code == 250, reply

    def imap(self, account: Account, *, login: str | None = None) -> imaplib.IMAP4_SSL:
        imap = imaplib.IMAP4_SSL(self.hostname, 993, ssl_context=self.tls(), timeout=20)
        imap.login(login or account.login, account.password)
        return imap

    # --- what arrived ---

    def arrived(self, where: Path | None = None) -> list[Arrived]:
        files = sorted((where or self.inbox).glob("*.json"), key=lambda path: int(path.stem))
        return [
            Arrived(path.with_suffix(".eml").read_bytes(), json.loads(path.read_text())) for path in files
        ]

    def wait_for(self, subject: str, seconds: float = 20, where: Path | None = None) -> Arrived:
        def find() -> Arrived | None:
            return next((a for a in self.arrived(where) if a.message["Subject"] == subject), None)

        return wait(find, f"a message with the subject {subject!r} at the provider", seconds)

    def read(
        self, account: Account, subject: str, seconds: float = 20, folder: str = "INBOX"
    ) -> EmailMessage:
        """The message with that subject, once it is in the mailbox."""
        with self.imap(account) as imap:

            def find() -> EmailMessage | None:
                imap.select(folder, readonly=True)
                found = imap.search(None, "SUBJECT", f'"{subject}"')[1][0]
                if not found:
                    return None
                parts = imap.fetch(found.split()[-1].decode(), "(BODY.PEEK[])")[1]
                assert isinstance(parts[0], tuple)
                message = email.message_from_bytes(parts[0][1], policy=email.policy.default)
                assert isinstance(message, EmailMessage)
                return message

            return wait(find, f"a message with the subject {subject!r} for {account.address}", seconds)

    def count(self, account: Account, subject: str) -> int:
        with self.imap(account) as imap:
            imap.select("INBOX", readonly=True)
            return len(imap.search(None, "SUBJECT", f'"{subject}"')[1][0].split())

    # --- the others ---

    def outside_sends(
        self, to: str, subject: str, *, extra: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["python", "-m", "todoku.rehearsal.outside", "send", "--from", self.dave, "--to", to, "--subject", subject,
             "--server", self.ip, *extra],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def relay(self, **faults: Any) -> dict[str, Any]:
        """Set the fault switchboard, or only read it; returns its state.

        Who is suppressed that way is meant to be found out by the relay's answer: the service that would tell the gate
        is stopped for the rest of the test.
        """
        if faults.get("suppress"):
            self.watch_relay(False)
        body = json.dumps(faults).encode() if faults else None
        request = urllib.request.Request(self.described["relay"]["control"], data=body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            state: dict[str, Any] = json.load(answer)
            return state

    def watch_relay(self, on: bool) -> None:
        """Start or stop the service that fetches the relay's suppression list; started, the gate knows of nobody."""
        if not WATCH.exists() or on is self.watches:
            return
        if on:
            Path("/var/lib/todoku/relay/suppressions.json").write_text("[]")
            Path("/var/lib/todoku/exchange/suppressed").unlink(missing_ok=True)
            time.sleep(1.1)  # the gate looks once a second
        command = ["supervisorctl", "start" if on else "stop", "todoku-relay"]
        subprocess.run(command, check=True, capture_output=True)
        self.watches = on

    def todoku(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["todoku", *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
        )

    def apply(self) -> dict[str, Any]:
        """Run the production apply and return its outcome."""
        done = self.todoku("apply", "--yes", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return outcome

    def flush(self) -> None:
        subprocess.run(["postqueue", "-f"], check=True)

    def queue(self) -> list[dict[str, Any]]:
        listed = subprocess.run(["postqueue", "-j"], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in listed.stdout.splitlines()]

    def log(self) -> str:
        return Path("/var/log/mail.log").read_text(errors="replace")


def _now() -> str:
    return email.utils.formatdate(localtime=False)


def wait(find: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """What `find` returns as soon as that is something; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(0.05)
    log = Path("/var/log/mail.log")
    words = log.read_text(errors="replace")[-4000:] if log.exists() else ""
    pytest.fail(f"waited {seconds} s in vain for {what}\n{words}")


@pytest.fixture(scope="session")
def the_world() -> World:
    world = World(json.loads(Path(os.environ["TODOKU_WORLD"]).read_text()))
    allow_many_messages(world)
    return world


def allow_many_messages(world: World) -> None:
    """A paid plan, as the simulated relay has it: the tests send more than the free one's 10 a minute."""
    text = CONFIG.read_text()
    plan = "per_minute = 18000\nper_day = 50000\nper_month = 1500000\n"
    wide = text.replace("\n[relay.plan]\n", f"\n[relay.plan]\n{plan}").replace(
        "\n[gate]\n", "\n[gate]\nrecipients_per_minute = 1000\nnew_recipients_per_day = 1000\n"
    )
    if plan not in text:
        CONFIG.write_text(wide)
        world.apply()


@pytest.fixture
def world(the_world: World) -> Iterator[World]:
    the_world.relay(reset=True)
    yield the_world
    the_world.relay(reset=True)
    the_world.watch_relay(True)


@pytest.fixture
def settings_file(world: World) -> Iterator[Path]:
    """todoku.toml, to be changed by a test and applied; afterwards it is put back and applied again."""
    before = CONFIG.read_text()
    yield CONFIG
    CONFIG.write_text(before)
    world.apply()
