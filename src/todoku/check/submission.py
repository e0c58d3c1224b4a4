"""How our ports behave towards those who try: passwords only within TLS, no relaying, no second message smuggled in.

Nothing of this leaves a message behind where the host is in order: relaying is tried up to RCPT, and what is sent to
try smuggling never gets its proper end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from todoku.check.dialogue import Dialogue, Garbled, Reply, anybody, greeted
from todoku.check.finding import Finding, failed, passed, unknown, warned
from todoku.check.means import Means
from todoku.check.ports import IMAPS, SUBMISSION, SUBMISSIONS, WORLD, Door, NotOffered, door
from todoku.check.runner import Step
from todoku.settings import Settings

_APPLY = "Run `todoku apply`, which sets the services right, and see who changed them"
_AGAIN = "Put right first that mail to us is taken (inbound.accepted), then look again"
_OUTSIDE = "relay-test@relay-test.example.net"  # RFC 2606: nobody's
# What open relays have taken, by the form in which the recipient is written. `_DOMAIN` and `_HOST` are ours.
_RECIPIENTS = (
    _OUTSIDE,
    '"relay-test@relay-test.example.net"@{domain}',
    "relay-test%relay-test.example.net@{domain}",
    "relay-test%relay-test.example.net@{hostname}",
    "relay-test.example.net!relay-test@{domain}",
    "@{hostname}:relay-test@relay-test.example.net",
    "relay-test@relay-test.example.net@{domain}",
    "relay-test%relay-test.example.net@[{address}]",
)
_TRIES = 3  # on one connection: servers slow down those who err
# What a server might take for the end of a message although it is none (CVE-2023-51764, -51765, -51766).
_ENDS = {"LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n", "CRLF.LF": b"\r\n.\n", "CR.CRLF": b"\r.\r\n"}
_LISTENING = 1.5  # seconds in which a server that took it for the end has answered


def steps(settings: Settings, means: Means) -> list[Step]:
    address, hostname = str(settings.addresses[0]), settings.hostname
    world, submission, submissions = (
        door(port, settings, means) for port in (WORLD, SUBMISSION, SUBMISSIONS)
    )
    names = {"domain": settings.domains[0].name, "hostname": hostname, "address": address}
    recipients = [form.format(**names) for form in _RECIPIENTS]
    senders = ("", f"postmaster@{names['domain']}", f"nobody@{hostname}")
    groups = [recipients[at : at + _TRIES] for at in range(0, len(recipients), _TRIES)]
    postmaster = f"postmaster@{names['domain']}"
    found = [
        Step("submission.auth", "port 587", lambda: auth(submission)),
        Step("submission.auth", "port 465", lambda: auth(submissions)),
        Step("submission.auth", "port 25", lambda: auth(world)),
        Step("submission.relay", "port 587", lambda: relay(submission, senders[1], [_OUTSIDE])),
        Step("submission.imap", "port 993", lambda: imap(door(IMAPS, settings, means))),
    ]
    for sender, group in zip(senders, groups, strict=True):
        found.append(Step("submission.relay", "port 25", lambda s=sender, g=group: relay(world, s, g)))  # type: ignore[misc]
    for name in _ENDS:
        found.append(Step("submission.smuggling", name, lambda n=name: smuggling(world, postmaster, n)))  # type: ignore[misc]
    return found


def auth(door: Door) -> Iterator[Finding]:
    """Whether a password can only be given within TLS, and can be given there."""
    about = str(door.port)
    if door.port.starttls:
        with door.open() as dialogue:
            offered = greeted(dialogue, door.hostname)
            if offered.offers("AUTH"):
                yield failed("submission.auth", f"{about} offers AUTH before TLS", _APPLY, about)
                return
            # Without the password itself: who would take it asks for it (334).
            answer = dialogue.say("AUTH PLAIN")
            if answer.good:
                yield failed(
                    "submission.auth", f"{about} asks for a password before TLS ({answer})", _APPLY, about
                )
                return
            if door.port.clients and (answer := dialogue.say("MAIL FROM:<>")).good:
                yield failed("submission.auth", f"{about} takes mail before TLS ({answer})", _APPLY, about)
                return
    offers = _offers_auth_within_tls(door)
    if door.port.clients and not offers:
        yield failed(
            "submission.auth", f"nobody can log in at {about}: it offers no AUTH within TLS", _APPLY, about
        )
    elif not door.port.clients and offers:
        yield failed(
            "submission.auth", f"{about} takes passwords, where the world tries them out", _APPLY, about
        )
    else:
        told = "passwords within TLS only" if offers else "no passwords at all"
        yield passed("submission.auth", f"{about} takes {told}", about)


def _offers_auth_within_tls(door: Door) -> bool:
    with door.secured(anybody()) as (dialogue, _):
        if not door.port.starttls:
            return greeted(dialogue, door.hostname).offers("AUTH")
        return dialogue.say(f"EHLO {door.hostname}").offers("AUTH")


def relay(door: Door, sender: str, recipients: Sequence[str]) -> Iterator[Finding]:
    """Whether somebody who did not log in can send to the outside."""
    about = str(door.port)
    for recipient, answer in _tried(door, sender, recipients):
        if answer.code // 100 == 4:
            seen = f"{about} puts off whoever tries ({answer}), so it was not seen whether it relays"
            yield unknown("submission.relay", seen, _AGAIN, about)
            return
        if answer.good:
            seen = f"{about} takes a message from <{sender}> to <{recipient}>, without a password ({answer})"
            advice = f"Stop the mail server now (postfix stop), until this is right. {_APPLY}"
            yield failed("submission.relay", seen, advice, about)
            return
    seen = f"{about} does not relay from <{sender}> (forms of recipient tried: {len(recipients)})"
    yield passed("submission.relay", seen, about)


def _tried(door: Door, sender: str, recipients: Sequence[str]) -> Iterator[tuple[str, Reply]]:
    with door.open() as dialogue:
        greeted(dialogue, door.hostname)
        if door.port.clients and dialogue.say("STARTTLS").code == 220:
            dialogue.secure(anybody(), door.hostname)
            dialogue.say(f"EHLO {door.hostname}")
        for recipient in recipients:
            taken = dialogue.say(f"MAIL FROM:<{sender}>")
            answer = dialogue.say(f"RCPT TO:<{recipient}>") if taken.good else taken
            yield recipient, answer
            dialogue.say("RSET")
        dialogue.say("QUIT")


def smuggling(door: Door, recipient: str, name: str) -> Iterator[Finding]:
    """Whether something else than CR LF . CR LF ends a message."""
    with door.open() as dialogue:
        greeted(dialogue, door.hostname)
        for command in ("MAIL FROM:<>", f"RCPT TO:<{recipient}>", "DATA"):
            answer = dialogue.say(command)
            if not answer.good:
                seen = f"not tried: {command} is answered by {answer}"
                yield unknown("submission.smuggling", seen, _AGAIN, name)
                return
        dialogue.send(b"Subject: Todoku looks whether this ends a message\r\n\r\ntext" + _ENDS[name])
        answer_or_none = _heard(dialogue)
    if answer_or_none is None:
        yield passed("submission.smuggling", f"{name} does not end a message", name)
    elif _refuses_line_ends(answer_or_none):
        yield passed("submission.smuggling", f"{name} is refused: {answer_or_none}", name)
    else:
        seen = f"{name} ends a message ({answer_or_none}): what follows it would be taken for commands"
        yield failed("submission.smuggling", seen, f"Bring Postfix up to date, and: {_APPLY}", name)


def _heard(dialogue: Dialogue) -> Reply | None:
    dialogue.socket.settimeout(_LISTENING)
    try:
        return dialogue.reply()
    except (TimeoutError, ConnectionError, Garbled):
        return None


def _refuses_line_ends(answer: Reply) -> bool:
    words = answer.text.lower()
    return not answer.good and any(
        word in words for word in ("bare", "newline", "line feed", "line ending", "5.5.2")
    )


def imap(door: Door) -> Iterator[Finding]:
    """Whether IMAP answers within TLS on 993, and lets nobody log in without (143)."""
    try:
        with door.secured(anybody()) as (dialogue, _):
            greeting = dialogue.line()
    except NotOffered:  # pragma: no cover - 993 begins with TLS
        return
    if not greeting.startswith("* OK"):
        yield failed("submission.imap", f"port 993 says {greeting[:80]}", _APPLY, "port 993")
        return
    try:
        plain = replace(door, port=replace(IMAPS, number=143))
        with plain.open() as dialogue:
            dialogue.line()
            dialogue.send(b"a CAPABILITY\r\n")
            capabilities = dialogue.line().upper().split()
    except OSError:
        yield passed("submission.imap", "IMAP is on 993 within TLS, and 143 is closed", "port 993")
        return
    if "LOGINDISABLED" in capabilities and not any(word.startswith("AUTH=") for word in capabilities):
        seen = "143 is open as well: nobody can log in before TLS, but a program can be talked out of it"
        advice = "Close it: mail programs use 993, within TLS from the start (RFC 8314 3.3)"
        yield warned("submission.imap", seen, advice, "port 143")
    else:
        yield failed("submission.imap", "143 lets people log in without TLS", _APPLY, "port 143")
