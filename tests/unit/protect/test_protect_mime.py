# What is taken out is what people call an attachment, wherever a mail program puts it; all else stays as it was.
# Messages come from anybody: nothing in them makes the parser slow, large or wrong.

from __future__ import annotations

import base64
import binascii
import email.policy
import sys
from email.message import EmailMessage
from types import FrameType
from typing import Any

import messages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.protect import attachments, language, mime, names, speed
from todoku.protect.composing import composed, in_base64, text_part


def test_files_are_found_with_their_names_and_the_inline_image_is_not() -> None:
    found = messages.found(messages.office().as_bytes())
    assert list(found) == ["見積書 2026.pdf", "list.csv", "winmail.dat"]
    assert found["見積書 2026.pdf"] == bytes(range(256)) * 50
    assert found["list.csv"].replace(b"\r\n", b"\n") == b"a,b\n1,2\n"


def test_what_stays_is_as_it_was() -> None:
    before = messages.office()
    after = messages.without(before.as_bytes())
    assert [(n, v) for n, v in after.items() if n != "Content-Type"] == [
        (n, v) for n, v in before.items() if n != "Content-Type"
    ]
    kinds = [part.get_content_type() for part in after.walk()]
    assert kinds == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "text/plain",
    ]
    assert after.get_body(("plain",)).get_content().strip() == "こんにちは"
    assert list(after.walk())[-1].get_content().strip() == "instead"


def test_a_message_that_is_nothing_but_a_file() -> None:
    message = EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = "scan"
    message.set_content(b"%PDF", "application", "pdf", filename="scan.pdf")
    assert messages.found(message.as_bytes()) == {"scan.pdf": b"%PDF"}
    after = messages.without(message.as_bytes())
    assert [part.get_content_type() for part in after.walk()] == ["multipart/mixed", "text/plain"]
    assert after["Subject"] == "scan"


def test_a_file_within_the_alternatives_as_apple_mail_puts_it() -> None:
    inner = EmailMessage(policy=email.policy.SMTP)
    inner.set_content("<p>hello</p>", subtype="html")
    inner.make_mixed()
    inner.add_attachment(b"data", "application", "pdf", filename="a.pdf")
    message = EmailMessage(policy=email.policy.SMTP)
    message.set_content("hello\n")
    message.make_alternative()
    message.attach(inner)
    assert messages.found(message.as_bytes()) == {"a.pdf": b"data"}
    after = messages.without(message.as_bytes())
    assert after.get_content_type() == "multipart/mixed"
    assert "a.pdf" not in after.as_string()
    assert after.get_body(("html",)).get_content().strip() == "<p>hello</p>"


def test_a_multipart_that_would_be_empty_goes_as_well() -> None:
    inner = EmailMessage(policy=email.policy.SMTP)
    inner.make_mixed()
    inner.add_attachment(b"1", "application", "pdf", filename="a.pdf")
    inner.add_attachment(b"2", "application", "pdf", filename="a.pdf")
    message = EmailMessage(policy=email.policy.SMTP)
    message.set_content("hello\n")
    message.make_mixed()
    message.attach(inner)
    assert messages.found(message.as_bytes()) == {"a.pdf": b"1", "a (2).pdf": b"2"}
    kinds = [part.get_content_type() for part in messages.without(message.as_bytes()).walk()]
    assert kinds == ["multipart/mixed", "text/plain", "text/plain"]


def test_an_attached_message_is_one_attachment() -> None:
    message = EmailMessage(policy=email.policy.SMTP)
    message.set_content("see below\n")
    message.add_attachment(messages.office())
    assert list(messages.found(message.as_bytes())) == ["attachment.eml"]


@pytest.mark.parametrize(
    "kind",
    [
        'multipart/signed; protocol="application/pkcs7-signature"; boundary=b',
        'multipart/signed; protocol="application/pgp-signature"; boundary=b',
        'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b',
        "application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m",
    ],
)
def test_what_its_sender_sealed_is_known(kind: str) -> None:
    part, body = messages.read(f"Content-Type: {kind}\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n".encode())
    assert attachments.sealed(part, body)


def test_inline_pgp_is_known_and_a_mention_of_it_is_not() -> None:
    part, body = messages.read(b"Subject: x\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nabc\r\n")
    assert attachments.sealed(part, body)
    part, body = messages.read(b"Subject: x\r\n\r\nwrite -----BEGIN PGP MESSAGE----- first\r\n")
    assert not attachments.sealed(part, body)


def test_an_invitation_stays() -> None:
    message = EmailMessage(policy=email.policy.SMTP)
    message.set_content("meet\n")
    message.add_alternative("BEGIN:VCALENDAR\n", subtype="calendar")
    assert messages.found(message.as_bytes()) == {}


def nested(parts: int, levels: int) -> bytes:
    """So many PDFs in the innermost of so many multiparts."""
    opening = closing = b""
    for level in range(1, levels):
        opening += b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (level - 1, level)
        closing = b"--b%d--\r\n" % level + closing
    leaf = b"--b%d\r\nContent-Type: application/pdf; name=a.pdf\r\n\r\nx\r\n" % (levels - 1)
    begin = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n"
    return begin + opening + leaf * parts + closing + b"--b0--\r\n"


