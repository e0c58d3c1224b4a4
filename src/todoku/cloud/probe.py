"""Asking the relay whether it takes us, and mail from an address: AUTH, MAIL FROM, RSET, QUIT; never a message.

A new approved sender is refused for up to 15 minutes after the API calls it ACTIVE, and a new credential for
a moment; only the relay itself knows. Too many refusals make it close the door for a while (Oracle's
troubleshooting page: "421 Too many auth failures, try again later"), to Postfix too. So one refusal ends a round,
whichever address it is about; after three refusals there is one round a minute; and such a 421 ends the asking.
"""

from __future__ import annotations

import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from todoku.settings import CredentialError, RelayCredential

_TIMEOUT = 20.0  # seconds for each answer
_FRESH = 0.4  # seconds for which a refusal is not asked for again
_FEW = 3  # refusals of any address, after which
_SELDOM = 60.0  # seconds have to pass until the relay is asked for another address
_IN_VAIN = 60.0  # seconds
# Seconds; the last one repeats. Each refusal brings the relay's throttle nearer, so only the first one is short.
_PAUSES = (1.0, 18.0, 30.0, 60.0)


class Verdict(Enum):
    """What the relay says to an address, each with its sentence."""

    ACCEPTED = "the relay takes mail from it"
    REFUSED = "the relay refuses it"
    LOGIN_REFUSED = "the relay refuses the user name or password"
    THROTTLED = "the relay has had too many refusals and listens to nobody from here for a while"
    UNREACHABLE = "the relay cannot be reached"
    NO_LOGIN = "there is no credential for the relay yet"
    NOT_ASKED = "not asked, because another one was refused just now"


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict, and the relay's own words."""

    verdict: Verdict
    said: str = ""

    @property
    def accepted(self) -> bool:
        return self.verdict is Verdict.ACCEPTED

    def __str__(self) -> str:
        return f"{self.verdict.value}{f' ({self.said})' if self.said else ''}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the relay is, and as what we introduce ourselves."""

    host: str
    port: int  # 465: TLS from the start; else STARTTLS
    own_name: str
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context


def ask(endpoint: Endpoint, login: RelayCredential, addresses: Sequence[str] = ()) -> tuple[Answer, ...]:
    """One session: an answer for the login, then one for each address. Ends at the first refusal."""
    answers: list[Answer] = []
    try:
        with _connect(endpoint) as smtp:
            answers.append(_log_in(smtp, login))
            for address in addresses:
                if answers[-1].accepted:
                    answers.append(_mail_from(smtp, address))
    except smtplib.SMTPResponseException as error:
        answers.append(_answer(error.smtp_code, error.smtp_error, Verdict.UNREACHABLE))
    except (OSError, smtplib.SMTPException) as error:
        answers.append(Answer(Verdict.UNREACHABLE, f"{endpoint.host}:{endpoint.port}: {error}"))
    answers = answers[: len(addresses) + 1]
    last = answers[-1]
    same_for_all = last.verdict in (Verdict.THROTTLED, Verdict.UNREACHABLE, Verdict.LOGIN_REFUSED)
    rest = last if same_for_all else Answer(Verdict.NOT_ASKED)
    return (*answers, *[rest] * (len(addresses) + 1 - len(answers)))


def _connect(endpoint: Endpoint) -> smtplib.SMTP:
    context = endpoint.context()
    if endpoint.port == 465:
        return smtplib.SMTP_SSL(
            endpoint.host, endpoint.port, endpoint.own_name, timeout=_TIMEOUT, context=context
        )
    smtp = smtplib.SMTP(endpoint.host, endpoint.port, endpoint.own_name, timeout=_TIMEOUT)
    try:
        smtp.starttls(context=context)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _log_in(smtp: smtplib.SMTP, login: RelayCredential) -> Answer:
    smtp.ehlo_or_helo_if_needed()
    smtp.user, smtp.password = login.username, login.password
    try:
        smtp.auth("PLAIN", smtp.auth_plain)  # the only mechanism that Oracle's relay has
    except smtplib.SMTPAuthenticationError as error:
        return _answer(error.smtp_code, error.smtp_error, Verdict.LOGIN_REFUSED)
    return Answer(Verdict.ACCEPTED)


