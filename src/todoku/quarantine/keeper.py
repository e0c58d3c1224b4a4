"""What becomes of held messages: their addressees are told, passwords are tried, what is clean goes on, what is over is
deleted. Everything that is decided is on the disk before it is done, so that a keeper which is killed goes on there.

A message goes on by SMTP at a port of its own (master.cf), where the gate knows it again, lets it pass as it came, and
notes that it did. Where Postfix' answer was not heard (killed, one of the two), the gate finds out whether Postfix has
the copy (`gate.released`); until then it waits, and is neither lost nor doubled.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import smtplib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from todoku.gate.reinjection import NotTaken, hand_over_file
from todoku.protect import held_wording, letters
from todoku.protect.held import Fate, Held, Quarantine
from todoku.protect.wording import Letter
from todoku.quarantine.checking import Checker, Outcome, Verdict
from todoku.settings import Settings

log = logging.getLogger("todoku.quarantine")

SERVER = ("127.0.0.1", 10030)
# What who comes back to a link reads, where it is decided already.
_OUTCOMES: dict[str, Outcome] = {"releasing": "clean", "delivered": "clean", "refused": "malware"}
_PATIENCE = 30.0  # seconds until something that was not taken is tried again

HandOver = Callable[[Path, str, Sequence[str]], None]


def to_postfix(path: Path, sender: str, recipients: Sequence[str]) -> None:
    hand_over_file(path, sender, recipients, SERVER)


class Keeper:
    """Blocks: for threads. `secret` is what links are made from; the others are for tests."""

    def __init__(
        self,
        quarantine: Quarantine,
        settings: Settings,
        secret: bytes,
        checker: Checker,
        send: letters.Send | None = None,
        hand_over: HandOver = to_postfix,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quarantine = quarantine
        self._settings = settings
        self._secret = secret
        self._checker = checker
        self._send = send or letters.sender(settings)
        self._hand_over = hand_over
        self._clock = clock
        self._links: dict[str, tuple[str, int]] = {}  # hash of a link's token -> job and recipient
        self._settled: dict[
            str, tuple[int, float]
        ] = {}  # jobs that need nothing: their folder's time, and until when
        self._waits: dict[str, float] = {}  # what was not taken -> when to try again
        self._at_work = threading.Lock()

    # -- links

    def token(self, job: str, number: int) -> str:
        """Of that recipient's link. It is nowhere but in his mail: it is made anew from the secret."""
        made = hmac.new(self._secret, f"held\0{job}\0{number}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()

    def link(self, job: str, number: int) -> str:
        port = self._settings.protect.page_port
        page = f"https://{self._settings.hostname}" + (f":{port}" if port != 443 else "")
        return f"{page}/h/{self.token(job, number)}"

    def find(self, token: str) -> tuple[Held, int] | None:
        """What the link is about, while that is held; None for all else."""
        where = self._links.get(_hash(token))
        found = self._quarantine.find(where[0]) if where else None
        if where is None or found is None or found.about.expires <= self._clock():
            return None
        return found, where[1]

    # -- a password

    def release(self, held: Held, number: int, passwords: Sequence[str]) -> Verdict:
        """Look into it with these passwords; what is clean is on its way to that recipient, or will be soon."""
        who = held.about.recipients[number]
        fate = held.fate(number)
        if fate.state != "held":
            return Verdict(_OUTCOMES.get(fate.state, "wrong"), held.malware)
        verdict = self._checker.check(held, passwords)
        log.info("%s: %s, as %s wants it: %s", held.id, verdict.outcome, who, verdict.why or "-")
        if verdict.outcome == "malware":
            with held.taken():
                held.refuse(verdict.why, who)
        elif verdict.outcome == "clean":
            with held.taken():
                if held.fate(number).state == "held":
                    held.decide(number, Fate("releasing", by=who, at=self._clock()))
        if verdict.outcome in ("malware", "clean"):
            self.settle(held)
        return verdict

    # -- what there is to do

    def look(self) -> None:
        """Everything that it is time for."""
        now = self._clock()
        jobs = self._quarantine.jobs()
        self._links = {link: where for link, where in self._links.items() if where[0] in jobs}
        self._settled = {job: how for job, how in self._settled.items() if job in jobs}
        self._waits = {what: until for what, until in self._waits.items() if until > now}
        for job in jobs:
            try:
                changed = (self._quarantine.messages / job).stat().st_mtime_ns
                before, expires = self._settled.get(job, (0, 0.0))
                if changed == before and now < expires:
                    continue
                if (found := self._quarantine.find(job)) is not None and self._look_at(found, now):
                    self._settled[job] = changed, found.about.expires
            except FileNotFoundError:  # somebody has removed it meanwhile
                continue
            except Exception:  # the others must not wait for that
                log.exception("%s: cannot be looked after now", job)
        self._quarantine.tidy(now)

    def _look_at(self, held: Held, now: float) -> bool:
        """Whether nothing more has to be done for it until somebody decides something."""
        if held.about.expires <= now:
            log.info("%s: was held until now, and is deleted", held.id)
            held.remove()
            return True
        for number in range(len(held.about.recipients)):
            self._links[_hash(self.token(held.id, number))] = held.id, number
        return self.settle(held)

    def settle(self, held: Held) -> bool:
        """Tell who has not been told, hand over what was released. Whether all of it was possible."""
        with self._at_work:
            done = [self._for_one(held, number, who) for number, who in enumerate(held.about.recipients)]
            if held.malware:
                letter = held_wording.to_the_postmaster(held.about, held.malware, held.id, held.found_by)
                done.append(self._say(held, "postmaster.told", self._settings.postmaster, letter))
        return all(done)

    def _for_one(self, held: Held, number: int, who: str) -> bool:
        fate = held.fate(number)
        if fate.state == "releasing":
            self._deliver(held, number, who, fate)
            fate = held.fate(number)
        if fate.state == "held":
            letter = held_wording.asked(held.about, self.link(held.id, number))
            return self._say(held, f"{number}.told", who, letter)
        if fate.state == "refused":
            malware = held_wording.malware(held.about, held.malware)
            letter = malware if held.malware else held_wording.not_taken(held.about, fate.why)
            return self._say(held, f"{number}.refused", who, letter)
        return fate.state != "releasing"

    def _deliver(self, held: Held, number: int, who: str, fate: Fate) -> None:
        if not self._is_time(f"{held.id}.{number}"):
            return
        if held.has(f"{number}.passed") and not held.has(f"{number}.taken"):
            if not held.has(f"{number}.unsure"):
                held.note(f"{number}.unsure")
            return
        try:
            if not held.has(f"{number}.taken"):
                self._hand_over(held.content, held.about.sender, (who,))
        except NotTaken as problem:
            if not problem.for_good:
                log.warning("%s: is not taken now: %s", held.id, problem)
                self._waits[f"{held.id}.{number}"] = self._clock() + _PATIENCE
                return
            held.unmark(number)
            log.error("%s: is not taken: %s", held.id, problem)
            held.decide(number, Fate("refused", by=fate.by, at=self._clock(), why=str(problem)))
            return
        held.decide(number, Fate("delivered", by=fate.by, at=self._clock()))
        log.info("%s: delivered to %s, as %s decided", held.id, who, fate.by)

    def _say(self, held: Held, note: str, to: str, letter: Letter) -> bool:
        """Once; what Postfix does not take now is tried again. Whether it was said."""
        if held.has(note):
            return True
        if not self._is_time(f"{held.id}.{note}"):
            return False
        try:
            self._send(to, letter)
        except (OSError, smtplib.SMTPException) as problem:
            if not _for_good(problem):
                log.warning("%s: a notice is not taken now: %s", held.id, problem)
                self._waits[f"{held.id}.{note}"] = self._clock() + _PATIENCE
                return False
            log.error("%s: a notice to %s is refused: %s", held.id, to, problem)
        held.note(note)
        return True

    def _is_time(self, what: str) -> bool:
        return self._waits.get(what, 0.0) <= self._clock()


def _for_good(problem: Exception) -> bool:
    if isinstance(problem, smtplib.SMTPRecipientsRefused):
        return all(code // 100 == 5 for code, _ in problem.recipients.values())
    return isinstance(problem, smtplib.SMTPResponseException) and problem.smtp_code // 100 == 5


def _hash(token: str) -> str:
    """What is compared is no secret: a look-up tells nothing by its time."""
    with suppress(UnicodeEncodeError):
        return hashlib.sha256(token.encode()).hexdigest()
    return ""
