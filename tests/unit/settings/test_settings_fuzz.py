"""Whatever is in the file, people get a `SettingsError` with a place and a fix, never a traceback."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from todoku.settings import Settings, SettingsError, parse
from todoku.settings.example import example as example_file
from todoku.settings.literals import literal

FIELDS = [
    "hostname",
    "addresses",
    "postmaster",
    "host_sender",
    "domains",
    "relay",
    "clients",
    "accounts",
    "limits",
]
FIELDS += [
    "tls",
    "devices",
    "name",
    "dmarc",
    "policy",
    "reports",
    "region",
    "port",
    "host",
    "credential_file",
]
FIELDS += [
    "credential_env",
    "plan",
    "per_day",
    "message_size",
    "networks",
    "mode",
    "quota",
    "address",
    "sender",
]
WORDS = [
    "hoge.example",
    "xn--18j4d.example",
    "ほげ.example",
    "alice@hoge.example",
    "203.0.113.10",
    "2001:db8::/32",
]
WORDS += [
    "ap-tokyo-1",
    "us-gov-ashburn-1",
    "none",
    "2 MB",
    "/etc/x",
    "A",
    "{message}",
    "%s",
    "fe80::1%0",
    "a@[::]",
    "",
]

keys = st.sampled_from(FIELDS) | st.text(max_size=5)
scalars = (
    st.sampled_from(WORDS)
    | st.text(max_size=30)
    | st.integers()
    | st.booleans()
    | st.floats()
    | st.sampled_from([587, 0, -1])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
# A valid document in which single things are replaced: gets deeper than noise does.
BASE = tomllib.loads(example_file())


def check(text: str) -> None:
    try:
        assert isinstance(parse(text, "fuzz"), Settings)
    except SettingsError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.message
            assert problem.fix
            assert problem.line is None or 1 <= problem.line <= text.count("\n") + 1
        str(error)


def toml(document: dict[str, Any]) -> str:
    return "\n".join(literal({key: value})[2:-2] for key, value in document.items())


@given(st.text(max_size=300))
@settings(deadline=None)
@example("a = 0x" + "f" * 5000)
@example("hostname = 0x" + "f" * 5000)
@example("a." * 5000 + "a = 1")
@example("hostname = '" + "é" * 5000 + ".example'")
@example("hostname = 'xn--" + "a" * 50000 + "'")
def test_any_text_is_settings_or_an_explained_error(text: str) -> None:
    check(text)


@given(st.text(alphabet="abh=.,[]{}\"'\\#\n\r\t 0123-_:ほ＝", max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_almost_toml_is_settings_or_an_explained_error(text: str) -> None:
    check(text)


@given(st.dictionaries(keys, values, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_values_are_settings_or_an_explained_error(document: dict[str, Any]) -> None:
    check(toml(document))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_change_to_a_valid_file_is_settings_or_an_explained_error(data: st.DataObject) -> None:
    document = {**BASE}
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(FIELDS[:11]))
        document[key] = data.draw(values)
        if isinstance(BASE.get(key), dict) and data.draw(st.booleans()):
            document[key] = {**BASE[key], data.draw(keys): data.draw(values)}
        if key in ("domains", "devices") and data.draw(st.booleans()):
            document[key] = [{"name": "hoge.example", data.draw(keys): data.draw(scalars)}, data.draw(values)]
    check(toml(document))
