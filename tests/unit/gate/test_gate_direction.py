# Who sends is known from the connection, never from the message.

from __future__ import annotations

from pathlib import Path

import pytest

from todoku.gate.aliases import AliasBook
from todoku.gate.context import Context
from todoku.gate.direction import Direction, Origin, direction, origin, outside
from todoku.gate.message import Client, MessageSoFar
from todoku.settings import parse

SETTINGS = parse(
    """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "ほげ.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[[devices]]
address = "192.168.0.20"
sender = "scanner@hoge.example"
[[devices]]
address = "192.168.1.0/28"
sender = "scanner@hoge.example"
""",
    "todoku.toml",
)


@pytest.mark.parametrize(
    ("address", "port", "macros", "where"),
    [
        ("10.0.0.7", 40000, {"auth_authen": "alice", "daemon_name": "ORIGINATING"}, Origin.LOGIN),
        ("127.0.0.1", 0, {}, Origin.HOST),
        ("", 0, {}, Origin.HOST),
        ("127.0.0.1", 0, {"daemon_name": "ORIGINATING"}, Origin.HOST),
        ("192.168.0.20", 40000, {"daemon_name": "mx.hoge.example"}, Origin.DEVICE),
        ("192.168.1.9", 40000, {}, Origin.DEVICE),
        ("192.168.0.21", 40000, {}, Origin.WORLD),
        ("127.0.0.1", 40000, {}, Origin.WORLD),  # somebody who speaks SMTP to port 25 from this machine
        ("198.51.100.9", 0, {}, Origin.WORLD),
        ("2001:db8::1", 40000, {"auth_authen": ""}, Origin.WORLD),
        ("unknown", 0, {}, Origin.WORLD),
    ],
)
def test_who_sends(address: str, port: int, macros: dict[str, str], where: Origin) -> None:
    message = MessageSoFar(Client("client", address, port), Context(SETTINGS), macros)
    assert origin(message) is where
    assert direction(message) is (Direction.INBOUND if where is Origin.WORLD else Direction.OUTBOUND)


def test_outside_is_whoever_is_in_none_of_our_domains() -> None:
    message = MessageSoFar(Client(), Context(SETTINGS), {})
    for address in ("a@hoge.example", "a@HOGE.example", "a@ほげ.example", "a@xn--18j4d.example"):
        message.recipient_came(f"<{address}>")
    assert outside(message) == []
    message.recipient_came("<carol@sub.hoge.example>")
    message.recipient_came("<postmaster>")
    assert outside(message) == ["carol@sub.hoge.example"]


@pytest.mark.parametrize(
    "to", ["postmaster", "root@mx.hoge.example", "root@localhost", "Sales+x@hoge.example"]
)
def test_whom_an_alias_of_ours_leads_to_outside_is_outside(tmp_path: Path, to: str) -> None:
    target = "carol@mailbox.example"
    book = [f"{SETTINGS.postmaster} {target}", f"postmaster@hoge.example {target}"]
    book.append(f"sales@hoge.example bob@hoge.example,{target}")
    (tmp_path / "virtual_alias").write_text("\n".join(book))
    message = MessageSoFar(Client(), Context(SETTINGS, aliases=AliasBook(tmp_path / "virtual_alias")), {})
    message.recipient_came(f"<{to}>")
    message.recipient_came(f"<{target}>")
    assert outside(message) == [target]
