# "The relay had taken it, but we never heard so, and sent it again": its log says what was taken, and what arrived.

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from campaign_place import Clock
from sink import OK, Sink
from test_campaign_sending import numbers, send, started

from todoku.campaign import campaigns, relayed
from todoku.campaign.feedback import Feedback
from todoku.campaign.opened import Opened
from todoku.campaign.relayed import RelayLog
from todoku.store import StoreError


def record(to: str, message_id: str, at: float, action: str = "relay", **more: str) -> bytes:
    """A line of the files that `todoku-relay` writes, as Oracle's page has the fields."""
    data = {"action": action, "recipient": to, "messageId": message_id, "smtpStatus": "250 Ok", **more}
    content = {
        "data": data,
        "time": datetime.fromtimestamp(at, UTC).isoformat(),
        "type": "com.oraclecloud.emaildelivery.emaildomain.outboundrelayed",
    }
    return json.dumps({"id": f"{to} {action}", "record": content}).encode() + b"\n"


def written(folder: Path, *lines: bytes, hour: str = "20260921T14") -> None:
    folder.mkdir(exist_ok=True)
    with (folder / f"log-{hour}").open("ab") as file:
        file.write(b"".join(lines))


def test_what_arrived_is_counted_beside_what_the_relay_took(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 5)
    sink = Sink()
    send(opened, sink, tmp_path)
    (a, id_a), (b, id_b), (c, id_c), (d, id_d), _ = sink.taken
    folder, later = tmp_path / "relay", clock.now + 9
    log = RelayLog(tmp_path, folder)
    assert log.hear(opened) == 0  # there is no folder yet
    written(
        folder,
        record(a, id_a, later),
        b"no record\n",
        record(b, id_b.strip("<>"), later),
        record(c, id_c, later, "bounce", errorType="Soft", smtpStatus="452 4.2.2 full"),
        record(d, id_a, later),  # another's Message-ID
        record("stranger@mailbox.example", id_d, later),
        record(d, "", later),
    )
    assert log.hear(opened) == 3
    found = numbers(opened)
    assert (found.sent, found.relayed, found.bounced) == (5, 2, 1)
    written(folder, record(a, id_a, later + 5), record(a, id_a, later + 9, "complaint"))
    assert log.hear(opened) == 2
    assert (numbers(opened).relayed, numbers(opened).complained) == (2, 1)


def test_a_message_whose_answer_was_lost_is_not_sent_again_once_the_log_has_it(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 3)
    sink = Sink(answer=lambda stage, to: "cut" if stage == "eom" and to.startswith("p1@") else OK)
    send(opened, sink, tmp_path)
    taken = dict(sink.taken)
    assert numbers(opened).deferred >= 1
    written(tmp_path / "relay", record("p1@mailbox.example", taken["p1@mailbox.example"], clock.now + 3))
    feedback = Feedback(tmp_path / "none", tmp_path / "nothing", RelayLog(tmp_path, tmp_path / "relay"))
    feedback.hear(opened)
    clock.now += 400
    sink.answer = lambda _stage, _to: OK
    send(opened, sink, tmp_path)
    assert sink.counts["p1@mailbox.example"] == 1
    assert (numbers(opened).sent, numbers(opened).relayed) == (3, 1)


def test_after_a_restore_who_had_it_is_marked_and_gets_no_second_one(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 4)
    sink = Sink()
    send(opened, sink, tmp_path)
    ids = dict(sink.taken)
    with opened.write() as connection:  # the backup was made before
        connection.exec_driver_sql("UPDATE recipient SET state = 'ready', settled = NULL, code = NULL")
        connection.exec_driver_sql(
            "UPDATE campaign SET state = 'paused', words = 'restored from a backup of then'"
        )
    with pytest.raises(Exception, match="of the 4 who are left"):
        campaigns.start(opened, "spring")
    had = ["p0@mailbox.example", "p2@mailbox.example"]
    gone = record(
        "p3@mailbox.example", ids["p3@mailbox.example"], clock.now, "accept", errorType="Recipient Suppressed"
    )
    written(tmp_path / "relay", *(record(to, ids[to], clock.now + 1) for to in had), gone)
    RelayLog(tmp_path, tmp_path / "relay").hear(opened)
    with pytest.raises(Exception, match="of the 1 who are left"):
        campaigns.start(opened, "spring")
    campaigns.start(opened, "spring", after_restore=True)
    again = Sink()
    send(opened, again, tmp_path)
    assert list(again.counts) == ["p1@mailbox.example"]
    assert (numbers(opened).sent, numbers(opened).suppressed) == (3, 1)


def test_what_is_on_its_way_is_left_to_its_answer(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    started(opened, news, 1)
    sink = Sink()
    send(opened, sink, tmp_path)
    ((to, message_id),) = sink.taken
    with opened.write() as connection:
        connection.exec_driver_sql("UPDATE recipient SET state = 'leased'")
    written(tmp_path / "relay", record(to, message_id, clock.now + 1))
    RelayLog(tmp_path, tmp_path / "relay").hear(opened)
    assert (numbers(opened).leased, numbers(opened).relayed) == (1, 1)


def test_it_reads_on_where_it_was_and_again_what_could_not_be_written(
    opened: Opened, news: int, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(opened, news, 2)
    sink = Sink()
    send(opened, sink, tmp_path)
    folder = tmp_path / "relay"
    written(folder, record(*sink.taken[0], clock.now + 1))
    note = relayed._note
    with monkeypatch.context() as broken:
        broken.setattr(relayed, "_note", _fails)
        log = RelayLog(tmp_path, folder)
        with pytest.raises(StoreError):
            log.hear(opened)
    assert relayed._note is note
    assert (log.hear(opened), numbers(opened).relayed) == (1, 1)
    written(folder, record(*sink.taken[1], clock.now + 1))
    assert RelayLog(tmp_path, folder).hear(opened) == 1  # of a new process: only what is new
    (tmp_path / relayed.POSITION).write_bytes(b"\xffnonsense")
    assert RelayLog(tmp_path, folder).hear(opened) == 2  # all of it once more, which changes nothing
    assert numbers(opened).relayed == 2


def _fails(*_: object) -> None:
    raise StoreError("the disk is full")
