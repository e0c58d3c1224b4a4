# Mail from outside with a password-protected ZIP is held for its addressees, all of it on the disk before anybody is
# told 250; what comes back passes once for each of them, and only what the gate itself had held.

from __future__ import annotations

import base64
import errno
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pyzipper
from inbound_side import ask, mail, settings

from todoku.gate import held, protected, released
from todoku.gate.asked import Agent
from todoku.gate.context import Context
from todoku.gate.decision import PASS, Change, Decision, DeleteHeader, DeleteRecipient, HoldBack, Refuse
from todoku.gate.message import Client, MessageSoFar
from todoku.gate.notices import Notice
from todoku.gate.rules.locked_zip import incoming_zip
from todoku.gate.rules.protection import PASSED_BEFORE
from todoku.gate.rules.quarantine import Holding, Released
from todoku.protect import held as store
from todoku.protect.held import Held, Quarantine

ALICE, BOB, DAVE = "alice@hoge.example", "bob@hoge.example", "dave@outside.example"
NOW, DAY = 1_800_000_000.0, 86_400.0
POLICY = '[gate]\nmalware = "clamav"\n[protect]\nincoming_zip = "quarantine"\n'
HERE = Client("localhost", "127.0.0.1", 40_000, "mx.hoge.example")
AT_10030 = {"i": "QUEUE2", "daemon_name": "held"}


@dataclass
class Gate:
    """The rules in their order, over a real place for held messages."""

    root: Path
    told: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.root / "messages").mkdir()
        self.quarantine = Quarantine(self.root)
        self.holding = Holding(self.quarantine, lambda notice, _: self.told.append(notice), lambda: NOW)
        self.released = Released(self.quarantine)

    def judged(self, message: MessageSoFar) -> Decision:
        """By the first of the two rules, once the one before it has looked for ZIPs."""
        assert ask(incoming_zip, message) is PASS
        return ask(self.holding, message)

    def all(self) -> list[Held]:
        return list(self.quarantine.all())

    def hold(self, *to: str) -> Held:
        assert isinstance(self.judged(brings(to=to)), Change)
        (found,) = self.all()
        return found

    def back(self, kept: Held, *to: str, **changed: Any) -> MessageSoFar:
        """What was held, as the service hands it over."""
        head, _, body = kept.content.read_bytes().decode().partition("\r\n\r\n")
        headers = [each.partition(":")[::2] for each in head.replace("\r\n\t", "\t").split("\r\n")]
        given: dict[str, Any] = {"sender": DAVE, "client": HERE, "macros": AT_10030}
        return mail(*headers, to=to, body=body.encode(), context=context(), **given | changed)

    def left_on_the_disk(self, folder: str = "messages") -> list[str]:
        return [each.name for each in (self.root / folder).iterdir()]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(protected, "KEY", tmp_path / "key")
    return Gate(tmp_path)


def context(more: str = "") -> Context:
    return Context(settings(POLICY + more))


def zipped(password: bytes = b"pw") -> bytes:
    made = io.BytesIO()
    with pyzipper.AESZipFile(made, "w", encryption=pyzipper.WZ_AES if password else None) as archive:
        if password:
            archive.setpassword(password)
        archive.writestr("a.txt", "x" * 100)
    return made.getvalue()


LOCKED = zipped()


def brings(
    content: bytes = LOCKED,
    *,
    to: tuple[str, ...] = (BOB,),
    more: str = "",
    identity: bool = True,
    login: str = "",
    helo: str = "mail.outside.example",
) -> MessageSoFar:
    headers = [
        ("From", " =?UTF-8?B?6Yi05pyo?= <dave@outside.example>"),
        ("Subject", " =?UTF-8?B?6KaL56mN?="),
        *([("Message-ID", " <1@outside.example>")] if identity else []),
        ("Content-Type", ' application/zip; name="a.zip"'),
        ("Content-Transfer-Encoding", " base64"),
    ]
    return mail(
        *headers,
        to=to,
        body=base64.encodebytes(content).replace(b"\n", b"\r\n"),
        client=Client("mail.outside.example", "198.51.100.80", 4711, helo),
        context=context(more),
        macros={"i": "QUEUE1"} | ({"auth_authen": login} if login else {}),
    )


# -- what comes in


@pytest.mark.parametrize("content", [b"%PDF-1.7 nothing is packed", zipped(b"")], ids=["PDF", "open ZIP"])
def test_mail_that_can_be_scanned_passes_untouched(gate: Gate, content: bytes) -> None:
    message = brings(content)
    assert gate.judged(message) is PASS
    assert message.recipients == [BOB]
    assert gate.left_on_the_disk() == []


def test_our_own_mail_is_never_held(gate: Gate) -> None:
    assert gate.judged(brings(login=ALICE)) is PASS
    assert gate.left_on_the_disk() == []


