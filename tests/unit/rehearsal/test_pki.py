"""The world's own certificates and DKIM keys must pass the strictest checks that real clients make.

Python 3.13 verifies with X509_STRICT by default; a simulated relay whose certificate fails there would make
the rehearsal fail on Debian 13 for a reason that has nothing to do with the user's mail.
"""

import contextlib
import socket
import ssl
import stat
import threading
from pathlib import Path

import dkim
import pytest

from todoku.rehearsal.internet.pki import Authority, dkim_txt, generate_dkim_key

RELAY = "smtp.email.ap-tokyo-1.oci.oraclecloud.com"


def handshake(authority: Path, certificate: Path, key: Path, name: str) -> str:
    """What a strictly verifying client that asks for `name` ends up with: a TLS version, or the error."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(authority))
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, contextlib.suppress(OSError):  # the client's verdict is the one that counts
            server.wrap_socket(theirs, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        try:
            with client.wrap_socket(ours, server_hostname=name) as tls:
                return str(tls.version())
        except ssl.SSLCertVerificationError as refusal:
            return refusal.verify_message
        finally:
            ours.close()
            thread.join()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("ca"))


def test_a_strict_client_accepts_every_name_of_the_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue([RELAY, "*.ap-tokyo-1.oci.oraclecloud.com", "192.0.2.20"], tmp_path)

    for name in (RELAY, "identity.ap-tokyo-1.oci.oraclecloud.com", "192.0.2.20"):
        assert handshake(authority.certificate_path, certificate, key, name) == "TLSv1.3"


def test_a_name_that_is_not_in_the_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue([RELAY], tmp_path)

    verdict = handshake(authority.certificate_path, certificate, key, "mx.hoge.example")
    assert verdict.startswith("Hostname mismatch")


def test_another_worlds_authority_does_not_vouch_for_this_one(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue([RELAY], tmp_path)
    other = Authority.create(tmp_path / "other")

    verdict = handshake(other.certificate_path, certificate, key, RELAY)
    assert verdict in ("self-signed certificate in certificate chain", "certificate signature failure")


def test_a_host_name_longer_than_a_common_name_may_be_gets_a_certificate(
    authority: Authority, tmp_path: Path
) -> None:
    name = f"mx.{'a' * 40}.{'b' * 40}.example"
    certificate, key = authority.issue([name], tmp_path)

    assert handshake(authority.certificate_path, certificate, key, name) == "TLSv1.3"


def test_private_keys_are_readable_by_their_owner_only(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / f"{RELAY}.key").write_text("left over")
    (tmp_path / f"{RELAY}.key").chmod(0o644)
    certificate, key = authority.issue([RELAY], tmp_path)

    assert certificate == tmp_path / f"{RELAY}.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "left over" not in key.read_text()


def test_the_authoritys_own_key_is_written_nowhere(tmp_path: Path) -> None:
    Authority.create(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]
    assert "PRIVATE" not in (tmp_path / "ca.pem").read_text()


def test_a_wildcard_certificate_has_a_file_name_that_shells_leave_alone(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue(["*.ap-tokyo-1.oci.oraclecloud.com"], tmp_path)

    assert (certificate.name, key.name) == (
        "_.ap-tokyo-1.oci.oraclecloud.com.pem",
        "_.ap-tokyo-1.oci.oraclecloud.com.key",
    )


def test_a_certificate_without_a_name_is_an_error_that_says_so(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without any name"):
        authority.issue([], tmp_path)


def test_a_signature_by_the_dkim_key_verifies_against_its_published_record_and_not_after_a_change() -> None:
    key = generate_dkim_key()
    message = b"From: alice@hoge.example\r\nSubject: hello\r\n\r\nbody\r\n"
    signed = dkim.sign(message, b"sel", b"hoge.example", key.encode(), include_headers=[b"From"]) + message

    def published(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"sel._domainkey.hoge.example."
        return dkim_txt(key).encode()

    assert dkim.verify(signed, dnsfunc=published)
    assert not dkim.verify(signed.replace(b"body", b"bodY"), dnsfunc=published)


def test_a_dkim_record_is_one_line_with_the_tags_in_the_usual_order() -> None:
    text = dkim_txt(generate_dkim_key())

    assert text.startswith("v=DKIM1; k=rsa; p=MIIBIjANBg")
    assert "\n" not in text


def test_a_key_that_is_not_rsa_is_refused_as_dkim_key(authority: Authority, tmp_path: Path) -> None:
    _, key = authority.issue(["mx.hoge.example"], tmp_path)

    with pytest.raises(ValueError, match="has to be RSA"):
        dkim_txt(key.read_text())
