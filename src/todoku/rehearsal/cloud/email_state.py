"""What Email Delivery knows in one region: email domains, DKIM keys, return paths, senders, work requests; and
what the DNS makes of them.

A key or return path works only while the DNS really answers with its record. Oracle's pages do not say how
often it is looked up; here always. Reported from the field (2026): a key stood at NEEDS_ATTENTION with
lifecycleDetails NEED_DNS although its CNAME was right, for about an hour; that hour is
`Timing.dkim_activation_s`, counted from when the record was first right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from todoku.rehearsal.internet.zones import DELIVERY_ZONE

from .clock import Clock
from .entries import Entry, Shelf, Timing

DAY = 86_400.0
RETURN_PATH_PATIENCE = 72 * 3600.0  # then FAILED for good (return path page)
DKIM_LEAVES = DAY  # "about a day", so that mail on its way still verifies (SDK: delete_dkim)

Question = tuple[str, str]  # name, type
Answers = Mapping[Question, "tuple[bytes, ...] | None"]  # None: nobody knows now


@dataclass(slots=True, kw_only=True)
class EmailDomain(Entry):
    """A domain that mail is sent from."""

    is_spf: bool = False


@dataclass(slots=True, kw_only=True)
class Published(Entry):
    """What works only while a record of the customer's says so."""

    domain: str  # OCID of the email domain
    dns_name: str
    cname: str
    status: str = "CREATING"
    details: str | None = None
    right_since: float | None = None

    def state(self, now: float) -> str:
        """As `EmailState.settle` left it, or on its way out."""
        return Entry.state(self, now) if self.leaving is not None else self.status

    def judge(self, answers: Answers) -> bool | None:
        """Whether the DNS says what it should; None when that cannot be told now."""
        cname = answers.get((self.dns_name, "CNAME"))
        if cname is None:
            return None
        if cname:
            return _name(cname[0]) == self.cname.lower()
        return self.right_without_cname(answers)

    def right_without_cname(self, answers: Answers) -> bool | None:  # noqa: ARG002 - a hook
        """Where another record would do."""
        return False


@dataclass(slots=True, kw_only=True)
class Dkim(Published):
    """A key; `name` is the selector."""

    txt: str
    private_key: str = field(repr=False)
    imported: bool = False
    key_length: int = 2048

    def right_without_cname(self, answers: Answers) -> bool | None:
        """The public key itself under the selector (SDK: Dkim.txt_record_value)."""
        texts = answers.get((self.dns_name, "TXT"))
        return None if texts is None else any(_public_key(text) == _public_key(self.txt) for text in texts)


@dataclass(slots=True, kw_only=True)
class ReturnPath(Published):
    """An envelope sender's domain of the customer's own."""


@dataclass(slots=True, kw_only=True)
class Sender(Entry):
    """An approved sender; `name` is the address, or `@domain`."""

    @property
    def domain(self) -> str:
        """In lower case."""
        return self.name.rpartition("@")[2].lower()


@dataclass(slots=True, kw_only=True)
class WorkRequest:
    """What became of a request that takes its time."""

    id: str
    operation: str  # "CREATE_DKIM"
    entity: str  # "dkim"
    entity_id: str
    compartment: str
    accepted: float
    etag: str = "1"


