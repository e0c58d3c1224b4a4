"""Copies mail from a server to a mailbox here, one by one, with flags and dates. Goes on where it was broken off.

The source is read only (EXAMINE, BODY.PEEK). The mailbox is opened from inside, without a password (`doveadm exec
imap`), so its quota counts and nobody's log-in is needed. IMAP is RFC 9051 and 3501; IMAPClient speaks it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from todoku.moving.book import Begun, Book, Message
from todoku.moving.folders import target

if TYPE_CHECKING:
    from imapclient import IMAPClient

_PATIENCE = 120.0  # seconds for an answer
_KEYWORD = re.compile(rb"[!#$&'+,./0-9:;<=>?@A-Z^_`a-z|~-]{1,100}")
_SYSTEM = {b"\\seen", b"\\answered", b"\\flagged", b"\\deleted", b"\\draft"}


class CopyError(Exception):
    """The copying cannot begin, or cannot go on. What was copied stays. The message says what to do."""


class Interrupted(CopyError):
    """The connection was lost: trying again may help."""


@dataclass(frozen=True, slots=True)
class Source:
    """A server and an account on it."""

    host: str
    port: int
    login: str
    password: str = field(repr=False)
    starttls: bool = False
    authorities: str | None = None  # PEM file of whom to believe instead of the system's authorities


@dataclass(slots=True)
class Counts:
    """How far it is. `failed`: messages that the mailbox does not take, each with a reason."""

    folder: str = ""
    total: int = 0  # of that folder
    seen: int = 0  # of that folder
    copied: int = 0
    present: int = 0  # copied by an earlier run
    octets: int = 0
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # folders


Report = Callable[[Counts], None]


def connect(source: Source) -> IMAPClient:
    """Logged in, over verified TLS. Raises CopyError."""
    import imapclient
    from imapclient.exceptions import IMAPClientError, LoginError

    context = ssl.create_default_context(cafile=source.authorities)
    where = f"{source.host}:{source.port}"
    try:
        client = imapclient.IMAPClient(
            source.host, source.port, ssl=not source.starttls, ssl_context=context, timeout=_PATIENCE
        )
        if source.starttls:
            client.starttls(context)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason
        raise CopyError(
            f"{where} does not prove that it is {source.host} ({reason}): use the name that is in its certificate, or "
            "--ca-file with the authority that issued it"
        ) from error
    except (OSError, IMAPClientError) as error:
        raise Interrupted(f"{where} cannot be reached: {error}") from error
    client.normalise_times = False
    try:
        client.login(source.login, source.password)
    except LoginError as error:
        raise CopyError(f"{where} does not take the password of {source.login}: {error}") from error
    except (OSError, IMAPClientError) as error:
        raise Interrupted(f"{where} broke off: {error}") from error
    return client


def mailbox(login: str) -> IMAPClient:
    """The mailbox of an account here, from inside. Raises CopyError."""
    import imapclient
    from imapclient.exceptions import IMAPClientError

    class Inside(imapclient.IMAPClient):  # type: ignore[misc]  # has no types
        """Speaks to a program through pipes, which know of no time limit (IMAPClient 4.1 asks them for one)."""

        def _set_read_timeout(self) -> None:
            pass

    try:
        # A command for a shell.
        client = Inside(f"exec doveadm exec imap -u {shlex.quote(login)} 2>/dev/null", ssl=False, stream=True)
    except (OSError, IMAPClientError) as error:
        raise CopyError(
            f"the mailbox of {login} cannot be opened: {error}. Is Dovecot installed, and are you root?"
        ) from error
    client.normalise_times = False
    return client


class Copying:
    """One copying. `run` raises CopyError; then, or after a kill, another run goes on."""

    def __init__(self, source: IMAPClient, mailbox: IMAPClient, book: Book, report: Report) -> None:
        self._source, self._mailbox, self._book, self._report = source, mailbox, book, report
        self.counts = Counts()

    def run(self, *, only: frozenset[str] = frozenset(), dry_run: bool = False) -> Counts:
        """All folders, or those named in `only`, as the source names them. With `dry_run` nothing is written."""
        from imapclient.exceptions import IMAPClientError

        try:
            for name, into in self._folders(only):
                self._copy_folder(name, into, dry_run=dry_run)
        except (OSError, IMAPClientError) as error:
            raise Interrupted(f"the connection broke off: {error}") from error
        return self.counts

    def _folders(self, only: frozenset[str]) -> Iterator[tuple[str, str]]:
        ours = _separator(self._mailbox)
        found = [
            (name, _text(separator), [_text(f) for f in flags])
            for flags, separator, name in self._source.list_folders()
        ]
        if missing := only - {name for name, _, _ in found}:
            names = ", ".join(name for name, _, _ in found)
            raise CopyError(f"there is no folder {sorted(missing)[0]}: there are {names}")
        for name, separator, flags in found:
            into = target(name, separator, flags, ours)
            if only and name not in only:
                continue
            if into is None:
                self.counts.left_out.append(name)
            else:
                yield name, into

    def _copy_folder(self, name: str, into: str, *, dry_run: bool) -> None:
        chosen = self._source.select_folder(name, readonly=True)
        validity = int(chosen[b"UIDVALIDITY"])
        numbers = sorted(self._source.search("ALL"))
        counts = self.counts
        counts.folder, counts.total, counts.seen = name, len(numbers), 0
        at_least = 0
        if numbers and not dry_run:
            at_least = self._open(into)
        for number in numbers:
            message = Message(name, validity, number)
            counts.seen += 1
            if message in self._book.done:
                counts.present += 1
            elif dry_run:
                counts.copied += 1
            else:
                self._copy(message, into, at_least)
            self._report(counts)

    def _open(self, into: str) -> int:
        """Have the folder there; the number that its next message will have at least."""
        if not self._mailbox.folder_exists(into):
            self._mailbox.create_folder(into)
            self._mailbox.subscribe_folder(into)
        return int(self._mailbox.folder_status(into, ["UIDNEXT"])[b"UIDNEXT"])

    def _copy(self, message: Message, into: str, at_least: int) -> None:
        from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

        answer = self._source.fetch([message.uid], ["FLAGS", "INTERNALDATE", "BODY.PEEK[]"]).get(message.uid)
        if answer is None or answer.get(b"BODY[]") is None:
            return  # removed meanwhile
        content = bytes(answer[b"BODY[]"])
        digest = hashlib.sha256(content).hexdigest()
        begun = self._book.begun.get(message)
        if begun is not None and self._is_there(begun, content):
            self._book.finish(message)
            self.counts.present += 1
            return
        self._book.begin(message, Begun(into, at_least, digest))
        try:
            self._mailbox.append(into, content, _flags(answer.get(b"FLAGS", ())), answer.get(b"INTERNALDATE"))
        except IMAPClientAbortError:
            raise
        except IMAPClientError as error:
            if "OVERQUOTA" in str(error).upper() or "quota" in str(error).lower():
                raise CopyError(
                    f"the mailbox is full, after {self.counts.copied} messages: give the account a larger quota, "
                    "and run this again: it goes on"
                ) from error
            self.counts.failed.append(f"{message.folder}, message {message.uid}: {error}")
            return
        self._book.finish(message)
        self.counts.copied += 1
        self.counts.octets += len(content)

    def _is_there(self, begun: Begun, content: bytes) -> bool:
        """Whether what a killed run was about to write was written."""
        if not self._mailbox.folder_exists(begun.target):
            return False
        self._mailbox.select_folder(begun.target, readonly=True)
        try:
            # "n:*" names the last message also when its number is below n.
            after = [n for n in self._mailbox.search(["UID", f"{begun.at_least}:*"]) if n >= begun.at_least]
            sizes = self._mailbox.fetch(after, ["RFC822.SIZE"]) if after else {}
            same = [n for n, found in sizes.items() if found[b"RFC822.SIZE"] == len(content)]
            for number in same:
                found = self._mailbox.fetch([number], ["BODY.PEEK[]"])[number][b"BODY[]"]
                if hashlib.sha256(found).hexdigest() == begun.digest:
                    return True
        finally:
            with suppress(OSError):
                self._mailbox.close_folder()
        return False


def _separator(client: IMAPClient) -> str:
    return _text(client.list_folders("", "")[0][1]) or "."


def _flags(found: Any) -> list[bytes]:
    """Those that can be set: not \\Recent, and no keyword that is none."""
    return [
        flag for flag in found if flag.lower() in _SYSTEM or (_KEYWORD.fullmatch(flag) and flag[:1] != b"\\")
    ]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
