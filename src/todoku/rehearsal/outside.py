"""The outside sender: a stranger's well-kept mail host that writes to us, signs with DKIM and delivers by MX.

    python -m todoku.rehearsal.outside send --from bob@outside.example --to alice@hoge.example
        [--subject TEXT] [--body TEXT | --eml FILE] [--source IPv4|IPv6] [--no-sign] [--server HOST]

prints the conversation and ends with 0 when every recipient was accepted, 1 when not, 2 on wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import email.policy
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet.lookups import Resolver, system_resolver
from todoku.rehearsal.internet.plan import InternetPlan
from todoku.rehearsal.internet.plan_file import PlanUnreadable, read
from todoku.rehearsal.relay.message import Message, parse
from todoku.rehearsal.relay.signing import Signer, body_digest
from todoku.rehearsal.smtp.client import Courier, Outcome

SIGNED = ("From", "To", "Cc", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "From")
SUBJECT = "Hello from outside"
BODY = "A message from the outside sender of the rehearsal.\n"
SOURCES = {4: str(world.OUTSIDE), 6: str(world.OUTSIDE6)}


@dataclass(frozen=True, slots=True)
class Letter:
    """What to send. `eml` is a whole message instead of subject and body."""

    sender: str  # envelope sender, and header From unless that is given; "" for the null sender
    to: tuple[str, ...]
    subject: str = SUBJECT
    body: str = BODY
    eml: bytes | None = None
    sign: bool = True
    header_from: str | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """From where, to where: the world's own values unless a test says otherwise."""

    sources: dict[int, str] = field(default_factory=lambda: dict(SOURCES))
    port: int = 25
    server: str | None = None  # instead of the MX
    authorities: Path | None = world.STATE / "pki/ca.pem"
    resolver: Resolver | None = None


def compose(letter: Letter, plan: InternetPlan) -> bytes:
    """The message as it goes out, signed unless told not to. Raises `ParseError` on a bad eml."""
    message = parse(_crlf(letter.eml)) if letter.eml is not None else _written(letter)
    if not letter.sign:
        return message.octets()
    signer = Signer(world.OUTSIDE_DOMAIN, plan.outside_selector, plan.outside_dkim_private_key)
    # From is named twice, so that nobody can add another one (RFC 6376 8.15).
    signature = signer.sign(message.fields, body_digest(message.body), SIGNED)
    return Message((signature, *message.fields), message.body).octets()


def _written(letter: Letter) -> Message:
    author = letter.header_from or letter.sender or f"postmaster@{world.OUTSIDE_DOMAIN}"
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"], message["Subject"] = author, ", ".join(letter.to), letter.subject
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=world.OUTSIDE_HOST)
    message.set_content(letter.body)
    return parse(message.as_bytes())


def _crlf(text: bytes) -> bytes:
    """A file's line ends as those of the wire."""
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


async def post(plan: InternetPlan, letter: Letter, where: Post) -> tuple[list[Outcome], list[str]]:
    """Deliver, one transaction for each recipient domain; outcomes and transcript."""
    resolver = where.resolver or system_resolver()
    authorities = where.authorities if where.authorities and where.authorities.exists() else None
    courier = Courier(world.OUTSIDE_HOST, where.sources, resolver, where.port, authorities)
    content = compose(letter, plan)
    outcomes: list[Outcome] = []
    transcript: list[str] = []
    for domain in dict.fromkeys(address.rpartition("@")[2].lower() for address in letter.to):
        recipients = [address for address in letter.to if address.rpartition("@")[2].lower() == domain]
        reached, said = await courier.deliver(letter.sender, recipients, content, where.server)
        outcomes += reached
        transcript += said
    return outcomes, transcript


def send(plan: InternetPlan, letter: Letter, where: Post | None = None) -> list[tuple[str, int, str]]:
    """Deliver and return (recipient, code, text) for each; 451 and 556 also stand for what no server said."""
    outcomes, _ = asyncio.run(post(plan, letter, where or Post()))
    return [(outcome.recipient, outcome.code, outcome.text) for outcome in outcomes]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    try:
        plan = read(options.plan)
        eml = options.eml.read_bytes() if options.eml else None
        letter = Letter(
            options.sender,
            tuple(options.to),
            options.subject,
            options.body,
            eml,
            options.sign,
            options.header_from,
        )
        where = Post(options.source, options.port, options.server, options.plan.parent / "pki/ca.pem")
        outcomes, transcript = asyncio.run(post(plan, letter, where))
    except (PlanUnreadable, OSError, ValueError) as problem:
        print(f"nothing was sent: {problem}", file=sys.stderr)
        return 2
    for line in transcript:
        print(line)
    for outcome in outcomes:
        print(f"{outcome.recipient}: {outcome.code} {outcome.text}")
    return 0 if all(outcome.code // 100 == 2 for outcome in outcomes) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m todoku.rehearsal.outside", description="The outside sender."
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("send", help="write to somebody")
    command.add_argument("--from", dest="sender", default=f"bob@{world.OUTSIDE_DOMAIN}")
    command.add_argument("--header-from", help="header From, when it is to differ from the envelope sender")
    command.add_argument("--to", action="append", required=True)
    command.add_argument("--subject", default=SUBJECT)
    text = command.add_mutually_exclusive_group()
    text.add_argument("--body", default=BODY)
    text.add_argument("--eml", type=Path, help="a whole message instead of --subject and --body")
    command.add_argument(
        "--source", type=_source, default=SOURCES, help="IPv4, IPv6, or one of the own addresses"
    )
    command.add_argument("--no-sign", dest="sign", action="store_false", help="without DKIM signature")
    command.add_argument("--server", help="deliver to this host instead of the MX")
    command.add_argument("--port", type=int, default=25)
    command.add_argument("--plan", type=Path, default=world.STATE / "internet.json")
    return parser


def _source(text: str) -> dict[int, str]:
    named = {"ipv4": 4, "ipv6": 6, SOURCES[4]: 4, SOURCES[6]: 6}
    family = named.get(text.lower())
    if family is None:
        raise argparse.ArgumentTypeError(f"{text} is not one of IPv4, IPv6, {SOURCES[4]}, {SOURCES[6]}")
    return {family: SOURCES[family]}


if __name__ == "__main__":
    sys.exit(main())
