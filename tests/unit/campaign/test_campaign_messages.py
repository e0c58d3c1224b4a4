# "The newsletter arrived as ???": what is written can be read by everybody's program, and by the judge of `check`.

from __future__ import annotations

import base64
import email
import email.policy
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.campaign import message, tokens
from todoku.campaign.errors import CampaignError
from todoku.campaign.message import Letter, Person
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source, TemplateFault, Templates, html_of_mjml
from todoku.campaign.tokens import Keys, Link
from todoku.check import message as judge
from todoku.check.finding import is_failed

KEYS = Keys(bytes(range(64)))
TEXT = "{{ name }}様\n\n" + "日本語の長い文。" * 200 + "\n\n配信停止: {{ unsubscribe }}\n"
HTML = "<p>{{ name }}様</p><p><a href='{{ unsubscribe }}'>配信停止</a></p>"
PERSON = Person(7, "alice@mailbox.example", {"name": "アリス <b>"}, "ja", 99)


def letter(opened: Opened, source: Source) -> Letter:
    return Letter.of(opened, Templates(source), (3, "spring"), (1, "news", "ほげ通信"))


def test_a_japanese_message_is_read_as_it_was_written_and_the_judge_has_nothing_against_it(
    opened: Opened,
) -> None:
    raw = letter(opened, Source("春のお知らせ: {{ name }}様、" + "とても長い件名です" * 8, TEXT, HTML)).write(
        PERSON, opened.clock()
    )
    read = email.message_from_bytes(raw, policy=email.policy.default)
    assert read["Subject"] == "春のお知らせ: アリス <b>様、" + "とても長い件名です" * 8
    assert read["From"].addresses[0].display_name == "ほげ"
    plain, html = read.get_body(("plain",)), read.get_body(("html",))
    assert plain is not None and html is not None
    assert "日本語の長い文。" * 200 in plain.get_content()
    assert "アリス &lt;b&gt;様" in html.get_content()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 200  # only a link is longer than 78
    findings = judge.look(raw, datetime.fromtimestamp(opened.clock(), UTC), is_bulk=True)
    assert not is_failed(findings), [f for f in findings if f.verdict.value == "fail"]


def test_both_unsubscribe_headers_lead_to_a_page_of_this_recipient_alone(opened: Opened) -> None:
    read = email.message_from_bytes(letter(opened, Source("Hi", TEXT)).write(PERSON, 0))
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = read["List-Unsubscribe"].strip("<>")
    assert url.startswith("https://news.hoge.example/unsubscribe/")
    token = url.rpartition("/")[2]
    assert opened.keys.opened(token, "unsubscribe") == Link(7, 1, 99)
    assert "alice" not in url and token != "7"
    assert read["List-Id"].endswith("<news.hoge.example>")
    assert url in base64.b64decode(read.get_payload()).decode()  # type: ignore[arg-type]


def test_the_message_id_stays_the_same_for_the_same_row(opened: Opened) -> None:
    source = Source("Hi", TEXT)
    first, again = (letter(opened, source).write(PERSON, at) for at in (0, 5000))
    other = letter(opened, source).write(Person(7, "alice@mailbox.example", {"name": "x"}, "ja", 100), 0)
    ids = [email.message_from_bytes(raw)["Message-ID"] for raw in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]


def test_a_plain_english_message_is_left_readable(opened: Opened) -> None:
    raw = letter(opened, Source("Hi", "Hello,\nbye.\n")).write(PERSON, 0)
    assert raw.endswith(b"7bit\r\n\r\nHello,\r\nbye.\r\n")


@pytest.mark.parametrize(
    "subject",
    ["{{ nobody }}", "{{ 1/0 }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "", "x" * 300],
)
def test_what_cannot_be_filled_in_is_a_fault_of_the_template(subject: str) -> None:
    with pytest.raises(TemplateFault):
        Templates(Source(subject, "text")).fill({"name": "x"})


def test_an_attribute_cannot_add_a_header(opened: Opened) -> None:
    person = Person(7, "alice@mailbox.example", {"name": "x\r\nBcc: eve@evil.example\r\n\r\nbody"}, "ja", 1)
    read = email.message_from_bytes(letter(opened, Source("{{ name }}", TEXT)).write(person, 0))
    assert read["Bcc"] is None
    assert read["Subject"] == "x Bcc: eve@evil.example body"


def test_mjml_becomes_html_and_keeps_the_marks() -> None:
    text = "<mj-text>{{ name }}</mj-text>"
    source = f"<mjml><mj-body><mj-section><mj-column>{text}</mj-column></mj-section></mj-body></mjml>"
    assert "{{ name }}" in html_of_mjml(source)
    with pytest.raises(TemplateFault):
        html_of_mjml("<mjml><mj-body>")


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.data())
def test_a_token_opens_only_as_it_was_sealed(person: int, row: int, data: st.DataObject) -> None:
    token = KEYS.token(Link(person, 1, row), "unsubscribe")
    assert KEYS.opened(token, "unsubscribe") == Link(person, 1, row)
    assert KEYS.opened(token, "confirm") is None
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda each: each != token[at]))
    assert KEYS.opened(token[:at] + other + token[at + 1 :], "unsubscribe") is None
    assert Keys(bytes(64)).opened(token, "unsubscribe") is None


@given(st.text())
def test_no_text_is_taken_for_a_token(text: str) -> None:
    assert KEYS.opened(text, "unsubscribe") is None


@given(st.text())
def test_whatever_is_written_is_read_again(text: str) -> None:
    part = message._part("plain", text)
    read = email.message_from_bytes(part, policy=email.policy.default)
    payload = read.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().splitlines() == (text.splitlines() or [""])
    assert all(len(line) <= 998 for line in part.split(b"\r\n"))


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    tokens.make(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    tokens.make(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]
    (tmp_path / "short").write_bytes(b"x")
    for broken in ("short", "missing"):
        with pytest.raises(CampaignError):
            tokens.read(tmp_path / broken)
