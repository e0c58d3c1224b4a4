"""Documentation written by hand goes stale: the example and the schema come from the models."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from todoku.settings import Settings, parse
from todoku.settings.base import Frozen, part_of
from todoku.settings.example import example
from todoku.settings.regions import REGIONS
from todoku.settings.schema import schema
from todoku.settings.values import size

OPTIONAL = re.compile(r"^#(?=[a-z_]+ = |\[)", re.MULTILINE)


def models(model: type[Frozen] = Settings) -> Iterator[type[Frozen]]:
    yield model
    for field in model.model_fields.values():
        inner, _ = part_of(field)
        if inner is not None:
            yield from models(inner)


def test_the_example_is_a_valid_file() -> None:
    settings = parse(example(), "example")
    assert settings.hostname == "mx.hoge.example"
    assert [str(address) for address in settings.addresses] == ["203.0.113.10", "2001:db8:10::10"]
    assert settings.postmaster == "alice@hoge.example"
    assert settings.relay.region == "ap-tokyo-1"


def test_the_example_with_every_optional_line_active_is_valid_too() -> None:
    text, number = OPTIONAL.subn("", example())
    assert number > 15
    settings = parse(text, "example")
    assert settings.devices[0].sender == "scanner@hoge.example"
    assert settings.tls.key is not None


@pytest.mark.parametrize("at", range(len(OPTIONAL.findall(example()))))
def test_optional_lines_are_only_ever_comments_of_one_kind(at: int) -> None:
    found = list(OPTIONAL.finditer(example()))[at]
    line = example()[found.end() :].partition("\n")[0]
    tomllib.loads(line)


def test_the_optional_lines_show_the_real_defaults() -> None:
    plain = parse(example(), "example")
    active = parse(OPTIONAL.sub("", example()), "example")
    for part in ("clients", "accounts", "limits", "gate", "domains"):
        shown, default = getattr(active, part), getattr(plain, part)
        if part == "domains":
            assert shown[0].dmarc.policy == default[0].dmarc.policy
        else:
            assert shown == default
    assert active.relay.plan == plain.relay.plan
    assert active.relay.model_copy(update={"host": None, "spf_include": ()}) == plain.relay
    assert active.host_sender == plain.host_sender


@pytest.mark.parametrize(
    "model", sorted(set(models()), key=lambda model: model.__name__), ids=lambda model: model.__name__
)
def test_every_field_is_described_and_shown_in_the_example(model: type[Frozen]) -> None:
    text = example()
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        if part_of(field)[0] is None:
            assert re.search(rf"^#? ?{name} = ", text, re.MULTILINE), name


def test_the_schema_lets_an_editor_complete_and_explain() -> None:
    made = schema()
    assert made["$schema"].startswith("http://json-schema.org/draft-07/")
    relay = made["$defs"]["Relay"]["properties"]
    assert set(relay["region"]["enum"]) == set(REGIONS)
    assert relay["port"]["enum"] == [587, 465]
    assert made["$defs"]["Accounts"]["properties"]["mode"]["enum"] == ["virtual", "system"]
    for part in (made, *made["$defs"].values()):
        assert part["additionalProperties"] is False
        for name, value in part["properties"].items():
            assert value.get("description") or "$ref" in value, name
    assert made["required"] == ["hostname", "addresses", "postmaster", "domains", "relay"]


def test_the_schema_knows_no_null_because_toml_has_none() -> None:
    assert "null" not in str(schema())
    assert "None" not in str(schema())


@pytest.mark.parametrize(
    "written", ["25 MB", "2 GiB", "1.5 GB", "500 kB", "12 bytes", "2MB", "25", "2 M", "MB"]
)
def test_the_schema_takes_the_sizes_that_the_program_takes(written: str) -> None:
    pattern = schema()["$defs"]["Limits"]["properties"]["message_size"]["pattern"]
    try:
        size(written)
        taken = True
    except ValueError:
        taken = False
    assert bool(re.search(pattern, written)) == taken
