"""The copies of one message with its attachments protected, and the notices to its sender that go with them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path

from todoku.gate import protected, srs
from todoku.gate.message import MessageSoFar
from todoku.protect import (
    agreed,
    attachments,
    composing,
    object_store,
    passwords,
    plan,
    subject,
    wording,
    zipping,
)
from todoku.protect.agreed import Agreed
from todoku.protect.plan import Plan
from todoku.protect.policy import Mode
from todoku.protect.shelf import DAY, Given, Shelf
from todoku.protect.spool import Draft
from todoku.protect.wording import Letter
from todoku.protect.zipping import Entry
from todoku.settings import Settings


@dataclass(slots=True)
class Copies:
    """The copies of one message, in a draft. `sizes` in bytes of those that leave."""

    draft: Draft
    sizes: list[int] = field(default_factory=list)
    given: Given | None = None

    def discard(self) -> None:
        """Nothing of it was there."""
        self.draft.discard()
        if self.given is not None:
            self.given.remove()


class Maker:
    """Writes copies into a draft; new passwords and links for each message."""

    def __init__(self, shelf: Shelf | None = None, agreed: Path = agreed.FILE) -> None:
        self._shelf = shelf or Shelf()
        self._agreed = agreed

    def make(self, message: MessageSoFar, made: Plan, settings: Settings, draft: Draft, now: float) -> Copies:
        """OSError when the disk is full; then nothing is left of it."""
        copies = Copies(draft)
        try:
            for with_whom, recipients in self._by_password(made.of(Mode.ZIP)).items():
                copies.sizes += self._zip(message, made, settings, draft, recipients, with_whom, now)
            if linked := made.of(Mode.LINK):
                self._link(message, made, settings, copies, linked, now)
            draft.seal(told(message, settings))
        except BaseException:
            copies.discard()
            raise
        return copies

    def _link(
        self,
        message: MessageSoFar,
        made: Plan,
        settings: Settings,
        copies: Copies,
        recipients: tuple[str, ...],
        now: float,
    ) -> None:
        """A copy for each recipient, as each has an own link."""
        read, policy, language = made.read, settings.protect, made.read.language
        expires = now + DAY * (read.asked.days or policy.days)
        shelf = Shelf(self._shelf.root, lambda: object_store.of(settings))
        given = shelf.give(message.sender, read.subject, language, expires, policy.downloads)
        copies.given = given
        for name, each in zip(plan.file_names(read), read.attachments, strict=True):
            given.add(name, attachments.content(each.part, read.body))
        files = [(kept.name, kept.octets) for kept in given.files]
        page = f"https://{settings.hostname}" + (f":{policy.page_port}" if policy.page_port != 443 else "")
        for recipient in recipients:
            text = wording.linked(language, f"{page}/a/{given.link(recipient)}", files, expires)
            pieces = _copy(message, made, copies.draft, [composing.text_part(text)])
            copies.sizes.append(copies.draft.add(message.sender, (recipient,), pieces))
        given.close()
        taken_back = f"{page}/r/{given.token}"
        letter = wording.links_given(language, taken_back, files, recipients, read.subject, expires)
        _tell(message, copies.draft, letter, settings, now)

    def _by_password(self, recipients: tuple[str, ...]) -> dict[tuple[str, str] | None, tuple[str, ...]]:
        """With whom a password was agreed on, and it; None: with nobody, all of them get a new one together."""
        groups: dict[tuple[str, str] | None, tuple[str, ...]] = {}
        known = Agreed(self._agreed, protected.secret()) if self._agreed.exists() else None
        for recipient in recipients:
            found = known.find(recipient) if known else None
            groups[found] = (*groups.get(found, ()), recipient)
        return groups

    def _zip(
        self,
        message: MessageSoFar,
        made: Plan,
        settings: Settings,
        draft: Draft,
        recipients: tuple[str, ...],
        agreed: tuple[str, str] | None,
        now: float,
    ) -> list[int]:
        """`agreed`: with whom, and the password; None for a new one."""
        read, policy, language = made.read, settings.protect, made.read.language
        password = agreed[1] if agreed else passwords.new()
        names = plan.file_names(read)
        archive = time.strftime("attachments-%Y%m%d-%H%M%S.zip", time.localtime(now))
        packed = zipping.write(
            (
                Entry(name, attachments.content(each.part, read.body))
                for name, each in zip(names, read.attachments, strict=True)
            ),
            password,
            names=policy.zip_names,
            now=now,
        )
        added = [
            composing.text_part(wording.zipped(language, archive, names, agreed=bool(agreed))),
            composing.zip_part(archive, packed),
        ]
        pieces = _copy(message, made, draft, added)
        sizes = [draft.add(message.sender, recipients, pieces)]
        if agreed:
            letter = wording.zip_agreed(language, agreed[0], names, recipients, read.subject)
            _tell(message, draft, letter, settings, now)
            return sizes
        if policy.zip_password_to != "sender":  # noqa: S105
            letter = wording.zip_password_to_recipient(language, password, read.subject)
            sizes.append(_second_mail(message, draft, letter, recipients, now))
        letter = wording.zip_password(language, password, names, recipients, read.subject)
        _tell(message, draft, letter, settings, now)
        return sizes


def _copy(
    message: MessageSoFar, made: Plan, draft: Draft, added: Iterable[composing.Added]
) -> Iterator[bytes]:
    """The message with what is `added` instead of its attachments. Message-ID, References and all else stay."""
    read = made.read
    known = (protected.NAME, f" {protected.header(draft.copy_id(), message.sender)}")
    headers = [known, *((header.name, header.value) for header in message.headers if _stays(header.name))]
    return composing.composed(
        headers, read.message, read.body, [each.part for each in read.attachments], added
    )


def _stays(name: str) -> bool:
    return name.lower() not in (protected.NAME.lower(), "bcc")


def _tell(message: MessageSoFar, draft: Draft, letter: Letter, settings: Settings, now: float) -> None:
    """A notice to the sender, who is one of ours: it does not leave."""
    to = told(message, settings)
    sender = srs.plain(message.sender.rpartition("@")[2])
    made = _letter(draft, letter, sender, now)
    made["From"] = f"Todoku <{settings.host_sender}>"
    made["To"] = f"<{to}>"
    made["Auto-Submitted"] = "auto-generated"
    _refer(made, message)
    draft.add(sender, (to,), [made.as_bytes()])


def told(message: MessageSoFar, settings: Settings) -> str:
    """Who is told of it: the sender, or the postmaster where that is a device, which reads no mail."""
    return message.sender if message.login else settings.postmaster


def _second_mail(
    message: MessageSoFar, draft: Draft, letter: Letter, recipients: tuple[str, ...], now: float
) -> int:
    made = _letter(draft, letter, message.sender, now)
    made["From"] = message.headers.first("From") or message.sender
    made["To"] = ", ".join(f"<{each}>" for each in recipients)
    _refer(made, message)
    return draft.add(message.sender, recipients, [made.as_bytes()])


def _letter(draft: Draft, letter: Letter, sender: str, now: float) -> EmailMessage:
    made = EmailMessage(policy=SMTP)
    made[protected.NAME] = protected.header(draft.copy_id(), sender)
    made["Subject"] = subject.one_line(letter.subject)
    made["Date"] = formatdate(now)
    made["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    made.set_content(letter.text, charset="utf-8", cte="base64")
    return made


def _refer(made: EmailMessage, message: MessageSoFar) -> None:
    about = message.headers.first("Message-ID") or ""
    if re.fullmatch(r"<[!-;=?-~]{1,900}>", about):
        made["In-Reply-To"] = about
        made["References"] = about
