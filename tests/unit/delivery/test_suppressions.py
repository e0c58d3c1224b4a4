# The relay keeps bounces to itself and puts the recipient on a list. From that list the ledger learns what became of a
# message that "was sent", and the gate whom to refuse.

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from todoku.delivery.entries import Attempt, Named, Removed, Told
from todoku.delivery.record import Recorder
from todoku.delivery.suppressions import SuppressionList, entries
from todoku.delivery.trace import trace
from todoku.gate.book import Suppressions

T = 1_795_507_939.0
ENTRY = {
    "id": "ocid1.emailsuppression.oc1..a",
    "address": "Gone@mailbox.example",
    "reason": "HARDBOUNCE",
    "created": "2026-11-24T08:20:00.000000+00:00",
    "message_id": "m1@hoge.example",
    "detail": "550 5.1.1 unknown user",
    "source": "mx.mailbox.example",
}


def sent(queue_id: str, message_id: str, at: float = T) -> list[Any]:
    return [
        Named(at, queue_id, f"<{message_id}>"),
        Attempt(
            at,
            queue_id,
            "smtp",
            "gone@mailbox.example",
            "",
            "relay[192.0.2.20]:587",
            "2.0.0",
            "sent",
            "250 Ok)",
        ),
        Removed(at, queue_id),
    ]


def told(**changes: str) -> Told:
    return entries(json.dumps([ENTRY | changes]).encode())[0]


def states(engine: Engine) -> list[str]:
    return [journey.recipients[0].state for journey in trace(engine, "gone@mailbox.example")]


def test_what_the_relay_had_accepted_has_bounced_with_the_other_sides_words_once(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record(
        [*sent("4aaaaaaaaaaaa", "m1@hoge.example"), *sent("4bbbbbbbbbbbb", "m2@hoge.example", T + 5)]
    )
    for _ in range(3):  # the list is read again and again
        recorder.record([told()])
        recorder = Recorder(engine)
    assert states(engine) == ["accepted", "bounced"]
    (journey,) = trace(engine, "<m1@hoge.example>")
    assert journey.recipients[0].words == "550 5.1.1 unknown user"
    assert [tried.host for tried in journey.recipients[0].attempts] == [
        "relay[192.0.2.20]:587",
        "mx.mailbox.example",
    ]


def test_without_a_message_id_it_is_the_latest_that_can_have_been_the_cause(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record([*sent("4aaaaaaaaaaaa", "m1@x", T - 9e5), *sent("4bbbbbbbbbbbb", "m2@x"),
                     *sent("4ccccccccccc", "m3@x", T + 9e5)])  # fmt: skip
    recorder.record([told(message_id="", reason="COMPLAINT")])
    assert states(engine) == ["accepted", "complained", "accepted"]


@pytest.mark.parametrize("reason", ["HARDBOUNCE", "SOFTBOUNCE", "COMPLAINT"])
def test_without_a_message_id_what_arrived_before_the_cause_stays_so_however_often_the_list_is_read(
    engine: Engine, reason: str
) -> None:
    changes: list[str] = []
    recorder = Recorder(engine, lambda _connection, some: changes.extend(each.now for each in some))
    recorder.record([*sent("4aaaaaaaaaaaa", "m1@x", T - 9e4), *sent("4bbbbbbbbbbbb", "m2@x")])
    changes.clear()
    for _ in range(3):
        recorder.record([told(message_id="", reason=reason)])
    assert states(engine)[1] == "accepted"  # the earlier one
    assert len(changes) == 1


def test_without_a_message_id_what_the_relay_never_took_is_not_the_cause(engine: Engine) -> None:
    recorder = Recorder(engine)
    refused = Attempt(T + 5, "4b", "smtp", "gone@mailbox.example", "", "relay", "5.0.0", "bounced", "554 no)")
    recorder.record(
        [*sent("4aaaaaaaaaaaa", "m1@x"), Named(T + 5, "4b", "<m2@x>"), refused, Removed(T + 5, "4b")]
    )
    recorder.record([told(message_id="")])
    assert states(engine) == ["bounced", "bounced"]


@pytest.mark.parametrize("reason", ["MANUAL", "UNSUBSCRIBE", "UNKNOWN", "SOMETHING_NEW"])
def test_what_no_message_has_caused_changes_no_message(engine: Engine, reason: str) -> None:
    recorder = Recorder(engine)
    recorder.record(sent("4aaaaaaaaaaaa", "m1@hoge.example"))
    recorder.record([told(reason=reason)])
    assert states(engine) == ["accepted"]


def test_the_gate_gets_the_list_and_a_new_one_when_it_has_changed(tmp_path: Path) -> None:
    file, exchange = tmp_path / "suppressions.json", tmp_path / "exchange"
    exchange.mkdir()
    list_ = SuppressionList(file, exchange)
    assert list_.news() == []
    file.write_text(json.dumps([ENTRY]))
    assert [each.address for each in list_.news()] == ["gone@mailbox.example"]
    assert list_.news() == []
    gate = Suppressions(exchange / "suppressed")
    assert gate.now == {"gone@mailbox.example": ("HARDBOUNCE", "2026-11-24")}
    file.write_text("[]")
    list_.news()
    assert Suppressions(exchange / "suppressed").now == {}


@given(st.recursive(st.none() | st.text(max_size=8) | st.integers(), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(list(ENTRY)), inner), max_leaves=10))  # fmt: skip
def test_whatever_is_in_the_file_nothing_breaks(content: Any) -> None:
    assert isinstance(entries(json.dumps(content).encode()), list)
    assert entries(b"\xff{") == []
