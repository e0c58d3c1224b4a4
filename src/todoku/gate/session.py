"""One conversation with the mail server: events in, packets out; the rules asked in between.

Without I/O and without a clock. Asking a stage's rules is a generator that yields what a rule wants awaited and
returns the packets to write, so that plain rules cost no task and waiting ones no thread. Nothing passes by
accident: a rule that fails, a body that cannot be stored, a change that cannot be made hold the message back
(451) and leave their traceback in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from todoku.gate import changes, events, replies
from todoku.gate.context import Context
from todoku.gate.decision import Decision, HoldBack, Refuse, Verdict
from todoku.gate.judging import FAILED, Judge, called
from todoku.gate.message import MOST_KEPT, Body, Client, MessageSoFar
from todoku.gate.protocol import Agreement, ProtocolError, Step, agree
from todoku.gate.rule import RuleSet, Stage

log = logging.getLogger("todoku.gate")

Work: TypeAlias = Generator[Awaitable[Decision], Decision, bytes]

NO_SPACE = HoldBack(451, "4.3.1", "The mail filter cannot store the message now; please try again later")
TOO_MUCH = Refuse(552, "5.3.4", f"Headers and recipients exceed {MOST_KEPT // 1024 // 1024} MiB")

_SILENCES = {
    events.Connect: Step.SILENT_CONNECT,
    events.Helo: Step.SILENT_HELO,
    events.Mail: Step.SILENT_MAIL,
    events.Rcpt: Step.SILENT_RCPT,
    events.Data: Step.SILENT_DATA,
    events.Unknown: Step.SILENT_UNKNOWN,
    events.Header: Step.SILENT_HEADER,
    events.EndOfHeaders: Step.SILENT_END_OF_HEADERS,
    events.Body: Step.SILENT_BODY,
}
_EVENT_MACROS = "MRTNELB"  # those that belong to one message


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session needs of its worker."""

    rules: RuleSet
    context: Callable[[], Context]  # the current one; a message keeps the one it began with
    spool: Path
    # Told of each decision: the message, the verdict (None: it passed) and the rule that said it.
    record: Callable[[MessageSoFar, Verdict | None, str], None] = lambda _message, _verdict, _rule: None


@dataclass(frozen=True, slots=True)
class _Terms:
    """What was agreed on: the `reply` that says so, and what is said `after` an event that nothing is decided on."""

    agreement: Agreement
    reply: bytes
    after: Mapping[type, bytes]


@lru_cache(16)  # a mail server offers the same on every connection
def _negotiated(offer: events.Negotiate, wanted: Step) -> _Terms:
    agreement = agree(offer, wanted)
    after = {
        event: b"" if agreement.steps & silence else replies.CONTINUE for event, silence in _SILENCES.items()
    }
    return _Terms(agreement, agreement.encode(), after)


