"""Keys of the rehearsal's internet: a certificate authority that nobody else trusts, and DKIM key pairs.

Certificates follow the profile of RFC 5280 closely enough for the strict checks that Python 3.13 and OpenSSL
switch on by default (key identifiers present, basic constraints and key usage critical). They are ECDSA P-256
because a world makes several of them at each start and this takes about a millisecond; DKIM keys are
RSA-2048, which is what the relay and the mailbox providers use (RFC 8301 3.2).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_AGE = timedelta(hours=1)  # already valid on machines whose clock is a little behind
_LIFE = timedelta(days=90)  # as a public authority's: what warns of an end that is near has no reason to
_ORGANISATION = "Todoku rehearsal"
_LONGEST_COMMON_NAME = 64  # RFC 5280 appendix A, ub-common-name


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """The certificate authority of one world. Its private key exists in this process' memory only."""

    certificate: x509.Certificate
    certificate_path: Path  # folder/ca.pem
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, folder: Path) -> Authority:
        """A new authority, whose certificate is written to `folder`/ca.pem (a missing folder is made)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("Todoku rehearsal authority")
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(_authority_identifier(identifier), critical=False)
            .sign(key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "ca.pem"
        path.write_bytes(_pem(certificate))
        return cls(certificate, path, key)

    def issue(self, names: Sequence[str], folder: Path) -> tuple[Path, Path]:
        """A server certificate for `names` (host names as A-labels, `*.` wildcards, or IP addresses).

        Writes `folder`/NAME.pem (the certificate, then the authority's) and NAME.key (0600), where NAME is
        the first name with `*` as `_`, and returns both paths. Raises ValueError when `names` is empty.
        """
        if not names:
            raise ValueError("a certificate was asked for without any name; give at least one host name")
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(_name(names[0]), self.certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(_authority_identifier(identifier), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        base = names[0].replace("*", "_")
        certificate_path, key_path = folder / f"{base}.pem", folder / f"{base}.key"
        certificate_path.write_bytes(_pem(certificate) + _pem(self.certificate))
        _write_secret(key_path, _private_pem(key))
        return certificate_path, key_path


def generate_dkim_key() -> str:
    """A new RSA-2048 private key as PEM text (PKCS #8). Takes some 0.1 s."""
    return _private_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)).decode("ascii")


def dkim_txt(private_key_pem: str) -> str:
    """The value of the TXT record that publishes the public half of a DKIM private key (RFC 6376 3.6.1).

    One string of about 400 characters: whoever publishes it has to split it (RFC 6376 3.6.2.2). Raises
    ValueError when the text is not an unencrypted RSA private key in PEM.
    """
    # Checking the primes takes 30 ms, and only the public half is used here.
    key = serialization.load_pem_private_key(
        private_key_pem.encode("ascii"), password=None, unsafe_skip_rsa_key_validation=True
    )
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(
            f"a DKIM key has to be RSA, this one is {type(key).__name__}; make one with generate_dkim_key()"
        )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode('ascii')}"


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _AGE)
        .not_valid_after(now + _LIFE)
    )


def _name(common_name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION)]
    # A longer host name is in the subject alternative names only, which is where clients look (RFC 9525 2).
    if len(common_name) <= _LONGEST_COMMON_NAME:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_identifier(identifier: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # never into a file that somebody may already hold open
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
