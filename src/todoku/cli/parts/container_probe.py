"""The probe of the container's health check: one small message through every part, found at its end and removed.

It comes in by the door that the gate itself uses (`ports.FORWARD`), which asks nobody's DNS, while port 25 is asked as
far as RCPT: a resolver that is away must not have a working container restarted.
"""

from __future__ import annotations

import secrets
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from todoku.directory import DirectoryError, passwords, place
from todoku.host import endpoint
from todoku.host.client import Host, HostError
from todoku.host.supervisor import SOCKET, Supervisor
from todoku.settings import Settings, ports
from todoku.store import StoreError, ledger

PROGRAMS = ("todoku-gate", "todoku-agent", "todoku-postfix", "todoku-dovecot")
LOCAL_PART = "todoku-health"
_PATIENCE = 12.0  # seconds for the message to arrive, and again for the ledger to know of it
_QUOTA = 1_000_000  # bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """Which parts answered, in the order of the way; `failed` says what did not, and is empty when all did."""

    passed: tuple[str, ...]
    failed: str
    seconds: float


class _Failed(Exception):
    pass


class Probe:
    """One probe. `send` never raises for what is wrong with the mail side: it says so."""

    def __init__(self, settings: Settings, host: Host | None = None) -> None:
        self._settings, self._host = settings, host or Host()
        self._address = f"{LOCAL_PART}@{settings.domains[0].name}"
        self._message_id = f"<{secrets.token_hex(12)}@{settings.hostname}>"

    def send(self) -> Seen:
        began = time.monotonic()
        passed: list[str] = []
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("programs", self._programs_run),
            ("account", self._account),
            ("port 25", self._port_25),
            ("gate and queue", self._send),
            ("mailbox", self._arrives),
            ("IMAP", self._imap),
            ("ledger", self._in_the_ledger),
        )
        for name, step in steps:
            try:
                step()
            except (_Failed, OSError, smtplib.SMTPException, HostError, DirectoryError, StoreError) as error:
                failed = f"{name}: {error or type(error).__name__}"
                return Seen(tuple(passed), failed, time.monotonic() - began)
            passed.append(name)
        return Seen(tuple(passed), "", time.monotonic() - began)

    def _programs_run(self) -> None:
        manager = Supervisor(self._host.real(SOCKET))
        if dead := [name for name in PROGRAMS if not manager.pid(name)]:
            raise _Failed(f"not running: {', '.join(dead)}")

    def _account(self) -> None:
        directory = place.HERE.open(self._settings)
        if not any(account.address == self._address for account in directory.accounts()):
            # A password that nobody knows: the mailbox is looked into from inside.
            directory.add_account(self._address, passwords.generate(), (), _QUOTA)

    def _port_25(self) -> None:
        listen = endpoint.listen(self._settings)
        with smtplib.SMTP(str(listen[0]) if listen else "127.0.0.1", 25, timeout=15) as smtp:
            code, words = smtp.ehlo(self._settings.hostname)
            if code != 250:
                raise _Failed(f"{code} {words.decode(errors='replace')}")

    def _send(self) -> None:
        text = (
            f"From: <{self._address}>\r\nTo: <{self._address}>\r\nSubject: health check\r\n"
            f"Message-ID: {self._message_id}\r\nAuto-Submitted: auto-generated\r\n\r\nAll parts work.\r\n"
        )
        with smtplib.SMTP(ports.LOOPBACK, ports.FORWARD, timeout=15) as smtp:
            smtp.sendmail(self._address, [self._address], text)

    def _arrives(self) -> None:
        search = ("doveadm", "search", "-u", self._address, "mailbox", "INBOX")

        def there() -> bool:
            found = self._host.run([*search, "header", "Message-ID", self._message_id], check=False)
            return bool(found.stdout.strip())

        _wait(there, f"the message was taken, and is not in the mailbox after {_PATIENCE:g} s")
        self._host.run(["doveadm", "expunge", "-u", self._address, "mailbox", "INBOX", "ALL"])

    def _imap(self) -> None:
        # Whether people believe the certificate is the business of `todoku check`, and no reason for a restart.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        listen = endpoint.listen(self._settings)
        with (
            socket.create_connection((str(listen[0]) if listen else "127.0.0.1", 993), 15) as plain,
            context.wrap_socket(plain, server_hostname=self._settings.hostname) as imap,
        ):
            if not (greeting := imap.recv(1000)).startswith(b"* OK"):
                raise _Failed(f"greets with {greeting[:80]!r}")

    def _in_the_ledger(self) -> None:
        from todoku.delivery.trace import trace

        engine = ledger.open(ledger.place_of(self._settings))
        wanted = self._message_id
        _wait(lambda: bool(trace(engine, wanted)), "the agent has not written the message into the ledger")


def _wait(done: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > until:
            raise _Failed(otherwise)
        with suppress(InterruptedError):
            time.sleep(0.2)