@dataclass(slots=True)
class EmailState:
    """One region."""

    clock: Clock
    timing: Timing
    domains: Shelf[EmailDomain] = field(default_factory=Shelf)
    dkims: Shelf[Dkim] = field(default_factory=Shelf)
    return_paths: Shelf[ReturnPath] = field(default_factory=Shelf)
    senders: Shelf[Sender] = field(default_factory=Shelf)
    work: dict[str, WorkRequest] = field(default_factory=dict)

    # -- asking about them

    def dkims_of(self, domain: str) -> list[Dkim]:
        """Those of an email domain (OCID) that are not DELETED, oldest first."""
        now = self.clock.now()
        return [d for d in self.dkims.values() if d.domain == domain and d.state(now) != "DELETED"]

    def active_dkim(self, domain: str) -> Dkim | None:
        """The key that signs for an email domain (OCID)."""
        now = self.clock.now()
        return next((dkim for dkim in self.dkims_of(domain) if dkim.state(now) == "ACTIVE"), None)

    def domain_named(self, name: str) -> EmailDomain | None:
        """The living email domain of this name, once it is there."""
        found = self.domains.named(name)
        return found if found and found.state(self.clock.now()) == "ACTIVE" else None

    # -- the DNS

    def questions(self, *, everything: bool = True) -> Iterable[Question]:
        """What has to be looked up before `settle`; without `everything`, only what somebody waits for."""
        for dkim in self.dkims.alive():
            if dkim.status != "INACTIVE" and (everything or dkim.status != "ACTIVE"):
                yield dkim.dns_name, "CNAME"
                yield dkim.dns_name, "TXT"
        for path in self.return_paths.alive():
            if path.status != "FAILED" and (everything or path.status != "ACTIVE"):
                yield path.dns_name, "CNAME"
        for domain in self.domains.alive():
            if everything or not domain.is_spf:
                yield domain.name, "TXT"

    def settle(self, answers: Answers) -> None:
        """Let time pass: states follow from the clock and from what the DNS says."""
        now = self.clock.now()
        for domain in self.domains.alive():
            texts = answers.get((domain.name, "TXT"))
            if texts is not None:
                domain.is_spf = any(_is_spf(text) for text in texts)
            self._settle_dkims(domain, answers, now)
        for path in self.return_paths.alive():
            self._settle_return_path(path, answers, now)
        for shelf in (self.domains, self.dkims, self.return_paths, self.senders):
            shelf.sweep(now)

    def _settle_dkims(self, domain: EmailDomain, answers: Answers, now: float) -> None:
        """Only one is active at a time, and the newest takes over. Whether an older one comes back when the
        newest is deleted is not published; here it does not: "deleting the active key stops signing"."""
        ready = []
        for dkim in self.dkims.alive():
            if dkim.domain != domain.id or dkim.status == "INACTIVE":
                continue
            if self._watch(dkim, answers, now, self.timing.dkim_activation_s):
                ready.append(dkim)
        for dkim in ready:
            _turn(dkim, "ACTIVE" if dkim is ready[-1] else "INACTIVE", None, now)

    def _settle_return_path(self, path: ReturnPath, answers: Answers, now: float) -> None:
        if path.status == "FAILED":
            return
        if self._watch(path, answers, now, self.timing.return_path_activation_s):
            _turn(path, "ACTIVE", None, now)
        elif path.status != "ACTIVE" and now - path.created > RETURN_PATH_PATIENCE:
            _turn(path, "FAILED", "not provisioned within 72 hours", now)

    def _watch(self, entry: Published, answers: Answers, now: float, delay: float) -> bool:
        """Whether its record has been right for long enough."""
        if now < entry.ready:
            return False
        right = entry.judge(answers)
        if right is None:
            if entry.status == "CREATING":
                _turn(entry, "NEEDS_ATTENTION", "NEED_DNS", now)
            return entry.status == "ACTIVE"
        if not right:
            entry.right_since = None
        elif entry.right_since is None:
            entry.right_since = now
        if entry.right_since is not None and now - entry.right_since >= delay:
            return True
        _turn(entry, "NEEDS_ATTENTION", "NEED_DNS", now)
        return False


def _turn(entry: Published, status: str, details: str | None, now: float) -> None:
    if entry.status != status:
        entry.status, entry.details = status, details
        entry.touch(now)


def _name(record: bytes) -> str:
    return record.decode("ascii", "replace").rstrip(".").lower()


def _public_key(text: str | bytes) -> str:
    """The p= of a DKIM record (RFC 6376 3.6.1)."""
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    found = re.search(r"(?:^|;)\s*p\s*=([^;]*)", text)
    return re.sub(r"\s", "", found[1]) if found else ""


def _is_spf(text: bytes) -> bool:
    words = text.decode("ascii", "replace").lower().split()
    return words[:1] == ["v=spf1"] and any(
        word.lstrip("+").startswith("include:") and word.endswith(f"rp.{DELIVERY_ZONE}") for word in words
    )
