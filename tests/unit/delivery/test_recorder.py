# One row per message, one per recipient, every attempt with the other side's words; nothing twice and nothing missing,
# whatever is killed in between. On SQLite and on PostgreSQL.

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select, text

from todoku.delivery import states
from todoku.delivery.entries import (
    Active,
    Attempt,
    Decided,
    Entry,
    Expired,
    Handed,
    Named,
    Noticed,
    Rejected,
    Removed,
)
from todoku.delivery.record import Changed, Recorder
from todoku.delivery.retention import forget
from todoku.delivery.states import State
from todoku.store import StoreUnusableError, ledger
from todoku.store import ledger_schema as schema

T = 1_795_507_939.0
RELAY = "smtp.email.ap-tokyo-1.oci.oraclecloud.com[192.0.2.20]:587"


def rows(engine: Engine, table: Any) -> list[dict[str, Any]]:
    with ledger.read(engine) as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(table.c[0])).mappings()]


def submitted(queue_id: str, at: float = T) -> list[Entry]:
    return [
        Handed(at, queue_id, "submission/smtpd", "pc[192.168.77.2]", "alice@hoge.example"),
        Named(at, queue_id, f"<{queue_id}@hoge.example>"),
        Active(at, queue_id, "Alice@hoge.example", 1234, 2),
    ]


def attempt(
    queue_id: str, to: str, status: str, words: str, at: float = T + 1, service: str = "smtp"
) -> Attempt:
    dsn = {"sent": "2.0.0", "deferred": "4.3.0"}.get(status, "5.7.1")
    return Attempt(at, queue_id, service, to, "", RELAY, dsn, status, f"{words})")


def test_a_message_with_two_recipients_and_three_attempts(engine: Engine) -> None:
    Recorder(engine).record(
        [
            *submitted("4aaaaaaaaaaaa"),
            attempt("4aaaaaaaaaaaa", "Carol@mailbox.example", "deferred", "455 Maximum messages", T + 1),
            attempt("4aaaaaaaaaaaa", "bob@hoge.example", "sent", "250 2.0.0 Saved", T + 1, "lmtp"),
            attempt("4aaaaaaaaaaaa", "Carol@mailbox.example", "sent", "250 Ok", T + 61),
            Removed(T + 61, "4aaaaaaaaaaaa"),
        ]
    )
    (message,) = rows(engine, schema.message)
    assert message["login"] == message["sender"] == "alice@hoge.example"
    assert (message["message_id"], message["size"], message["removed"]) == (
        "<4aaaaaaaaaaaa@hoge.example>", 1234, T + 61,
    )  # fmt: skip
    assert message["subject"] is None
    carol, bob = rows(engine, schema.recipient)
    assert (carol["address"], carol["state"], carol["since"]) == ("carol@mailbox.example", "accepted", T + 61)
    assert (bob["address"], bob["state"]) == ("bob@hoge.example", "delivered")
    assert [(a["recipient"], a["state"], a["words"]) for a in rows(engine, schema.attempt)] == [
        (carol["id"], "deferred", "455 Maximum messages"),
        (bob["id"], "delivered", "250 2.0.0 Saved"),
        (carol["id"], "accepted", "250 Ok"),
    ]


def test_a_suppressed_recipient_is_no_ordinary_bounce_and_a_given_up_one_is_expired(engine: Engine) -> None:
    said = (
        f"host {RELAY} said: 554 5.7.1 Suppression for user ocid1.user.oc1..a to x@mailbox.example (in reply)"
    )
    Recorder(engine).record(
        [
            *submitted("4aaaaaaaaaaaa"),
            attempt("4aaaaaaaaaaaa", "x@mailbox.example", "bounced", said),
            attempt("4aaaaaaaaaaaa", "y@mailbox.example", "deferred", "connect: refused"),
            Expired(T + 172_800, "4aaaaaaaaaaaa", "alice@hoge.example"),
            Noticed(T + 172_800, "4aaaaaaaaaaaa", "sender non-delivery notification", "4bbbbbbbbbbbb"),
            Removed(T + 172_800, "4aaaaaaaaaaaa"),
        ]
    )
    assert [row["state"] for row in rows(engine, schema.recipient)] == ["suppressed", "expired"]
    assert rows(engine, schema.message)[1]["parent"] == "4aaaaaaaaaaaa"