def test_a_password_protected_zip_is_held_as_it_came_and_goes_to_nobody(gate: Gate) -> None:
    message = brings()
    message.headers.edit().append(message.headers.received[0]._replace(name="X-Added", value=" by a rule"))
    arrived = message.headers.raw() + b"\r\n" + message.body.read()
    assert gate.judged(message) == Change([DeleteRecipient(BOB)])
    assert message.recipients == []
    (kept,) = gate.all()
    assert kept.about == store.About(
        DAVE, (BOB,), "鈴木 <dave@outside.example>", "見積", ("a.zip",), "ja", NOW, NOW + 14 * DAY,
        kept.content.stat().st_size,
    )  # fmt: skip
    first, trace, rest = kept.content.read_bytes().split(b"\r\n", 2)
    assert first.decode() == f"{held.NAME}: {held.header(kept.id, DAVE)}"
    assert trace == b"Received: from mail.outside.example ([198.51.100.80])"
    added, rest = rest.split(b"\r\n", 2)[:2], rest.split(b"\r\n", 2)[2]
    assert added[0] == b"\tby mx.hoge.example with ESMTP id QUEUE1;"
    assert rest == arrived
    assert gate.told == []


def test_a_greeting_cannot_add_a_header(gate: Gate) -> None:
    assert isinstance(gate.judged(brings(helo="a\r\nX-Forged: 1\r\n\r\n")), Change)
    head = gate.all()[0].content.read_bytes().partition(b"\r\n\r\n")[0]
    assert b"\r\nX-Forged" not in head
    assert b"Received: from a??X-Forged:?1???? ([198.51.100.80])" in head
    assert b"\r\nSubject:" in head


def test_for_several_recipients_it_is_held_once(gate: Gate) -> None:
    message = brings(to=(BOB, ALICE))
    assert gate.judged(message) == Change([DeleteRecipient(BOB), DeleteRecipient(ALICE)])
    assert message.recipients == []
    (kept,) = gate.all()
    assert kept.about.recipients == (BOB, ALICE)


def test_without_a_recipient_nothing_is_held(gate: Gate) -> None:
    assert gate.judged(brings(to=())) is PASS
    assert gate.left_on_the_disk() == []


def test_sent_again_it_is_the_same_unless_it_has_no_identity(gate: Gate) -> None:
    for more in ("", 'quarantine_size = "100 KB"\n'):  # nor does it need any room
        message = brings(more=more, content=LOCKED + bytes(100_000))
        assert gate.judged(message) == Change([DeleteRecipient(BOB)])
    assert len(gate.all()) == 1
    for _ in range(2):
        assert isinstance(gate.judged(brings(identity=False)), Change)
    assert len(gate.all()) == 3


def test_what_goes_beyond_the_room_comes_again_later_and_the_postmaster_knows(gate: Gate) -> None:
    message = brings(more='quarantine_size = "1 KB"\n', content=zipped() + bytes(2000))
    decision = gate.judged(message)
    assert isinstance(decision, HoldBack)
    assert (decision.code, decision.enhanced) == (452, "4.3.1")
    assert message.recipients == [BOB]
    assert [(each.kind, each.matter) for each in gate.told] == [("quarantine", "full")]
    assert "protect.quarantine_size" in gate.told[0].text
    assert gate.left_on_the_disk() == []


