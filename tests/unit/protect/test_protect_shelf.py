# What lies on the disk opens nothing without the link, survives a kill, and is gone when it is over.

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from todoku.protect import sealing
from todoku.protect.shelf import DAY, FOLDERS, Link, Shelf

NOW = time.time()
SECRET = b"the secret plan " * 20_000


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    return Shelf(tmp_path)


def offered(shelf: Shelf, *recipients: str) -> tuple[str, list[str]]:
    """The sender's token, and each recipient's."""
    given = shelf.give("alice@hoge.example", "見積書", "ja", NOW + DAY, 3)
    given.add("計画.pdf", [SECRET[:1000], SECRET[1000:]])
    tokens = [given.link(each) for each in recipients]
    given.close()
    return given.token, tokens


def read(shelf: Shelf, link: Link) -> bytes:
    (kept,) = link.files
    pieces = sealing.unseal(bytes.fromhex(kept.key), shelf.path("objects", kept.object), kept.octets)
    return b"".join(pieces)


def test_each_recipient_has_an_own_link_to_the_same_file(shelf: Shelf) -> None:
    _, (carol, dave) = offered(shelf, "carol@mailbox.example", "dave@outside.example")
    one, other = shelf.find(carol, NOW), shelf.find(dave, NOW)
    assert one and other
    assert (one.recipient, other.recipient) == ("carol@mailbox.example", "dave@outside.example")
    assert one.files == other.files
    assert read(shelf, one) == SECRET
    assert len(list((shelf.root / "objects").iterdir())) == 1


def test_nothing_on_the_disk_tells_the_content_the_name_or_the_key(shelf: Shelf) -> None:
    token, tokens = offered(shelf, "carol@mailbox.example")
    link = shelf.find(tokens[0], NOW)
    assert link
    everything = b"".join(path.read_bytes() for path in shelf.root.rglob("*") if path.is_file())
    names = "".join(str(path) for path in shelf.root.rglob("*"))
    for secret in (
        b"secret plan",
        "計画".encode(),
        link.files[0].key.encode(),
        token.encode(),
        tokens[0].encode(),
    ):
        assert secret not in everything
        assert secret.decode() not in names


def test_a_link_that_is_changed_over_or_taken_back_opens_nothing(shelf: Shelf) -> None:
    mine, (token,) = offered(shelf, "carol@mailbox.example")
    for wrong in (token[:-1], token[:-1] + "_-"[token[-1] == "_"], f"../{token}", "", mine, token + "\n"):
        assert shelf.find(wrong, NOW) is None
    assert shelf.find(token, NOW + DAY) is None
    assert shelf.find_offer(token) is None
    offer = shelf.find_offer(mine)
    assert offer
    shelf.revoke(offer)
    assert shelf.find(token, NOW) is None
    assert list((shelf.root / "objects").iterdir()) == []


def test_what_is_over_is_removed_and_what_was_left_behind_as_well(shelf: Shelf) -> None:
    offered(shelf, "carol@mailbox.example")
    orphan = shelf.path("objects", "f" * 64)
    orphan.write_bytes(b"x")
    assert shelf.tidy(NOW) == 0
    assert shelf.tidy(NOW + 2 * DAY) == 2
    assert [path for name in ("objects", "links") for path in (shelf.root / name).iterdir()] == []
    assert len(list(shelf.offers())) == 1
    shelf.tidy(NOW + 100 * DAY)
    assert list(shelf.offers()) == []


def test_an_offer_that_was_not_sent_leaves_nothing(shelf: Shelf) -> None:
    given = shelf.give("alice@hoge.example", "x", "en", NOW + DAY, 3)
    given.add("a", [b"1"])
    given.link("carol@mailbox.example")
    given.close()
    given.remove()
    assert [path for path in shelf.root.rglob("*") if path.is_file()] == []


def test_an_event_that_a_full_disk_has_cut_does_not_spoil_the_others(shelf: Shelf) -> None:
    shelf.note("a" * 64, "fetched", file=0)
    with shelf.path("events", "a" * 64 + ".jsonl").open("ab") as file:
        file.write(b'{"what": "fet\n')
    shelf.note("a" * 64, "fetched", file=1)
    assert [event["file"] for event in shelf.events("a" * 64)] == [0, 1]


@settings(deadline=None)
@example(sealing.PIECE, sealing.PIECE, 1)
@given(st.integers(0, 3 * sealing.PIECE + 5), st.integers(0, 3 * sealing.PIECE + 5), st.integers(1, 99_999))
def test_any_part_of_a_sealed_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, size: int, start: int, step: int
) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    path = tmp_path_factory.mktemp("sealed") / "file"
    key = bytes(32)
    assert sealing.seal(key, (content[at : at + step] for at in range(0, size, step)), path) == size
    start = min(start, size)
    assert b"".join(sealing.unseal(key, path, size)) == content
    assert (
        b"".join(sealing.unseal(key, path, size, start, min(size, start + step)))
        == content[start : start + step]
    )


@pytest.mark.parametrize("how", ["cut", "changed", "swapped", "longer", "key"])
def test_a_file_that_was_tampered_with_is_not_handed_out(tmp_path: Path, how: str) -> None:
    path, size, key = tmp_path / "file", 3 * sealing.PIECE, bytes(32)
    sealing.seal(key, [bytes(size)], path)
    raw = path.read_bytes()
    whole = sealing.PIECE + 16
    changed = {
        "cut": raw[:whole],
        "changed": raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
        "swapped": raw[whole : 2 * whole] + raw[:whole] + raw[2 * whole :],
        "longer": raw + b"x",
        "key": raw,
    }[how]
    path.write_bytes(changed)
    with pytest.raises(sealing.Damaged):
        list(sealing.unseal(b"\1" * 32 if how == "key" else key, path, size))
