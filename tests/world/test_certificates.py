# A certificate ends, nobody notices, and one morning no mail program connects. Or it was renewed, and the daemons go on
# showing the old one. Or the web server had to be stopped for it, and a port opened.

from __future__ import annotations

import imaplib
import plistlib
import smtplib
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.query
import documented
import pytest
from conftest import CONFIG, World
from cryptography import x509

from todoku.host.certificates.served import certificate_at
from todoku.rehearsal.internet import authority
from todoku.rehearsal.internet.plan import AUTHORITY

STATE = Path("/run/todoku-rehearsal")
MANAGED = Path("/etc/todoku/tls/certificate.pem")
INTERNAL = "mx.hoge.internal"
# As the timer's unit does it: root, without any of root's rights.
LOCKED_UP = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--")
PORTS = (25, 465, 587, 993)
TABLE = f"""
[tls]
mode = "acme"
acme_directory = "{authority.DIRECTORY}"
internal_name = "{INTERNAL}"
"""


@pytest.fixture(scope="module")
def pebble() -> Iterator[None]:
    process = authority.start(STATE)
    yield
    process.kill()
    process.wait()


@pytest.fixture
def network() -> Iterator[Callable[[str], None]]:
    """Takes the authority off the Internet ("del"), and brings it back ("add")."""

    def change(how: str) -> None:
        command = ["ip", "route", how, "local", str(AUTHORITY), "dev", "lo", "table", "local"]
        subprocess.run(command, check=how == "add", capture_output=True)

    yield change
    change("del")
    change("add")


@pytest.fixture(scope="module")
def certified(the_world: World, pebble: None) -> Iterator[World]:
    """The world's host with a certificate of the public authority, and one of its own for an internal name."""
    before = CONFIG.read_text()
    CONFIG.write_text(before.replace("\n[tls]\n", TABLE))
    outcome = the_world.apply()
    assert {"certificate-authority", "certificate:internal", "acme-certificate"} <= set(outcome["changed"])
    yield the_world
    CONFIG.write_text(before)
    the_world.apply()


def trust(cafile: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cafile) if cafile else None)


def served(port: int, name: str, cafile: Path | None) -> x509.Certificate:
    """What the port shows for the name, to a client that trusts these authorities and checks the name."""
    return x509.load_der_x509_certificate(certificate_at(port, name, trust(cafile)))


def test_a_public_authority_certifies_the_host_name_and_no_port_of_the_web_is_open(certified: World) -> None:
    root = STATE / "authority/root.pem"
    for port in PORTS:
        assert "Pebble" in served(port, certified.hostname, root).issuer.rfc4514_string()
    for port in (80, 443):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((certified.ip, port), 2)
    # The challenge is gone from the DNS, and nobody but root reads the key.
    query = dns.message.make_query(f"_acme-challenge.{certified.hostname}", "TXT")
    assert dns.query.udp(query, "192.0.2.53", 5).answer == []
    assert stat.S_IMODE(MANAGED.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("/var/lib/todoku/acme").stat().st_mode) == 0o700
    assert certified.apply()["changed"] == []


def test_a_renewal_cuts_no_connection_and_is_served_at_once(certified: World) -> None:
    root = STATE / "authority/root.pem"
    before = served(993, certified.hostname, root).serial_number
    imap = imaplib.IMAP4_SSL(certified.hostname, 993, ssl_context=trust(root), timeout=20)
    imap.login(certified.alice.login, certified.alice.password)
    smtp = smtplib.SMTP_SSL(certified.hostname, 465, local_hostname="laptop", context=trust(root), timeout=20)
    smtp.login(certified.alice.login, certified.alice.password)

    renewed = subprocess.run(
        [*LOCKED_UP, "todoku", "certificate", "renew", "--force"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert renewed.returncode == 0, renewed.stdout + renewed.stderr
    for port in PORTS:
        assert served(port, certified.hostname, root).serial_number != before
    assert imap.select("INBOX")[0] == "OK"
    assert (
        smtp.sendmail(
            certified.alice.address, [certified.bob.address], "Subject: while renewing\r\n\r\ntext\r\n"
        )
        == {}
    )
    imap.logout()
    smtp.quit()


def test_a_renewal_that_fails_leaves_the_old_certificate_and_raises_an_alarm_until_it_works(
    certified: World, network: Callable[[str], None]
) -> None:
    root = STATE / "authority/root.pem"
    before = MANAGED.read_bytes()
    network("del")

    failed = certified.todoku("certificate", "renew", "--force")

    assert failed.returncode == 1
    assert "goes on being served" in failed.stdout and "acme.authority.example" in failed.stdout
    assert MANAGED.read_bytes() == before
    for port in PORTS:
        served(port, certified.hostname, root)
    status = certified.todoku("status")
    assert "ALARM" in status.stdout and "acme.authority.example gave out no certificate" in status.stdout

    network("add")
    again = certified.todoku("certificate", "renew", "--force")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "gave out no certificate" not in certified.todoku("status").stdout


def test_the_internal_name_is_certified_by_our_own_authority(certified: World, tmp_path: Path) -> None:
    root, profile = tmp_path / "root.crt", tmp_path / "alice.mobileconfig"
    assert certified.todoku("ca", "export", str(root)).returncode == 0
    for port in PORTS:
        assert served(port, INTERNAL, root).subject.rfc4514_string() == f"CN={INTERNAL}"
    # The root says nothing about the host name, and so does who trusts it.
    with pytest.raises(ssl.SSLCertVerificationError):
        served(993, certified.hostname, root)
    assert INTERNAL in certified.todoku("ca", "show").stdout
    key = Path("/var/lib/todoku/ca/root.key").stat()
    assert (stat.S_IMODE(key.st_mode), key.st_uid) == (0o600, 0)
    setup = certified.todoku("account", "setup", certified.alice.login, "--mobileconfig", str(profile))
    assert setup.returncode == 0 and INTERNAL in setup.stdout
    payloads = plistlib.loads(profile.read_bytes())["PayloadContent"]
    trusted = next(each for each in payloads if each["PayloadType"] == "com.apple.security.root")
    assert x509.load_der_x509_certificate(trusted["PayloadContent"]) == x509.load_pem_x509_certificate(
        root.read_bytes()
    )


@pytest.mark.slow  # another renewal
def test_the_commands_of_the_page_work(certified: World, tmp_path: Path) -> None:
    said = documented.run(documented.block("certificates.md", "todoku certificate status"), tmp_path)
    assert certified.hostname in said
    documented.run(documented.block("certificates.md", "todoku ca show"), tmp_path)
    assert b"BEGIN CERTIFICATE" in (tmp_path / "root.crt").read_bytes()
