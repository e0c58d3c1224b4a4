# The copies are on the disk before the original is taken; what cannot be protected is not sent unprotected.

from __future__ import annotations

import asyncio
import email
import email.policy
import errno
import inspect
import io
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

import pytest
import pyzipper
from outbound_mail import ALICE, CAROL, Site

from todoku.gate import changes, protected
from todoku.gate.asked import Agent
from todoku.gate.courier import Courier
from todoku.gate.decision import (
    PASS,
    Change,
    Decision,
    DeleteHeader,
    DeleteRecipient,
    HoldBack,
    Refuse,
)
from todoku.gate.message import MessageSoFar
from todoku.gate.protected_copies import Maker
from todoku.gate.reinjection import NotTaken
from todoku.gate.rule import Rule
from todoku.gate.rules.protection import PASSED_BEFORE, Protection, planned
from todoku.gate.rules.size import size
from todoku.protect import sealing
from todoku.protect.agreed import Agreed
from todoku.protect.shelf import FOLDERS, Shelf
from todoku.protect.spool import Draft, Job, Spool

ON = '[protect]\non = true\ndefault = "zip"\n'
BOB = "bob@hoge.example"
PDF = bytes(range(256)) * 100


@pytest.fixture(autouse=True)
def _own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protected, "KEY", tmp_path / "key")


def eml(subject: str = "report", content: bytes = PDF, **headers: str) -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = ALICE
    message["To"] = CAROL
    message["Subject"] = subject
    message["Message-ID"] = "<one@hoge.example>"
    for name, value in headers.items():
        message[name] = value
    message.set_content("hello\n")
    message.add_attachment(content, "application", "pdf", filename="a.pdf")
    return message.as_bytes()


@dataclass
class Desk:
    """The gate's two rules over a spool, and a Postfix that keeps what it is handed."""

    site: Site
    spool: Spool
    taken: list[tuple[str, tuple[str, ...], EmailMessage]] = field(default_factory=list)
    refusal: NotTaken | None = None

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.site.folder / "shelf")

    def decide(self, message: MessageSoFar) -> Decision:
        rule = Protection(self.spool, Maker(self.shelf, self.site.folder / "agreed"), soon=lambda _job: None)
        return ask([planned, rule], message)

    def on_the_shelf(self) -> list[Path]:
        return [path for path in self.shelf.root.rglob("*") if path.is_file()]

    def hand_over(self, path: Path, sender: str, recipients: tuple[str, ...]) -> None:
        if self.refusal and recipients != (ALICE,):
            raise self.refusal
        made = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(made, EmailMessage)
        self.taken.append((sender, recipients, made))

    @property
    def agent(self) -> Agent:
        folder = self.site.folder / "exchange"
        folder.mkdir(exist_ok=True)
        return Agent(folder)

    def answer(self, queue_id: str, answer: str) -> None:
        """As the agent does (`todoku.delivery.answers`)."""
        asked = self.site.folder / "exchange" / f"queued-{queue_id}.asked"
        asked.rename(asked.with_suffix(answer))

    def courier(self) -> Courier:
        return Courier(self.spool, self.hand_over, agent=self.agent)

    def job(self) -> Job:
        (job,) = self.spool.jobs()
        return job


def ask(rules: list[Rule], message: MessageSoFar) -> Decision:
    """The decision that ends it, or the last; changes are applied as the gate does."""

    async def asked() -> Decision:
        last: Decision = PASS
        for rule in rules:
            answer = rule(message)
            last = await answer if inspect.isawaitable(answer) else answer
            if isinstance(last, Refuse | HoldBack):
                return last
            if isinstance(last, Change):
                for modification in last.modifications:
                    changes.apply(modification, message)
        return last

    return asyncio.run(asked())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    for name in FOLDERS:
        (tmp_path / "shelf" / name).mkdir(parents=True)
    return Desk(Site(tmp_path, ON), Spool(tmp_path / "protect"))


def test_off_nothing_is_looked_at(tmp_path: Path) -> None:
    off = Desk(Site(tmp_path), Spool(tmp_path / "protect"))
    assert off.decide(off.site.message(eml("#zip x"), CAROL)) is PASS
    assert not off.spool.root.exists()


