"""An instance of the cloud, as programs on it see it: the metadata service (http://169.254.169.254/opc/v2, only
with `Authorization: Bearer Oracle`), the certificate that it hands out, and the federation service that gives a
token for it (POST /v1/x509). With that token the instance signs its requests (keyId `ST$TOKEN`).

Shapes are those that the SDK's InstancePrincipalsSecurityTokenSigner and X509FederationClient ask for.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from todoku.rehearsal.internet.plan import CloudPlan
from todoku.settings.regions import REGIONS

from .api import Principal, read_body
from .errors import invalid, missing, unauthenticated
from .http_server import Answer, Request
from .signatures import verify

TOKEN_SECONDS = 1200.0
_BEARER = "Bearer Oracle"
_NAME = "mail-host"


@dataclass(frozen=True, slots=True)
class _Session:
    """What a token stands for."""

    principal: Principal
    key: rsa.RSAPublicKey
    expires: float  # seconds since 1970, by the real clock


@dataclass(slots=True)
class Identified:
    """Tokens that were given out."""

    sessions: dict[str, _Session] = field(default_factory=dict)

    def key(self, token: str) -> rsa.RSAPublicKey | None:
        """The session's public key, while the token is valid."""
        session = self.sessions.get(token)
        return session.key if session and time.time() < session.expires else None


class Instance:
    """The instance of the plan, in `region`."""

    def __init__(self, plan: CloudPlan, region: str) -> None:
        self.plan, self.region, self.identified = plan, region, Identified()
        self.principal = Principal("instance", plan.instance, plan.compartment)

    # -- metadata

    async def metadata(self, request: Request) -> Answer:
        """One question to the metadata service."""
        segments = request.segments
        if segments[:2] != ("opc", "v2"):
            return Answer(404, "Not Found")
        if request.method != "GET":
            return Answer(405, "Method Not Allowed")
        if request.headers.get("authorization") != _BEARER:
            return Answer(401, "Unauthorized")
        found: Any = self._tree
        for segment in segments[2:]:
            found = found.get(segment) if isinstance(found, dict) else None
        if callable(found):
            found = found()
        return Answer(404, "Not Found") if found is None else Answer(200, found)

    @property
    def _tree(self) -> dict[str, Any]:
        region = REGIONS[self.region]
        info = {
            "realmKey": region.realm,
            "realmDomainComponent": region.realm_domain,
            "regionKey": region.key.upper(),
            "regionIdentifier": self.region,
        }
        instance = {
            "id": self.plan.instance,
            "displayName": _NAME,
            "compartmentId": self.plan.compartment,
            "tenantId": self.plan.tenancy,
            # As the real one does, the older regions by their key alone.
            "region": region.key if region.key in ("phx", "iad") else self.region,
            "canonicalRegionName": self.region,
            "regionInfo": info,
            "shape": "VM.Standard.A1.Flex",
            "state": "Running",
        }
        identity = {
            "cert.pem": lambda: _pem(self._leaf),
            "key.pem": lambda: _private(self._leaf_key),
            "intermediate.pem": lambda: _pem(self._authority),
        }
        return {"instance": instance, "identity": identity}

    # -- certificates: made when first asked for, since keys take a while

    @cached_property
    def _authority_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _leaf_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _authority(self) -> x509.Certificate:
        name = _subject("PKISVC Identity Intermediate rehearsal")
        return _certificate(name, name, self._authority_key.public_key(), self._authority_key)

    @cached_property
    def _leaf(self) -> x509.Certificate:
        units = {
            "opc-certtype": "instance",
            "opc-compartment": self.plan.compartment,
            "opc-instance": self.plan.instance,
            "opc-tenant": self.plan.tenancy,
        }
        subject = x509.Name(
            [
                *_subject(self.plan.instance[:64]),
                *(_long_unit(f"{name}:{value}") for name, value in units.items()),
            ]
        )
        return _certificate(
            subject, self._authority.subject, self._leaf_key.public_key(), self._authority_key
        )

    # -- federation

    def token(self, request: Request) -> Answer:
        """A token for whoever proves to hold the key of a certificate of ours. Raises `ApiError`."""
        body = read_body(request)
        for name in ("certificate", "publicKey"):
            if not isinstance(body.get(name), str):
                raise missing(name)
        try:
            certificate = x509.load_der_x509_certificate(base64.b64decode(body["certificate"]))
            public_key = serialization.load_der_public_key(base64.b64decode(body["publicKey"]))
            self._authority_key.public_key().verify(
                certificate.signature,
                certificate.tbs_certificate_bytes,
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except (ValueError, InvalidSignature):
            raise unauthenticated() from None
        if not isinstance(public_key, rsa.RSAPublicKey):
            raise invalid("publicKey has to be RSA")
        digest = certificate.fingerprint(hashes.SHA1()).hex(":").upper()  # noqa: S303 - a name, not a proof
        key_id = f"{self.plan.tenancy}/fed-x509/{digest}"
        leaf_key = certificate.public_key()
        if not isinstance(leaf_key, rsa.RSAPublicKey):
            raise unauthenticated()
        # The SDK's AuthTokenRequestSigner does not sign the host.
        verify(request, {key_id: leaf_key}.get, time.time(), always=("(request-target)",))
        expires = time.time() + TOKEN_SECONDS
        token = self._jwt(expires)
        self.identified.sessions[token] = _Session(self.principal, public_key, expires)
        return Answer(200, {"token": token})

    def _jwt(self, expires: float) -> str:
        claims = {
            "sub": self.plan.instance,
            "opc-instance": self.plan.instance,
            "opc-compartment": self.plan.compartment,
            "opc-tenant": self.plan.tenancy,
            "tenant": self.plan.tenancy,
            "ptype": "instance",
            "iss": "authService.oracle.com",
            "iat": int(time.time()),
            "exp": int(expires),
            "jti": secrets.token_hex(16),
        }
        head = {"kid": "asw", "alg": "RS256"}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = self._authority_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _long_unit(text: str) -> x509.NameAttribute[str]:
    # OCIDs are longer than the 64 characters of RFC 5280's upper bound; Oracle's certificates have them all
    # the same, and the SDK silences the warning that follows.
    return x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, text, _validate=False)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, signer: rsa.RSAPrivateKey
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=7))
        .sign(signer, hashes.SHA256())
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
