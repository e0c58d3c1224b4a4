"""The cloud as the resources see it: each kind of thing read once and remembered for a moment, tried again
where that is safe, made only once, deleted only if Todoku made it.

Many resources look at the same list at the same time: the first one asks, the others wait for its answer.
What is remembered is forgotten after a while and after every change of that kind; a new `Cloud` with the same
`api` knows nothing yet.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from todoku.cloud.api import Api
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.retry import Patience
from todoku.cloud.values import (
    Dkim,
    EmailDomain,
    Group,
    IdentityDomain,
    Log,
    LogGroup,
    Policy,
    Region,
    ReturnPath,
    Sender,
    SmtpCredential,
    User,
    live,
)
from todoku.plan.outputs import Outputs

if TYPE_CHECKING:
    from todoku.cloud.network import Guards

T = TypeVar("T")

_FRESH = 10.0  # seconds; longer than a plan takes


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was answered, or the error, when, and to a question of which age."""

    when: float
    age: int
    value: Any
    error: CloudError | None


@dataclass
class _Memory:
    """Answers, for a moment. One question is asked once at a time.

    An answer counts only if nothing of its kind was changed since it was asked for: while one thread waits for
    a list, another one may make something that the list does not have yet.
    """

    clock: Callable[[], float] = time.monotonic
    answers: dict[tuple[str, ...], _Answer] = field(default_factory=dict)
    ages: dict[str, int] = field(default_factory=dict)  # kind -> how often it was changed
    locks: dict[tuple[str, ...], threading.RLock] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: tuple[str, ...], ask: Callable[[], T]) -> T:
        with self.guard:
            lock = self.locks.setdefault(key, threading.RLock())
        with lock:
            with self.guard:
                age = self.ages.get(key[0], 0)
                known = self.answers.get(key)
            if known is None or known.age != age or self.clock() - known.when > _FRESH:
                known = self._asked(age, ask)
                with self.guard:
                    self.answers[key] = known
        if known.error is not None:
            raise known.error
        return known.value  # type: ignore[no-any-return]

    def _asked(self, age: int, ask: Callable[[], T]) -> _Answer:
        try:
            return _Answer(self.clock(), age, ask(), None)
        except CloudError as error:
            return _Answer(self.clock(), age, None, error)

    def forget(self, kind: str) -> None:
        with self.guard:
            self.ages[kind] = self.ages.get(kind, 0) + 1


