"""Where attachments lie that recipients fetch by a link, and what is known of each link.

    objects/ID         a file, encrypted; its key is in no file (with [protect.store]: in the object store)
    links/ID.json      one recipient's link: until when, and, sealed with a key that only the link has, names and keys
    offers/ID.json     all links of one message, for its sender
    revoked/ID         the sender has taken that offer back
    events/ID.jsonl    what happened to an offer, a line each

A link's token is 32 random bytes; ID and key are two hashes of it, so whoever can read all this can open nothing.
Written by the gate, read by the page (`todoku.web`), which appends to the events and removes what is over. Plain files
and no database: the gate waits for nobody, and what is there survives kill -9.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from todoku.protect import sealing
from todoku.protect.language import Language
from todoku.protect.object_store import ObjectStore, StoreFailed

ROOT = Path("/var/lib/todoku/protect")
FOLDERS = ("objects", "links", "offers", "revoked", "events")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_ID = re.compile(r"[0-9a-f]{64}")
DAY = 86400
_REMEMBERED = 90 * DAY  # how long events stay after an offer is over
_ORPHAN = DAY

FindStore: TypeAlias = Callable[[], ObjectStore | None]  # raises StoreFailed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """One file: `octets` of its content, the `object` that it lies in, and its `key` in hexadecimal."""

    name: str
    octets: int
    object: str
    key: str


@dataclass(frozen=True, slots=True)
class Link:
    """What a link opens."""

    id: str
    offer: str
    sender: str
    recipient: str
    subject: str
    language: Language
    expires: float
    downloads: int  # of each file
    files: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a sender gave out with one message."""

    id: str
    sender: str
    subject: str
    made: float
    expires: float
    links: dict[str, str]  # recipient -> link ID
    objects: tuple[str, ...]


class Given:
    """An offer that is being made: its files are there already, its links come one by one. `close` puts it in force."""

    def __init__(
        self, shelf: Shelf, sender: str, subject: str, language: Language, expires: float, downloads: int
    ) -> None:
        self._shelf = shelf
        self.token = _token()  # the sender's
        self.id = identity("revoke", self.token)
        self._about = (sender, subject, language, expires, downloads)
        self._files: list[Kept] = []
        self._links: dict[str, str] = {}

    @property
    def files(self) -> tuple[Kept, ...]:
        return tuple(self._files)

    def add(self, name: str, content: Iterable[bytes]) -> Kept:
        """OSError when the disk is full, or the store of no use."""
        key, number = secrets.token_bytes(sealing.KEY), secrets.token_hex(32)
        self._files.append(Kept(name, 0, number, ""))  # so that `remove` finds what there is of it
        if (store := self._shelf.store()) is not None:
            octets = sealing.content_size(store.put(number, sealing.sealed(key, content)))
        else:
            octets = sealing.seal(key, content, self._shelf.path("objects", number))
        self._files[-1] = Kept(name, octets, number, key.hex())
        return self._files[-1]

    def link(self, recipient: str) -> str:
        """The token of that recipient's link."""
        sender, subject, language, expires, downloads = self._about
        token = _token()
        inside = {"subject": subject, "language": language, "files": [asdict(each) for each in self._files]}
        record = {
            "offer": self.id,
            "sender": sender,
            "recipient": recipient,
            "expires": expires,
            "downloads": downloads,
            "sealed": base64.b64encode(_cipher(token).encrypt(bytes(12), _json(inside), None)).decode(),
        }
        self._links[recipient] = identity("link", token)
        _write(self._shelf.path("links", f"{self._links[recipient]}.json"), record)
        return token

    def close(self) -> None:
        sender, subject, _, expires, _ = self._about
        objects = [each.object for each in self._files]
        record = {
            "sender": sender, "subject": subject, "made": time.time(), "expires": expires, "links": self._links,
            "objects": objects,
        }  # fmt: skip
        _write(self._shelf.path("offers", f"{self.id}.json"), record)
        for folder in ("objects", "links", "offers"):
            _synchronise(self._shelf.root / folder)

    def remove(self) -> None:
        """Nothing of it was there."""
        self._shelf.forget(each.object for each in self._files)
        for link in self._links.values():
            self._shelf.path("links", f"{link}.json").unlink(missing_ok=True)
        self._shelf.path("offers", f"{self.id}.json").unlink(missing_ok=True)