def steps(raw: bytes) -> int:
    """Lines of ours that reading a message, naming its files and writing it without them take."""
    taken = 0

    def count(frame: FrameType, event: str, _: object) -> Any:
        nonlocal taken
        taken += event == "line"
        return count if "todoku" in frame.f_code.co_filename else None

    sys.settrace(count)
    try:
        part, body = messages.read(raw)
        found = attachments.found(part)
        b"".join(composed([], part, body, [each.part for each in found], [text_part("t")]))
    finally:
        sys.settrace(None)
    return taken


def test_ten_thousand_parts_in_fifty_levels_are_read_named_and_taken_out() -> None:
    found = messages.found(nested(mime.MOST_PARTS - 50, 50))
    assert len(found) == mime.MOST_PARTS - 50
    assert set(found.values()) == {b"x"}
    (left,) = messages.without(nested(mime.MOST_PARTS - 50, 50)).iter_parts()
    assert left.get_content().split() == ["instead"]


def test_the_work_grows_with_the_number_of_parts_and_no_faster() -> None:
    assert steps(nested(1600, 5)) < 5 * steps(nested(400, 5))


def test_more_parts_and_levels_than_that_are_refused_in_words() -> None:
    with pytest.raises(mime.TooComplex, match="more than 10,000 parts"):
        messages.read(nested(mime.MOST_PARTS, 1))
    with pytest.raises(mime.TooComplex, match="nested more than 50"):
        messages.read(nested(1, 52))
    with pytest.raises(mime.TooComplex, match="bytes of headers"):
        messages.read(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + b"X: y\r\n" * 20_000)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\a.pdf", "a.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\r\nBcc: x.pdf", "aBcc_ x.pdf"),
        ("con.txt", "_con.txt"),
        ("...", "attachment"),
        ("", "attachment"),
        ("a" * 4000 + ".xlsx", "a" * 145 + ".xlsx"),
        ("か\u3099.txt", "が.txt"),
    ],
)
def test_names_are_nothing_but_names(given: str, expected: str) -> None:
    assert names.safe(given) == expected


@settings(deadline=None)
@given(st.text())
def test_every_name_is_safe(given: str) -> None:
    made = names.safe(given)
    assert made
    assert made not in (".", "..")
    assert len(made) <= names.LONGEST
    assert not set(made) & set('/\\\0\r\n"<>|:*?')
    assert made == names.safe(made)


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"QUJD", b"RA==", b"RUY=", b"\r\n", b"!", b"A", b"=", b"Rw"]), max_size=12))
def test_broken_base64_gives_the_same_with_and_without_what_is_fast(runs: list[bytes]) -> None:
    raw = b"Content-Transfer-Encoding: base64\r\nContent-Type: application/pdf\r\n\r\n" + b"".join(runs)
    fast = messages.found(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "base64_decoder", lambda: binascii.a2b_base64)
        assert messages.found(raw) == fast


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)))
def test_base64_is_written_and_read_back_whatever_the_pieces(pieces: list[bytes]) -> None:
    made = b"".join(in_base64(pieces))
    assert base64.b64decode(made) == b"".join(pieces)
    assert all(len(line) <= 76 for line in made.split(b"\r\n"))
    raw = b"Content-Transfer-Encoding: base64\r\nContent-Type: application/pdf\r\n\r\n" + made
    assert messages.found(raw) == {"attachment.pdf": b"".join(pieces)}


_LINES = st.sampled_from(
    [
        b"--b", b"--b--", b"--c", b"--c--", b"--b  ", b"", b"text", b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: multipart/mixed; boundary=\"c\"", b"Content-Type: multipart/related; boundary*0=c; boundary*1=",
        b"Content-Type: application/pdf; name*=utf-8''%zz", b"Content-Disposition: attachment; filename*0*=x''%E3",
        b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable", b"QUJD=RA==",
        b"=3D=\x80=", b"\xff\xfe\0", b" folded", b"Content-Type: ;;;=", b"Content-Type: message/rfc822",
        b"Content-Disposition: inline", b"Content-Type: text/plain; charset=\"unknown-8bit\"",
        b"Subject: =?iso-2022-jp?b?GyRC?=",
        b"Content-Type: multipart/mixed; boundary=\"\"", b"Content-ID: <x>", b"Content-Type: image/png",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(_LINES, max_size=40), st.sampled_from([b"\r\n", b"\n"]))
def test_whatever_comes_is_read_and_written_without_a_fault(lines: list[bytes], end: bytes) -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n"
    body = end.join(lines)
    part = mime.read(head, body)
    attachments.sealed(part, body)
    found = attachments.found(part)
    assert len({each.name.casefold() for each in found}) == len(found)
    for each in found:
        b"".join(attachments.content(each.part, body))
    language.of("", part, body)
    for inner in part.walk():
        assert 0 <= inner.start <= inner.body <= inner.end <= len(body)
    made = b"".join(
        composed(messages.headers(head), part, body, [each.part for each in found], [text_part("t")])
    )
    again, rest = messages.read(made)
    left = attachments.found(again)
    assert not left, (left, made, rest)
