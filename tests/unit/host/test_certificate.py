# Promise: TLS works from the first minute on; a certificate that would stop the daemons is found beforehand.

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from todoku.host.certificates import certificate
from todoku.host.certificates.certificate import CertificateError, CertificateSeen, Named, SelfSigned
from todoku.host.client import Host
from todoku.plan.resource import LookFailed

NAME = "mx.hoge.example"
NOW = datetime.now(UTC)
WANTED = SelfSigned(hostname=NAME, reason="a test")


def named(tmp_path: Path, pem: tuple[bytes, bytes], hostname: str = NAME) -> Named:
    (tmp_path / "cert.pem").write_bytes(pem[0])
    (tmp_path / "key.pem").write_bytes(pem[1])
    return Named(hostname=hostname, certificate="/cert.pem", key="/key.pem", reason="a test")


def test_a_new_certificate_fits_its_key_and_covers_the_host_name() -> None:
    seen = certificate.inspect(*certificate.self_signed(NAME, NOW))
    assert seen.covers("MX.hoge.example")
    assert not seen.covers("hoge.example")
    assert WANTED.differ(seen) is None


def test_it_is_made_when_missing_broken_for_another_name_or_nearly_over() -> None:
    month = timedelta(days=29)
    for seen in (
        None,
        CertificateSeen(("old.hoge.example",), timedelta(99)),
        CertificateSeen((NAME,), month),
    ):
        assert WANTED.differ(seen) is not None
    assert WANTED.differ(CertificateSeen((NAME,), timedelta(days=31))) is None


def test_a_run_killed_between_key_and_certificate_is_repaired(tmp_path: Path) -> None:
    host = Host(tmp_path)
    folder = tmp_path / "etc/todoku/tls"
    folder.mkdir(parents=True)
    (folder / "self-signed.pem").write_bytes(certificate.self_signed(NAME, NOW)[0])
    (folder / "self-signed.key").write_bytes(certificate.self_signed(NAME, NOW)[1])
    assert WANTED.look(host) is None


def test_a_wildcard_stands_for_one_label() -> None:
    seen = CertificateSeen(("*.hoge.example",), timedelta(99))
    assert seen.covers(NAME)
    assert not seen.covers("a.mx.hoge.example")


def test_a_named_certificate_that_is_fine_needs_nothing(tmp_path: Path) -> None:
    wanted = named(tmp_path, certificate.self_signed(NAME, NOW))
    wanted.look(Host(tmp_path))
    assert wanted.differ(None) is None


def test_a_named_certificate_that_does_not_exist_is_named_with_its_setting(tmp_path: Path) -> None:
    wanted = named(tmp_path, certificate.self_signed(NAME, NOW))
    (tmp_path / "key.pem").unlink()
    with pytest.raises(LookFailed, match=r"/key\.pem, which tls\.key names, does not exist"):
        wanted.look(Host(tmp_path))


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    pem = (certificate.self_signed(NAME, NOW)[0], certificate.self_signed(NAME, NOW)[1])
    with pytest.raises(LookFailed, match="the key does not belong to the certificate"):
        named(tmp_path, pem).look(Host(tmp_path))


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    wanted = named(tmp_path, certificate.self_signed("www.hoge.example", NOW))
    with pytest.raises(LookFailed, match=r"is for www\.hoge\.example, not for mx\.hoge\.example"):
        wanted.look(Host(tmp_path))


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    old = NOW - certificate.LIFETIME - timedelta(days=3)
    with pytest.raises(LookFailed, match="expired 3 days ago"):
        named(tmp_path, certificate.self_signed(NAME, old)).look(Host(tmp_path))


def test_what_is_no_certificate_or_no_key_is_said() -> None:
    chain, key = certificate.self_signed(NAME, NOW)
    with pytest.raises(CertificateError, match="certificate is not one"):
        certificate.inspect(b"x", key)
    with pytest.raises(CertificateError, match="key is not one"):
        certificate.inspect(chain, b"x")
