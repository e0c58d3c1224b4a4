# What strangers pack is opened with the right password only, within bounds that hold whatever the archive says.

from __future__ import annotations

import io
import zipfile

import pytest
from archives import aes, plain, zip_crypto
from hypothesis import example, given, settings
from hypothesis import strategies as st

from todoku.quarantine import archive
from todoku.quarantine.archive import Began, Bounds, Broken, NotSupported, TooMuch, WrongPassword

PDF = bytes(range(256)) * 2000
ALL = Bounds()


def contents(raw: bytes, *passwords: bytes, bounds: Bounds = ALL) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    name = ""
    for event in archive.contents(io.BytesIO(raw), len(raw), passwords, bounds):
        if isinstance(event, Began):
            name = event.name
            found[name] = b""
        else:
            found[name] += event
    return found


@pytest.mark.parametrize("raw", [aes({"a.txt": PDF}), zip_crypto(PDF)], ids=["AES", "ZipCrypto"])
def test_opened_with_its_password_and_no_other(raw: bytes) -> None:
    assert contents(raw, b"pw") == {"a.txt": PDF}
    assert contents(raw, b"another", b"pw") == {"a.txt": PDF}
    for wrong in ((), (b"",), (b"PW",), (b"pw ",)):
        with pytest.raises(WrongPassword):
            contents(raw, *wrong)


def test_a_wrong_password_that_the_old_encryption_takes_for_right_is_found_out() -> None:
    raw = zip_crypto(PDF)
    for number in range(20_000):  # one in 256 passes the first check
        with pytest.raises(WrongPassword) as caught:
            contents(raw, f"{number}".encode())
        if "Bad password" not in str(caught.value):
            return
    pytest.fail("none of them passed the first check")


def test_what_was_changed_on_its_way_is_not_taken_for_whole() -> None:
    raw = bytearray(aes({"a.bin": PDF}))
    raw[90] ^= 1
    with pytest.raises(WrongPassword):
        contents(bytes(raw), b"pw")


def test_protected_archives_in_archives_are_opened_as_well_down_to_a_depth() -> None:
    inner = aes({"deep.txt": PDF})
    assert contents(aes({"inner.zip": inner}), b"pw") == {"inner.zip": inner, "deep.txt": PDF}
    assert contents(plain({"inner.zip": inner}), b"pw")["deep.txt"] == PDF
    with pytest.raises(WrongPassword):
        contents(aes({"inner.zip": aes({"deep.txt": PDF}, b"other")}), b"pw")
    assert contents(aes({"inner.zip": aes({"deep.txt": PDF}, b"other")}), b"pw", b"other")["deep.txt"] == PDF
    raw = inner
    for _ in range(4):
        raw = aes({"inner.zip": raw})
    with pytest.raises(TooMuch):
        contents(raw, b"pw")


def test_behind_a_program_that_unpacks_itself() -> None:
    assert contents(b"MZ" + bytes(5000) + aes({"a.txt": PDF}), b"pw") == {"a.txt": PDF}


@pytest.mark.parametrize(
    ("raw", "bounds"),
    [
        (aes({"zeros": bytes(30_000_000)}), Bounds()),  # a thousand times as large as it is
        (aes({"a": bytes(600_000), "b": bytes(600_000)}), Bounds(octets=1_000_000)),
        (aes({f"{n}": b"" for n in range(20)}), Bounds(files=10)),
        (aes({"a.zip": aes({"zeros": bytes(30_000_000)})}), Bounds()),
    ],
    ids=["ratio", "size", "number", "nested"],
)
def test_a_bomb_is_given_up(raw: bytes, bounds: Bounds) -> None:
    with pytest.raises(TooMuch):
        contents(raw, b"pw", bounds=bounds)


@pytest.mark.parametrize("said", [10, 0, 5_000_000])
def test_the_size_that_an_entry_gives_itself_is_not_believed(said: int) -> None:
    # Programs that believe it would show a scanner less than those that do not show a reader.
    raw = bytearray(aes({"zeros": bytes(400_000)}))
    at = raw.index(b"PK\x01\x02")
    raw[at + 24 : at + 28] = said.to_bytes(4, "little")
    with pytest.raises(Broken):
        contents(bytes(raw), b"pw")


def test_nothing_protected_hides_from_the_directory() -> None:
    hidden, shown = aes({"hidden.exe": PDF}), aes({"shown.txt": PDF})
    alone = hidden[: hidden.index(b"PK\x01\x02")]  # without its directory
    for raw in (hidden + shown, alone + shown):
        with pytest.raises(Broken):
            contents(raw, b"pw")
    behind = bytearray(shown + alone)
    behind[len(shown) - 2 : len(shown)] = len(alone).to_bytes(2, "little")  # as the archive's comment
    with pytest.raises((Broken, OverflowError)):
        contents(bytes(behind), b"pw")


def test_what_cannot_be_read_or_is_not_protected_is_said() -> None:
    for raw in (b"", b"no archive", aes({"a.txt": PDF})[:-30], plain({"a.txt": PDF})):
        with pytest.raises(Broken):
            contents(raw, b"pw")
    strange = bytearray(aes({"a.txt": PDF}))
    at = strange.index(b"PK\x01\x02")
    extra = strange.index(b"\x01\x99", at)
    strange[extra + 9 : extra + 11] = (9).to_bytes(2, "little")  # Deflate64
    with pytest.raises(NotSupported):
        contents(bytes(strange), b"pw")


SEEDS = (aes({"a.txt": b"hello" * 9}), zip_crypto(b"hello" * 9), plain({"i.zip": aes({"a": b"x"})}))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
@example(SEEDS[0], [(6, 0)])
def test_whatever_is_sent_ends_with_its_content_or_a_word(raw: bytes, changes: list[tuple[int, int]]) -> None:
    hostile = bytearray(raw)
    for at, octet in changes:
        hostile[at % len(hostile)] = octet
    try:
        contents(bytes(hostile), b"pw", bounds=Bounds(octets=100_000))
    except archive.CannotOpen:
        return


def test_all_methods_of_the_standard_library() -> None:
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        inner = aes({"deep.txt": b"x" * 10})
        assert contents(plain({"inner.zip": inner}, how), b"pw")["deep.txt"] == b"x" * 10
