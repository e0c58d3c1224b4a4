"""The certificate that Postfix and Dovecot show: self-signed until there is a real one.

Settings that name files are taken at their word, but checked: a certificate that does not fit its key keeps
both daemons from starting, and one for another name makes every mail program complain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from todoku.host import endpoint
from todoku.host.client import Host
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, LookFailed
from todoku.settings import Settings

LIFETIME = timedelta(days=397)
RENEWED_BEFORE = timedelta(days=30)


class CertificateError(Exception):
    """The text says what is wrong with a certificate or its key."""


@dataclass(frozen=True, slots=True)
class CertificateSeen:
    """The first certificate of a file: whom it is for and until when."""

    names: tuple[str, ...]
    left: timedelta  # negative when it has expired
    life: timedelta = LIFETIME  # from its first to its last second
    is_self_signed: bool = False

    @property
    def is_due(self) -> bool:
        """Whether it is time for a new one: a third of its life is left, as authorities recommend."""
        return self.left < self.life / 3

    @property
    def is_over(self) -> bool:
        return self.left <= timedelta()

    def covers(self, hostname: str) -> bool:
        """Whether it is for `hostname` (RFC 6125 6.4.3: a wildcard stands for exactly one label)."""
        wildcard = f"*.{hostname.partition('.')[2]}"
        return any(name.lower() in (hostname.lower(), wildcard.lower()) for name in self.names)


def paths(settings: Settings) -> tuple[str, str]:
    """The files of the certificate with its chain, and of its key."""
    return endpoint.certificate(settings), endpoint.key(settings)


@dataclass(frozen=True, kw_only=True)
class SelfSigned(HostResource[CertificateSeen | None]):
    """A self-signed certificate for the host name, made anew in time."""

    hostname: str

    @property
    def id(self) -> str:
        return "certificate"

    def look(self, client: Host) -> CertificateSeen | None:
        certificate = client.read(endpoint.SELF_SIGNED_CERTIFICATE)
        key = client.read(endpoint.SELF_SIGNED_KEY)
        if certificate is None or key is None:
            return None
        try:
            return inspect(certificate, key)
        except CertificateError:
            return None

    def differ(self, seen: CertificateSeen | None) -> Change | None:
        if seen is None:
            return Change(Action.CREATE, f"make a self-signed certificate for {self.hostname}")
        if not seen.covers(self.hostname):
            was = ", ".join(seen.names) or "no name"
            return Change(Action.UPDATE, f"make a certificate for {self.hostname} (it was for {was})")
        if seen.left < RENEWED_BEFORE:
            return Change(Action.UPDATE, f"renew the self-signed certificate ({seen.left.days} days left)")
        return None

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        certificate, key = self_signed(self.hostname, datetime.now(UTC))
        client.replace(endpoint.SELF_SIGNED_KEY, key, mode=0o600)
        client.replace(endpoint.SELF_SIGNED_CERTIFICATE, certificate, mode=0o644)


@dataclass(frozen=True, kw_only=True)
class Named(HostResource[None]):
    """The certificate that the settings name. It is only checked: looking fails when it is of no use."""

    hostname: str
    certificate: str
    key: str

    @property
    def id(self) -> str:
        return "certificate"

    def look(self, client: Host) -> None:
        content = {}
        for path, setting in ((self.certificate, "tls.certificate"), (self.key, "tls.key")):
            content[setting] = client.read(path)
            if content[setting] is None:
                raise LookFailed(f"{path}, which {setting} names, does not exist")
        try:
            seen = inspect(content["tls.certificate"] or b"", content["tls.key"] or b"")
        except CertificateError as fault:
            raise LookFailed(f"{self.certificate} with {self.key}: {fault}") from fault
        if not seen.covers(self.hostname):
            names = ", ".join(seen.names) or "no name"
            raise LookFailed(
                f"{self.certificate} is for {names}, not for {self.hostname}: have it issued anew"
            )
        if seen.left <= timedelta():
            raise LookFailed(f"{self.certificate} expired {(-seen.left).days} days ago: renew it")

    def differ(self, seen: None) -> Change | None:  # noqa: ARG002
        return None

    def change(self, change: Change, client: Host) -> None:
        """Never needed: `differ` says so."""


def inspect(certificate: bytes, key: bytes) -> CertificateSeen:
    """Reads a PEM certificate and the key that has to belong to it. Raises CertificateError."""
    try:
        first = x509.load_pem_x509_certificates(certificate)[0]
    except ValueError:
        raise CertificateError("the certificate is not one in PEM form") from None
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError:
        raise CertificateError(
            "the key is protected by a pass phrase, which nobody can type at boot"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("the key is not one in PEM form") from None
    if _public(private.public_key()) != _public(first.public_key()):
        raise CertificateError("the key does not belong to the certificate")
    return CertificateSeen(
        names=_names(first),
        left=first.not_valid_after_utc - datetime.now(UTC),
        life=first.not_valid_after_utc - first.not_valid_before_utc,
        is_self_signed=first.issuer == first.subject,
    )


def self_signed(hostname: str, now: datetime) -> tuple[bytes, bytes]:
    """A new certificate and its key (ECDSA P-256), both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # for clients whose clock is slow
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _public(key: object) -> bytes:
    if not hasattr(key, "public_bytes"):
        raise CertificateError("the key is of a kind that cannot be used for TLS")
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
