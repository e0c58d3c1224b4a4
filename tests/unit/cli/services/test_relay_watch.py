# The relay's log is asked for again and again, with some overlap: records come late, and out of order. None may be
# missing, whoever is killed and whatever fails, and none should be written over and over.

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from todoku.cli.services.relay_log import FIRST, LONGEST_BACK, OVERLAP, POSITION, RelayLog

NOW = 1_795_507_939.0


class Service:
    """Records with the time at which they were written, and from when on a search finds them."""

    def __init__(self) -> None:
        self.now = NOW
        self.all: list[tuple[float, float, str]] = []
        self.asked: list[tuple[float, float]] = []
        self.breaks = 0

    def log(self, key: str, at: float | None = None, delay: float = 0.0) -> None:
        at = self.now if at is None else at
        self.all.append((at, at + delay, key))

    def records(self, start: float, end: float) -> Iterator[list[Any]]:
        self.asked.append((start, end))
        assert end - start <= 14 * 86_400
        found = [key for at, findable, key in self.all if start <= at <= end and findable <= self.now]
        for number in range(0, len(found), 3):
            if self.breaks:
                self.breaks -= 1
                raise ConnectionError("429")
            yield [
                {"datetime": 1, "logContent": {"id": key, "data": {}}} for key in found[number : number + 3]
            ]


@pytest.fixture
def service() -> Service:
    return Service()


def reader(folder: Path, service: Service) -> RelayLog:
    return RelayLog(folder, lambda path: path.chmod(0o640), lambda: service.now)


def written(folder: Path) -> list[str]:
    files = sorted(folder.glob("log-*T*"))
    return [json.loads(line)["id"] for path in files for line in path.read_text().splitlines()]


def test_the_first_look_goes_back_a_day_and_the_next_ones_overlap(tmp_path: Path, service: Service) -> None:
    log = reader(tmp_path, service)
    service.log("old", NOW - 3600)
    assert log.fetch(service.records) == 1
    assert service.asked == [(NOW - FIRST, NOW)]
    service.now += 60
    assert log.fetch(service.records) == 0
    assert service.asked[-1] == (NOW - OVERLAP, NOW + 60)
    assert written(tmp_path) == ["old"]


def test_a_late_record_is_found_and_nothing_is_written_twice(tmp_path: Path, service: Service) -> None:
    log = reader(tmp_path, service)
    service.log("late", delay=600)
    service.log("quick")
    for _ in range(40):
        log.fetch(service.records)
        service.now += 60
    assert written(tmp_path) == ["quick", "late"]


def test_a_record_that_is_up_to_a_day_late_is_found_within_hours_and_little_is_read_for_that(
    tmp_path: Path, service: Service
) -> None:
    log = reader(tmp_path, service)
    log.fetch(service.records)
    service.asked.clear()
    hours = [1, 3, 6, 12, 23, 24]
    for late in hours:
        service.log(f"{late} hours late", delay=late * 3600)
    found: dict[str, float] = {}
    for minute in range(1, 29 * 60):
        service.now = NOW + minute * 60
        if minute == 700:
            log = reader(tmp_path, service)  # started anew
        log.fetch(service.records)
        for key in written(tmp_path) if minute % 15 == 0 else ():
            found.setdefault(key, minute / 60)
    assert set(found) == {f"{late} hours late" for late in hours}
    assert all(late <= found[f"{late} hours late"] <= late + 4.3 for late in hours)
    assert found["3 hours late"] <= 3.6
    assert len(written(tmp_path)) <= len(hours) + 3  # some again, by who knows no more what it has seen
    overlapping = sum(end - start for start, end in service.asked if end - start < 3600)
    assert sum(end - start for start, end in service.asked) < 2 * overlapping


def test_killed_between_the_records_and_the_position_it_writes_some_twice_and_none_is_missing(
    tmp_path: Path, service: Service
) -> None:
    for number in range(7):
        service.log(f"r{number}")
    service.breaks = 0
    reader(tmp_path, service).fetch(service.records)
    (tmp_path / POSITION).unlink()
    reader(tmp_path, service).fetch(service.records)
    assert written(tmp_path) == [f"r{number}" for number in range(7)] * 2


