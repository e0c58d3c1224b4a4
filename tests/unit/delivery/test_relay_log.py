# The relay said "250 Ok", and then? Its own log has it: taken by the recipient's server, bounced, reported as unwanted.
# Records come late, out of order, twice, and may hold anything; each counts once, for the message that it is about.

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, update

from todoku.delivery import relay_log, relayed
from todoku.delivery.entries import Active, Attempt, Entry, Heard, Named, Removed, Told
from todoku.delivery.notices import Writer
from todoku.delivery.record import Changed, Recorder
from todoku.delivery.relay_log import RelayLogSource, heard
from todoku.delivery.relayed import Waiting
from todoku.delivery.retention import forget
from todoku.delivery.trace import trace
from todoku.settings import Settings
from todoku.store import ledger
from todoku.store import ledger_schema as schema

SETTINGS = Settings.model_validate(
    {
        "hostname": "mx.hoge.example",
        "addresses": ["203.0.113.10"],
        "postmaster": "postmaster@hoge.example",
        "domains": [{"name": "hoge.example"}],
        "relay": {"region": "ap-tokyo-1"},
    }
)
T = 1_795_507_939.0
CAROL = "carol@mailbox.example"
RELAYED = {
    "id": "rec-1",
    "record": {
        "data": {
            "action": "relay",
            "internalProcessingDurationInMs": 20,
            "messageId": "<m1@hoge.example>",
            "recipient": "Carol@Mailbox.example",
            "recipientMailServer": "mx.mailbox.example (192.0.2.10)",
            "sender": "alice@hoge.example",
            "smtpStatus": "250 2.0.0 Ok: queued as 4abc",
        },
        "source": "hoge.example",
        "time": "2026-11-24T08:12:29.000Z",
        "type": "com.oraclecloud.emaildelivery.emaildomain.outboundrelayed",
    },
}


def line(key: str = "rec-1", kind: str = "outboundrelayed", **data: Any) -> bytes:
    record = RELAYED["record"] | {
        "data": RELAYED["record"]["data"] | data,
        "type": f"com.oraclecloud.emaildelivery.emaildomain.{kind}",
    }
    return json.dumps({"id": key, "record": record}).encode()


def record(key: str = "rec-1", at: float = T + 10, **data: Any) -> Heard:
    found = heard(line(key, **data))
    assert found is not None
    return found._replace(time=at)


def sent(queue_id: str, message_id: str = "m1@hoge.example", at: float = T, to: str = CAROL) -> list[Entry]:
    return [
        Named(at, queue_id, f"<{message_id}>"),
        Active(at, queue_id, "alice@hoge.example", 900, 1),
        Attempt(at, queue_id, "smtp", to, "", "relay[192.0.2.20]:587", "2.0.0", "sent", "250 Ok)"),
        Removed(at, queue_id),
    ]


def states(engine: Engine) -> list[str]:
    with ledger.read(engine) as connection:
        return list(
            connection.execute(select(schema.recipient.c.state).order_by(schema.recipient.c.id)).scalars()
        )


# --- what a record says


def test_a_soft_bounce_is_no_refusal_but_a_delivery_that_was_given_up(engine: Engine) -> None:
    soft = {"action": "bounce", "errorType": "soft", "smtpStatus": "451 4.3.0 Try later"}
    assert record(**soft).action == "soft bounce"
    assert [record(action="bounce", errorType=kind).action for kind in ("hard", "", "new")] == ["bounce"] * 3
    recorder = Recorder(engine, Writer(SETTINGS))
    recorder.record([*sent("4a"), record(**soft)])
    recorder.record([record(**soft)])
    assert states(engine) == ["expired"]
    with ledger.read(engine) as connection:
        (notice,) = connection.execute(select(schema.notice.c.content)).scalars()
    words = " ".join(notice.split())
    assert "could not take it, and it was given up" in words
    assert "Status: 4.4.7" in notice
    assert "451 4.3.0 Try later" in words
    assert "is not sent any more" not in words
    # Later it turns out that the recipient's server refuses it for good: that is what is so, and was told.
    recorder.record([record("rec-2", T + 60, action="bounce", errorType="hard")])
    assert states(engine) == ["bounced"]
    with ledger.read(engine) as connection:
        assert len(connection.execute(select(schema.notice.c.id)).all()) == 1


def test_a_relayed_record_has_the_servers_words_and_name() -> None:
    found = heard(line())
    assert found is not None
    assert (found.action, found.address, found.message_id) == ("relay", CAROL, "m1@hoge.example")
    assert found.words == "250 2.0.0 Ok: queued as 4abc"
    assert found.host == "mx.mailbox.example (192.0.2.10)"
    assert found.time == 1_795_507_949.0


def test_of_what_was_accepted_only_a_suppression_is_of_interest_in_both_spellings() -> None:
    assert heard(line(kind="outboundaccepted", action="accept")) is None
    for spelling in ("Recepient suppressed", "Recipient suppressed"):
        found = heard(line(kind="outboundaccepted", action="accept", errorType=spelling))
        assert found is not None
        assert found.action == "suppressed"