class Session:
    """Feed each event to `handle`; it gives the packets to write, or work to be driven that returns them."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._rules = surroundings.rules
        self._context = surroundings.context
        self._spool = surroundings.spool
        self._record = surroundings.record
        self._judge = Judge(surroundings.rules)
        self._agreement: Agreement | None = None
        self._after: Mapping[type, bytes] = {}  # what is said after an event that nothing is decided on
        self._leading_space = self._may_skip = False
        self.finished = False  # the mail server said goodbye
        self.when_told: Callable[[], None] | None = None  # to be called once what was returned is written
        self._new_client()

    def _new_client(self) -> None:
        self._client = Client()
        self._client_macros: dict[str, str] = {}
        self._new_message()

    def _new_message(self) -> None:
        self._message: MessageSoFar | None = None
        self._message_macros: dict[str, str] = {}
        self._verdict: Verdict | None = None
        self._headers_judged = False
        self._kept = 0

    @property
    def in_progress(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._message is not None

    def close(self) -> None:
        """Gives back what a message held; safe at any time."""
        if self._message is not None:
            self._message.body.close()
        self._new_message()

    def handle(self, event: events.Event) -> bytes | Work:
        """ProtocolError when the event may not come now."""
        handler = _HANDLERS[type(event)]
        if self._agreement is None and type(event) is not events.Negotiate:
            raise ProtocolError(f"{type(event).__name__} before the negotiation")
        return handler(self, event)

    # -- the connection

    def _negotiate(self, event: events.Negotiate) -> bytes:
        terms = _negotiated(event, self._rules.steps(self._context()))
        self._agreement = terms.agreement
        self._after = terms.after
        self._leading_space = bool(terms.agreement.steps & Step.LEADING_SPACE)
        self._may_skip = bool(terms.agreement.steps & Step.SKIP)
        return terms.reply

    def _macros(self, event: events.Macros) -> bytes:
        if event.command not in _EVENT_MACROS:
            self._client_macros.update(event.values)
            return b""
        if event.command == "M":
            self._message_macros = {**self._client_macros, **event.values}
        else:
            self._message_macros.update(event.values)
        return b""

    def _connect(self, event: events.Connect) -> bytes | Work:
        self._client = Client(event.hostname, event.address.removeprefix("IPv6:"), event.port)
        return self._answer(Stage.CONNECT, events.Connect)

    def _helo(self, event: events.Helo) -> bytes | Work:
        known = self._client
        self._client = Client(known.hostname, known.address, known.port, event.name)
        return self._answer(Stage.HELO, events.Helo)

    def _quit(self, _event: events.Quit) -> bytes:
        self.close()
        self.finished = True
        return b""

    def _quit_new_connection(self, _event: events.QuitNewConnection) -> bytes:
        self.close()
        self._new_client()
        return b""

    def _abort(self, _event: events.Abort) -> bytes:
        self.close()
        return b""

    # -- the envelope

    def _mail(self, event: events.Mail) -> bytes | Work:
        macros = self._message_macros or dict(self._client_macros)
        self.close()
        self._message_macros = macros
        self._message = self._blank(macros)
        self._message.began(event.sender, event.arguments)
        return self._answer(Stage.MAIL, events.Mail)

    def _rcpt(self, event: events.Rcpt) -> bytes | Work:
        message = self._begun("RCPT")
        self._keep(len(event.recipient))
        message.recipient_came(event.recipient)
        return self._answer(Stage.RCPT, events.Rcpt)

    def _data(self, _event: events.Data) -> bytes:
        return self._after[events.Data]

    def _unknown(self, _event: events.Unknown) -> bytes:
        return self._after[events.Unknown]

    # -- the content

    def _header(self, event: events.Header) -> bytes:
        message = self._begun("a header")
        self._keep(len(event.name) + len(event.value))
        if self._verdict is None:
            value = event.value
            message.headers.arrived(event.name, value if self._leading_space else " " + value)
        return self._after[events.Header]

    def _end_of_headers(self, _event: events.EndOfHeaders) -> bytes | Work:
        self._begun("the end of headers")
        if not self._rules.at[Stage.HEADERS]:
            self._headers_judged = True
            return self._after[events.EndOfHeaders]
        return self._judge_headers()

    def _judge_headers(self) -> Work:
        yield from self._judge_content(Stage.HEADERS)
        after = self._after[events.EndOfHeaders]
        # where no reply is awaited, the verdict is told at the end of the message
        return self._deliver_verdict() if after and self._verdict else after

    def _body(self, event: events.Body) -> bytes:
        self._store(self._begun("the body").body, event.chunk)
        after = self._after[events.Body]
        return replies.SKIP if after and self._verdict and self._may_skip else after

    def _end_of_message(self, event: events.EndOfMessage) -> Work:
        message = self._begun("the end of the message")
        if event.chunk:
            self._store(message.body, event.chunk)
        if not self._headers_judged:
            yield from self._judge_content(Stage.HEADERS)
        yield from self._judge_content(Stage.BODY)
        if self._verdict:
            return self._deliver_verdict()
        try:
            told = changes.difference(message, self._agreed())
        except Exception:
            log.exception("%s: the changes cannot be told to the mail server: held back", called(message))
            self._verdict = FAILED
            return self._deliver_verdict()
        self._record(message, None, "")
        self.when_told = message.when_told
        self.close()
        return told + replies.CONTINUE

    # -- asking the rules

    def _answer(self, stage: Stage, event: type) -> bytes | Work:
        after = self._after[event]  # nothing where it was agreed that no reply is awaited
        return self._ask_at_once(stage) if after and self._rules.at[stage] else after

    def _ask_at_once(self, stage: Stage) -> Work:
        """A stage of the SMTP dialogue: the verdict is the reply to that command."""
        message = self._message or self._blank(self._client_macros)
        verdict = yield from self._judge.ask(stage, message)
        if verdict is None:
            return replies.CONTINUE
        self._record(message, verdict, self._judge.rule)
        if stage is Stage.RCPT:
            message.recipient_refused()
        elif stage is Stage.MAIL:
            self.close()
        return replies.reply_code(verdict.code, verdict.enhanced, verdict.words)

    def _judge_content(self, stage: Stage) -> Generator[Awaitable[Decision], Decision, None]:
        if stage is Stage.HEADERS:
            self._headers_judged = True
        if self._verdict is None and self._message is not None:
            self._verdict = yield from self._judge.ask(stage, self._message)

    def _deliver_verdict(self) -> bytes:
        verdict = self._verdict or FAILED
        if self._message is not None:
            self._record(self._message, verdict, self._judge.rule)
        self.close()
        return replies.reply_code(verdict.code, verdict.enhanced, verdict.words)

    # -- the message

    def _blank(self, macros: dict[str, str]) -> MessageSoFar:
        return MessageSoFar(self._client, self._context(), macros, body=Body(self._spool))

    def _agreed(self) -> Agreement:
        if self._agreement is None:
            raise ProtocolError("no negotiation")
        return self._agreement

    def _begun(self, what: str) -> MessageSoFar:
        if self._message is None:
            raise ProtocolError(f"{what} without a message")
        return self._message

    def _keep(self, size: int) -> None:
        """Counts what is held in memory for this message; past the bound it is refused and no more is held."""
        self._kept += size
        if self._kept > MOST_KEPT and self._verdict is None:
            log.warning("%s: more than %d bytes of headers and recipients", called(self._message), MOST_KEPT)
            self._verdict = TOO_MUCH

    def _store(self, body: Body, chunk: bytes) -> None:
        if self._verdict is not None:
            return  # decided: nobody will look at the body
        try:
            body.append(chunk)
        except OSError:
            log.exception("%s: the body cannot be stored: held back", called(self._message))
            self._verdict = NO_SPACE


# Each takes the event that its key says.
_HANDLERS: dict[type, Callable[[Session, Any], bytes | Work]] = {
    events.Negotiate: Session._negotiate,
    events.Macros: Session._macros,
    events.Connect: Session._connect,
    events.Helo: Session._helo,
    events.Mail: Session._mail,
    events.Rcpt: Session._rcpt,
    events.Data: Session._data,
    events.Unknown: Session._unknown,
    events.Header: Session._header,
    events.EndOfHeaders: Session._end_of_headers,
    events.Body: Session._body,
    events.EndOfMessage: Session._end_of_message,
    events.Abort: Session._abort,
    events.Quit: Session._quit,
    events.QuitNewConnection: Session._quit_new_connection,
}
