# A password-protected ZIP from outside is marked or refused, as the settings say; all else is left alone.

from __future__ import annotations

import base64
import io

import pytest
import pyzipper
from inbound_side import ask, mail, settings

from todoku.gate.context import Context
from todoku.gate.decision import PASS, AddHeader, Change, ChangeHeader, Decision, DeleteHeader, Refuse
from todoku.gate.message import MessageSoFar
from todoku.gate.rules.locked_zip import MARK, NAME, incoming_zip


def locked() -> bytes:
    made = io.BytesIO()
    with pyzipper.AESZipFile(made, "w", encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(b"pw")
        archive.writestr("a.txt", "x")
    return made.getvalue()


def brings(content: bytes, policy: str, *headers: tuple[str, str], login: str = "") -> MessageSoFar:
    kind = ("Content-Type", ' application/zip; name="\\"a\\".zip"')
    subject = (("Subject", " hello"),) if not headers else ()
    return mail(
        *subject,
        *headers,
        kind,
        ("Content-Transfer-Encoding", " base64"),
        body=base64.encodebytes(content).replace(b"\n", b"\r\n"),
        context=Context(settings(f'[protect]\nincoming_zip = "{policy}"\n')),
        macros={"i": "Q"} | ({"auth_authen": login} if login else {}),
    )


def decided(message: MessageSoFar) -> Decision:
    return ask(incoming_zip, message)


def test_marked() -> None:
    decision = decided(brings(locked(), "mark"))
    assert decision == Change([AddHeader(NAME, " _a_.zip"), ChangeHeader("Subject", f" {MARK} hello")])


def test_refused_with_its_name() -> None:
    decision = decided(brings(locked(), "refuse"))
    assert isinstance(decision, Refuse)
    assert (decision.code, decision.enhanced) == (550, "5.7.1")
    assert 'a password-protected ZIP ("_a_.zip"), which cannot be scanned for malware' in decision.words


@pytest.mark.parametrize(
    "message",
    [
        brings(locked(), "pass"),
        brings(b"%PDF", "refuse"),
        brings(locked(), "refuse", login="alice@hoge.example"),
    ],
    ids=["off", "another file", "our own"],
)
def test_left_alone(message: MessageSoFar) -> None:
    assert decided(message) is PASS


def test_nobody_marks_it_beforehand() -> None:
    assert decided(brings(b"%PDF", "mark", (NAME, " none"))) == Change([DeleteHeader(NAME)])
    marked = decided(brings(locked(), "mark", ("Subject", f" {MARK} hello"), ("Date", " x")))
    assert isinstance(marked, Change)
    assert marked.modifications[-1] == ChangeHeader("Subject", f" {MARK} hello")


def test_a_message_without_a_subject_gets_one() -> None:
    decision = decided(brings(locked(), "mark", ("Date", " x")))
    assert isinstance(decision, Change)
    assert decision.modifications[-1] == AddHeader("Subject", f" {MARK}")
