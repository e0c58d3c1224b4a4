# What was copied is known after a kill at any moment, and half a line at its end is no reason to begin anew.

from __future__ import annotations

from pathlib import Path

import pytest

from todoku.moving.book import Begun, Book, BookError, Message
from todoku.moving.folders import target

ONE, TWO = Message("INBOX", 7, 1), Message("INBOX", 7, 2)
BEGUN = Begun("INBOX", 12, "ab" * 32)


def opened(folder: Path) -> Book:
    return Book.open("mail.old.example:993", "alice", "alice@hoge.example", folder)


def test_a_killed_run_leaves_what_it_had_done_and_what_it_had_begun(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.begin(ONE, BEGUN)
    book.finish(ONE)
    book.begin(TWO, BEGUN)
    again = opened(tmp_path)
    assert again.done == {ONE}
    assert again.begun == {TWO: BEGUN}
    assert again.path.stat().st_mode & 0o777 == 0o600


def test_half_a_line_at_the_end_is_as_good_as_none(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.begin(ONE, BEGUN)
    book.finish(ONE)
    whole = book.path.read_bytes()
    for cut in range(1, len(whole)):
        book.path.write_bytes(whole[:cut])
        again = opened(tmp_path)
        again.begin(TWO, BEGUN)
        assert TWO in opened(tmp_path).begun


def test_a_book_that_makes_no_sense_stops_the_copying(tmp_path: Path) -> None:
    book = opened(tmp_path)
    book.path.write_text("nonsense\n")
    with pytest.raises(BookError, match="copied twice"):
        opened(tmp_path)


def test_another_server_or_account_has_another_book(tmp_path: Path) -> None:
    assert (
        opened(tmp_path).path != Book.open("mail.old.example:993", "bob", "alice@hoge.example", tmp_path).path
    )


@pytest.mark.parametrize(
    ("name", "separator", "flags", "into"),
    [
        ("INBOX", "/", [], "INBOX"),
        ("Inbox", "/", [], "INBOX"),
        ("INBOX.Work", ".", [], "Work"),
        ("INBOX/Work/2025", "/", [], "Work.2025"),
        ("Gesendet", "/", ["\\Sent"], "Sent"),
        ("[Gmail]/Papierkorb", "/", ["\\Trash"], "Trash"),
        ("[Gmail]/All Mail", "/", ["\\All"], None),
        ("[Gmail]", "/", ["\\Noselect"], None),
        ("Rechnungen 3.2", "/", [], "Rechnungen 3_2"),
        ("見積", "/", [], "見積"),
        ("~root", "/", [], "_root"),
        ("a//b", "/", [], "a.b"),
        ("INBOX/INBOX", "/", [], "INBOX_"),
        ("no separator", "", [], "no separator"),
        ("x" * 900, "/", [], "x" * 200),
    ],
)
def test_folders_get_the_names_that_they_have_here(
    name: str, separator: str, flags: list[str], into: str | None
) -> None:
    assert target(name, separator, flags, ".") == into
