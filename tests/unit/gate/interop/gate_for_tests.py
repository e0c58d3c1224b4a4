"""A gate whose rules do as addresses and an X-Do header tell them: for tests with real mail servers as the peer.

python gate_for_tests.py SOCKET [GROUP] [WORKERS]
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from todoku.gate.context import Context
from todoku.gate.decision import (
    PASS,
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteHeader,
    DeleteRecipient,
    HoldBack,
    InsertHeader,
    Refuse,
    ReplaceBody,
)
from todoku.gate.message import MessageSoFar
from todoku.gate.rule import Placed, RuleSet, Stage
from todoku.gate.server import Options, serve

WORDS = "not 100 % right: ñ, and so on"
CHANGES = {
    "add": [AddHeader("X-Added", "below")],
    "insert": [InsertHeader("X-Inserted", "top"), InsertHeader("X-Inserted", "very top")],
    "change": [ChangeHeader("Subject", "changed"), ChangeHeader("X-Twice", "second changed", 2)],
    "delete": [DeleteHeader("X-Twice")],
    "delete-first": [DeleteHeader("X-Twice", 1)],
    "everything": [
        InsertHeader("Received", "from the gate"),
        DeleteHeader("X-Twice", 1),
        ChangeHeader("X-Twice", "was second"),
        AddHeader("X-Folded", "one\r\n two"),
        ChangeSender("changed@sender.test"),
        AddRecipient("added@local.test"),
        DeleteRecipient("extra@local.test"),
        ReplaceBody(b"All new.\r\n"),
    ],
    "envelope": [
        ChangeSender("changed@sender.test"),
        AddRecipient("added@local.test"),
        DeleteRecipient("b@other.test"),
    ],
    "null-sender": [ChangeSender("")],
    "large-body": [ReplaceBody(b"line\r\n" * 50_000)],
}


def connect(message: MessageSoFar) -> Decision:
    return Refuse(554, "5.7.1", "no such client") if message.client.address == "127.0.0.9" else PASS


def helo(message: MessageSoFar) -> Decision:
    return Refuse(550, "5.7.1", "no such name") if message.client.helo == "refuse.helo" else PASS


def mail(message: MessageSoFar) -> Decision:
    match message.sender.partition("@")[0]:
        case "refuse":
            return Refuse(550, "5.7.1", WORDS)
        case "hold":
            return HoldBack(451, "4.7.1", "later")
        case "raise":
            raise RuntimeError("a rule with a fault")
    return PASS


def rcpt(message: MessageSoFar) -> Decision:
    match message.recipient.partition("@")[0]:
        case "refuse":
            return Refuse(550, "5.1.1", "no such person")
        case "hold":
            return HoldBack(450, "4.2.1", "person busy")
    return PASS


async def headers(message: MessageSoFar) -> Decision:
    match message.headers.first("X-Do"):
        case "refuse-headers":
            return Refuse(550, "5.6.0", "bad headers\n" + "many words " * 100)
        case "until":  # there is that file
            while not Path(message.headers.first("X-Until") or "/").exists():
                await asyncio.sleep(0.01)
            return Change([AddHeader("X-Slow", "yes")])
        case "slow":
            await asyncio.sleep(0.5)
            return Change([AddHeader("X-Slow", "yes")])
    return PASS


def body(message: MessageSoFar) -> Decision:
    do = message.headers.first("X-Do") or ""
    if name := message.headers.first("X-Tell"):
        message.when_told = Path(sys.argv[1]).with_name(name).touch
    match do:
        case "refuse-body":
            return Refuse(552, "5.3.4", f"body of {message.body.size} bytes")
        case "hold":
            return HoldBack(452, "4.3.1", "not now")
        case "raise":
            raise RuntimeError("a rule with a fault")
        case "count":
            total = sum(len(piece) for piece in message.body_chunks())
            return Change([AddHeader("X-Count", f"{total} {message.queue_id} {message.login}")])
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
    return Change([AddHeader("X-Gate", "seen"), *CHANGES.get(do, [])])


ORDER = (
    Placed(Stage.CONNECT, "connect", connect),
    Placed(Stage.HELO, "helo", helo),
    Placed(Stage.MAIL, "mail", mail),
    Placed(Stage.RCPT, "rcpt", rcpt),
    Placed(Stage.HEADERS, "headers", headers),
    Placed(Stage.BODY, "body", body),
)
LEAN = (
    Placed(Stage.BODY, "body", body),
)  # what a gate with the usual rules at the end of the message looks like


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="gate[%(process)d] %(levelname)s: %(message)s")
    path, group, workers, which = [*sys.argv[1:], *["", "", "2", "all"][len(sys.argv) - 1 :]]
    options = Options(socket=Path(path), group=group or None, workers=int(workers), spool=Path(path).parent)
    return serve(options, RuleSet(LEAN if which == "lean" else ORDER), Context)


if __name__ == "__main__":
    sys.exit(main())