@pytest.mark.parametrize("action", ["open", "click", "unsubscribe", "", None, 7, "teleport"])
def test_what_says_nothing_about_delivery_is_passed_over(action: Any) -> None:
    assert heard(line(action=action)) is None


def test_another_services_record_is_passed_over() -> None:
    other = json.loads(line())
    other["record"]["type"] = "com.oraclecloud.vcn.flowlogs.DataEvent"
    assert heard(json.dumps(other)) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_fields = st.sampled_from(
    ["action", "recipient", "messageId", "smtpStatus", "recipientMailServer", "errorType"]
)


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_passed_over(octets: bytes) -> None:
    heard(octets)


@given(
    st.dictionaries(_fields, _json, max_size=6),
    st.one_of(st.just("2026-11-24T08:12:29.000Z"), st.text(max_size=30), _json),
    st.one_of(st.text(max_size=300), _json),
)
def test_whatever_is_in_the_fields_it_becomes_an_entry_or_nothing(
    data: dict[str, Any], when: Any, key: Any
) -> None:
    given_record = {"data": {"action": "relay", **data}, "time": when, "type": RELAYED["record"]["type"]}
    found = heard(json.dumps({"id": key, "record": given_record}))
    if found is not None:
        assert relay_log.kept(relay_log.written(found)) == found
        assert 0 < found.time < 4e10
        assert len(found.words) <= 1000


# --- which message it is about


