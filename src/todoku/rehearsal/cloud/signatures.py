"""Request signatures, as Oracle's "Request signatures" page defines them: draft-cavage-http-signatures-08 with
rsa-sha256 over (request-target), host and date (or x-date), and for a body also over its length, type and
SHA-256. The clock may differ by five minutes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .errors import ApiError, unauthenticated
from .http_server import Request

SKEW_SECONDS = 300.0
_ALWAYS = ("(request-target)", "host")
_BODY = ("content-length", "content-type", "x-content-sha256")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Signature:
    """The parts of the Authorization field."""

    key_id: str
    headers: tuple[str, ...]
    octets: bytes


def key_of(authorization: str) -> Signature:
    """Read the Authorization field; raises `ApiError` 401."""
    scheme, _, rest = authorization.partition(" ")
    found = dict(_PARAMETER.findall(rest))
    if scheme.lower() != "signature" or found.get("algorithm") != "rsa-sha256":
        raise unauthenticated()
    if found.get("version", "1") != "1" or not found.get("keyId"):
        raise unauthenticated()
    try:
        octets = base64.b64decode(found.get("signature", ""), validate=True)
    except (binascii.Error, ValueError):
        raise unauthenticated() from None
    return Signature(found["keyId"], tuple(found.get("headers", "date").lower().split()), octets)


def verify(
    request: Request,
    find_key: Callable[[str], rsa.RSAPublicKey | None],
    now: float,
    always: tuple[str, ...] = _ALWAYS,
) -> str:
    """The keyId under which `request` is truly signed; raises `ApiError` 401. `now`: seconds since 1970."""
    signature = key_of(request.headers.get("authorization", ""))
    key = find_key(signature.key_id)
    if key is None:
        raise unauthenticated()
    dated = "x-date" if "x-date" in request.headers else "date"
    with_body = request.method in ("POST", "PUT", "PATCH")
    needed = {*always, dated, *(_BODY if with_body else ())}
    if not needed <= set(signature.headers):
        raise unauthenticated()
    _check_date(request.headers.get(dated, ""), now)
    if with_body:
        digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
        if request.headers.get("x-content-sha256") != digest:
            raise unauthenticated()
    try:
        key.verify(signature.octets, _signed(request, signature.headers), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise unauthenticated() from None
    return signature.key_id


def _signed(request: Request, names: tuple[str, ...]) -> bytes:
    lines = []
    for name in names:
        if name == "(request-target)":
            value = f"{request.method.lower()} {request.target}"
        elif name in request.headers:
            value = request.headers[name]
        else:
            raise unauthenticated()
        lines.append(f"{name}: {value}")
    return "\n".join(lines).encode("latin-1")


def _check_date(text: str, now: float) -> None:
    try:
        sent = parsedate_to_datetime(text)
        seconds = (sent if sent.tzinfo else sent.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        raise unauthenticated() from None
    if abs(seconds - now) > SKEW_SECONDS:
        raise _skewed(text, now)


def _skewed(text: str, now: float) -> ApiError:
    current = datetime.fromtimestamp(now, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return unauthenticated(f"Date '{text}' is not within allowed clock skew. Current '{current}'")
