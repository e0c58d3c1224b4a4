# Whoever keeps the ledger hears of each message once: what was decided, and which rule said it. How it is written down
# is tested in tests/unit/delivery/test_decisions.py.

from __future__ import annotations

from pathlib import Path

import pytest
from mta_side import connect, content, envelope, negotiate

from todoku.gate.context import Context
from todoku.gate.decision import PASS, Refuse
from todoku.gate.message import MessageSoFar
from todoku.gate.protocol import Decoder
from todoku.gate.rule import Placed, RuleSet, Stage
from todoku.gate.session import Session, Surroundings


def test_each_message_of_a_session_is_told_once(tmp_path: Path) -> None:
    told: list[tuple[str, str, int, str]] = []

    def record(seen: MessageSoFar, verdict: object, rule: str) -> None:
        told.append((seen.sender, rule, len(seen.recipients), getattr(verdict, "words", "")))

    def rule(seen: MessageSoFar) -> object:
        return Refuse(550, "5.7.1", "not to them") if seen.recipient.startswith("no") else PASS

    def late(seen: MessageSoFar) -> object:
        return Refuse(550, "5.7.1", "spam") if "spam" in seen.sender else PASS

    placed = [Placed(Stage.RCPT, "whom", rule), Placed(Stage.HEADERS, "what", late)]  # type: ignore[arg-type]
    session = Session(Surroundings(RuleSet(placed), Context, tmp_path, record))
    dialogue = negotiate() + connect()
    dialogue += envelope("<a@hoge.test>", ["<no@x.test>", "<yes@x.test>"]) + content()
    dialogue += envelope("<spam@hoge.test>", ["<yes@x.test>"]) + content()
    for event in Decoder().receive(dialogue):
        done = session.handle(event)
        if not isinstance(done, bytes):
            with pytest.raises(StopIteration):
                next(done)
    assert told == [
        ("a@hoge.test", "whom", 1, "not to them"),
        ("a@hoge.test", "", 1, ""),
        ("spam@hoge.test", "what", 1, "spam"),
    ]