def _mail_from(smtp: smtplib.SMTP, address: str) -> Answer:
    code, text = smtp.mail(address)
    if code == 250:
        smtp.rset()
        return Answer(Verdict.ACCEPTED)
    answer = _answer(code, text, Verdict.REFUSED)
    if code != 421:
        smtp.rset()
    return answer


def _answer(code: int, text: bytes | str, otherwise: Verdict) -> Answer:
    words = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    said = " ".join(f"{code} {words}".split())
    if code == 421 and "auth fail" in words.lower():
        return Answer(Verdict.THROTTLED, said)
    return Answer(Verdict.UNREACHABLE if code == 421 else otherwise, said)


@dataclass
class Relay:
    """The relay, as it answers to the credential that `login` reads. Safe to use from several threads."""

    endpoint: Endpoint
    login: Callable[[], RelayCredential]
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)
    _accepted: set[str] = field(default_factory=set)
    _refused: tuple[float, dict[str, Answer]] = field(default_factory=lambda: (float("-inf"), {}))
    _refusals: list[float] = field(default_factory=list)  # when; since an address was last taken
    _gave_up: float = float("-inf")
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def takes(self, address: str, together: Sequence[str] = ()) -> Answer:
        """Whether mail from `address` is taken; those of `together` are asked for in the same session."""
        with self._lock:
            if address in self._accepted:
                return Answer(Verdict.ACCEPTED)
            when, answers = self._refused
            if address in answers and self.clock() - when < _FRESH:
                return answers[address]
            if self._may_ask_at() > self.clock():
                return answers.get(address, Answer(Verdict.NOT_ASKED))
            wanted = [each for each in dict.fromkeys((address, *together)) if each not in self._accepted]
            try:
                login = self.login()
            except CredentialError as error:
                return Answer(Verdict.NO_LOGIN, str(error))
            given = dict(zip(wanted, ask(self.endpoint, login, wanted)[1:], strict=True))
            self._remember(given)
            return given[address]

    def _remember(self, given: Mapping[str, Answer]) -> None:
        taken = {each for each, answer in given.items() if answer.accepted}
        told = {a: answer for a, answer in given.items() if answer.verdict is not Verdict.NOT_ASKED}
        known = {**self._refused[1], **told}
        self._refused = self.clock(), {a: answer for a, answer in known.items() if not answer.accepted}
        self._accepted |= taken
        if taken:
            self._refusals.clear()
        if any(answer.verdict is Verdict.THROTTLED for answer in given.values()):
            self._refusals += [self.clock()] * _FEW
        elif any(answer.verdict is Verdict.REFUSED for answer in given.values()):
            self._refusals.append(self.clock())

    def _may_ask_at(self) -> float:
        return self._refusals[-1] + _SELDOM if len(self._refusals) >= _FEW else float("-inf")

    def wait_until_taken(self, address: str, together: Sequence[str], bound: float) -> Answer:
        """The last answer, asked for again with growing pauses for up to `bound` seconds.

        New senders become known at about the same time: who has waited in vain has waited for the others too.
        """
        waited = self.clock() - self._gave_up < _IN_VAIN
        if waited and (known := self._refused[1].get(address)) is not None:
            return known
        bound = 0.0 if waited else bound
        answer = self._until(lambda: self.takes(address, together), bound, self._may_ask_at)
        if not answer.accepted and not waited:
            self._gave_up = self.clock()
        return answer

    def wait_for_login(self, login: RelayCredential, bound: float) -> Answer:
        """Whether the relay knows `login`, asked for again with growing pauses for up to `bound` seconds."""
        return self._until(lambda: ask(self.endpoint, login)[0], bound)

    def _until(
        self, question: Callable[[], Answer], bound: float, not_before: Callable[[], float] = lambda: 0.0
    ) -> Answer:
        """The answer that is yes, or the last one; `not_before` is the time until when asking would be in vain."""
        end = self.clock() + bound
        number = 0
        while True:
            answer = question()
            pause = max(_PAUSES[min(number, len(_PAUSES) - 1)], not_before() - self.clock())
            hopeless = answer.verdict in (Verdict.THROTTLED, Verdict.NO_LOGIN)
            if answer.accepted or hopeless or self.clock() + pause > end:
                return answer
            self.sleep(pause)
            number += 1
