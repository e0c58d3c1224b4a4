"""What is served: Postfix and Dovecot take in a new certificate without a restart, and are asked afterwards which one
they show.

On SIGHUP both read their configuration and certificates anew for new connections; those that are there go on
(postfix(1), reload; doveadm(1), reload).
"""

from __future__ import annotations

import signal
import smtplib
import socket
import ssl
import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from todoku.host import processes
from todoku.host.client import Host
from todoku.host.resource import HostResource
from todoku.host.services import DOVECOT, POSTFIX, Daemon
from todoku.plan.resource import Action, Change, ChangeFailed

_DOORS = ((POSTFIX, 25), (POSTFIX, 587), (POSTFIX, 465), (DOVECOT, 993))
_STARTTLS = (25, 587)
_ADDRESS = "127.0.0.1"  # both listen there, whatever else they listen on
_TIMEOUT = 10.0  # seconds
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A name, and the file with the certificate that has to be shown for it."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """A door that shows something else than it should."""

    daemon: Daemon
    port: int
    name: str
    found: str
    answers: bool = True

    def __str__(self) -> str:
        return f"port {self.port} {self.found} for {self.name}"


@dataclass(frozen=True, kw_only=True)
class Served(HostResource[tuple[Wrong, ...]]):
    """Each door shows, for each name, the certificate that lies in its file."""

    wanted: tuple[Shown, ...]

    @property
    def id(self) -> str:
        return "certificate-served"

    def look(self, client: Host) -> tuple[Wrong, ...]:
        """The doors that show something else. One that does not answer is the service's business."""
        return tuple(each for each in amiss(client, self.wanted) if each.answers)

    def differ(self, seen: tuple[Wrong, ...]) -> Change | None:
        if not seen:
            return None
        names = _names(each.daemon for each in seen)
        return Change(Action.RUN, f"reload {names}: {seen[0]}", "\n".join(map(str, seen)))

    def triggered(self, by: Set[str]) -> Change:  # noqa: ARG002 - always the same
        return Change(Action.RUN, f"reload {_names((POSTFIX, DOVECOT))}: the certificate changes")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        """Reload what shows something else, and see that it then shows what it should. Raises ChangeFailed."""
        deadline = time.monotonic() + _PATIENCE
        told: set[str] = set()
        while wrong := amiss(client, self.wanted):
            for daemon in {each.daemon.name: each.daemon for each in wrong}.values():
                if daemon.name not in told and (process := _process(client, daemon)) is not None:
                    client.send_signal(process.pid, signal.SIGHUP)
                    told.add(daemon.name)
            if time.monotonic() > deadline:
                raise ChangeFailed(
                    f"a new certificate lies ready, but after a reload {'; '.join(map(str, wrong))}: look into "
                    f"{wrong[0].daemon.log} or the journal, then run `todoku apply`"
                )
            time.sleep(0.1)


def amiss(host: Host, wanted: Sequence[Shown]) -> tuple[Wrong, ...]:
    """The doors that do not show what they should."""
    found = []
    for shown in wanted:
        expected = _first(host.read(shown.path) or b"")
        for daemon, port in _DOORS:
            try:
                is_right = certificate_at(port, shown.name) == expected
            except (OSError, smtplib.SMTPException) as error:
                found.append(Wrong(daemon, port, shown.name, f"does not answer ({error})", answers=False))
                continue
            if not is_right:
                found.append(Wrong(daemon, port, shown.name, "shows another certificate"))
    return tuple(found)


def certificate_at(port: int, name: str, context: ssl.SSLContext | None = None) -> bytes:
    """The certificate that is shown at the port to who asks for `name`, DER.

    It is compared with ours, so nothing else has to vouch for it, unless `context` says so. Raises OSError
    (ssl.SSLError among them), smtplib.SMTPException.
    """
    if context is None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if port not in _STARTTLS:
        with (
            socket.create_connection((_ADDRESS, port), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""
    with smtplib.SMTP(_ADDRESS, port, local_hostname="localhost", timeout=_TIMEOUT) as smtp:
        smtp.ehlo()
        code, words = smtp.docmd("STARTTLS")
        if code != 220 or smtp.sock is None:
            raise smtplib.SMTPException(f"STARTTLS is answered with {code} {words.decode(errors='replace')}")
        # smtplib would ask for the address, not for the name.
        with context.wrap_socket(smtp.sock, server_hostname=name) as secure:
            smtp.sock = smtp.file = None
            return secure.getpeercert(binary_form=True) or b""


def _first(pem: bytes) -> bytes:
    """The first certificate of a file, DER; empty when there is none."""
    try:
        return x509.load_pem_x509_certificates(pem)[0].public_bytes(Encoding.DER)
    except ValueError:
        return b""


def _process(host: Host, daemon: Daemon) -> processes.Process | None:
    return processes.main_process(host, daemon.pid_file, daemon.process)


def _names(daemons: Iterable[Daemon]) -> str:
    return " and ".join(dict.fromkeys(each.name for each in daemons))