class Shelf:
    """The folder, and where it is found the store. OSError where it is not there or not ours."""

    def __init__(self, root: Path = ROOT, store: FindStore = lambda: None) -> None:
        self.root = root
        self.store = store

    def path(self, folder: str, name: str) -> Path:
        return self.root / folder / name

    def give(self, sender: str, subject: str, language: Language, expires: float, downloads: int) -> Given:
        return Given(self, sender, subject, language, expires, downloads)

    def content(self, kept: Kept, start: int, end: int) -> Iterator[bytes]:
        """Bytes of a file, from the disk, or from the store if not there. Raises Damaged, OSError, StoreFailed."""
        key, path = bytes.fromhex(kept.key), self.path("objects", kept.object)
        if self.is_near(kept) or (store := self.store()) is None:
            yield from sealing.unseal(key, path, kept.octets, start, end)
            return
        with store.read(kept.object, *sealing.sealed_range(kept.octets, start, end)) as read:
            yield from sealing.unsealed(key, read, kept.octets, start, end)

    def is_near(self, kept: Kept) -> bool:
        """Whether it is on the disk, and reading it waits for nothing."""
        return self.path("objects", kept.object).exists()

    def find(self, token: str, now: float) -> Link | None:
        """What the token opens now; None for all else, whatever the reason."""
        if not _TOKEN.fullmatch(token):
            return None
        number = identity("link", token)
        record = _read(self.path("links", f"{number}.json"))
        if record is None or record["expires"] <= now or self.is_revoked(record["offer"]):
            return None
        try:
            inside = json.loads(_cipher(token).decrypt(bytes(12), base64.b64decode(record["sealed"]), None))
        except (InvalidTag, ValueError):
            return None
        return Link(
            id=number,
            subject=inside["subject"],
            language=inside["language"],
            files=tuple(Kept(**each) for each in inside["files"]),
            **{name: record[name] for name in ("offer", "sender", "recipient", "expires", "downloads")},
        )

    def find_offer(self, token: str) -> Offer | None:
        """By the token that its sender got."""
        return self.offer(identity("revoke", token)) if _TOKEN.fullmatch(token) else None

    def offer(self, number: str) -> Offer | None:
        record = _read(self.path("offers", f"{number}.json")) if _ID.fullmatch(number) else None
        return None if record is None else Offer(number, **{**record, "objects": tuple(record["objects"])})

    def offers(self) -> Iterator[Offer]:
        """All that are remembered, the latest first."""
        folder = self.root / "offers"
        found = [self.offer(path.stem) for path in (folder.glob("*.json") if folder.exists() else ())]
        yield from sorted((each for each in found if each), key=lambda each: -each.made)

    def is_revoked(self, offer: str) -> bool:
        return self.path("revoked", offer).exists()

    def revoke(self, offer: Offer) -> None:
        """From now on its links open nothing, and its files are gone."""
        self.path("revoked", offer.id).touch(mode=0o660)
        _synchronise(self.root / "revoked")
        self.forget(number for number in offer.objects if _ID.fullmatch(number))
        self._remove_here(offer)

    def _remove_here(self, offer: Offer) -> None:
        """Without asking the store."""
        for number in offer.objects:
            if _ID.fullmatch(number):
                self.path("objects", number).unlink(missing_ok=True)
        for number in offer.links.values():
            if _ID.fullmatch(number):
                self.path("links", f"{number}.json").unlink(missing_ok=True)

    def forget(self, objects: Iterable[str]) -> None:
        """Removes files. Those that the store does not remove now, `tidy` does."""
        far = []
        for number in objects:
            try:
                self.path("objects", number).unlink()
            except FileNotFoundError:
                far.append(number)
        try:
            if far and (store := self.store()) is not None:
                for number in far:
                    store.remove(number)
        except StoreFailed as problem:
            log.warning("files are removed later: %s", problem)

    def note(self, offer: str, what: str, **more: Any) -> None:
        """A line of the offer's events: one write(2), of which kill -9 takes nothing back. OSError on a full disk."""
        line = _json({"time": round(time.time(), 3), "what": what, **more}) + b"\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path("events", f"{offer}.jsonl"), flags, 0o660)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def events(self, offer: str) -> list[dict[str, Any]]:
        with suppress(FileNotFoundError):
            lines = self.path("events", f"{offer}.jsonl").read_bytes().splitlines()
            return [json.loads(line) for line in lines if line.endswith(b"}")]
        return []

    def tidy(self, now: float) -> int:
        """Removes what is over, and what a gate that was killed left behind; how many objects that were. StoreFailed
        when that of the store could not be, after all else."""
        known: set[str] = set()
        over: set[str] = set()
        before = len(self._objects())
        for offer in list(self.offers()):
            if offer.expires <= now or self.is_revoked(offer.id):
                over.update(offer.objects)
                self._remove_here(offer)
            else:
                known.update(offer.objects)
            if offer.expires + _REMEMBERED <= now:
                for folder, name in (("events", f"{offer.id}.jsonl"), ("revoked", offer.id)):
                    self.path(folder, name).unlink(missing_ok=True)
                self.path("offers", f"{offer.id}.json").unlink(missing_ok=True)
        for path in self._objects():
            with suppress(FileNotFoundError):
                if path.name not in known and now - path.stat().st_mtime > _ORPHAN:
                    path.unlink()
        return before - len(self._objects()) + self._tidy_store(known, over, now)

    def _tidy_store(self, known: set[str], over: set[str], now: float) -> int:
        store, gone = self.store(), 0
        if store is None:
            return 0
        for name, written in list(store.names()):
            if name in over or (name not in known and now - written > _ORPHAN):
                store.remove(name)
                gone += 1
        store.remove_incomplete(now - _ORPHAN)
        return gone

    def _objects(self) -> Sequence[Path]:
        folder = self.root / "objects"
        return list(folder.iterdir()) if folder.exists() else []


def identity(kind: str, token: str) -> str:
    """A name for what a token stands for, from which it cannot be found again."""
    return hashlib.sha256(f"todoku {kind}\0{token}".encode()).hexdigest()


def _cipher(token: str) -> AESGCM:
    return AESGCM(hashlib.sha256(f"todoku key\0{token}".encode()).digest())  # for one message each: one nonce


def _token() -> str:
    return secrets.token_urlsafe(32)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, value: Any) -> None:
    beside = path.with_name(f".{path.name}")
    descriptor = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o640)  # whatever the umask: the folder's group reads it
        file.write(_json(value))
        file.flush()
        os.fsync(descriptor)
    beside.rename(path)


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