def test_the_outside_gets_a_zip_the_sender_its_password_and_colleagues_the_original(desk: Desk) -> None:
    message = desk.site.message(eml("#zip report"), CAROL, BOB)
    assert desk.decide(message) == Change([DeleteRecipient(CAROL)])
    assert message.recipients == [BOB]
    assert message.headers.first("Subject") == "report"
    desk.courier().look()
    (_, to_carol, copy), (_, to_alice, notice) = desk.taken
    assert (to_carol, to_alice) == ((CAROL,), (ALICE,))
    assert copy["Message-ID"] == "<one@hoge.example>"
    assert notice["In-Reply-To"] == "<one@hoge.example>"
    word = notice.get_content().partition("Password: ")[2].split()[0]
    packed = list(copy.iter_attachments())[-1]
    with pyzipper.AESZipFile(io.BytesIO(packed.get_content())) as archive:
        assert archive.read("a.pdf", pwd=word.encode()) == PDF
    assert word not in copy.as_string()
    assert desk.spool.jobs() == []


def test_by_link_each_recipient_gets_an_own_copy_and_the_sender_a_way_back(desk: Desk) -> None:
    message = desk.site.message(eml("#link #expire=3d big", PDF * 100), CAROL, "dan@mailbox.example", BOB)
    desk.decide(message)
    assert message.recipients == [BOB]
    desk.courier().look()
    assert [recipients for _, recipients, _ in desk.taken] == [(CAROL,), ("dan@mailbox.example",), (ALICE,)]
    links = []
    for _, recipients, copy in desk.taken[:2]:
        assert len(copy.as_bytes()) < 5000
        token = _text(copy).partition("/a/")[2].split()[0]
        link = desk.shelf.find(token, time.time() + 2.9 * 86400)
        assert link and link.recipient == recipients[0]
        assert desk.shelf.find(token, time.time() + 3.1 * 86400) is None
        links.append(link)
    assert links[0].files == links[1].files
    kept = links[0].files[0]
    pieces = sealing.unseal(bytes.fromhex(kept.key), desk.shelf.path("objects", kept.object), kept.octets)
    assert b"".join(pieces) == PDF * 100
    offer = desk.shelf.find_offer(desk.taken[2][2].get_content().partition("/r/")[2].split()[0])
    assert offer and set(offer.links) == {CAROL, "dan@mailbox.example"}


def test_an_agreed_password_is_used_and_told_to_nobody(desk: Desk) -> None:
    kept = Agreed(desk.site.folder / "agreed", protected.secret())
    kept.set("mailbox.example", "agreed long ago")
    desk.decide(desk.site.message(eml(), CAROL, "eve@firm.example"))
    desk.courier().look()
    assert [to for _, to, _ in desk.taken] == [(CAROL,), (ALICE,), ("eve@firm.example",), (ALICE,)]
    assert not any("agreed long ago" in message.as_string() for _, _, message in desk.taken)
    assert "agreed on with mailbox.example" in desk.taken[1][2].get_content()
    new = desk.taken[3][2].get_content().partition("Password: ")[2].split()[0]
    for place, word in ((0, b"agreed long ago"), (2, new.encode())):
        packed = list(desk.taken[place][2].iter_attachments())[-1]
        with pyzipper.AESZipFile(io.BytesIO(packed.get_content())) as archive:
            assert archive.read("a.pdf", pwd=word) == PDF


def test_agreed_passwords_that_cannot_be_read_hold_the_message(desk: Desk) -> None:
    (desk.site.folder / "agreed").write_text("{")
    assert isinstance(desk.decide(desk.site.message(eml(), CAROL)), HoldBack)
    Agreed(desk.site.folder / "other", b"another secret").set("mailbox.example", "agreed long ago")
    (desk.site.folder / "other").rename(desk.site.folder / "agreed")
    assert isinstance(desk.decide(desk.site.message(eml(), CAROL)), HoldBack)
    assert list(desk.spool.outgoing.iterdir()) == []


def test_a_device_reads_no_mail_so_the_postmaster_is_told(desk: Desk) -> None:
    raw = eml().replace(b"From: alice@", b"From: scanner@")
    assert isinstance(desk.decide(desk.site.from_device(raw, CAROL)), Change)
    desk.courier().look()
    assert [(sender, to) for sender, to, _ in desk.taken] == [
        ("scanner@hoge.example", (CAROL,)),
        ("bounces@hoge.example", ("alice@hoge.example",)),
    ]