def test_it_is_relayed_with_the_words_and_the_time_of_the_recipients_server(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record(sent("4a"))
    recorder.record([record()])
    (journey,) = trace(engine, "<m1@hoge.example>")
    (carol,) = journey.recipients
    assert (carol.state, carol.since, carol.words) == ("relayed", T + 10, "250 2.0.0 Ok: queued as 4abc")
    assert [(t.state, t.host) for t in carol.attempts][1] == ("relayed", "mx.mailbox.example (192.0.2.10)")


def test_a_record_read_again_and_again_counts_once(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record(sent("4a"))
    for _ in range(3):
        recorder.record([record(), record()])
    Recorder(engine).record([record()])  # after a restart
    recorder.record([record("another id, the same event")])
    (journey,) = trace(engine, "<m1@hoge.example>")
    assert len(journey.recipients[0].attempts) == 2


@pytest.mark.parametrize(
    ("actions", "state"),
    [
        (["relay", "bounce"], "bounced"),
        (["bounce", "relay"], "bounced"),
        (["relay", "complaint"], "complained"),
        (["complaint", "relay"], "complained"),
        (["bounce"], "bounced"),
    ],
)
def test_whatever_comes_first_the_worst_is_what_stays(engine: Engine, actions: list[str], state: str) -> None:
    recorder = Recorder(engine)
    recorder.record(sent("4a"))
    for number, action in enumerate(actions):
        recorder.record([record(f"r{number}", action=action)])
    assert states(engine) == [state]


def test_a_record_that_comes_before_the_log_is_matched_once_the_log_is_read(engine: Engine) -> None:
    recorder, waiting = Recorder(engine), Waiting(engine)
    recorder.record([record()])
    assert states(engine) == []
    recorder.record(waiting.next())
    recorder.record(sent("4a"))
    assert states(engine) == ["accepted"]
    recorder.record(waiting.next())
    assert states(engine) == ["relayed"]
    assert waiting.next() == []


def test_a_message_that_is_still_in_the_queue_stays_there(engine: Engine) -> None:
    # The relay took it, and its answer got lost: Postfix will hand it over again.
    recorder, waiting = Recorder(engine), Waiting(engine)
    attempt = Attempt(T, "4a", "smtp", CAROL, "", "relay", "4.4.2", "deferred", "lost connection)")
    recorder.record([Named(T, "4a", "<m1@hoge.example>"), attempt])
    recorder.record([record()])
    assert states(engine) == ["deferred"]
    recorder.record([attempt._replace(time=T + 60, status="sent", words="250 Ok)"), Removed(T + 60, "4a")])
    recorder.record(waiting.next())
    assert states(engine) == ["relayed"]


def test_nobody_waits_for_ever(engine: Engine) -> None:
    recorder, waiting = Recorder(engine), Waiting(engine)
    recorder.record([record()])
    with ledger.write(engine) as connection:
        before = schema.relay_line.c.heard - relayed.PATIENCE - 1
        connection.execute(update(schema.relay_line).values(heard=before))
    recorder.record(waiting.next())
    assert waiting.next() == []


def test_many_that_wait_for_nothing_do_not_keep_one_that_waits_for_something(engine: Engine) -> None:
    recorder, waiting = Recorder(engine), Waiting(engine)
    recorder.record([record(f"a{n:04}", messageId=f"other{n}@hoge.example") for n in range(1000)])
    recorder.record([record("z")])
    recorder.record(sent("4a"))
    for _ in range(4):
        recorder.record(waiting.next())
    assert states(engine) == ["relayed"]


def test_the_same_message_id_sent_twice_takes_two_records(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record([*sent("4a"), *sent("4b", at=T + 5)])
    recorder.record([record("r1")])
    recorder.record([record("r1")])
    assert states(engine) == ["relayed", "accepted"]
    recorder.record([record("r2")])
    assert states(engine) == ["relayed", "relayed"]


def test_another_recipient_another_message_and_another_time_are_not_meant(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record([*sent("4a"), *sent("4b", "m2@hoge.example"), *sent("4c", to="dave@mailbox.example")])
    recorder.record([record("r1", at=T - 3600), record("r2", recipient="eve@mailbox.example")])
    assert states(engine) == ["accepted"] * 3


def test_a_suppression_without_a_message_id_is_about_the_message_of_that_moment(engine: Engine) -> None:
    # The relay says it at RCPT, before it has seen a Message-ID: what carol got an hour ago stays hers.
    recorder = Recorder(engine)
    recorder.record(sent("4a"))
    recorder.record([record("r1")])
    said = {"action": "accept", "errorType": "Recipient suppressed", "smtpStatus": "254 4.7.1 Suppression"}
    later = record("r2", at=T + 3600, messageId=None, **said)
    assert later.action == "suppressed" and later.message_id == ""
    recorder.record([later])
    assert states(engine) == ["relayed"]
    recorder.record(sent("4b", "m2@hoge.example", at=T + 3600))
    recorder.record(Waiting(engine).next())
    assert states(engine) == ["relayed", "suppressed"]


def test_a_bounce_that_list_and_log_tell_is_one_change(engine: Engine) -> None:
    changes: list[Changed] = []
    recorder = Recorder(engine, lambda _connection, some: changes.extend(some))
    recorder.record(sent("4a"))
    changes.clear()
    told = Told(
        T + 9, "", CAROL, "HARDBOUNCE", "m1@hoge.example", "550 5.1.1 unknown", "mx.mailbox.example", ""
    )
    recorder.record([record(action="bounce", smtpStatus="550 5.1.1 unknown"), told])
    recorder.record([told, record("again", action="bounce")])
    assert [(change.before, change.now) for change in changes] == [("accepted", "bounced")]


_actions = st.sampled_from(sorted(relayed.OF_ACTION))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.sampled_from(sorted(relayed.OF_ACTION)), st.text(max_size=30)),
        max_size=6,
    )
)
def test_whatever_text_a_record_has_the_database_takes_it(records: list[tuple[str, str, str]]) -> None:
    recorder = _recorder()
    recorder.record([*sent("4a")])
    recorder.record(
        [Heard(T, "", key, action, CAROL, "m1@hoge.example", words, words) for key, action, words in records]
    )


_made: list[Recorder] = []


@pytest.fixture(autouse=True)
def _one_ledger(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not _made:
        place = ledger.Place(str(tmp_path_factory.mktemp("fuzz") / "ledger.sqlite3"))
        ledger.migrate(place)
        _made.append(Recorder(ledger.open(place)))


def _recorder() -> Recorder:
    return _made[0]


def test_lines_are_forgotten_after_a_while_and_messages_with_all_of_theirs(engine: Engine) -> None:
    recorder = Recorder(engine)
    recorder.record([*sent("4a"), record()])
    with ledger.write(engine) as connection:
        connection.execute(update(schema.relay_line).values(heard=1.0))
    forget(engine, T - 1)
    with ledger.read(engine) as connection:
        assert connection.execute(select(schema.relay_line)).all() == []
    assert len(states(engine)) == 1


# --- the files


def test_the_files_are_read_on_from_the_position(tmp_path: Path) -> None:
    first = tmp_path / "log-20261124T08"
    first.write_bytes(line("a") + b"\n" + line("b") + b"\nnot JSON\n" + line("c"))
    source = RelayLogSource(tmp_path)
    assert [entry.id for entry in source.read() or []] == ["a", "b"]
    assert source.read() is None
    with first.open("ab") as file:
        file.write(b"\n")
    (tmp_path / "log-20261124T09").write_bytes(line("d") + b"\n")
    again = RelayLogSource(tmp_path, source.position)
    read = [entry.id for _ in range(3) for entry in again.read() or []]
    assert read == ["c", "d"]
    again.committed()
    assert first.exists()  # not ours to remove


# --- deferred until


def test_a_deferred_recipient_has_the_time_of_its_next_try(engine: Engine) -> None:
    recorder = Recorder(engine)
    attempt = Attempt(T + 1, "4a", "smtp", CAROL, "", "relay", "4.3.0", "deferred", "455 Maximum messages)")
    recorder.record([Active(T, "4a", "alice@hoge.example", 9, 1), attempt])
    assert trace(engine, CAROL)[0].recipients[0].next_try == T + 61
    recorder.record([attempt._replace(time=T + 600)])
    assert trace(engine, CAROL)[0].recipients[0].next_try == T + 1200
    recorder.record([attempt._replace(time=T + 90_000)])
    assert trace(engine, CAROL)[0].recipients[0].next_try == T + 91_800
    recorder.record([attempt._replace(time=T + 91_900, status="sent", words="250 Ok)")])
    assert trace(engine, CAROL)[0].recipients[0].next_try is None