@dataclass
class Cloud:
    """The client of every resource in this room. Safe to use from several threads."""

    api: Api
    outputs: Outputs = field(default_factory=Outputs)
    patience: Patience = field(default_factory=Patience)
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))  # of this run
    _memory: _Memory = field(default_factory=_Memory)
    _strangers: list[CloudError] = field(default_factory=list)

    def token(self, *what: str) -> str:
        """The retry token for making something: the same within one run, so that it is made once."""
        return hashlib.sha256("\0".join((self.nonce, *what)).encode()).hexdigest()[:32]

    # What is there

    def email_domains(self) -> list[EmailDomain]:
        return self._ask("email-domain", (), lambda: live(self.api.email_domains()))

    def email_domain(self, name: str) -> EmailDomain | None:
        return next((each for each in self.email_domains() if each.name == name), None)

    def all_dkims(self, domain: EmailDomain) -> list[Dkim]:
        """With those that are being deleted, whose selectors are taken."""
        return self._ask("dkim", (domain.id,), lambda: list(self.api.dkims(domain)))

    def dkims(self, domain: EmailDomain) -> list[Dkim]:
        return live(self.all_dkims(domain))

    def senders(self) -> list[Sender]:
        return self._ask("sender", (), lambda: live(self.api.senders()))

    def sender(self, address: str) -> Sender | None:
        return next((each for each in self.senders() if each.address == address.lower()), None)

    def all_return_paths(self) -> list[ReturnPath]:
        return self._ask("return-path", (), lambda: live(self.api.return_paths()))

    def return_paths(self, domain: EmailDomain) -> list[ReturnPath]:
        return [path for path in self.all_return_paths() if path.domain_id == domain.id]

    def log_groups(self) -> list[LogGroup]:
        return self._ask("log-group", (), lambda: live(self.api.log_groups()))

    def log_group(self, name: str) -> LogGroup | None:
        return next((each for each in self.log_groups() if each.name == name), None)

    def logs(self) -> list[Log]:
        """Those of every group."""
        groups = self.log_groups()
        return [log for group in groups for log in self._logs(group)]

    def _logs(self, group: LogGroup) -> list[Log]:
        return self._ask("log", (group.id,), lambda: live(self.api.logs(group)))

    def user(self, name: str) -> User | None:
        return self._ask("user", (name,), lambda: self.api.user(name))

    def group(self, name: str) -> Group | None:
        return self._ask("group", (name,), lambda: self.api.group(name))

    def is_member(self, user: User, group: Group) -> bool:
        return self._ask("member", (user.id, group.id), lambda: self.api.is_member(user, group))

    def members(self, group: Group) -> Set[str]:
        """The ids of all who are in the group."""
        return self._ask("member", (group.id,), lambda: self.api.members(group))

    def smtp_credentials(self, user: User) -> list[SmtpCredential]:
        return self._ask("smtp-credential", (user.id,), lambda: list(self.api.smtp_credentials(user)))

    def policies(self, compartment: str) -> list[Policy]:
        return self._ask("policy", (compartment,), lambda: list(self.api.policies(compartment)))

    def regions(self) -> list[Region]:
        return self._ask("region", (), lambda: list(self.api.regions()))

    def smtp_host(self) -> str:
        return self._ask("configuration", (), self.api.smtp_host)

    def guards(self, instance: str) -> Guards:
        """What stands before the instance."""
        return self._ask("guards", (instance,), lambda: self.api.guards(instance))

    def compartment_name(self) -> str:
        """ "" when we may not ask: it is only needed to understand policies written with names."""
        return self._unless_denied("compartment", self.api.compartment_name, "")

    def identity_domains(self) -> list[IdentityDomain]:
        """None in the older IAM, which does not know what is asked."""
        return self._unless_denied("identity-domain", lambda: list(self.api.identity_domains()), [])

    # Changing it

    def create(self, kind: str, make: Callable[[], T], find: Callable[[], T | None]) -> T:
        """Make a thing of that kind once; `find` looks whether it is there. Raises CloudError."""

        def look_anew() -> T | None:
            self.forget(kind)
            return find()

        try:
            return self.patience.create(make, look_anew)
        finally:
            self.forget(kind)

    def delete(self, kind: str, remove: Callable[[], None], find: Callable[[], object | None]) -> None:
        """Delete a thing of that kind; fine when it is gone already. Raises CloudError."""

        def look_anew() -> object | None:
            self.forget(kind)
            return find()

        try:
            self.patience.delete(remove, look_anew)
        finally:
            self.forget(kind)

    def update(self, kind: str, call: Callable[[], None]) -> None:
        """Make a change that may be made twice. Raises CloudError."""
        try:
            self.patience.repeat(call)
        finally:
            self.forget(kind)

    def wait(self, kind: str, done: Callable[[], bool], bound: float, pause: float = 1.0) -> bool:
        """Whether `done`, which looks at things of that kind, came true within `bound` seconds."""

        def look_anew() -> bool:
            self.forget(kind)
            return done()

        return self.patience.wait(look_anew, bound, pause)

    def forget(self, kind: str) -> None:
        """Ask again the next time."""
        self._memory.forget(kind)

    def ask_ahead(self, asks: Sequence[Callable[[], object]]) -> None:
        """Begin with questions that will be asked: the answers travel while something else is done.

        An answer, and a refusal too, is remembered for whoever asks for it.
        """

        def ask(question: Callable[[], object]) -> None:
            with suppress(CloudError):
                question()

        for question in asks:
            threading.Thread(target=ask, args=(question,), daemon=True, name="ask-ahead").start()

    def _ask(self, kind: str, about: tuple[str, ...], ask: Callable[[], T]) -> T:
        return self._memory.get((kind, *about), lambda: self._known_as(lambda: self.patience.repeat(ask)))

    def _known_as(self, ask: Callable[[], T]) -> T:
        """That we are not known is the same for whatever is asked: it is told in the same words each time."""
        try:
            return ask()
        except CloudError as error:
            if error.trouble is not Trouble.UNKNOWN_CALLER:
                raise
            self._strangers.append(error)
            if self._strangers[0] is error:
                raise
            raise self._strangers[0] from error

    def _unless_denied(self, kind: str, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return self._ask(kind, (), ask)
        except CloudError as error:
            if error.trouble is Trouble.DENIED:
                return otherwise
            raise


def older_than(when: datetime | None, seconds: float, now: datetime) -> bool:
    """Whether `when` is that long ago; what has no date is taken to be old."""
    return when is None or (now - when).total_seconds() > seconds


def newest(things: Sequence[T], when: Callable[[T], datetime | None]) -> T | None:
    """The one with the latest date; those without a date come first."""
    start = datetime.min.replace(tzinfo=UTC)
    return max(things, key=lambda thing: when(thing) or start, default=None)