def test_the_gates_record_and_the_log_make_one_row_whichever_comes_first(engine: Engine) -> None:
    passed = Decided(T, "4aaaaaaaaaaaa", "passed", "", "", "alice@hoge.example", "192.168.77.2", "alice@hoge.example",
                     ("carol@mailbox.example",), "<4aaaaaaaaaaaa@hoge.example>", 1200, "lunch")  # fmt: skip
    done = [
        attempt("4aaaaaaaaaaaa", "carol@mailbox.example", "sent", "250 Ok"),
        Removed(T + 1, "4aaaaaaaaaaaa"),
    ]
    recorder = Recorder(engine)
    recorder.record([passed])
    recorder.record([*submitted("4aaaaaaaaaaaa"), *done])
    recorder.record([*submitted("4bbbbbbbbbbbb"), done[0]._replace(queue_id="4bbbbbbbbbbbb"),
                     Removed(T + 1, "4bbbbbbbbbbbb")])  # fmt: skip
    recorder.record([passed._replace(queue_id="4bbbbbbbbbbbb")])
    first, second = rows(engine, schema.message)
    assert first["gate"] == second["gate"] == "passed"
    assert first["subject"] == second["subject"] == "lunch"
    assert len(rows(engine, schema.recipient)) == 2


def test_whom_it_is_on_its_way_to_is_known_before_the_first_attempt_and_an_alias_becomes_its_members(
    engine: Engine,
) -> None:
    recorder = Recorder(engine)
    passed = Decided(T, "4aaaaaaaaaaaa", "passed", "", "", "", "", "a@b.example",
                     ("Info@hoge.example", "x@mailbox.example", "twice@hoge.example"), "", 1, None)  # fmt: skip
    recorder.record([passed])
    assert [(row["address"], row["state"]) for row in rows(engine, schema.recipient)] == [
        ("info@hoge.example", "queued"), ("x@mailbox.example", "queued"), ("twice@hoge.example", "queued"),
    ]  # fmt: skip
    sent = attempt("4aaaaaaaaaaaa", "bob@hoge.example", "sent", "Saved", T + 1, "lmtp")
    recorder.record([sent._replace(original="info@hoge.example")])
    assert [row["address"] for row in rows(engine, schema.recipient)] == [
        "x@mailbox.example", "twice@hoge.example", "bob@hoge.example",
    ]  # fmt: skip
    recorder.record(
        [attempt("4aaaaaaaaaaaa", "x@mailbox.example", "sent", "250 Ok"), Removed(T + 2, "4aaaaaaaaaaaa")]
    )
    recorder.record([passed])  # told once more, or late: nothing comes back
    assert [(row["address"], row["state"]) for row in rows(engine, schema.recipient)] == [
        ("x@mailbox.example", "accepted"), ("bob@hoge.example", "delivered"),
    ]  # fmt: skip


def test_what_the_gate_refuses_has_its_rule_and_words(engine: Engine) -> None:
    Recorder(engine).record(
        [
            Decided(T, "", "refused", "null_sender", "550 5.1.7 A message needs a sender", "alice@hoge.example",
                    "192.168.77.2", "", ("carol@mailbox.example",), "", 0, None),
            Rejected(T, "", "submission/smtpd", "RCPT", "pc[192.168.77.2]", "550 5.1.1 User unknown",
                     "alice@hoge.example", "nobody@hoge.example", False),
            Rejected(T, "", "smtpd", "RCPT", "spammer[198.51.100.7]", "554 5.7.1 Relay access denied", "a@b", "c@d",
                     False),
            Rejected(T, "4ccccccccccc", "submission/smtpd", "END-OF-MESSAGE", "pc[192.168.77.2]", "5.7.1", "a@b", "c@d",
                     True),
        ]
    )  # fmt: skip
    by_gate, by_postfix = rows(engine, schema.message)
    assert (by_gate["gate"], by_gate["rule"], by_gate["queue_id"]) == ("refused", "null_sender", None)
    assert (by_postfix["gate"], by_postfix["words"]) == (None, "550 5.1.1 User unknown")
    assert {row["state"] for row in rows(engine, schema.recipient)} == {"refused"}


