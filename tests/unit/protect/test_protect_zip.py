# A ZIP that other programs open, with AES-256, names in Japanese, and a password that nobody can guess.

from __future__ import annotations

import io
import random

import pytest
import pyzipper
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.protect import passwords, speed, winzip_aes, zipping
from todoku.protect.zipping import Entry


def archive(entries: list[Entry], **more: object) -> pyzipper.AESZipFile:
    raw = b"".join(bytes(piece) for piece in zipping.write(entries, "pass-word", **more))  # type: ignore[arg-type]
    opened = pyzipper.AESZipFile(io.BytesIO(raw))
    opened.setpassword(b"pass-word")
    return opened


def test_another_program_reads_what_was_packed() -> None:
    noise = random.Random(1).randbytes(300_000)
    with archive(
        [Entry("見積書.pdf", [noise[:7], noise[7:]]), Entry("a.txt", [b"hello " * 9999]), Entry("e", [])]
    ) as z:
        assert z.namelist() == ["見積書.pdf", "a.txt", "e"]
        assert z.read("見積書.pdf") == noise
        assert z.read("a.txt") == b"hello " * 9999
        assert z.read("e") == b""
        assert z.getinfo("a.txt").compress_size < 1000
        assert z.getinfo("見積書.pdf").CRC == 0  # AE-2: it would tell about the content
        assert z.testzip() is None


def test_without_the_password_or_with_one_octet_changed_it_does_not_open() -> None:
    raw = bytearray(
        b"".join(bytes(piece) for piece in zipping.write([Entry("a.pdf", [b"secret" * 99])], "right"))
    )
    assert b"secret" not in raw
    with pyzipper.AESZipFile(io.BytesIO(bytes(raw))) as z, pytest.raises(RuntimeError, match="assword"):
        z.read("a.pdf", pwd=b"wrong")
    raw[200] ^= 1
    with pyzipper.AESZipFile(io.BytesIO(bytes(raw))) as z, pytest.raises(pyzipper.BadZipFile):
        z.read("a.pdf", pwd=b"right")


def test_names_for_old_windows() -> None:
    with archive([Entry("見積書.pdf", [b"x"]), Entry("绝密.pdf", [b"y"])], names="cp932") as z:
        flags = [info.flag_bits for info in z.infolist()]
        raw = [info.orig_filename.encode("cp437") for info in z.infolist()]
    assert not any(flag & 1 << 11 for flag in flags)
    assert raw[0].decode("cp932") == "見積書.pdf"
    assert b"?" not in raw[1]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=70_000), max_size=6), st.booleans())
def test_both_ways_to_calculate_give_the_same(pieces: list[bytes], with_numpy: bool) -> None:
    salt = bytes(16)
    with pytest.MonkeyPatch.context() as patch:
        if not with_numpy:
            patch.setattr(speed, "numpy", lambda: None)
        encryptor = winzip_aes.Encryptor(b"p", salt)
        made = b"".join(bytes(out) for piece in pieces for out in encryptor.update(piece)) + encryptor.end()
    whole = winzip_aes.Encryptor(b"p", salt)
    expected = b"".join(bytes(out) for out in whole.update(b"".join(pieces))) + whole.end()
    assert made == expected


def test_passwords_differ_and_have_no_look_alikes() -> None:
    made = {passwords.new() for _ in range(1000)}
    assert len(made) == 1000
    assert not set("".join(made)) & set("01iloILO")
    assert all(len(each) == 19 for each in made)
