"""What the relay reads in a message and what it does to it before the message leaves.

As seen on mail that the service delivered (public mailing list archives, 2023 to 2025): the submitter's
Received lines are gone, some field names are spelled its own way, a Reporting-Meta field, one-click
unsubscription and a Received line of its own are added, and two DKIM signatures stand on top. Its list-
unsubscribe page says that a List-Unsubscribe without an https address is replaced.
"""

from __future__ import annotations

import base64
import email.policy
import os
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from email.errors import InvalidHeaderDefect
from email.utils import formatdate

from todoku.rehearsal.relay.signing import Field, Signer, body_digest

HEADERS_LIMIT = 256_000  # "256 KB" (troubleshooting page); the smaller of its two readings
_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_SPELLED = {
    name.lower(): name
    for name in (
        b"Message-id",
        b"MIME-version",
        b"Content-type",
        b"Content-transfer-encoding",
        b"In-reply-to",
    )
}
_SOFTWARE = "Oracle Communications Messaging Server 8.1.0.1.20240801 64bit"


class ParseError(ValueError):
    """Not a message in the sense of RFC 5322; the relay says 554."""


@dataclass(frozen=True, slots=True)
class Message:
    """Header fields in their order, and the body; all octets as they came."""

    fields: tuple[Field, ...]
    body: bytes

    def values(self, name: str) -> tuple[bytes, ...]:
        """The unfolded values of the fields called `name`."""
        wanted = name.lower().encode()
        return tuple(
            re.sub(rb"\r\n", b"", value).strip() for key, value in self.fields if key.lower() == wanted
        )

    def octets(self) -> bytes:
        """The message as it is transmitted."""
        head = b"".join(name + b":" + value + b"\r\n" for name, value in self.fields)
        return head + b"\r\n" + self.body


def parse(content: bytes) -> Message:
    """Raises `ParseError`: no header fields, more than 256 KB of them, or a line that is none."""
    head, _, body = content.partition(b"\r\n\r\n")
    if content.startswith(b"\r\n") or not content:
        raise ParseError("no header fields")
    if len(head) > HEADERS_LIMIT:
        raise ParseError("header fields of more than 256 KB")
    fields: list[Field] = []
    for line in head.removesuffix(b"\r\n").split(b"\r\n"):
        if b"\n" in line or b"\r" in line:
            # RFC 5322 2.2. Not published what the service does with them: nobody should send any.
            raise ParseError("a bare CR or LF in the header")
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, value + b"\r\n" + line)
            continue
        found = _NAME.match(line)
        if found is None:
            raise ParseError(f"not a header field: {line[:60]!r}")
        fields.append((found[1], line[found.end() :]))
    return Message(tuple(fields), body)


def from_addresses(message: Message) -> tuple[str, ...]:
    """Every address of every From field. Raises `ParseError` when there is none, or one cannot be read."""
    found: list[str] = []
    for value in message.values("From"):
        try:
            header = email.policy.SMTP.header_factory("From", value.decode("utf-8", "backslashreplace"))
            found += [address.addr_spec for address in header.addresses]
        except Exception as problem:  # the standard library's parser fails in many ways on hostile fields
            raise ParseError(f"unreadable From: {value[:60]!r}") from problem
        if any(isinstance(defect, InvalidHeaderDefect) for defect in header.defects):
            raise ParseError(f"unreadable From: {value[:60]!r}")
    if not found:
        raise ParseError("no address in From")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Handling:
    """The relay's own names, which go into what it adds."""

    region: str  # "ap-tokyo-1"
    region_key: str  # "nrt"
    regional: Signer

    @property
    def host(self) -> str:
        """The name inside the service, in the shape that has been seen."""
        return f"omta-ad1-fd1-401-{self.region}.omtaad1.vcndp{self.region_key}.oraclevcn.com"

    def prepare(self, message: Message, customer: Signer | None) -> Message:
        """The message as all its recipients get it: rewritten and signed, without the Received line."""
        fields = [
            (_SPELLED.get(name.lower(), name), value)
            for name, value in message.fields
            if name.lower() not in (b"received", b"return-path")
        ]
        if not any(name == b"Message-id" for name, _ in fields):
            fields.append((b"Message-id", f" <{uuid.uuid4()}@{self.host}>".encode()))
        fields = self._unsubscription(fields)
        fields.append((b"Reporting-Meta", _opaque()))
        digest = body_digest(message.body)
        signers = [signer for signer in (customer, self.regional) if signer]
        signatures = [signer.sign(fields, digest) for signer in signers]
        return Message((*signatures, *fields), message.body)

    def _unsubscription(self, fields: Sequence[Field]) -> list[Field]:
        """One-click unsubscription on everything that does not bring its own by https."""
        if any(name.lower() == b"list-unsubscribe" and b"https:" in value.lower() for name, value in fields):
            return list(fields)
        kept = [field for field in fields if not field[0].lower().startswith(b"list-unsubscribe")]
        token = secrets.token_urlsafe(24)
        # The address itself is not published.
        link = f" <https://unsubscribe.email.{self.region}.oci.oraclecloud.com/one-click/{token}>".encode()
        own = (b"List-Unsubscribe", link), (b"List-Unsubscribe-Post", b" List-Unsubscribe=One-Click")
        return [*kept, *own]

    def received(self, recipient: str) -> bytes:
        """The trace line, one for each recipient: the client is not named in it."""
        return (
            f"Received: by {self.host}\r\n ({_SOFTWARE})\r\n"
            f" with ESMTPS id <{secrets.token_hex(12).upper()}@{self.host}> for {recipient};\r\n"
            f" {formatdate().removesuffix('-0000')}+0000 (GMT)\r\n"
        ).encode("utf-8", "backslashreplace")


def _opaque() -> bytes:
    text = base64.b64encode(os.urandom(150))
    return b" " + b"\r\n ".join(text[start : start + 70] for start in range(0, len(text), 70))