def test_too_many_are_held(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.hold(BOB)
    monkeypatch.setattr(store, "MOST", 2)  # with the draft of the next
    decision = gate.judged(brings(identity=False))
    assert isinstance(decision, HoldBack)
    assert decision.code == 452
    assert [each.matter for each in gate.told] == ["full"]
    assert len(gate.left_on_the_disk()) == 1


@pytest.mark.parametrize("failing", ["write", "place", "key"])
def test_on_a_full_disk_without_the_place_and_without_the_key_it_comes_again_later(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "write":
        monkeypatch.setattr("todoku.protect.held.os.fsync", full)
    elif failing == "place":
        (gate.root / "messages").rename(gate.root / "aside")
    else:
        monkeypatch.setattr(protected, "KEY", gate.root / "nowhere/key")
    message = brings()
    decision = gate.judged(message)
    assert isinstance(decision, HoldBack)
    assert (decision.code, decision.enhanced) == (452, "4.3.1")
    assert message.recipients == [BOB]
    assert gate.left_on_the_disk("aside" if failing == "place" else "messages") == []
    assert gate.told == []  # a full disk is an alarm of its own


# -- what comes back


def test_what_comes_back_passes_once_for_each_recipient_and_without_the_header(gate: Gate) -> None:
    kept = gate.hold(BOB, ALICE)
    for recipient in (BOB, ALICE):
        message = gate.back(kept, recipient)
        assert ask(incoming_zip, message) is PASS
        assert ask(gate.holding, message) is PASS  # not held anew
        assert ask(gate.released, message) == Change([DeleteHeader(held.NAME)])
        assert message.recipients == [recipient]
        assert message.headers.first(held.NAME) is None
        assert message.headers.first("Subject") == "=?UTF-8?B?6KaL56mN?="
        again = gate.back(kept, recipient)
        assert ask(gate.released, again) == PASSED_BEFORE
    assert kept.has("0.passed")
    assert kept.has("1.passed")


def test_what_nobody_heard_postfixs_answer_about_is_found_out(gate: Gate) -> None:
    kept, folder = gate.hold(BOB, ALICE), gate.root / "exchange"
    folder.mkdir()
    agent = Agent(folder)
    for number, queue_id in enumerate(("4bQueueIdBob", "4bQueueIdAlice")):
        assert kept.mark(number, queue_id)
        assert not kept.mark(number, "4bAnother")
        assert kept.passed(number) == queue_id
    released.settle(gate.quarantine, agent)
    assert list(folder.iterdir()) == []  # nobody is unsure
    kept.note("0.unsure")
    kept.note("1.unsure")
    released.settle(gate.quarantine, agent)
    assert sorted(path.name for path in folder.iterdir()) == [
        "queued-4bQueueIdAlice.asked", "queued-4bQueueIdBob.asked"
    ]  # fmt: skip
    assert (kept.has("0.taken"), kept.has("1.taken")) == (False, False)
    (folder / "queued-4bQueueIdBob.asked").rename(folder / "queued-4bQueueIdBob.yes")
    (folder / "queued-4bQueueIdAlice.asked").rename(folder / "queued-4bQueueIdAlice.no")
    released.settle(gate.quarantine, agent)
    assert (kept.has("0.taken"), kept.has("0.unsure")) == (True, False)
    assert (kept.has("1.passed"), kept.has("1.taken"), kept.has("1.unsure")) == (False, False, False)
    assert list(folder.iterdir()) == []
    assert ask(gate.released, gate.back(kept, ALICE)) == Change([DeleteHeader(held.NAME)])


def test_a_recipient_is_the_same_in_other_letters(gate: Gate) -> None:
    message = gate.back(gate.hold("Bob@Hoge.example"), BOB)
    assert ask(gate.released, message) == Change([DeleteHeader(held.NAME)])
    assert message.recipients == [BOB]


@pytest.mark.parametrize("to", [(ALICE,), (BOB, ALICE), ("carol@mailbox.example",)])
def test_to_others_than_it_was_held_for_it_does_not_go(gate: Gate, to: tuple[str, ...]) -> None:
    kept = gate.hold(BOB)
    decision = ask(gate.released, gate.back(kept, *to))
    assert isinstance(decision, Refuse)
    assert (decision.code, decision.enhanced) == (550, "5.7.1")
    assert not kept.has("0.passed")


def test_what_is_not_held_any_more_does_not_go(gate: Gate) -> None:
    kept = gate.hold(BOB)
    message = gate.back(kept, BOB)
    kept.remove()
    assert isinstance(ask(gate.released, message), Refuse)


FORGERIES: dict[str, dict[str, Any]] = {
    "from outside": {"client": Client("mail.outside.example", "198.51.100.80", 4711, "mail.outside.example")},
    "of another sender": {"sender": "mallory@outside.example"},
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_the_right_header_is_worth_nothing_elsewhere(gate: Gate, forgery: str) -> None:
    kept = gate.hold(BOB)
    message = gate.back(kept, BOB, **FORGERIES[forgery])
    assert ask(incoming_zip, message) is PASS
    assert message.locked == ("a.zip",)  # so that it is held like any other
    assert ask(gate.released, message) == Change([DeleteHeader(held.NAME)])
    assert message.headers.first(held.NAME) is None
    assert not kept.has("0.passed")


@pytest.mark.parametrize(
    "value", ["", "{job}", "{job} ", "{job} " + "0" * 64, "{job} é", "../../x {hash}", "{other} {hash}"]
)
def test_a_forged_header_opens_nothing_and_is_taken_away(gate: Gate, value: str) -> None:
    kept = gate.hold(BOB)
    job, _, hashed = held.header(kept.id, DAVE).partition(" ")
    forged = value.format(job=job, hash=hashed, other="b" * 40)
    message = gate.back(kept, BOB)
    headers = message.headers.edit()
    headers[0] = headers[0]._replace(value=f" {forged}")
    headers.append(headers[0])
    assert ask(incoming_zip, message) is PASS
    assert message.locked == ("a.zip",)
    assert ask(gate.released, message) == Change([DeleteHeader(held.NAME)] * 2)
    assert message.headers.all(held.NAME) == []
    assert not kept.has("0.passed")


def test_what_cannot_be_noted_comes_again_later(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = gate.hold(BOB)

    def full(_held: Held, _number: int, _queue_id: str) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Held, "mark", full)
    decision = ask(gate.released, gate.back(kept, BOB))
    assert isinstance(decision, HoldBack)
    assert decision.code == 452


def test_mail_that_claims_nothing_is_left_alone(gate: Gate) -> None:
    assert ask(gate.released, mail()) is PASS