def test_what_is_not_sent_leaves_nothing_on_the_shelf(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = eml("#link").replace(b"hello", b"hello\r\n" * 400_000)  # the text alone is too much for the relay
    assert isinstance(desk.decide(desk.site.message(raw, CAROL)), Refuse)
    assert desk.on_the_shelf() == []

    def full(_key: bytes, _content: Iterable[bytes], path: Path) -> int:
        path.write_bytes(b"the beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sealing, "seal", full)
    assert isinstance(desk.decide(desk.site.message(eml("#link"), CAROL)), HoldBack)
    assert desk.on_the_shelf() == []
    assert list(desk.spool.outgoing.iterdir()) == []


def _text(message: EmailMessage) -> str:
    return "".join(part.get_content() for part in message.walk() if part.get_content_type() == "text/plain")


def test_without_attachments_only_the_word_goes(desk: Desk) -> None:
    plain = b"From: alice@hoge.example\r\nSubject: #zip hello\r\n\r\ntext\r\n"
    message = desk.site.message(plain, CAROL)
    desk.decide(message)
    assert (message.recipients, message.headers.first("Subject")) == ([CAROL], "hello")
    assert not desk.spool.root.exists()


def test_who_an_alias_leads_to_outside_is_outside(desk: Desk) -> None:
    message = desk.site.message(eml(), "team@hoge.example")
    desk.decide(message)
    assert message.recipients == [ALICE]
    desk.courier().look()
    assert desk.taken[0][1] == (CAROL, "dan@mailbox.example")


def test_mail_of_the_machine_itself_and_bounces_are_left_alone(desk: Desk) -> None:
    assert desk.decide(desk.site.message(eml(), CAROL, login=None, address="127.0.0.1")) is PASS


def test_a_full_disk_holds_the_message_back_and_leaves_nothing_half_made(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_draft: Draft, _sender: str, _recipients: tuple[str, ...], pieces: Iterable[bytes]) -> int:
        next(iter(pieces))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Draft, "add", full)
    message = desk.site.message(eml(), CAROL)
    decision = desk.decide(message)
    assert isinstance(decision, HoldBack)
    assert (decision.code, decision.enhanced) == (452, "4.3.1")
    assert list(desk.spool.outgoing.iterdir()) == []
    assert message.recipients == [CAROL]


def test_a_copy_that_the_relay_would_not_take_is_refused_with_both_figures(desk: Desk) -> None:
    decision = desk.decide(desk.site.message(eml(content=b"x" * 1_600_000), CAROL))
    assert isinstance(decision, Refuse)
    assert decision.code == 552
    assert "with its attachments protected" in decision.words
    assert "2,000,000" in decision.words
    assert list(desk.spool.outgoing.iterdir()) == []


def test_too_many_parts_are_refused_not_sent_unprotected(desk: Desk) -> None:
    raw = b"From: a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 10_001
    decision = desk.decide(desk.site.message(raw, CAROL))
    assert isinstance(decision, Refuse)
    assert "cannot be protected: it has more than 10,000 parts" in decision.words


def test_the_same_message_again_is_one_and_another_with_the_same_id_is_not(desk: Desk) -> None:
    raw = eml()
    for _ in range(2):
        assert isinstance(desk.decide(desk.site.message(raw, CAROL)), Change)
    assert len(desk.spool.jobs()) == 1
    desk.courier().look()
    assert isinstance(desk.decide(desk.site.message(raw, CAROL)), Change)
    assert desk.spool.jobs() == []
    assert isinstance(desk.decide(desk.site.message(raw.replace(b"hello", b"hullo"), CAROL)), Change)
    assert len(desk.spool.jobs()) == 1


def test_a_copy_comes_back_once_and_its_header_goes_no_further(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    desk.courier().look()
    sender, recipients, copy = desk.taken[0]
    raw = copy.as_bytes(policy=email.policy.SMTP)

    def back() -> MessageSoFar:
        return desk.site.message(raw, *recipients, login=None, sender=sender, address="127.0.0.1")

    assert protected.copy_id(back())
    assert desk.decide(back()) == Change([DeleteHeader(protected.NAME)])
    assert desk.decide(back()) == PASSED_BEFORE


@pytest.mark.parametrize("more", [{"login": ALICE}, {"address": "10.0.0.7"}, {"sender": BOB}])
def test_nobody_else_can_use_such_a_header(desk: Desk, more: dict[str, str]) -> None:
    value = protected.header("0" * 40 + ".0", ALICE)
    about = {"login": None, "sender": ALICE, "address": "127.0.0.1", **more}
    message = desk.site.message(eml(**{protected.NAME: value}), CAROL, **about)  # type: ignore[arg-type]
    assert protected.copy_id(message) is None


def test_what_is_refused_for_good_is_told_to_the_sender_and_the_rest_goes_on(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    desk.refusal = NotTaken("550 no such user", for_good=True)
    desk.courier().look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,), (ALICE,)]
    texts = [message.get_content() for _, _, message in desk.taken]
    assert any("550 no such user" in text and CAROL in text for text in texts)
    assert desk.spool.jobs() == []


def test_what_is_not_taken_now_waits_and_goes_later_once(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    desk.refusal = NotTaken("451 later")
    desk.courier().look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,)]
    desk.refusal = None
    desk.courier().look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,), (CAROL,)]
    assert desk.spool.jobs() == []


