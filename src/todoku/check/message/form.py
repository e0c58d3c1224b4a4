"""Whether a message is well-formed: rows 8 and 10 to 12 (RFC 5322, RFC 2045, RFC 2047)."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.message.parsing import Message

_PROGRAM = "correct the program that wrote the message"
_LONGEST_LINE = 998  # octets, RFC 5322 2.1.1
_LARGEST_HEADERS = 256 * 1024  # bytes; Oracle: 554 Message parse error
_MOST_FIELDS = 1000

# RFC 5322 3.6: these at most once; the List- headers by RFC 2369 2, the others by RFC 2045 3 and Gmail's page.
_ONCE = (
    *(
        "Date",
        "From",
        "Sender",
        "Reply-To",
        "To",
        "Cc",
        "Bcc",
        "Message-ID",
        "In-Reply-To",
        "References",
        "Subject",
    ),
    *(
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
    ),
    *("List-ID", "Feedback-ID"),
)
_ENCODINGS = ("7bit", "8bit", "binary", "quoted-printable", "base64")
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([^?\s]{1,5})\?([^?\s]{0,2000})\?=")
# Where an encoded word has no business (RFC 2047 5): these have no text in them, only addresses and identifiers.
_NO_WORDS = (
    "message-id",
    "references",
    "in-reply-to",
    "date",
    "return-path",
    "dkim-signature",
    "list-unsubscribe",
)
_ADDRESSES = ("from", "sender", "reply-to", "to", "cc", "bcc")
_MESSAGE_ID = re.compile(r"<[^\s<>@]{1,500}@[^\s<>@]{1,500}>")
_BOUNDARY = re.compile(r'boundary[ \t]*=[ \t]*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)


def look(message: Message, now: datetime) -> Iterator[Finding]:
    yield from _form(message)
    yield from _single(message)
    yield from _message_id(message)
    yield from _date(message, now)
    yield from size(message)
    yield from _encoding(message)


def _form(message: Message) -> Iterator[Finding]:
    faults = list(_faults(message))
    for fault in faults:
        yield failed("message.form", fault, f"Write it as RFC 5322 says: {_PROGRAM}")
    if message.mbox:
        yield warned(
            "message.form",
            'the file begins with an mbox line ("From ...")',
            "Send it without that line, which is not a part of the message",
        )
    mixed = b"\r\n" in message.raw and bool(re.search(rb"(?<!\r)\n", message.raw))
    if mixed:
        yield warned(
            "message.form",
            "some lines end in CR LF and others in LF alone",
            f"End every line in CR LF: {_PROGRAM}. Servers refuse or rewrite the others",
        )
    if not faults and not message.mbox and not mixed:
        yield passed(
            "message.form", f"{len(message.fields)} header fields, {len(message.body):,} bytes of body"
        )


def _faults(message: Message) -> Iterator[str]:
    if not message.fields:
        yield "there are no header fields"
        return
    for stray in message.strays[:3]:
        yield f'"{stray[:80]}" stands among the headers and is none'
    if b"\0" in message.raw:
        yield "there is a NUL byte in it"
    if re.search(rb"\r(?!\n)", message.raw):
        yield "there is a CR without LF in it"
    longest = max((len(line.rstrip(b"\r\n")) for line in io.BytesIO(message.raw)), default=0)
    if longest > _LONGEST_LINE:
        yield f"a line has {longest:,} bytes; {_LONGEST_LINE} are allowed (RFC 5322 2.1.1)"
    yield from _mime_faults(message)


def _mime_faults(message: Message) -> Iterator[str]:
    encoding = (message.first("Content-Transfer-Encoding") or "7bit").partition("(")[0].strip().lower()
    if encoding not in _ENCODINGS:
        yield f'Content-Transfer-Encoding is "{encoding[:40]}", which is none of {", ".join(_ENCODINGS)}'
    content_type = message.first("Content-Type") or "text/plain"
    if "/" not in content_type.partition(";")[0]:
        yield f'Content-Type is "{content_type[:60]}", which is no type'
    if content_type.lower().startswith("multipart/"):
        found = _BOUNDARY.search(content_type)
        if found is None:
            yield "Content-Type is multipart and names no boundary"
        elif b"--" + (found[1] or found[2]).encode("utf-8", "surrogateescape") not in message.body:
            yield "Content-Type is multipart, and its boundary is nowhere in the body"
        elif encoding in ("base64", "quoted-printable"):
            yield f"a multipart message is encoded as {encoding} as a whole (RFC 2045 6.4)"
    elif any(byte > 127 for byte in message.body[:100_000]) and encoding in (
        "7bit",
        "quoted-printable",
        "base64",
    ):
        yield f"the body has bytes beyond ASCII although it is {encoding}"


def _single(message: Message) -> Iterator[Finding]:
    number = Counter(field.lower for field in message.fields)
    twice = [name for name in _ONCE if number[name.lower()] > 1]
    for name in twice:
        yield failed(
            "message.single",
            f"{name} is there {number[name.lower()]} times",
            f"Write {name} once: {_PROGRAM}, or whatever adds a second one on the way",
        )
    if not twice:
        yield passed("message.single", "no header that may be there once is there twice")


def _message_id(message: Message) -> Iterator[Finding]:
    value = message.first("Message-ID")
    if value is None:
        advice = f"Give every message a Message-ID of its own, <something-unique@your-domain>: {_PROGRAM}"
        yield failed("message.message-id", "there is no Message-ID", advice)
    elif not _MESSAGE_ID.fullmatch(value):
        advice = f"Write it as <something-unique@your-domain>: {_PROGRAM}"
        yield failed("message.message-id", f'Message-ID is "{value[:80]}"', advice)
    else:
        yield passed("message.message-id", value)


def _date(message: Message, now: datetime) -> Iterator[Finding]:
    value = message.first("Date")
    advice = f"Write the time at which it is sent, as RFC 5322 3.3 has it: {_PROGRAM}, and set its clock"
    if value is None:
        yield failed("message.date", "there is no Date", advice)
        return
    try:
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        age = now - date
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        yield failed("message.date", f'Date is "{value[:60]}", which is no date', advice)
        return
    if age < -timedelta(days=1):
        yield failed("message.date", f"Date lies {(-age).days} days in the future: {value[:60]}", advice)
    elif age > timedelta(days=365):
        yield failed("message.date", f"Date lies {age.days} days back: {value[:60]}", advice)
    elif age > timedelta(days=7):
        advice = "If it is sent now, write the present time into it: it looks like mail that was held back"
        yield warned("message.date", f"Date lies {age.days} days back: {value[:60]}", advice)
    else:
        yield passed("message.date", value[:60])


def size(message: Message) -> Iterator[Finding]:
    """Whether the headers are small enough (row 12)."""
    total, number = message.header_size, len(message.fields)
    if total > _LARGEST_HEADERS or number > _MOST_FIELDS:
        yield failed(
            "message.size",
            f"there are {total:,} bytes of headers in {number} fields",
            f"Shorten them to less than {_LARGEST_HEADERS:,} bytes and {_MOST_FIELDS} fields: fewer recipients in To "
            "and Cc, shorter References",
        )
    else:
        yield passed("message.size", f"{total:,} bytes of headers in {number} fields")


def _encoding(message: Message) -> Iterator[Finding]:
    faults = [
        fault for field in message.fields for fault in _encoding_faults(field.lower, field.name, field.value)
    ]
    for fault in faults[:5]:
        advice = f"Write text as encoded words (RFC 2047), and addresses in ASCII: {_PROGRAM}"
        yield failed("message.encoding", fault, advice)
    if not faults:
        yield passed("message.encoding", "headers are ASCII, encoded words can be read")


def _encoding_faults(lower: str, name: str, value: str) -> Iterator[str]:
    if not value.isascii():
        yield f"{name} has characters beyond ASCII as they are"
    words = list(_WORD.finditer(value))
    if words and lower in _NO_WORDS:
        yield f"{name} has an encoded word, which may not stand there"
    if lower in _ADDRESSES and re.search(
        r"=\?[^?\s]{1,60}\?[^?\s]{1,5}\?[^?\s]{0,2000}\?=\s?@|<\s?=\?", value
    ):
        yield f"{name} has an encoded word within an address"
    for word in words[:50]:
        if not _readable(word[1], word[2], word[3]):
            yield f"{name} has an encoded word that cannot be read: {word[0][:60]}"
            return


def _readable(charset: str, kind: str, coded: str) -> bool:
    """RFC 2047: B or Q, in a charset that exists (RFC 2231 5 allows a language behind an asterisk)."""
    try:
        if kind.upper() == "B":
            data = base64.b64decode(coded, validate=True)
        elif kind.upper() == "Q" and not re.search(r"=(?![0-9A-Fa-f]{2})", coded):
            data = binascii.a2b_qp(coded.encode("ascii"), header=True)
        else:
            return False
        data.decode(charset.partition("*")[0])
    except (ValueError, LookupError, binascii.Error):
        return False
    return True
