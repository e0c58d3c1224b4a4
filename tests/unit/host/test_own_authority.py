# Mail programs use an internal name, and warn each morning. People who got used to clicking warnings away, or who
# installed a root that may speak for any name of the world, are worse off than before.

from __future__ import annotations

import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from todoku.host.certificates import own_authority
from todoku.host.certificates.certificate import CertificateError, inspect
from todoku.host.certificates.own_authority import KEY, ROOT, OwnAuthority, OwnCertificate
from todoku.host.client import Host
from todoku.plan.resource import Action, LookFailed

NAME = "mx.hoge.internal"
NOW = datetime.now(UTC)
LEAF = "/etc/todoku/tls/internal.pem"


class Machine(Host):
    """A host in a folder, where nobody can be made the owner of anything."""

    def replace(
        self, path: str, content: bytes, *, mode: int = 0o644, owner: str = "", group: str = ""
    ) -> None:
        del owner, group
        self.real(path).parent.mkdir(parents=True, exist_ok=True)
        self.real(path).write_bytes(content)
        self.real(path).chmod(mode)

    def make_directory(self, path: str, mode: int = 0o755, owner: str = "", group: str = "") -> None:
        del owner, group
        self.real(path).mkdir(parents=True, exist_ok=True)
        self.real(path).chmod(mode)


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def authority(*names: str) -> OwnAuthority:
    return OwnAuthority(names=names or (NAME,), reason="internal")


def leaf(name: str = NAME) -> OwnCertificate:
    return OwnCertificate(called="certificate:internal", name=name, path=LEAF, reason="internal")


def make(resource: OwnAuthority | OwnCertificate, host: Host) -> str:
    """What was changed; empty when nothing."""
    change = resource.differ(resource.look(host))  # type: ignore[arg-type]
    if change is None:
        return ""
    resource.change(change, host)
    return change.summary


def verified(root: bytes, content: bytes, name: str, folder: Path) -> str:
    """What openssl says of the certificate for `name`, when it trusts this root alone."""
    (folder / "root.pem").write_bytes(root)
    (folder / "leaf.pem").write_bytes(content)
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-verify_hostname",
        name,
        "-CAfile",
        "root.pem",
        "leaf.pem",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def test_root_and_leaf_are_made_once_and_only_root_reads_the_keys(host: Machine, tmp_path: Path) -> None:
    assert make(authority(), host) == f"make a certificate authority for {NAME}, and for nothing else"
    assert make(leaf(), host) == f"sign a certificate for {NAME}"
    assert make(authority(), host) == make(leaf(), host) == ""
    assert [stat.S_IMODE(host.real(path).stat().st_mode) for path in (KEY, LEAF)] == [0o600, 0o600]
    assert stat.S_IMODE(host.real(KEY).parent.stat().st_mode) == 0o700
    root, content = host.read(ROOT), host.read(LEAF)
    assert root and content
    assert verified(root, content, NAME, tmp_path) == "leaf.pem: OK"
    ssl.create_default_context().load_cert_chain(host.real(LEAF))


def test_the_root_can_speak_for_no_other_name_even_if_its_key_is_stolen(tmp_path: Path) -> None:
    ours = own_authority.create([NAME], NOW)
    with pytest.raises(CertificateError, match="and not for bank"):
        own_authority.issue(ours, "bank.example", NOW)
    # A thief does not ask: he signs with the key itself.
    other = own_authority.create(["bank.example"], NOW)
    stolen = own_authority.Authority(other.certificate, ours.key)
    forged = own_authority.issue(stolen, "bank.example", NOW)
    assert "OK" not in verified(ours.certificate, forged, "bank.example", tmp_path)
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    first = x509.load_pem_x509_certificates(forged)[0]
    key = serialization.load_pem_private_key(ours.key, password=None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(first.subject)
        .issuer_name(ours.parsed.subject)
        .public_key(first.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=30))
    )
    for extension in first.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    root_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ours.parsed.public_key())  # type: ignore[arg-type]
    builder = builder.add_extension(root_key_id, critical=False)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
    pem = signed.public_bytes(serialization.Encoding.PEM)
    assert "permitted subtree violation" in verified(ours.certificate, pem, "bank.example", tmp_path)


def test_a_leaf_is_renewed_when_a_third_of_its_life_is_left(host: Machine) -> None:
    make(authority(), host)
    known = own_authority.read(host)
    assert known is not None
    for days, due in ((100, False), (300, True), (500, True)):
        host.replace(LEAF, own_authority.issue(known, NAME, NOW - timedelta(days=days)))
        change = leaf().differ(leaf().look(host))
        assert (change is not None) is due, days


def test_another_name_needs_another_root_and_the_plan_says_what_that_costs(host: Machine) -> None:
    make(authority(), host)
    make(leaf(), host)
    change = authority("mail.hoge.internal").differ(authority("mail.hoge.internal").look(host))
    assert change is not None and change.action is Action.UPDATE
    assert "cannot certify mail.hoge.internal" in change.summary
    assert "everybody has to install its root again" in change.detail
    make(authority("mail.hoge.internal"), host)
    assert "it was for mx.hoge.internal" in make(leaf("mail.hoge.internal"), host)
    assert make(leaf("mail.hoge.internal"), host) == ""
    assert host.read(f"{KEY}.before") is not None


def test_a_damaged_authority_is_told_and_not_replaced_behind_ones_back(host: Machine) -> None:
    make(authority(), host)
    host.replace(KEY, own_authority.create([NAME], NOW).key)  # as after being killed between the two files
    with pytest.raises(
        LookFailed, match=r"the key does not belong to the certificate\. Bring them back from a backup"
    ):
        authority().look(host)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_is_made_anew(host: Machine, content: bytes) -> None:
    make(authority(), host)
    host.replace(LEAF, content)
    assert make(leaf(), host).startswith("sign a new certificate")
    seen = inspect(host.read(LEAF) or b"", host.read(LEAF) or b"")
    assert seen.names == (NAME,) and not seen.is_self_signed