# Killed between a copy's passing the gate and Postfix' "250", nobody knows whether Postfix has it: that is found out.


def test_a_copy_that_passed_before_a_kill_waits_until_it_is_known_that_postfix_has_it(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    assert desk.spool.mark(f"{desk.job().id}.0", "4bQueueId1")
    for _ in range(3):
        desk.courier().look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,)]  # the notice
    assert [path.name for path in (desk.job().place).glob("*.eml")] == ["0.eml"]
    desk.answer("4bQueueId1", ".yes")
    desk.courier().look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,)]
    assert desk.spool.jobs() == []
    assert list((desk.site.folder / "exchange").iterdir()) == list(desk.spool.marks.iterdir()) == []


def test_a_copy_that_passed_before_a_kill_and_never_came_into_the_queue_is_handed_over_again(
    desk: Desk,
) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    assert desk.spool.mark(f"{desk.job().id}.0", "4bQueueId2")
    desk.courier().look()
    desk.answer("4bQueueId2", ".no")
    desk.courier().look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,), (CAROL,)]
    assert desk.spool.jobs() == []


def test_a_copy_that_passed_and_of_which_postfix_said_nothing_more_is_not_handed_over_at_once(
    desk: Desk,
) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    passes = desk.courier()

    def passes_and_is_killed(path: Path, sender: str, recipients: tuple[str, ...]) -> None:
        if recipients == (CAROL,):
            desk.taken.append((sender, recipients, EmailMessage()))
            desk.spool.mark(f"{path.parent.name}.{path.stem}", "4bQueueId3")
            raise NotTaken("Connection unexpectedly closed")

    Courier(desk.spool, passes_and_is_killed, agent=desk.agent).look()
    for _ in range(3):
        passes.look()
    assert len([to for _, to, _ in desk.taken if to == (CAROL,)]) == 1
    desk.answer("4bQueueId3", ".yes")
    desk.courier().look()
    assert desk.spool.jobs() == []
    assert len([to for _, to, _ in desk.taken if to == (CAROL,)]) == 1


def test_where_nobody_can_be_asked_the_copy_waits_and_its_sender_is_told_in_the_end(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    assert desk.spool.mark(f"{desk.job().id}.0", "4bQueueId4")
    nobody = Agent(desk.site.folder / "no" / "such" / "folder")
    Courier(desk.spool, desk.hand_over, agent=nobody).look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,)]
    in_a_week = time.time() + 7 * 86400
    Courier(desk.spool, desk.hand_over, lambda: in_a_week, nobody).look()
    assert [recipients for _, recipients, _ in desk.taken] == [(ALICE,), (ALICE,)]
    assert "could not be sent" in desk.taken[1][2].get_content()
    assert desk.spool.jobs() == []


def test_a_mark_without_a_queue_id_is_no_reason_to_lose_the_copy(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    (desk.spool.marks / f"{desk.job().id}.0").touch()  # of an earlier version
    desk.courier().look()
    assert {recipients for _, recipients, _ in desk.taken} == {(ALICE,), (CAROL,)}


def test_a_job_that_was_being_removed_is_no_job(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    place, job = desk.job().place, desk.job().id
    _, _, copies = desk.job().read()
    for copy in copies:
        desk.job().finished(copy)
    desk.job().close(copies)
    assert not place.exists()
    assert list(desk.spool.outgoing.iterdir()) == []
    assert desk.spool.knows(job)


@pytest.mark.parametrize(
    ("condition", "refused"),
    [("larger_than = '1 MB'", False), ("types = ['zip']", True), ("types = ['txt']", False)],
)
def test_what_is_packed_in_an_attachment_is_not_unpacked_to_decide(
    desk: Desk, condition: str, refused: bool
) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", bytes(50_000_000))  # in 50 kB
    site = Site(desk.site.folder, f"{ON}[[protect.rules]]\nmode = 'refuse'\n{condition}\n")
    raw = eml(content=made.getvalue()).replace(b"a.pdf", b"a.zip")
    answer = ask([planned], site.message(raw, CAROL))
    assert isinstance(answer, Refuse) is refused, answer


def test_a_job_that_cannot_be_read_is_kept(desk: Desk) -> None:
    desk.decide(desk.site.message(eml(), CAROL))
    (desk.job().place / "job.json").write_text("{")
    desk.courier().look()
    assert desk.taken == []
    assert len(list(desk.job().place.glob("*.eml"))) == 2


def test_the_size_of_the_original_is_not_what_leaves(desk: Desk) -> None:
    message = desk.site.message(eml(content=b"\0" * 1_600_000), CAROL)
    assert isinstance(ask([planned, size], message), type(PASS))
