# A server that makes every mistake that the judge looks for, one at a time, over real sockets and real TLS.

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from internet_for_checks import Place

from todoku.check import submission, tls
from todoku.check.finding import Finding, Verdict
from todoku.check.means import Dns, Means
from todoku.check.ports import IMAPS, SUBMISSION, SUBMISSIONS, WORLD, Door, Port

NAME = "mx.hoge.example"
NOW = datetime.now(UTC)


@dataclass
class Faults:
    """How the server misbehaves. The default is that it does not."""

    name: str = NAME
    days: float = 90  # until its certificate ends
    starttls: bool = True
    auth_before_tls: bool = False
    asks_for_password_before_tls: bool = False
    mail_before_tls: bool = True  # port 25 takes mail without TLS
    auth_within_tls: bool = False
    relays: Callable[[str, str], bool] = field(default=lambda _sender, _recipient: False)
    ends: tuple[bytes, ...] = (b"\r\n.\r\n",)
    refuses_bare_line_feeds: bool = False
    least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    garbled: bool = False
    imap_greeting: bytes = b"* OK ready\r\n"
    messages: list[bytes] = field(default_factory=list)
    greeting: bytes = b"220 ready"
    inboxes: frozenset[str] = frozenset({"postmaster@hoge.example", "abuse@hoge.example"})
    refusal: bytes = b"554 5.7.1 Relay access denied"


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: Port, faults: Faults, folder: Path) -> None:
        self.port, self.faults = port, faults
        self.certificate = certificate(faults.name, faults.days, folder)
        super().__init__(("127.0.0.1", 0), Session)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients hang up; that is no news

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = self.faults.least, self.faults.most
        return context


class Session(socketserver.BaseRequestHandler):
    server: Server
    request: socket.socket

    def handle(self) -> None:
        faults, port = self.server.faults, self.server.port
        self.inside, self.received = not port.starttls, b""
        if self.inside:
            self.request = self.server.context().wrap_socket(self.request, server_side=True)
        if port.protocol == "imap":
            self.request.sendall(faults.imap_greeting)
            return
        self.say(b"hello there" if faults.garbled else faults.greeting)
        while line := self.line():
            self.command(line.decode(), faults)

    def command(self, line: str, faults: Faults) -> None:
        verb = line.upper()
        if verb.startswith("EHLO"):
            offered = ["250-mx"]
            offered += ["250-STARTTLS"] if faults.starttls and not self.inside else []
            auth = faults.auth_within_tls if self.inside else faults.auth_before_tls
            offered += ["250-AUTH PLAIN"] if auth else []
            self.say("\r\n".join([*offered, "250 OK"]).encode())
        elif verb == "STARTTLS":
            self.say(b"220 go on")
            self.request = self.server.context().wrap_socket(self.request, server_side=True)
            self.inside, self.received = True, b""
        elif verb.startswith("AUTH"):
            self.say(
                b"334 " if self.inside or faults.asks_for_password_before_tls else b"530 5.7.0 TLS first"
            )
        elif verb.startswith("MAIL") and not (self.inside or faults.mail_before_tls):
            self.say(b"530 5.7.0 TLS first")
        elif verb.startswith("MAIL"):
            self.sender = line.partition("<")[2].partition(">")[0]
            self.say(b"250 OK")
        elif verb.startswith("RCPT"):
            recipient = line.partition("<")[2].rpartition(">")[0]
            taken = recipient in faults.inboxes or faults.relays(self.sender, recipient)
            self.say(b"250 OK" if taken else faults.refusal)
        elif verb == "DATA":
            self.say(b"354 go on")
            self.data(faults)
        else:
            self.say(b"250 OK")

    def data(self, faults: Faults) -> None:
        while not any(end in self.received for end in faults.ends):
            if faults.refuses_bare_line_feeds and b"\n" in self.received.replace(b"\r\n", b""):
                self.say(b"550 5.5.2 Error: bare <LF> received")
                self.request.close()
                return
            more = self.request.recv(4096)
            if not more:
                return
            self.received += more
        faults.messages.append(self.received)
        self.received = b""
        self.say(b"250 2.0.0 queued")

    def say(self, text: bytes) -> None:
        self.request.sendall(text + b"\r\n")

    def line(self) -> bytes:
        while b"\r\n" not in self.received:
            more = self.request.recv(4096)
            if not more:
                return b""
            self.received += more
        line, _, self.received = self.received.partition(b"\r\n")
        return line


