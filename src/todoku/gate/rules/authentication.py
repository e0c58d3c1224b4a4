"""Inbound: who wrote this? SPF, DKIM and DMARC are evaluated, written down, and in two cases decide.

Mail from outside that claims one of our own domains in header From has to prove it (`gate.own_domain_check`), and
what others ask for with p=reject is honoured (`gate.honour_dmarc`). When the DNS does not answer and the decision
depends on it, the message is held back: the sender's mail server tries again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from todoku.gate import authentication, authres, held, srs
from todoku.gate.authentication import Dmarc, Found
from todoku.gate.decision import PASS, Change, Decision, DeleteHeader, HoldBack, InsertHeader, Refuse, Verdict
from todoku.gate.direction import Direction, direction
from todoku.gate.message import MessageSoFar
from todoku.gate.resolver import SYSTEM, Bounded
from todoku.gate.resolver import Found as Answer
from todoku.settings import Settings

DEADLINE = 10.0  # seconds for all of a message's questions to the DNS
_THREADS = 16  # messages at a time in one worker; the others wait, within their deadline

# resolvers (none for the system's), name, type, seconds
Ask: TypeAlias = Callable[[tuple[str, ...], str, str, float], Answer]

NO_ANSWER = HoldBack(
    451, "4.4.3", "The DNS did not answer the questions that this message raises; please try again later"
)


def remove_forged(message: MessageSoFar) -> Decision:
    """Authentication-Results in our name that we did not write are gone before anybody believes them."""
    settings = message.context.settings
    if settings is None or held.returning(message):
        return PASS
    named = message.headers.all(authres.NAME)
    forged = [nth for nth, header in enumerate(named, 1) if authres.claims(header, settings.hostname)]
    # from the last to the first, so that the numbers stay right
    return Change([DeleteHeader(authres.NAME, nth) for nth in reversed(forged)]) if forged else PASS


class Authentication:
    """The rule: asked at the end of the message. `ask` and `deadline` are for tests."""

    def __init__(self, ask: Ask = SYSTEM.lookup, deadline: float = DEADLINE) -> None:
        self._ask = ask
        self._deadline = deadline
        self._threads: ThreadPoolExecutor | None = None  # made in the worker, not before the fork

    def __call__(self, message: MessageSoFar) -> Decision | Awaitable[Decision]:
        settings = message.context.settings
        if settings is None or direction(message) is not Direction.INBOUND:
            return PASS
        if held.returning(message):  # it was judged when it came
            return PASS
        return self._judged(message, settings)

    async def _judged(self, message: MessageSoFar, settings: Settings) -> Decision:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="authentication")
        until = time.monotonic() + self._deadline
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline + 1):
                found = await loop.run_in_executor(self._threads, self._evaluate, message, settings, until)
        except TimeoutError:
            return NO_ANSWER
        verdict = None if _only_returns(message, settings) else judge(found, settings)
        if verdict:
            return verdict
        value = authres.write(settings.hostname, message.sender, message.client.helo, found)
        return Change([InsertHeader(authres.NAME, value)])

    def _evaluate(self, message: MessageSoFar, settings: Settings, until: float) -> Found:
        servers = tuple(map(str, settings.dns.resolver)) if settings.dns else ()

        def ask(name: str, kind: str, seconds: float) -> Answer:
            return self._ask(servers, name, kind, seconds)

        arrived = message.headers.received
        froms = [header.text for header in arrived if header.name.lower() == "from"]
        signed = any(header.name.lower() == "dkim-signature" for header in arrived)
        return authentication.evaluate(
            authentication.Envelope(message.client.address, message.client.helo, message.sender),
            authentication.author_domains(froms),
            _as_arrived(message) if signed else None,
            Bounded(ask, until),
            until,
            message.queue_id,
        )


def judge(found: Found, settings: Settings) -> Verdict | None:
    """What follows from the results; None: the message goes on."""
    for author in found.authors:
        ours = settings.gate.own_domain_check and author.domain in settings.own_domains
        asked = settings.gate.honour_dmarc and author.policy == "reject" and author.result == "fail"
        if ours and not author.aligned:
            return NO_ANSWER if author.uncertain else _not_ours(author, found)
        if asked:
            return _rejected(author, found)
        if author.result == "temperror" and settings.gate.honour_dmarc and author.policy in ("", "reject"):
            return NO_ANSWER
    return None


def _not_ours(author: Dmarc, found: Found) -> Refuse:
    return Refuse(
        550,
        "5.7.1",
        f"The message says that it is from {author.domain}, one of our own domains, but nothing shows that it "
        f"is ({_seen(found)}): whoever writes as {author.domain} logs in at the submission port and sends from there",
    )


def _rejected(author: Dmarc, found: Found) -> Refuse:
    return Refuse(
        550,
        "5.7.1",
        f"The message says that it is from {author.domain}, which asks by DMARC (p=reject) to refuse what does "
        f"not pass SPF or DKIM in its name; this did not ({_seen(found)})",
    )


def _seen(found: Found) -> str:
    signatures = ", ".join(f"DKIM {each.result} for {_word(each.domain)}" for each in found.dkim[:3])
    return f"SPF {found.spf.result} for {_word(found.spf.domain)}, {signatures or 'no DKIM signature'}"


def _word(domain: str) -> str:
    return domain[:253] if domain and domain.isascii() and domain.isprintable() else "no domain"


def _only_returns(message: MessageSoFar, settings: Settings) -> bool:
    """Whether it is a bounce, and for nobody but addresses that we gave out for bounces to come back to."""
    return not message.sender and all(
        srs.is_return_address(address) and settings.is_own(address) for address in message.recipients
    )


def _as_arrived(message: MessageSoFar) -> authentication.Content:
    header, body = message.headers.raw_as_arrived(), message.body
    return authentication.Content(header + b"\r\n", body.read, body.size)


evaluated = Authentication()