def test_a_queue_id_that_is_used_again_is_another_message(engine: Engine) -> None:
    recorder = Recorder(engine)
    for start in (T, T + 3600):
        recorder.record([*submitted("AAAAAA", start), attempt("AAAAAA", "c@d.example", "sent", "250 Ok", start + 1),
                         Removed(start + 1, "AAAAAA")])  # fmt: skip
        recorder = Recorder(engine)  # also after a restart
    assert len(rows(engine, schema.message)) == 2


def test_a_later_line_does_not_undo_what_is_final() -> None:
    assert states.after(State.BOUNCED, State.ACCEPTED) is State.BOUNCED
    assert states.after(State.ACCEPTED, State.BOUNCED) is State.BOUNCED
    assert states.after(State.RELAYED, State.COMPLAINED) is State.COMPLAINED
    assert states.after(State.DEFERRED, State.ACCEPTED) is State.ACCEPTED
    assert states.after(State.ACCEPTED, State.DEFERRED) is State.ACCEPTED
    assert states.after(None, State.DEFERRED) is State.DEFERRED
    assert all(state.sentence for state in State)


def test_a_failure_in_the_middle_leaves_nothing_and_the_checkpoint_where_it_was(engine: Engine) -> None:
    def full(_connection: Any, _changes: Any) -> None:
        raise OSError("No space left on device")

    Recorder(engine).record(submitted("4aaaaaaaaaaaa"), {"log": "1"})
    broken = Recorder(engine, full)
    more = [attempt("4aaaaaaaaaaaa", "x@y.example", "deferred", "later"), *submitted("4bbbbbbbbbbbb")]
    with pytest.raises(OSError, match="No space"):
        broken.record(more, {"log": "2"})
    assert broken.position("log") == "1"
    assert len(rows(engine, schema.message)) == 1
    assert not rows(engine, schema.attempt)
    broken._listener = None
    broken.record(more, {"log": "2"})  # and the same once more, when there is room again
    assert len(rows(engine, schema.message)) == 2
    assert broken.position("log") == "2"


def test_the_listener_hears_each_change_once_within_the_transaction(engine: Engine) -> None:
    heard: list[tuple[str, str | None, str]] = []

    def listener(connection: Any, changes: list[Changed]) -> None:
        assert connection.in_transaction()
        heard.extend((c.recipient.values["address"], c.before, c.now) for c in changes)

    recorder = Recorder(engine, listener)
    for status in ("deferred", "deferred", "sent"):
        recorder.record([attempt("4aaaaaaaaaaaa", "x@y.example", status, "w")])
    assert heard == [("x@y.example", None, "deferred"), ("x@y.example", "deferred", "accepted")]


def test_what_no_database_takes_is_made_harmless(engine: Engine) -> None:
    Recorder(engine).record(
        [
            Named(T, "4aaaaaaaaaaaa", "<\0\udcff" + "m" * 5000 + ">"),
            attempt("4aaaaaaaaaaaa", "x" * 400 + "\0@y.example", "deferred", "\0" * 2000),
        ]
    )
    (message,) = rows(engine, schema.message)
    assert message["message_id"].startswith("<?mmm") and len(message["message_id"]) == 1000
    assert len(rows(engine, schema.recipient)[0]["address"]) == 320


def test_what_is_too_old_is_forgotten_but_not_what_waits(engine: Engine) -> None:
    recorder = Recorder(engine)
    for number in range(5):
        queue_id = f"4aaaaaaaaaa{number}"
        recorder.record([*submitted(queue_id, T + number), attempt(queue_id, "c@d.example", "sent", "250", T + number),
                         Removed(T + number, queue_id)])  # fmt: skip
    recorder.record(
        [*submitted("4waiting0000"), attempt("4waiting0000", "c@d.example", "deferred", "450", T)]
    )
    assert forget(engine, T + 3) == 3
    left = rows(engine, schema.message)
    assert [row["queue_id"] for row in left] == ["4aaaaaaaaaa3", "4aaaaaaaaaa4", "4waiting0000"]
    assert len(rows(engine, schema.recipient)) == len(rows(engine, schema.attempt)) == 3
    # What still comes about a forgotten one begins anew, and breaks nothing.
    recorder.record([attempt("4aaaaaaaaaa0", "c@d.example", "sent", "250", T + 9)])


