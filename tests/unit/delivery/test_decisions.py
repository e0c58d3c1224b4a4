# What the gate decides reaches the ledger: written without waiting for anybody, read whole and once, also when the
# disk was full, when a worker was killed, and when nobody read for hours.

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.delivery.decisions import Decisions
from todoku.gate.context import Context
from todoku.gate.decision import HoldBack, Refuse
from todoku.gate.message import Body, Client, MessageSoFar
from todoku.gate.record import Records

NOW = 1_795_507_939.0  # 2026-11-24 08:12:19 UTC


def message(tmp_path: Path, *, subjects: bool = False, queue_id: str = "4jYbBq1gR6z5F") -> MessageSoFar:
    site = SimpleNamespace(ledger=SimpleNamespace(subjects=subjects))
    made = MessageSoFar(
        Client("pc", "192.168.77.2", 40000),
        Context(site),  # type: ignore[arg-type]
        {"auth_authen": "alice@hoge.example", "i": queue_id},
        body=Body(tmp_path),
    )
    made.began("<alice@hoge.example>", ())
    made.recipient_came("<carol@mailbox.example>")
    made.headers.arrived("Message-ID", " <m@hoge.example>")
    made.headers.arrived("Subject", " secret plans")
    made.body.append(b"text\r\n")
    return made


def test_a_record_comes_back_as_it_was_decided(tmp_path: Path) -> None:
    records = Records(tmp_path, lambda: NOW)
    records(message(tmp_path), None, "")
    records(message(tmp_path, queue_id=""), Refuse(550, "5.7.1", "From says\n bob"), "sender_belongs")
    records(message(tmp_path), HoldBack(451, "4.7.1", "later"), "spending")
    passed, refused, held = Decisions(tmp_path, None, lambda: NOW).read()
    assert passed[:2] == (NOW, "4jYbBq1gR6z5F")
    assert passed[2:] == (
        "passed", "", "", "alice@hoge.example", "192.168.77.2", "alice@hoge.example",
        ("carol@mailbox.example",), "<m@hoge.example>", 59, None,
    )  # fmt: skip
    assert refused[1:5] == ("", "refused", "sender_belongs", "550 5.7.1 From says bob")
    assert refused.recipients == ("carol@mailbox.example",)
    assert (held.decision, held.rule) == ("held back", "spending")


def test_subjects_and_bodies_stay_where_they_are_unless_the_settings_ask_for_subjects(tmp_path: Path) -> None:
    Records(tmp_path, lambda: NOW)(message(tmp_path), None, "")
    (file,) = tmp_path.glob("decisions-*")
    assert b"secret" not in file.read_bytes()
    assert b"text" not in file.read_bytes()
    Records(tmp_path, lambda: NOW)(message(tmp_path, subjects=True), None, "")
    assert [each.subject for each in Decisions(tmp_path).read()] == [None, "secret plans"]


def test_only_the_folders_group_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        Records(tmp_path, lambda: NOW)(message(tmp_path), None, "")
    finally:
        os.umask(old)
    assert [file.stat().st_mode & 0o777 for file in tmp_path.glob("decisions-*")] == [0o640]


def test_without_the_folder_and_on_a_full_disk_the_mail_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Records(tmp_path / "none", lambda: NOW)(message(tmp_path), None, "")
    assert not caplog.records
    full = Path("/dev/full")
    records = Records(tmp_path, lambda: NOW)
    monkeypatch.setattr(os, "open", lambda *_arguments: os.dup(full_file))
    monkeypatch.setattr(os, "fchmod", lambda *_arguments: None)
    with full.open("wb") as device:
        full_file = device.fileno()
        records(message(tmp_path), None, "")
    assert "No space left" in caplog.text


def test_a_record_that_was_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    records = Records(tmp_path, lambda: NOW)
    records(message(tmp_path), None, "")
    (file,) = tmp_path.glob("decisions-*")
    with file.open("ab") as cut:
        cut.write(b'\n{"time":1795507939.0,"queue_id":"4jY')
    records(message(tmp_path), None, "")
    assert len(Decisions(tmp_path, None, lambda: NOW).read()) == 2


def test_the_hours_are_read_in_order_and_removed_when_they_are_over_and_read(tmp_path: Path) -> None:
    moment = NOW
    records = Records(tmp_path, lambda: moment)
    for _ in range(3):
        records(message(tmp_path), None, "")
        moment += 3600
    moment -= 3600
    read: list[float] = []
    position = None
    for _ in range(6):  # also over restarts
        decisions = Decisions(tmp_path, position, lambda: moment)
        read += [each.time for each in decisions.read()]
        position = decisions.position
        decisions.forget()
    assert read == [NOW, NOW + 3600, NOW + 7200]
    assert len(list(tmp_path.glob("decisions-*"))) == 1  # that of this hour
    records(message(tmp_path), None, "")
    assert len(Decisions(tmp_path, position, lambda: moment).read()) == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_is_set_back_loses_nothing(tmp_path: Path, restarted: bool) -> None:
    moment = NOW + 2 * 3600

    def clock() -> float:
        return moment

    records, decisions = Records(tmp_path, clock), Decisions(tmp_path, None, clock)
    read: list[str] = []
    for number, back in enumerate((0, 3 * 3600, -3 * 3600, -3600)):
        moment -= back
        if restarted:
            records = Records(tmp_path, clock)
        records(message(tmp_path, queue_id=f"4w{number}"), None, "")
        for _ in range(2):
            read += [each.queue_id for each in decisions.read()]
            decisions.forget()
        if restarted:
            decisions = Decisions(tmp_path, decisions.position, clock)
    assert read == ["4w0", "4w1", "4w2", "4w3"]


def _many(folder: Path, worker: int) -> None:
    records = Records(folder)
    for number in range(300):
        records(message(folder, queue_id=f"4w{worker}n{number:04d}"), None, "")


def test_several_workers_write_at_once_and_no_line_is_torn(tmp_path: Path) -> None:
    workers = [multiprocessing.Process(target=_many, args=(tmp_path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    read = []
    decisions = Decisions(tmp_path)
    while any(worker.is_alive() for worker in workers):
        read += decisions.read()
    while more := decisions.read():
        read += more
    assert len({each.queue_id for each in read}) == len(read) == 1200


def test_it_takes_microseconds(tmp_path: Path) -> None:
    records, one = Records(tmp_path), message(tmp_path)
    began = time.process_time()
    for _ in range(1000):
        records(one, None, "")
    assert (time.process_time() - began) / 1000 < 0.001  # some 15 µs of processor time


@given(st.lists(st.one_of(
    st.binary(max_size=60),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner:
                 st.dictionaries(st.sampled_from(["time", "size", "queue_id", "recipients", "decision"]), inner),
                 max_leaves=8).map(lambda value: json.dumps(value).encode()),
), max_size=6))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_whatever_is_in_a_file_the_reader_goes_on(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "decisions-20261124T08").write_bytes(b"\n".join(lines) + b"\n")
    Records(folder, lambda: NOW)(message(folder), None, "")
    decisions = Decisions(folder, None, lambda: NOW)
    assert decisions.read()[-1].queue_id == "4jYbBq1gR6z5F"