def certificate(name: str, days: float, folder: Path) -> Path:
    """Self-signed, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@contextmanager
def door(port: Port, faults: Faults, folder: Path, *, trusted: bool = True) -> Iterator[Door]:
    with Server(port, faults, folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def connect(_host: str, number: int, timeout: float) -> socket.socket:
            if number != port.number:
                raise ConnectionRefusedError(111, "Connection refused")
            return socket.create_connection(server.server_address[:2], timeout)

        def trust() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=str(server.certificate) if trusted else None)

        yield Door(port, NAME, "203.0.113.10", Means(Dns(Place().lookups()), connect=connect, trust=trust))
        server.shutdown()


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {finding.rule: finding.verdict for finding in findings}


def all_of_tls(found: Door, *, own_signature: bool = False) -> dict[str, Verdict]:
    return verdicts(
        [*tls.offered(found), *tls.versions(found), *tls.certificate(found, own_signature=own_signature)]
    )


def behind_translation(here: Door) -> Door:
    """The same port of a machine that cannot reach its own public address."""

    def connect(host: str, number: int, timeout: float) -> socket.socket:
        if host == here.address:
            raise TimeoutError("timed out")
        return here.means.connect(host, number, timeout)

    return replace(here, means=replace(here.means, connect=connect))


def test_behind_an_address_translation_everything_else_is_tried_all_the_same(tmp_path: Path) -> None:
    with door(WORLD, Faults(least=ssl.TLSVersion.TLSv1), tmp_path) as found:
        here = behind_translation(found)
        assert all_of_tls(here) == {
            "tls.offered": Verdict.UNKNOWN,
            "tls.expiry": Verdict.PASS,
            "tls.versions": Verdict.WARN,
            "tls.certificate": Verdict.PASS,
        }
        (offered, _) = tls.offered(here)
        assert verdicts(list(submission.auth(here))) == {"submission.auth": Verdict.PASS}
    assert "not to be reached at 203.0.113.10 from this machine: timed out" in offered.seen
    assert "127.0.0.1" in offered.advice
    with door(IMAPS, Faults(), tmp_path) as found:
        assert verdicts(list(submission.imap(behind_translation(found)))) == {"submission.imap": Verdict.PASS}


def test_an_open_relay_is_found_behind_an_address_translation(tmp_path: Path) -> None:
    with door(WORLD, Faults(relays=lambda _sender, _recipient: True), tmp_path) as found:
        (finding,) = submission.relay(behind_translation(found), "", ["relay-test@relay-test.example.net"])
    assert finding.verdict is Verdict.FAIL


# --- TLS ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [WORLD, SUBMISSION, SUBMISSIONS, IMAPS], ids=str)
def test_a_port_in_order_passes(port: Port, tmp_path: Path) -> None:
    with door(port, Faults(), tmp_path) as found:
        assert all_of_tls(found) == dict.fromkeys(
            ("tls.offered", "tls.expiry", "tls.versions", "tls.certificate"), Verdict.PASS
        )


@pytest.mark.parametrize(
    ("port", "faults", "expected"),
    [
        (WORLD, Faults(starttls=False), {"tls.offered": Verdict.FAIL}),
        (SUBMISSION, Faults(days=-1), {"tls.expiry": Verdict.FAIL}),
        (SUBMISSION, Faults(days=5), {"tls.expiry": Verdict.WARN}),
        (SUBMISSION, Faults(name="other.hoge.example"), {"tls.certificate": Verdict.FAIL}),
        (WORLD, Faults(name="other.hoge.example"), {"tls.certificate": Verdict.WARN}),
        (SUBMISSION, Faults(least=ssl.TLSVersion.TLSv1), {"tls.versions": Verdict.FAIL}),
        (WORLD, Faults(least=ssl.TLSVersion.TLSv1), {"tls.versions": Verdict.WARN}),
        (IMAPS, Faults(least=ssl.TLSVersion.TLSv1_3), {"tls.versions": Verdict.WARN}),
        (WORLD, Faults(garbled=True), {"tls.offered": Verdict.FAIL}),
    ],
)
def test_each_mistake_with_tls_has_its_finding_and_no_other(
    port: Port, faults: Faults, expected: dict[str, Verdict], tmp_path: Path
) -> None:
    with door(port, faults, tmp_path) as found:
        seen = all_of_tls(found)
    assert {rule: verdict for rule, verdict in seen.items() if verdict is not Verdict.PASS} == expected


def test_a_certificate_of_ones_own_is_what_the_settings_ask_for_or_not(tmp_path: Path) -> None:
    with door(SUBMISSION, Faults(), tmp_path, trusted=False) as found:
        assert all_of_tls(found, own_signature=True)["tls.certificate"] is Verdict.WARN
        assert all_of_tls(found, own_signature=False)["tls.certificate"] is Verdict.FAIL
    with door(WORLD, Faults(), tmp_path, trusted=False) as found:
        assert all_of_tls(found, own_signature=True)["tls.certificate"] is Verdict.PASS


def test_a_port_where_nobody_listens_is_a_failure(tmp_path: Path) -> None:
    with door(WORLD, Faults(), tmp_path) as open_one:
        closed = Door(SUBMISSION, NAME, "203.0.113.10", open_one.means)
        (found,) = tls.offered(closed)
    assert found.verdict is Verdict.FAIL
    assert "nobody listens" in found.seen


# --- behaviour ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "faults"),
    [
        (WORLD, Faults()),
        (SUBMISSION, Faults(auth_within_tls=True, mail_before_tls=False)),
        (SUBMISSIONS, Faults(auth_within_tls=True)),
    ],
)
def test_passwords_within_tls_only_pass(port: Port, faults: Faults, tmp_path: Path) -> None:
    with door(port, faults, tmp_path) as found:
        assert verdicts(list(submission.auth(found))) == {"submission.auth": Verdict.PASS}


@pytest.mark.parametrize(
    ("port", "faults", "words"),
    [
        (SUBMISSION, Faults(auth_before_tls=True), "offers AUTH before TLS"),
        (SUBMISSION, Faults(asks_for_password_before_tls=True), "asks for a password before TLS"),
        (SUBMISSION, Faults(auth_within_tls=True), "takes mail before TLS"),
        (SUBMISSION, Faults(mail_before_tls=False), "nobody can log in"),
        (SUBMISSIONS, Faults(), "nobody can log in"),
        (WORLD, Faults(auth_within_tls=True), "where the world tries them out"),
        (WORLD, Faults(auth_before_tls=True), "offers AUTH before TLS"),
    ],
)
def test_passwords_elsewhere_are_found(port: Port, faults: Faults, words: str, tmp_path: Path) -> None:
    with door(port, faults, tmp_path) as found:
        (finding,) = submission.auth(found)
    assert finding.verdict is Verdict.FAIL
    assert words in finding.seen


@pytest.mark.parametrize(
    "relays",
    [
        lambda _sender, _recipient: True,
        lambda _sender, recipient: "%" in recipient,
        lambda _sender, recipient: "!" in recipient,
        lambda _sender, recipient: recipient.startswith("@"),
        lambda _sender, recipient: recipient.startswith('"'),
        lambda _sender, recipient: recipient.count("@") == 2 and not recipient.startswith(("@", '"')),
        lambda sender, _recipient: sender.endswith("@hoge.example"),
        lambda sender, _recipient: not sender,
    ],
    ids=["all", "percent", "bang", "route", "quoted", "two at", "own sender", "null sender"],
)
def test_an_open_relay_is_found_by_whatever_it_takes(
    relays: Callable[[str, str], bool], tmp_path: Path
) -> None:
    from internet_for_checks import TEXT

    from todoku.settings import parse

    with door(WORLD, Faults(relays=relays), tmp_path) as found:
        steps = submission.steps(parse(TEXT, "todoku.toml"), found.means)
        tried = [s for s in steps if s.rule == "submission.relay" and s.about == "port 25"]
        seen = [finding for step in tried for finding in step.look()]
    assert Verdict.FAIL in {finding.verdict for finding in seen}
    assert any("Stop the mail server now" in finding.advice for finding in seen)


def test_a_server_that_relays_for_nobody_passes_and_gets_no_message(tmp_path: Path) -> None:
    faults = Faults()
    with door(WORLD, faults, tmp_path) as found:
        (finding,) = submission.relay(found, "", ["relay-test@relay-test.example.net"])
        assert finding.verdict is Verdict.PASS
        for name in ("LF.LF", "LF.CRLF", "CRLF.LF", "CR.CRLF"):
            (finding,) = submission.smuggling(found, "postmaster@hoge.example", name)
            assert finding.verdict is Verdict.PASS, finding
    assert faults.messages == []


@pytest.mark.parametrize(
    ("name", "end"),
    [("LF.LF", b"\n.\n"), ("LF.CRLF", b"\n.\r\n"), ("CRLF.LF", b"\r\n.\n"), ("CR.CRLF", b"\r.\r\n")],
)
def test_what_ends_a_message_although_it_must_not_is_found(name: str, end: bytes, tmp_path: Path) -> None:
    with door(WORLD, Faults(ends=(b"\r\n.\r\n", end)), tmp_path) as found:
        (finding,) = submission.smuggling(found, "postmaster@hoge.example", name)
    assert finding.verdict is Verdict.FAIL
    assert name in finding.seen


def test_a_refusal_of_bare_line_feeds_passes(tmp_path: Path) -> None:
    with door(WORLD, Faults(refuses_bare_line_feeds=True), tmp_path) as found:
        (finding,) = submission.smuggling(found, "postmaster@hoge.example", "LF.LF")
    assert finding.verdict is Verdict.PASS
    assert "bare" in finding.seen


def test_imap_that_does_not_greet_is_found(tmp_path: Path) -> None:
    with door(IMAPS, Faults(), tmp_path) as found:
        assert verdicts(list(submission.imap(found))) == {"submission.imap": Verdict.PASS}
    with door(IMAPS, Faults(imap_greeting=b"* BYE no\r\n"), tmp_path) as found:
        assert verdicts(list(submission.imap(found))) == {"submission.imap": Verdict.FAIL}