def test_no_column_is_made_for_bodies_or_subjects_unless_asked_for(engine: Engine) -> None:
    assert {column.name for column in schema.message.c} == {
        "id", "arrived", "queue_id", "message_id", "login", "client", "sender", "size", "gate", "rule", "words",
        "subject", "parent", "removed",
    }  # fmt: skip


_QUEUE = st.sampled_from(["4aaaaaaaaaaaa", "4bbbbbbbbbbbb", "SHORT1"])
_TO = st.sampled_from(["a@x.example", "b@x.example"])
_ENTRY = st.one_of(
    st.builds(lambda q: submitted(q)[0], _QUEUE),
    st.builds(lambda q: submitted(q)[2], _QUEUE),
    st.builds(lambda q, to, how, at: attempt(q, to, how, how, T + at), _QUEUE, _TO,
              st.sampled_from(["sent", "deferred", "bounced", "deliverable"]), st.integers(0, 9)),
    st.builds(lambda q, at: Removed(T + at, q), _QUEUE, st.integers(0, 9)),
    st.builds(lambda q: Expired(T, q, "s"), _QUEUE),
    st.builds(lambda q, to: Decided(T, q, "passed", "", "", "", "", "s", (to,), "", 1, None), _QUEUE, _TO),
)  # fmt: skip


# One that left the queue, of which something is still said.
_LATE = [
    Decided(T, "SHORT1", "passed", "", "", "", "", "s", ("a@x.example",), "", 1, None),
    Removed(T, "SHORT1"),
]


@given(st.lists(st.lists(_ENTRY, max_size=8), max_size=4), st.booleans())
@example([_LATE, [Expired(T, "SHORT1", "s")]], False)
@settings(max_examples=60, deadline=None)
def test_however_it_is_cut_into_transactions_and_restarted_the_rows_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[Entry]], restart: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    contents = []
    for name, pieces in (("whole", [[entry for part in parts for entry in part]]), ("cut", parts)):
        place = ledger.Place(str(folder / name))
        ledger.migrate(place)
        engine = ledger.open(place)
        recorder = Recorder(engine)
        for piece in pieces:
            recorder.record(piece)
            if restart:
                recorder = Recorder(engine)
        contents.append(_contents(engine))
        engine.dispose()
    assert contents[0] == contents[1]


def _contents(engine: Engine) -> list[list[Any]]:
    """Everything but the numbers of recipients and attempts: those of a row that was removed may be given out again."""
    recipients = rows(engine, schema.recipient)
    names = {row.pop("id"): (row["message"], row["address"]) for row in recipients}
    attempts = rows(engine, schema.attempt)
    for row in attempts:
        del row["id"]
        row["recipient"] = names[row["recipient"]]
    recipients.sort(key=lambda row: (row["message"], row["address"]))
    return [rows(engine, schema.message), recipients, attempts]


def test_what_was_on_its_way_may_go_and_come_again_in_one_transaction(engine: Engine) -> None:
    # A number that is used again, a late record of the gate's: a row is removed, and another takes its place.
    recorder = Recorder(engine)
    passed = Decided(T, "4aaaaaaaaaaaa", "passed", "", "", "", "", "s", ("x@y.example",), "", 1, None)
    recorder.record([passed])
    recorder.record(
        [Removed(T, "4aaaaaaaaaaaa"), attempt("4aaaaaaaaaaaa", "x@y.example", "sent", "250 Ok", T)]
    )
    assert [row["state"] for row in rows(engine, schema.recipient)] == ["accepted"]


def test_a_ledger_that_cannot_be_written_is_told(engine: Engine) -> None:
    with ledger.write(engine) as connection:
        connection.execute(text("DROP TABLE attempt"))
    with pytest.raises(StoreUnusableError, match="Nothing was changed"):
        Recorder(engine).record([attempt("4aaaaaaaaaaaa", "x@y.example", "sent", "250")])
    with ledger.read(engine) as connection:
        assert connection.execute(select(func.count()).select_from(schema.message)).scalar() == 0
