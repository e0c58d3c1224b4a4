# "I unsubscribed twice, and they imported me again": who said no stays unsubscribed, whatever a file says.

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from campaign_place import subscribe
from hypothesis import given
from hypothesis import strategies as st

from todoku.campaign import importing, lists, persons, segments
from todoku.campaign.errors import CampaignError, NotKnownError, NotSoError
from todoku.campaign.importing import FileError, Line
from todoku.campaign.opened import Opened

CSV = '''\
address,first_name,city,evidence
alice@mailbox.example,アリス,Tokyo,"form of 2026-01-05, ""newsletter"""
bob@mailbox.example,ボブ,Osaka,
not an address,,,
ALICE@mailbox.example,again,,
carol@mailbox.example,too,many,columns,here
'''


def imported(opened: Opened, tmp_path: Path, text: str | bytes, **options: bool) -> importing.Report:
    path = tmp_path / "people.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return importing.run(
        opened,
        "news",
        path,
        dry=options.get("dry", False),
        despite_faults=options.get("despite_faults", False),
    )


def addresses(opened: Opened) -> list[str]:
    with opened.read() as connection:
        return list(connection.exec_driver_sql("SELECT address FROM subscriber ORDER BY address").scalars())


def test_a_file_with_faults_imports_nothing_and_says_what_is_wrong_line_by_line(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    report = imported(opened, tmp_path, CSV)
    assert not report.done
    assert addresses(opened) == []
    assert [(fault.number, fault.words.split()[0]) for fault in report.faults] == [
        (4, "the"),
        (5, "has"),
        (6, "has"),
    ]
    assert "line 2" in report.faults[1].words
    assert (report.added, report.without_evidence) == (2, 1)


def test_the_good_lines_are_imported_when_that_is_asked_for_and_evidence_is_kept(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    report = imported(opened, tmp_path, CSV, despite_faults=True)
    assert report.done
    assert addresses(opened) == ["alice@mailbox.example", "bob@mailbox.example"]
    kept = persons.export(opened, "alice@mailbox.example")
    assert kept["attributes"] == {"first_name": "アリス", "city": "Tokyo"}
    assert kept["consent"][0]["text"] == 'form of 2026-01-05, "newsletter"'
    assert kept["consent"][0]["source"] == "people.csv, line 2"


def test_a_dry_run_changes_nothing(opened: Opened, news: int, tmp_path: Path) -> None:
    report = imported(opened, tmp_path, "address\nalice@mailbox.example\n", dry=True)
    assert (report.added, report.done, addresses(opened)) == (1, False, [])


def test_a_spreadsheet_from_japan_can_be_read(opened: Opened, news: int, tmp_path: Path) -> None:
    imported(opened, tmp_path, "メールアドレス,name\na@mailbox.example,花子\n".encode("cp932"))
    assert persons.export(opened, "a@mailbox.example")["attributes"] == {"name": "花子"}


def test_who_unsubscribed_or_was_forgotten_is_not_imported_again(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    number = subscribe(opened, news, "alice@mailbox.example")
    with opened.write() as connection:
        assert lists.unsubscribe(connection, news, number, "test", 5.0)
        assert not lists.unsubscribe(connection, news, number, "test", 6.0)
    subscribe(opened, news, "bob@mailbox.example")
    persons.forget(opened, "bob@mailbox.example")
    report = imported(opened, tmp_path, "address,evidence\nalice@mailbox.example,x\nbob@mailbox.example,x\n")
    assert [fault.number for fault in report.passed_over] == [2, 3]
    assert lists.overview(opened)[0]["subscribers"]["confirmed"] == 0
    assert addresses(opened) == ["alice@mailbox.example"]


def test_of_somebody_forgotten_nothing_is_left_in_the_file(opened: Opened, news: int, tmp_path: Path) -> None:
    subscribe(opened, news, "bob.unusual@mailbox.example", "bob said yes", name="Bob Unusual")
    persons.forget(opened, "bob.unusual@mailbox.example")
    with pytest.raises(NotKnownError):
        persons.export(opened, "bob.unusual@mailbox.example")
    with opened.read() as connection:
        everything = "".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert "unusual" not in everything.lower()
    assert "bob said yes" not in everything
    # Nor in what a deleted row leaves behind in a file, or in its journal.
    octets = b"".join(path.read_bytes() for path in tmp_path.glob("campaign.sqlite3*"))
    assert b"unusual" not in octets.lower()
    assert b"bob said yes" not in octets


def test_evidence_says_when_somebody_left_and_came_back(opened: Opened, news: int) -> None:
    number = subscribe(opened, news, "alice@mailbox.example")
    with opened.write() as connection:
        lists.unsubscribe(connection, news, number, "the link in a message", 5.0)
    steps = persons.export(opened, "alice@mailbox.example")["consent"]
    assert [step["what"] for step in steps] == ["imported", "unsubscribed"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["alice", "bob", "carol"]),
        ("city = Tokyo", ["alice"]),
        ("city != Tokyo", ["bob", "carol"]),
        ("city", ["alice", "bob"]),
        ("not city", ["carol"]),
        ('city = "New and old" and name = B', ["bob"]),
    ],
)
def test_a_segment_is_those_whose_attributes_are_so(
    opened: Opened, news: int, text: str, found: list[str]
) -> None:
    from sqlalchemy import select

    from todoku.store import campaign_schema as schema

    subscribe(opened, news, "alice@x.example", city="Tokyo", name="A")
    subscribe(opened, news, "bob@x.example", city="New and old", name="B")
    subscribe(opened, news, "carol@x.example", name="C")
    with opened.read() as connection:
        query = (
            select(schema.subscriber.c.address)
            .where(segments.condition(text))
            .order_by(schema.subscriber.c.id)
        )
        assert [each.partition("@")[0] for each in connection.execute(query).scalars()] == found


@pytest.mark.parametrize("text", ["city =  = x", "= x", "city = Tokyo and", "CITY", "a b", "x'; DROP TABLE"])
def test_a_segment_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(NotSoError):
        segments.parse(text)


@given(st.text())
def test_no_segment_does_anything_but_be_read_or_be_refused(text: str) -> None:
    with suppress(NotSoError):
        segments.parse(text)


@given(st.text())
def test_no_file_does_anything_but_be_read_or_be_refused(text: str) -> None:
    try:
        found = list(importing.lines("address,name\n" + text))
    except FileError:
        return
    assert all("@" in each.address for each in found if isinstance(each, Line))


@pytest.mark.parametrize("octets", [b"\xff\xff\xff", b"name\nx\n", b"", b"address,address\n"])
def test_a_file_that_is_none_is_refused(opened: Opened, news: int, tmp_path: Path, octets: bytes) -> None:
    with pytest.raises(CampaignError):
        imported(opened, tmp_path, octets)
