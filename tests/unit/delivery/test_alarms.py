# Whoever finds something wrong says so once more each time it looks; that must never be a half-written file, or take
# down who reads it.

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from todoku.delivery import alarms
from todoku.delivery.alarms import Alarm

KEY = Alarm("dkim:hoge.example", "the DKIM key cannot be found", "run `todoku apply`")


def test_what_was_said_last_counts_and_is_known_by_who_said_it(tmp_path: Path) -> None:
    alarms.report("check", [Alarm("spf", "no SPF record", "publish it")], tmp_path)
    alarms.report("check", [KEY], tmp_path)
    alarms.report("campaign.news", [Alarm("stopped", "it stopped", "look", calm=5.0)], tmp_path)
    assert [(each.name, each.calm) for each in alarms.reported(tmp_path)] == [
        ("campaign.news:stopped", 5.0),
        ("check:dkim:hoge.example", alarms.CALM),
    ]
    alarms.report("check", [], tmp_path)
    alarms.withdraw("campaign.news", tmp_path)
    alarms.withdraw("campaign.news", tmp_path)
    assert alarms.reported(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["check.json"]  # nothing half-done lies about
    assert (tmp_path / "check.json").stat().st_mode & 0o777 == 0o640


def test_nobody_reports_before_there_is_a_folder_or_under_a_name_that_leads_elsewhere(tmp_path: Path) -> None:
    assert alarms.reported(tmp_path / "none") == []
    with pytest.raises(FileNotFoundError):
        alarms.report("check", [], tmp_path / "none")
    for name in ("../check", "", "Check", ".hidden", "a" * 65):
        with pytest.raises(ValueError, match="no name for who reports"):
            alarms.report(name, [], tmp_path)


@given(st.binary(max_size=200) | st.sampled_from([b"{}", b"[1]", b'[{"name": 1}]', b"[" * 100_000, b"null"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_report_that_cannot_be_understood_is_an_alarm_and_hides_no_other(
    tmp_path: Path, octets: bytes
) -> None:
    (tmp_path / "broken.json").write_bytes(octets)
    alarms.report("check", [KEY], tmp_path)
    names = [each.name for each in alarms.reported(tmp_path)]
    assert "check:dkim:hoge.example" in names
    if octets != b"[]" and octets.strip() not in (b"{}", b"[]"):
        assert "broken:report" in names
