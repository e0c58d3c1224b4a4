"""Who it is from, and who gets the answer: rows 9, 13, 19, 20 and the subject's part of row 21."""

from __future__ import annotations

import email.errors
import email.header
import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from email.utils import getaddresses

import idna

from todoku.check.finding import Finding, failed, passed, warned
from todoku.check.message import scripts
from todoku.check.message.parsing import Message
from todoku.gate.addresses import Malformed, addresses

# Providers of mailboxes for everybody, whose DMARC policy has mail refused that others send in their name (G1; M1).
FREEMAIL = frozenset(
    {
        *(
            "gmail.com",
            "googlemail.com",
            "yahoo.com",
            "yahoo.co.jp",
            "yahoo.co.uk",
            "yahoo.de",
            "yahoo.fr",
            "yahoo.ca",
        ),
        *(
            "ymail.com",
            "rocketmail.com",
            "myyahoo.com",
            "aol.com",
            "verizon.net",
            "outlook.com",
            "outlook.jp",
        ),
        *(
            "hotmail.com",
            "hotmail.co.jp",
            "hotmail.co.uk",
            "live.com",
            "live.jp",
            "msn.com",
            "icloud.com",
            "me.com",
        ),
        *("mac.com", "gmx.de", "gmx.net", "gmx.com", "web.de", "mail.ru", "proton.me", "protonmail.com"),
    }
)
# Never in the DNS (RFC 6761, RFC 6762, ICANN's .internal). "example" is not here: people rehearse with it.
_NOWHERE = frozenset(
    {"local", "localhost", "localdomain", "invalid", "test", "internal", "lan", "home", "corp"}
)
_NO_REPLY = re.compile(r"^(?:no|do-?not|dont)[-_.]?reply(?:[-_.+].*)?$", re.IGNORECASE)
_ANSWER = re.compile(
    r"^\s*(?:re|aw|sv|vs|antw|fwd?|wg|tr|rv|enc|i|返信|転送|答复|转发)\s*(?:\[\d+\])?\s*[:：]", re.IGNORECASE
)
_PROGRAM = "correct the program that wrote the message"


def look(message: Message, now: datetime) -> Iterator[Finding]:  # noqa: ARG001 - all parts are called alike
    yield from _from(message)
    yield from _reply(message)
    yield from _display_name(message)
    yield from _subject(message)


def author(message: Message) -> str:
    """The one address in the one From; empty where it is not that."""
    try:
        found = [address for value in message.all("From") for address in addresses(value)]
    except Malformed:
        return ""
    return found[0] if len(found) == 1 else ""


def decoded(value: str) -> str:
    """Encoded words as the characters that they stand for; what cannot be read stays."""
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (email.errors.HeaderParseError, LookupError, ValueError):
        return value


def _from(message: Message) -> Iterator[Finding]:
    values = message.all("From")
    advice = f"Write one From with one address, From: Alice <alice@hoge.example>: {_PROGRAM}"
    if not values:
        yield failed("message.from", "there is no From", advice)
        return
    if len(values) > 1:
        yield failed("message.from", f"there are {len(values)} From headers", advice)
        return
    try:
        found = addresses(values[0])
    except Malformed as problem:
        yield failed("message.from", f'From {problem}: "{values[0][:80]}"', advice)
        return
    if len(found) != 1:
        number = f"{len(found)} addresses" if found else "no address"
        yield failed("message.from", f'From has {number}: "{values[0][:80]}"', advice)
        return
    yield passed("message.from", found[0])
    yield from _domain(found[0])


def _domain(address: str) -> Iterator[Finding]:
    domain = address.rpartition("@")[2].lower()
    if domain in FREEMAIL:
        yield failed(
            "message.freemail",
            f"From is {address}, and {domain} lets nobody else send in its name",
            "Write an address of your own domain into From, and the other one into Reply-To",
        )
    else:
        yield passed("message.freemail", f"{domain} is not a provider of mailboxes for everybody")
    if reason := _cannot_exist(domain):
        yield failed(
            "message.from-domain",
            f"From is {address}: {reason}",
            "Write an address of your own domain into From",
        )
    else:
        yield passed("message.from-domain", f"{domain} can exist")
    if scripts.is_international(domain):
        yield _script(domain)


