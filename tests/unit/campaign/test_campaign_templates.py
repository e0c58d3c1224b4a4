# Fast is worth nothing if it is not the same: what is put together without Jinja and without `email` is compared with
# what those make.

from __future__ import annotations

import base64
import email
import email.policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from todoku.campaign import message
from todoku.campaign.message import Letter, Person
from todoku.campaign.template import Source, TemplateFault, Templates, _Text
from todoku.campaign.tokens import Keys

NAMES = ("name", "town", "self", "range", "nobody", "loop")
PIECES = st.one_of(
    st.text(alphabet="a<>&\"'\r\n\t .{}#%日本", max_size=8),
    st.sampled_from([f"{{{{ {name} }}}}" for name in NAMES]),
    st.sampled_from([f"{{{{- {name} -}}}}" for name in NAMES]),
    st.sampled_from(
        [
            "{{ name | upper }}",
            "{{ nobody | default('x') }}",
            "{% if town %}{{ town }}{% endif %}",
            "{# no #}",
            "{% set name = 'y' %}",
            "{{ name ~ town }}",
            "{{ '<' }}",
            "{% raw %}{{ name }}{% endraw %}",
        ]
    ),
)


def outcome(render: object, values: dict[str, str]) -> tuple[str, str]:
    try:
        return "made", render(values)  # type: ignore[operator]
    except Exception as error:
        return type(error).__name__, str(error)


@given(st.lists(PIECES, max_size=6).map("".join), st.booleans(), st.text(max_size=6), st.text(max_size=6))
def test_what_is_put_together_is_what_jinja_makes(source: str, escapes: bool, name: str, town: str) -> None:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=escapes)
    values = {"name": name, "town": town, "self": "me"}
    try:
        text = _Text(environment, "the text", source)
    except TemplateFault:
        return  # not a template: neither can make anything of it
    assert outcome(text.render, values) == outcome(environment.from_string(source).render, values)


def test_most_letters_need_no_jinja() -> None:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=True)
    assert _Text(environment, "", "<p>{{ name }}様</p>\n{{ unsubscribe }}")._pieces is not None
    assert _Text(environment, "", "{{ name | upper }}")._pieces is None


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=250))
def test_a_subject_is_read_as_it_was_written(subject: str) -> None:
    header = message._header("Subject", subject)
    lines = header.split("\r\n")
    assert all(len(line) <= 76 for line in lines) and all(line.startswith(" ") for line in lines[1:])
    read = header.removeprefix("Subject: ").replace("\r\n", "")
    assert str(make_header(decode_header(read))) == subject
    if "=?utf-8?b?" in header:  # each word can be decoded alone (RFC 2047 5)
        words = [word.split("?")[3] for word in header.split(" ")[1:]]
        assert "".join(base64.b64decode(word).decode() for word in words) == subject


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_base64_is_that_of_the_standard_library(text: str) -> None:
    part = message._part("plain", text)
    head, _, body = part.partition(b"\r\n\r\n")
    octets = "\r\n".join(text.splitlines()).encode() + b"\r\n"
    if b"base64" in head:
        assert body == base64.encodebytes(octets).replace(b"\n", b"\r\n")
    else:
        assert body == octets


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=60))
def test_a_whole_message_is_read_as_it_was_written(name: str) -> None:
    source = Source(
        "{{ name }}様へ", "{{ name }}様\n{{ unsubscribe }}\n", "<p>{{ name }}</p>{{ preferences }}"
    )
    names = (3, "spring", 1, "news", "ほげ通信", "news@hoge.example", "ほげ", "https://news.hoge.example")
    letter = Letter(Keys(bytes(range(64))), Templates(source), *names)
    person = Person(7, "alice@mailbox.example", {"name": name}, "ja", 99)
    read = email.message_from_bytes(letter.write(person, 1_790_000_000.0), policy=email.policy.default)
    filled = letter.templates.fill(letter.values(person))
    plain, html = read.get_body(("plain",)), read.get_body(("html",))
    assert plain is not None and html is not None and filled.html is not None
    for part, text in ((plain, filled.text), (html, filled.html)):
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload.decode().splitlines() == text.splitlines()
    assert read["Date"] == "Mon, 21 Sep 2026 14:13:20 -0000"


def test_a_character_that_no_message_can_have_is_a_fault_of_the_template() -> None:
    names = (3, "spring", 1, "news", "ほげ通信", "news@hoge.example", "ほげ", "https://news.hoge.example")
    letter = Letter(Keys(bytes(64)), Templates(Source("Hi", "{{ '\\ud800' }}")), *names)
    with pytest.raises(TemplateFault, match="no message can have"):
        letter.write(Person(1, "alice@mailbox.example", {}, "ja", 1), 0)
