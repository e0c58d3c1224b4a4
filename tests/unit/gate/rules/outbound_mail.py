"""What the tests of the outbound rules are written with: settings, a book, and a message from the bytes of an .eml."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

from todoku.gate.aliases import AliasBook
from todoku.gate.book import ApprovedSenders, SenderBook
from todoku.gate.context import Context
from todoku.gate.decision import Change, Decision, Refuse
from todoku.gate.direction import ORIGINATING
from todoku.gate.limits import Limits
from todoku.gate.message import Body, Client, MessageSoFar
from todoku.gate.rule import Rule
from todoku.settings import Settings, parse

SETTINGS = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
{top}
[[domains]]
name = "hoge.example"
[[domains]]
name = "ほげ.example"
[relay]
region = "ap-tokyo-1"
[[devices]]
address = "192.168.0.20"
sender = "scanner@hoge.example"
{more}
"""
BOOK = """\
alice@hoge.example alice@hoge.example
bob@hoge.example bob@hoge.example
sales@hoge.example alice@hoge.example,bob@hoge.example
"""
ALIASES = """\
team@hoge.example alice@hoge.example,carol@mailbox.example,dan@mailbox.example
postmaster@hoge.example alice@hoge.example
"""
ALICE = "alice@hoge.example"
CAROL = "carol@mailbox.example"
PLAIN = b"From: Alice <alice@hoge.example>\r\nTo: carol@mailbox.example\r\nSubject: hi\r\n\r\ntext\r\n"


def settings(more: str = "", top: str = "") -> Settings:
    return parse(SETTINGS.format(more=more, top=top), "todoku.toml")


class Site:
    """A mail system in a folder: its settings, who may send as whom, what the relay has approved."""

    def __init__(self, folder: Path, more: str = "", approved: str | None = None) -> None:
        self.folder = folder
        self.settings = settings(more)
        (folder / "sender_login").write_text(BOOK)
        (folder / "virtual_alias").write_text(ALIASES)
        if approved is not None:
            (folder / "approved").write_text(approved)
        self.context = Context(
            self.settings,
            SenderBook(folder / "sender_login"),
            ApprovedSenders(folder / "approved"),
            Limits(self.settings, folder / "limits.sqlite3"),
            AliasBook(folder / "virtual_alias"),
        )

    def message(
        self,
        eml: bytes,
        *recipients: str,
        login: str | None = ALICE,
        sender: str = ALICE,
        address: str = "10.0.0.7",
        port: int = 40_000,
        daemon: str = ORIGINATING,
    ) -> MessageSoFar:
        """As Postfix presents it: lines of a folded header are joined by LF, bytes beyond UTF-8 survive."""
        macros = {"daemon_name": daemon} | ({"auth_authen": login} if login else {})
        made = MessageSoFar(Client("client", address, port), self.context, macros, body=Body(self.folder))
        made.began(f"<{sender}>", ())
        for recipient in recipients or (CAROL,):
            made.recipient_came(f"<{recipient}>")
        head, _, body = eml.partition(b"\r\n\r\n")
        for field in _fields(head):
            name, _, value = field.decode("utf-8", "surrogateescape").partition(":")
            made.headers.arrived(name, value)
        made.body.append(body)
        return made

    def from_device(self, eml: bytes, *recipients: str) -> MessageSoFar:
        sender = "scanner@hoge.example"
        return self.message(
            eml, *recipients, login=None, sender=sender, address="192.168.0.20", daemon="mx.hoge.example"
        )

    def from_host(self, eml: bytes, *recipients: str, sender: str = ALICE) -> MessageSoFar:
        return self.message(eml, *recipients, login=None, sender=sender, address="127.0.0.1", port=0)

    def from_outside(self, eml: bytes, *recipients: str) -> MessageSoFar:
        sender, address = "dave@outside.example", "198.51.100.9"
        return self.message(
            eml, *recipients or (ALICE,), login=None, sender=sender, address=address, daemon="mx.hoge.example"
        )


def _fields(head: bytes) -> list[bytes]:
    fields: list[bytes] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += b"\n" + line
        elif line:
            fields.append(line)
    return fields


def eml(*headers: str, body: bytes = b"text\r\n") -> bytes:
    return "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n" + body


def decided(rule: Rule, message: MessageSoFar) -> Decision:
    """The rule's decision, awaited where the rule waits."""

    async def asked() -> Decision:
        answer = rule(message)
        decision: Decision = await answer if inspect.isawaitable(answer) else answer
        return decision

    return asyncio.run(asked())


def refused(decision: Decision) -> str:
    """The reply as it is said."""
    assert isinstance(decision, Refuse), decision
    return f"{decision.code} {decision.enhanced} {decision.words}"


def changed(decision: Decision) -> list[object]:
    assert isinstance(decision, Change), decision
    return list(decision.modifications)