def _script(domain: str) -> Finding:
    if told := scripts.mixed(domain):
        advice = "Send from a name in one script: Gmail takes this for an imitation of another domain"
        return failed("message.script", f"From is at {domain}, where {told}", advice)
    return passed("message.script", f"{domain} keeps to what Gmail asks of international names")


def _cannot_exist(domain: str) -> str:
    if "." not in domain:
        return f"{domain} is no full domain"
    if domain.rpartition(".")[2] in _NOWHERE or domain.rpartition(".")[2].isdigit():
        return f"nothing below .{domain.rpartition('.')[2]} is in the DNS"
    try:
        idna.encode(domain, uts46=True)
    except idna.IDNAError as problem:
        return f"{domain} is no domain name ({problem})"
    return ""


def _reply(message: Message) -> Iterator[Finding]:
    sender = author(message)
    value = message.first("Reply-To")
    place = sender
    if value is not None:
        try:
            found = addresses(value)
        except Malformed as problem:
            yield warned(
                "message.reply",
                f"Reply-To {problem}",
                "Write an address that takes mail, or leave it out",
            )
            return
        place = found[0] if found else sender
    if place and _NO_REPLY.match(place.rpartition("@")[0]):
        yield warned(
            "message.reply",
            f"answers go to {place}, where it seems that nobody reads them",
            "Take answers: write an address into From or Reply-To that somebody reads",
        )
    elif place:
        yield passed("message.reply", f"answers go to {place}")


def _display_name(message: Message) -> Iterator[Finding]:
    value = message.first("From")
    address = author(message)
    if not value or not address:
        return
    name = decoded(value.replace(f"<{address}>", "")).strip().strip('"').strip()
    subject = decoded(message.first("Subject") or "").strip()
    wrong = []
    if any(unicodedata.category(c) == "So" for c in name):
        wrong.append("has emoji or other symbols in it")
    if (other := re.search(r"[^\s@<>\"(),]{1,64}@[^\s@<>\"(),]{1,255}", name)) and other[
        0
    ].lower() != address.lower():
        wrong.append(f"is another address ({other[0]}) than the one that sends")
    if name and len(name) > 3 and subject and name.casefold() == subject.casefold():
        wrong.append("is the subject once more")
    if recipient := _recipient_in(name, message):
        wrong.append(f"has the recipient in it ({recipient})")
    if name and _ANSWER.match(name):
        wrong.append("begins like an answer")
    if any(unicodedata.category(c) == "Cf" for c in name):
        wrong.append("has invisible characters in it")
    if wrong:
        advice = "Write who sends into the sender's name, and nothing else"
        yield warned("message.display-name", f'the name "{name[:60]}" {" and ".join(wrong)}', advice)
    else:
        yield passed("message.display-name", f'"{name[:60]}"' if name else "none")


def _recipient_in(name: str, message: Message) -> str:
    """The recipient's own name or address, where the sender's name has it: "Alice, your order" (G1)."""
    said = name.casefold()
    for pair in getaddresses([message.first("To") or ""])[:5]:
        shown = decoded(pair[0]).strip()
        # A name of a word or two letters is in too many others.
        for one in (shown if len(shown) > 3 else "", pair[1]):
            if one and one.casefold() in said and pair[1].lower() != author(message).lower():
                return one
    return ""


def _subject(message: Message) -> Iterator[Finding]:
    value = message.first("Subject")
    if value is None or not value.strip():
        yield warned(
            "message.subject", "there is no Subject", "Write one: mail without it is easily taken for spam"
        )
        return
    subject = decoded(value)
    answers = message.first("In-Reply-To") or message.first("References")
    if (found := _ANSWER.match(subject)) and not answers:
        yield warned(
            "message.subject",
            f'the subject begins with "{found[0].strip()}", and the message answers nothing',
            "Leave that out, or say in In-Reply-To and References what it answers",
        )
    else:
        yield passed("message.subject", subject[:60])
