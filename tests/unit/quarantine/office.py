"""The service behind the page with all that it has, but for Postfix and clamd, which the world's tests have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from todoku.gate.clamd import Clean, Verdict
from todoku.gate.reinjection import NotTaken
from todoku.protect.held import About, Held, Quarantine
from todoku.protect.wording import Letter
from todoku.quarantine import unpacker
from todoku.quarantine.checking import Checker
from todoku.quarantine.keeper import Keeper
from todoku.settings import Settings, parse

SETTINGS = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
JOB = "a" * 40
BOB, CAROL = "bob@hoge.example", "carol@hoge.example"
DAY = 86400.0


class Scan:
    """clamd, as far as a session goes; the real one is in the world's tests."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.says: Verdict | Exception = Clean()

    def __call__(self) -> Scan:
        return self

    def scan(self, pieces: Sequence[bytes]) -> Verdict:
        self.seen.append(b"".join(pieces))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def close(self) -> None:
        pass


@dataclass
class Office:
    """A keeper with what it sent and handed over; `new_keeper` is what a start after a kill has."""

    root: Path
    unpacking: unpacker.Unpacker
    scan: Scan = field(default_factory=Scan)
    letters: list[tuple[str, Letter]] = field(default_factory=list)
    handed: list[tuple[str, ...]] = field(default_factory=list)
    refusal: NotTaken | None = None
    no_mail: Exception | None = None
    now: float = 1_000_000.0

    def __post_init__(self) -> None:
        (self.root / "messages").mkdir()
        self.quarantine = Quarantine(self.root)
        self.keeper = self.new_keeper()

    def new_keeper(self) -> Keeper:
        def send(to: str, letter: Letter) -> None:
            if self.no_mail:
                raise self.no_mail
            self.letters.append((to, letter))

        def hand_over(path: Path, sender: str, recipients: Sequence[str]) -> None:
            assert path.read_bytes()
            assert sender == "dave@outside.example"
            self.handed.append(tuple(recipients))
            if self.refusal:
                raise self.refusal

        checker = Checker(self.unpacking, self.scan)  # type: ignore[arg-type]
        settings: Settings = parse(SETTINGS, "todoku.toml")
        return Keeper(self.quarantine, settings, b"s" * 32, checker, send, hand_over, clock=lambda: self.now)

    def hold(self, archive: bytes, *recipients: str, language: str = "en") -> Held:
        about = About("dave@outside.example", recipients or (BOB,), "Dave", "x", ("a.zip",),
                      "ja" if language == "ja" else "en", self.now, self.now + 14 * DAY)  # fmt: skip
        head = b"From: d@outside.example\r\nContent-Type: application/zip; name=a.zip\r\n\r\n"
        self.quarantine.hold(JOB, about, [head, archive], 10_000_000)
        self.keeper.look()
        found = self.quarantine.find(JOB)
        assert found is not None
        return found