def test_an_error_in_the_middle_loses_and_doubles_nothing(tmp_path: Path, service: Service) -> None:
    log = reader(tmp_path, service)
    for number in range(9):
        service.log(f"r{number}")
    original = service.records

    def second_page_fails(start: float, end: float) -> Iterator[list[Any]]:
        for number, page in enumerate(original(start, end)):
            if number == 1:
                raise ConnectionError("429")
            yield page

    with pytest.raises(ConnectionError):
        log.fetch(second_page_fails)
    assert not (tmp_path / POSITION).exists()
    log.fetch(service.records)
    assert written(tmp_path) == [f"r{number}" for number in range(9)]


def test_away_for_weeks_it_asks_for_as_much_as_there_is_a_day_at_a_time(
    tmp_path: Path, service: Service
) -> None:
    log = reader(tmp_path, service)
    log.fetch(service.records)
    service.asked.clear()
    service.now += 30 * 86_400
    service.log("of yesterday", service.now - 86_400)
    log.fetch(service.records)
    assert service.asked[0][0] == service.now - LONGEST_BACK
    assert max(end - start for start, end in service.asked) <= 86_400
    assert "of yesterday" in written(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"until": "x"}', b"[]", b'{"until": 1e12}', b"\xff"])
def test_a_position_that_is_broken_or_in_the_future_costs_nothing_but_work(
    tmp_path: Path, service: Service, content: bytes
) -> None:
    (tmp_path / POSITION).write_bytes(content)
    service.log("r")
    reader(tmp_path, service).fetch(service.records)
    assert written(tmp_path) == ["r"]


def test_after_the_clock_was_set_back_it_goes_on_in_the_last_file(tmp_path: Path, service: Service) -> None:
    log = reader(tmp_path, service)
    service.log("a")
    log.fetch(service.records)
    service.now -= 2 * 3600
    service.log("b")
    log.fetch(service.records)
    assert len(list(tmp_path.glob("log-*T*"))) == 1
    again = reader(tmp_path, service)
    service.log("c")
    again.fetch(service.records)
    assert len(list(tmp_path.glob("log-*T*"))) == 1
    assert written(tmp_path)[:2] == ["a", "b"]
    assert written(tmp_path)[-1] == "c"


def test_a_line_that_a_full_disk_has_cut_does_not_spoil_the_next_one(
    tmp_path: Path, service: Service
) -> None:
    log = reader(tmp_path, service)
    service.log("a")
    log.fetch(service.records)
    (path,) = tmp_path.glob("log-*T*")
    path.write_bytes(path.read_bytes() + b'{"id": "cu')
    service.log("b")
    log.fetch(service.records)
    lines = path.read_text().splitlines()
    assert [json.loads(lines[0])["id"], lines[1], json.loads(lines[2])["id"]] == ["a", '{"id": "cu', "b"]


def test_only_the_group_may_read_it_and_old_files_go(tmp_path: Path, service: Service) -> None:
    log = reader(tmp_path, service)
    service.log("a")
    log.fetch(service.records)
    (path,) = tmp_path.glob("log-*T*")
    assert path.stat().st_mode & 0o777 == 0o640
    service.now += 8 * 86_400
    log.fetch(service.records)
    assert not path.exists()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        _json | st.fixed_dictionaries({"logContent": st.dictionaries(st.sampled_from(["id", "data"]), _json)})
    )
)
def test_whatever_the_search_answers_each_line_is_json(tmp_path: Path, page: list[Any]) -> None:
    for path in tmp_path.glob("*"):
        path.unlink()
    RelayLog(tmp_path, lambda _path: None, lambda: NOW).fetch(lambda _start, _end: [page])
    for identifier in written(tmp_path):
        assert isinstance(identifier, str)
