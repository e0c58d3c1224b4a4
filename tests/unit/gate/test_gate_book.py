# An account that was made a second ago may send; nothing is restarted for it.

from __future__ import annotations

import os
from pathlib import Path

from todoku.gate.book import ApprovedSenders, SenderBook


def _write(path: Path, text: str, stamp: int) -> None:
    path.write_text(text)
    os.utime(path, (stamp, stamp))


def test_addresses_lead_to_logins_and_back(tmp_path: Path) -> None:
    path = tmp_path / "sender_login"
    path.write_text("alice@hoge.example alice\nsales@hoge.example alice,bob\nbob@hoge.example bob\n\n")
    book = SenderBook(path)
    assert book.logins("Sales@HOGE.example") == {"alice", "bob"}
    assert book.logins("alice+tag@hoge.example") == {"alice"}
    assert book.logins("carol@hoge.example") == frozenset()
    assert book.addresses("alice") == ["alice@hoge.example", "sales@hoge.example"]
    assert book.addresses("carol") == []
    path.write_text("alice@hoge.example zoe@hoge.example\nzoe@hoge.example zoe@hoge.example\n")
    assert SenderBook(path).addresses("zoe@hoge.example") == ["zoe@hoge.example", "alice@hoge.example"]


def test_a_change_is_seen_after_a_second_and_the_file_is_not_looked_at_before(tmp_path: Path) -> None:
    path, now = tmp_path / "sender_login", [100.0]
    book = SenderBook(path, clock=lambda: now[0])
    assert book.logins("alice@hoge.example") == frozenset()  # no file yet
    _write(path, "alice@hoge.example alice\n", 1)
    now[0] += 0.5
    assert book.logins("alice@hoge.example") == frozenset()
    now[0] += 0.5
    assert book.logins("alice@hoge.example") == {"alice"}
    _write(path, "alice@hoge.example robot\n", 2)  # same length, later
    now[0] += 1
    assert book.logins("alice@hoge.example") == {"robot"}
    path.unlink()
    now[0] += 1
    assert book.logins("alice@hoge.example") == frozenset()


def test_without_a_file_it_is_not_known_what_is_approved(tmp_path: Path) -> None:
    path, now = tmp_path / "approved", [0.0]
    approved = ApprovedSenders(path, clock=lambda: now[0])
    assert approved.now is None
    path.write_text("# as of today\n@Hoge.example\n\nbob@other.example\n")
    now[0] += 1
    assert approved.now == {"@hoge.example", "bob@other.example"}
    path.unlink()
    now[0] += 1
    assert approved.now is None


def test_a_whole_domain_is_granted_by_one_line_which_those_of_its_addresses_hide(tmp_path: Path) -> None:
    path = tmp_path / "sender_login"
    path.write_text(
        "@hoge.example\tzoe\nalice@hoge.example\talice,zoe\nbob@hoge.example\tbob\nzoe@other.example\tzoe\n"
    )
    book = SenderBook(path)
    assert book.logins("anything@hoge.example") == {"zoe"}
    assert book.logins("alice@hoge.example") == {"alice", "zoe"}
    assert book.logins("alice+tag@hoge.example") == {"alice", "zoe"}
    assert book.logins("bob@hoge.example") == {"bob"}  # as Postfix has it
    assert book.logins("anything@sub.hoge.example") == frozenset()
    assert book.logins("") == book.logins("@") == frozenset()
    assert book.addresses("zoe") == ["@hoge.example", "zoe@other.example"]
