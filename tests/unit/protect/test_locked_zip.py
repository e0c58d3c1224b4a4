# What no scanner can look into is known by what it is, whatever it is called and wherever it hides.

from __future__ import annotations

import email.policy
import io
import os
import zipfile
from email.message import EmailMessage

import messages
import pytest
import pyzipper
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.protect import locked_zip, zipping


def aes() -> bytes:
    made = io.BytesIO()
    with pyzipper.AESZipFile(
        made, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES
    ) as archive:
        archive.setpassword(b"pw")
        archive.writestr("a.txt", "hello" * 100)
    return made.getvalue()


def ours() -> bytes:
    return b"".join(bytes(piece) for piece in zipping.write([zipping.Entry("a.pdf", [b"x" * 100])], "pw"))


def plain(name: str = "a.txt", content: bytes = b"hello" * 100, how: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as archive:
        archive.writestr(name, content)
    return made.getvalue()


def zip_crypto() -> bytes:
    """The old encryption, by its flag in both headers: Python writes none."""
    raw = bytearray(plain())
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def only_in_the_directory() -> bytes:
    raw = bytearray(plain())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def mail(content: bytes, name: str = "a.zip", kind: str = "zip") -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = "x"
    message.set_content("text\n")
    message.add_attachment(content, "application", kind, filename=name)
    return message.as_bytes()


@pytest.mark.parametrize("make", [aes, ours, zip_crypto, only_in_the_directory])
@pytest.mark.parametrize(("name", "kind"), [("a.zip", "zip"), ("a.pdf", "pdf")])
def test_a_locked_zip_is_found_whatever_it_is_called(make: object, name: str, kind: str) -> None:
    content = make()  # type: ignore[operator]
    assert locked_zip.found(*messages.split(mail(content, name, kind))) == [name]


@pytest.mark.parametrize(
    "content", [plain(), os.urandom(400_000), b"", b"PK\x03\x04", b"text about PK\x03\x04 and so on"]
)
def test_what_is_open_is_not_taken_for_one(content: bytes) -> None:
    assert locked_zip.found(*messages.split(mail(content))) == []


def test_one_within_an_attached_message_behind_a_program_or_in_another_zip_is_found() -> None:
    inner = email.message_from_bytes(mail(aes(), "inner.zip"), policy=email.policy.SMTP)
    outer = EmailMessage(policy=email.policy.SMTP)
    outer.set_content("text\n")
    outer.add_attachment(inner)
    assert locked_zip.found(*messages.split(outer.as_bytes())) == ["inner.zip"]
    assert locked_zip.found(
        *messages.split(mail(b"MZ" + bytes(300_000) + aes(), "setup.exe", "octet-stream"))
    )
    assert locked_zip.found(*messages.split(mail(plain("b.zip", aes(), zipfile.ZIP_STORED))))


@settings(deadline=None)
@given(st.integers(1, 200))
def test_pieces_make_no_difference(step: int) -> None:
    content = bytes(77) + zip_crypto()
    assert locked_zip.is_locked(content[at : at + step] for at in range(0, len(content), step))
