# Headers that receivers read in different ways (two Subjects, raw bytes) do not leave; Date and Message-ID do.

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outbound_mail import ALICE, PLAIN, Site, changed, decided, eml, refused

from todoku.gate import changes
from todoku.gate.decision import PASS, AddHeader, ChangeHeader, HoldBack, Refuse
from todoku.gate.message import MessageSoFar
from todoku.gate.rules.complete import complete
from todoku.gate.rules.eight_bit import eight_bit
from todoku.gate.rules.single import ONCE, single


def _apply(message: MessageSoFar, modifications: list[object]) -> MessageSoFar:
    for modification in modifications:
        changes.apply(modification, message)  # type: ignore[arg-type]
    return message


# --- once ---


@pytest.mark.parametrize("name", ONCE)
def test_a_header_that_may_be_there_once_is_refused_when_it_is_there_twice(site: Site, name: str) -> None:
    assert single(site.message(eml(f"{name}: a"))) is PASS
    said = refused(single(site.message(eml(f"{name}: a", "X: y", f"{name.upper()}: a"))))
    assert said == f"550 5.6.0 The message has 2 {name} headers; RFC 5322 3.6 allows one"


def test_headers_that_may_be_repeated_are_left_alone(site: Site) -> None:
    assert single(site.message(eml("Received: a", "Received: b", "Comments: a", "Comments: b"))) is PASS
    assert single(site.from_outside(eml("Subject: a", "Subject: b"))) is PASS


# --- US-ASCII ---


@pytest.mark.parametrize(
    "header",
    ["Subject: 見積もり", "From: ありす <alice@hoge.example>", "X-ほげ: 1", "To: b\u00fcro@x.example"],
)
def test_raw_characters_of_a_mail_program_are_refused_and_the_header_is_named(
    site: Site, header: str
) -> None:
    said = refused(eight_bit(site.message(eml(header))))
    assert said.startswith("550 5.6.7 The header " + header.partition(":")[0])
    assert "RFC 5322 2.2" in said
    assert "RFC 2047" in said


def test_encoded_words_pass(site: Site) -> None:
    assert eight_bit(site.message(eml("Subject: =?utf-8?B?6KaL56mN44KC44KK?="))) is PASS


@pytest.mark.parametrize("subject", ["見積もり", "ディスクの残りが少なくなりました " * 20, "caf\u00e9 " * 60])
def test_the_subject_of_a_script_or_scanner_is_encoded_instead(site: Site, subject: str) -> None:
    for message in (site.from_host(eml(f"Subject: {subject}")), site.from_device(eml(f"Subject: {subject}"))):
        _apply(message, changed(eight_bit(message)))
        raw = message.headers.raw()
        assert raw.isascii()
        assert max(map(len, raw.split(b"\r\n"))) <= 78
        from email import message_from_bytes, policy

        assert message_from_bytes(raw, policy=policy.default)["Subject"].strip() == subject.strip()


@pytest.mark.parametrize("header", [b"Subject: \x93\xfa\x96{", "From: ありす <alice@hoge.example>".encode()])
def test_what_cannot_be_encoded_for_sure_is_refused_from_a_script_too(site: Site, header: bytes) -> None:
    assert "RFC 5322 2.2" in refused(eight_bit(site.from_host(header + b"\r\n\r\n")))


def test_mail_from_outside_keeps_its_raw_characters(site: Site) -> None:
    assert eight_bit(site.from_outside(eml("Subject: 見積もり"))) is PASS


# --- Date and Message-ID ---


def test_date_and_message_id_are_added_where_they_are_missing(site: Site) -> None:
    date, message_id = changed(complete(site.message(PLAIN)))
    assert isinstance(date, AddHeader)
    assert isinstance(message_id, AddHeader)
    assert (date.name, message_id.name) == ("Date", "Message-ID")
    assert parsedate_to_datetime(date.value).year >= 2024
    assert message_id.value.startswith("<")
    assert message_id.value.endswith("@hoge.example>")


def test_what_is_there_stays(site: Site) -> None:
    complete_one = eml(f"From: {ALICE}", "DATE: Tue, 24 Nov 2026 00:00:00 +0000", "Message-Id: <a@b>")
    assert complete(site.message(complete_one)) is PASS
    (only,) = changed(complete(site.message(eml("Date: Tue, 24 Nov 2026 00:00:00 +0000"))))
    assert isinstance(only, AddHeader)
    assert only.name == "Message-ID"


def test_a_header_without_a_value_gets_one_instead_of_a_second_header(site: Site) -> None:
    message = site.message(eml("Date: ", "Message-ID:"))
    modifications = changed(complete(message))
    assert [type(each) for each in modifications] == [ChangeHeader, ChangeHeader]
    assert single(_apply(message, modifications)) is PASS


def test_scanners_and_scripts_are_helped_and_mail_from_outside_is_not_touched(site: Site) -> None:
    assert len(changed(complete(site.from_device(PLAIN)))) == 2
    assert len(changed(complete(site.from_host(PLAIN)))) == 2
    assert complete(site.from_outside(PLAIN)) is PASS


# --- anything ---


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["From", "Sender", *ONCE, "X-Y"]), st.binary(max_size=60)), max_size=6)
)
def test_no_header_makes_a_rule_fail(
    tmp_path_factory: pytest.TempPathFactory, headers: list[tuple[str, bytes]]
) -> None:
    from todoku.gate.rules import LAST, OUTBOUND

    site = Site(tmp_path_factory.mktemp("any"), approved="@hoge.example")
    raw = b"".join(
        name.encode() + b": " + value.replace(b"\r", b"").replace(b"\n", b"\n ").replace(b"\0", b"") + b"\r\n"
        for name, value in headers
    )
    for made in (site.message, site.from_host, site.from_device, site.from_outside):
        message = made(raw + b"\r\n")
        for placed in (*OUTBOUND, *(last for last in LAST if last.name == "spending")):
            decision = decided(placed.rule, message)
            if isinstance(decision, Refuse | HoldBack):
                break  # as in a session: the rules behind it rely on it
            for modification in getattr(decision, "modifications", ()):
                changes.apply(modification, message)
