# Bounces of bulk mail have to get to who keeps the lists, and are not lost when the disk is full.

from __future__ import annotations

from pathlib import Path

import pytest
from inbound_side import ask, mail, settings

from todoku.gate.context import Context
from todoku.gate.decision import PASS, HoldBack
from todoku.gate.message import MessageSoFar
from todoku.gate.rules import bulk_return
from todoku.gate.rules.bulk_return import BulkReturn

MARKED = "Bounces+C=" + "a2" * 19 + "b@hoge.example"
REPORTS = "bounces+reports@hoge.example"
TABLE = """
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "https://news.hoge.example"
"""


def returned(*to: str, body: bytes = b"text\r\n", table: str = TABLE) -> MessageSoFar:
    return mail(sender="", to=to, body=body, context=Context(settings(table)))


def test_it_is_on_the_disk_with_its_address_and_goes_to_nobody_else(tmp_path: Path) -> None:
    message = returned(MARKED, "alice@hoge.example", REPORTS)
    ask(BulkReturn(tmp_path), message)
    assert message.recipients == ["alice@hoge.example"]
    kept = sorted(tmp_path.iterdir())
    assert [each.read_bytes().partition(b"\n")[0].decode() for each in kept] == [MARKED, REPORTS]
    assert kept[0].read_bytes().partition(b"\n")[2].startswith(b"Received: from elsewhere\r\nFrom:")
    assert kept[0].read_bytes().endswith(b"\r\n\r\ntext\r\n")
    assert kept[0].stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "to",
    [
        "bounces@hoge.example",
        "bounces+c=abc@hoge.example",
        "bounces+SRS0=x@hoge.example",
        "alice+reports@hoge.example",
    ],
)
def test_other_addresses_are_left_alone(tmp_path: Path, to: str) -> None:
    assert ask(BulkReturn(tmp_path), returned(to)) is PASS
    assert ask(BulkReturn(tmp_path), returned(MARKED, table="")) is PASS
    assert list(tmp_path.iterdir()) == []


def test_without_room_it_may_come_again_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(ask(BulkReturn(tmp_path / "missing"), returned(MARKED)), HoldBack)
    (tmp_path / "1").touch()
    monkeypatch.setattr(bulk_return, "MOST", 1)
    message = returned(MARKED)
    assert isinstance(ask(BulkReturn(tmp_path), message), HoldBack)
    assert message.recipients == [MARKED]
    assert [each.name for each in tmp_path.iterdir()] == ["1"]


def test_of_a_large_one_the_beginning_is_kept(tmp_path: Path) -> None:
    ask(BulkReturn(tmp_path), returned(MARKED, body=b"x" * 1_000_000))
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_size == bulk_return.LARGEST + len(MARKED) + 1


def test_an_own_return_address_has_marks_as_well(tmp_path: Path) -> None:
    table = TABLE + 'return_address = "back@hoge.example"\n'
    message = returned("back+reports@hoge.example", REPORTS, table=table)
    ask(BulkReturn(tmp_path), message)
    assert message.recipients == [REPORTS]
