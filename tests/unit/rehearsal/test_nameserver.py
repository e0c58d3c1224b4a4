"""The files that the world's name servers start from: every zone is served, nothing of an earlier world is.

What the running servers answer is tested inside the rehearsal, where they may have port 53.
"""

from pathlib import Path

import pytest
from test_zones import PLAN

from todoku.rehearsal.internet import nameserver
from todoku.rehearsal.internet.zones import zones


def test_every_zone_is_configured_with_the_file_that_holds_it(tmp_path: Path) -> None:
    nameserver.write(PLAN, tmp_path)

    configuration = (tmp_path / "knot.conf").read_text()
    for name, text in zones(PLAN).items():
        domain = "." if name == "." else f"{name}."
        file = configuration.partition(f'- domain: "{domain}"\n')[2].splitlines()[0].split('"')[1]
        assert Path(file).read_text() == text


def test_zones_of_an_earlier_world_are_gone(tmp_path: Path) -> None:
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones" / "old.example.zone").write_text("left over")

    nameserver.write(PLAN, tmp_path)

    assert not (tmp_path / "zones" / "old.example.zone").exists()
    assert "old.example" not in (tmp_path / "knot.conf").read_text()


def test_all_that_the_servers_write_is_below_the_folder(tmp_path: Path) -> None:
    nameserver.write(PLAN, tmp_path)

    for name in ("knot.conf", "unbound.conf"):
        for word in (tmp_path / name).read_text().split('"')[1::2]:
            assert not word.startswith("/") or Path(word).is_relative_to(tmp_path), (name, word)


def test_both_servers_stay_in_the_foreground_with_their_own_configuration(tmp_path: Path) -> None:
    assert nameserver.commands(tmp_path) == [
        ["/usr/sbin/knotd", "-c", f"{tmp_path}/knot.conf"],
        ["/usr/sbin/unbound", "-d", "-c", f"{tmp_path}/unbound.conf"],
    ]


def test_a_server_that_never_answers_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nameserver, "_answers", lambda _server: False)
    (tmp_path / "knot.log").write_text("error: cannot bind address 192.0.2.53@53\n")

    with pytest.raises(nameserver.NameServerError, match=r"(?s)192\.0\.2\.53 port 53.*cannot bind address"):
        nameserver.wait_until_answers(0.05, tmp_path)
