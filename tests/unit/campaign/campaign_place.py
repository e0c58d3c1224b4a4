# What the tests of bulk mail share: settings, a clock that they move, people.

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from todoku.campaign import lists
from todoku.campaign.lists import Evidence, Membership
from todoku.campaign.opened import Opened
from todoku.settings import Settings


@dataclass
class Clock:
    now: float = 1_790_000_000.0  # a Monday, 14:13:20 UTC

    def __call__(self) -> float:
        return self.now


def settings(**more: object) -> Settings:
    campaign = {"sender": "news@hoge.example", "sender_name": "ほげ", "url": "https://news.hoge.example"}
    return Settings.model_validate(
        {
            "hostname": "mx.hoge.example",
            "addresses": "203.0.113.10",
            "postmaster": "alice@hoge.example",
            "domains": [{"name": "hoge.example"}],
            "relay": {"region": "ap-tokyo-1", "plan": more.pop("plan", {})},
            "campaign": {**campaign, **more},
        }
    )


def subscribe(
    opened: Opened, list_id: int, address: str, evidence: str = "the form of 2026", **attributes: str
) -> int:
    with opened.write() as connection:
        return agree(opened, connection, list_id, address, evidence, **attributes)


def agree(
    opened: Opened,
    connection: Connection,
    list_id: int,
    address: str,
    evidence: str = "the form of 2026",
    **attributes: str,
) -> int:
    now = opened.clock()
    number = lists.put_subscriber(connection, address, attributes, "ja", now)
    said = Evidence("imported", "test", evidence)
    lists.set_membership(connection, list_id, number, Membership.CONFIRMED, said, now)
    return number
