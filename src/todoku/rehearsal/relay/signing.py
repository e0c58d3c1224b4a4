"""DKIM signatures as the relay makes them: rsa-sha256, relaxed/relaxed (RFC 6376 3.4.2, 3.4.4).

Own code, because it has to keep up with a load test: `cryptography` signs in 0.7 ms, where dkimpy's own RSA
needs 14 ms. The judge at the other end verifies with dkimpy, so neither can hide the other's mistakes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

Field = tuple[bytes, bytes]  # name, and everything after the colon without the last CRLF

# As seen on mail that the service delivered in 2024.
SIGNED = (
    "Date",
    "To",
    "From",
    "Subject",
    "Message-Id",
    "MIME-Version",
    "Sender",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
)


class Signer:
    """A domain's key under a selector. Raises ValueError when the PEM text is no RSA private key."""

    def __init__(self, domain: str, selector: str, private_key_pem: str) -> None:
        key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"the DKIM key of {domain} is not an RSA key; make one with RSA, 2048 bits")
        self.domain, self.selector, self._key = domain, selector, key

    def sign(self, fields: Sequence[Field], body_digest: str, signed: Sequence[str] = SIGNED) -> Field:
        """The DKIM-Signature field over `fields` and a body of this digest."""
        unsigned = (
            f" v=1; a=rsa-sha256; c=relaxed/relaxed; d={self.domain}; s={self.selector};\r\n"
            f" h={':'.join(signed)};\r\n"
            f" bh={body_digest};\r\n"
            " b="
        ).encode()
        chosen = [*_chosen(fields, signed), relaxed((b"DKIM-Signature", unsigned)).removesuffix(b"\r\n")]
        signature = self._key.sign(b"".join(chosen), padding.PKCS1v15(), hashes.SHA256())
        text = base64.b64encode(signature)
        folded = b"\r\n ".join(text[start : start + 72] for start in range(0, len(text), 72))
        return b"DKIM-Signature", unsigned + folded


def _chosen(fields: Sequence[Field], signed: Sequence[str]) -> list[bytes]:
    """RFC 6376 5.4.2: of fields with the same name, the last one first; names without a field add nothing."""
    left = list(fields)
    chosen = []
    for name in signed:
        for index in range(len(left) - 1, -1, -1):
            if left[index][0].lower() == name.lower().encode():
                chosen.append(relaxed(left.pop(index)))
                break
    return chosen


def relaxed(field: Field) -> bytes:
    """RFC 6376 3.4.2."""
    name, value = field
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", value)
    return name.lower() + b":" + re.sub(rb"[ \t]+", b" ", unfolded).strip(b" ") + b"\r\n"


def body_digest(body: bytes) -> str:
    """The bh= of a body under the relaxed canonicalization (RFC 6376 3.4.4)."""
    body = re.sub(rb"[ \t]+", b" ", body)
    body = body.replace(b" \r\n", b"\r\n")
    end = len(body)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    canonical = body[:end] + b"\r\n" if end else b""
    return base64.b64encode(hashlib.sha256(canonical).digest()).decode()
