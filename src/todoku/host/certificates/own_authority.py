"""A small certificate authority of one's own, for names that no public one certifies (RFC 5280).

Its root is good for the names of this server alone: they are in its name constraints (4.2.1.10), critical, so that who
installs it trusts nobody about any other name, not even if the key is stolen. The key lies in a folder of root's and is
never shown. Apple's programs take no server certificate that lives longer than 825 days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from todoku.host.certificates.certificate import CertificateError, inspect
from todoku.host.client import Host
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed

FOLDER = "/var/lib/todoku/ca"
ROOT, KEY = f"{FOLDER}/root.pem", f"{FOLDER}/root.key"
AUTHORITY_ID = "certificate-authority"
ROOT_LIFE = timedelta(days=3650)
ROOT_RENEWED_BEFORE = timedelta(days=365)
LEAF_LIFE = timedelta(days=397)
_EARLIER = timedelta(days=1)  # for clients whose clock is slow
_LONGEST_NAME = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True, slots=True)
class Authority:
    """The root's certificate and private key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    @property
    def parsed(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it may certify."""
        try:
            found = self.parsed.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return ()
        return tuple(each.value for each in found.permitted_subtrees or () if isinstance(each, x509.DNSName))

    @property
    def left(self) -> timedelta:
        return self.parsed.not_valid_after_utc - datetime.now(UTC)

    @property
    def fingerprint(self) -> str:
        """SHA-256, as programs show it, for people to compare."""
        return self.parsed.fingerprint(hashes.SHA256()).hex(":").upper()


def create(names: Sequence[str], now: datetime) -> Authority:
    """A new authority for exactly these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    label = f"{names[0]} mail authority"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label[:_LONGEST_NAME])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(subject, subject, key.public_key(), now, ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.NameConstraints([x509.DNSName(name) for name in names], None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_pem(certificate), _private(key))


def issue(authority: Authority, name: str, now: datetime) -> bytes:
    """A server's key and certificate for `name`, PEM, the key first. Raises CertificateError."""
    if name not in authority.names:
        raise CertificateError(f"the authority is for {', '.join(authority.names)} and not for {name}")
    root = authority.parsed
    signer = cast(
        ec.EllipticCurvePrivateKey, serialization.load_pem_private_key(authority.key, password=None)
    )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_LONGEST_NAME])])
    life = min(LEAF_LIFE, root.not_valid_after_utc - now)
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, root.subject, key.public_key(), now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return _private(key) + _pem(certificate)


def read(host: Host) -> Authority | None:
    """The authority of this machine; None while there is none. Raises CertificateError when it is damaged, OSError."""
    certificate, key = host.read(ROOT), host.read(KEY)
    if certificate is None and key is None:
        return None
    try:
        inspect(certificate or b"", key or b"")
    except CertificateError as fault:
        raise CertificateError(
            f"{ROOT} with {KEY}: {fault}. Bring them back from a backup; or remove both, and a new authority is made, "
            "whose root people have to install again"
        ) from fault
    assert certificate and key  # noqa: S101 - inspected
    return Authority(certificate, key)


@dataclass(frozen=True, kw_only=True)
class OwnAuthority(HostResource[Authority | None]):
    """The authority exists, for these names, and goes on for a while."""

    names: tuple[str, ...]

    @property
    def id(self) -> str:
        return AUTHORITY_ID

    def look(self, client: Host) -> Authority | None:
        try:
            return read(client)
        except CertificateError as fault:
            raise LookFailed(str(fault)) from fault

    def differ(self, seen: Authority | None) -> Change | None:
        names = ", ".join(self.names)
        again = "everybody has to install its root again (`todoku ca export`)"
        if seen is None:
            return Change(Action.CREATE, f"make a certificate authority for {names}, and for nothing else")
        if lacking := [name for name in self.names if name not in seen.names]:
            was = ", ".join(seen.names) or "no name"
            return Change(
                Action.UPDATE,
                f"replace the certificate authority, which is for {was} and cannot certify {', '.join(lacking)}",
                again,
            )
        if seen.left < ROOT_RENEWED_BEFORE:
            return Change(
                Action.UPDATE, f"replace the certificate authority ({seen.left.days} days left)", again
            )
        return None

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        made = create(self.names, datetime.now(UTC))
        client.make_directory(FOLDER, 0o700)
        # Should we be killed in between, the two do not fit, and the next look says so.
        for path, content, mode in ((KEY, made.key, 0o600), (ROOT, made.certificate, 0o644)):
            if (before := client.read(path)) is not None:
                client.replace(f"{path}.before", before, mode=0o600)
            client.replace(path, content, mode=mode)


@dataclass(frozen=True, slots=True)
class LeafSeen:
    """What is at the path of a certificate of ours; `problem` is why it cannot stay, empty when it can."""

    problem: str = ""
    exists: bool = True


@dataclass(frozen=True, kw_only=True)
class OwnCertificate(HostResource[LeafSeen]):
    """A certificate for `name` that our own authority has signed, made anew in time."""

    called: str  # its id in the plan
    name: str
    path: str

    @property
    def id(self) -> str:
        return self.called

    def look(self, client: Host) -> LeafSeen:
        content = client.read(self.path)
        if content is None:
            return LeafSeen(exists=False)
        try:
            authority = read(client)
            seen = inspect(content, content)
        except CertificateError as fault:
            return LeafSeen(str(fault))
        if not seen.covers(self.name):
            return LeafSeen(f"it was for {', '.join(seen.names) or 'no name'}")
        if authority is None or not _is_signed_by(content, authority):
            return LeafSeen("it is not signed by the present authority")
        return LeafSeen(f"{seen.left.days} days left" if seen.is_due else "")

    def differ(self, seen: LeafSeen) -> Change | None:
        if not seen.exists:
            return Change(Action.CREATE, f"sign a certificate for {self.name}")
        return (
            Change(Action.UPDATE, f"sign a new certificate for {self.name} ({seen.problem})")
            if seen.problem
            else None
        )

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        try:
            authority = read(client)
            if authority is None:
                raise ChangeFailed(f"there is no certificate authority in {FOLDER}: apply again")
            content = issue(authority, self.name, datetime.now(UTC))
        except CertificateError as fault:
            raise ChangeFailed(str(fault)) from fault
        client.replace(self.path, content, mode=0o600)


def _is_signed_by(content: bytes, authority: Authority) -> bool:
    try:
        x509.load_pem_x509_certificates(content)[0].verify_directly_issued_by(authority.parsed)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + life)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
