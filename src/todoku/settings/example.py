"""The commented example of a settings file, made from the fields of the models: it is never out of date.

Two kinds of comment: "# text" explains, "#key = value" is a line to activate by removing the "#".
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from todoku.settings.base import Frozen, part_of
from todoku.settings.literals import literal
from todoku.settings.models import Settings

_HEADER = """\
Settings of Todoku, the mail system of this machine: /etc/todoku/todoku.toml

What you have to decide is active below; what has a good default stands behind a # without a space.
Check with `todoku settings check`, look at what would change with `todoku plan`, then `todoku apply`.
"""


def example(values: Mapping[str, Any] | None = None) -> str:
    """A complete todoku.toml for hoge.example, or with `values` in it: what stands at a dotted key, such as
    "relay.region", or "domains.name" for the first domain. A table of which nothing is given stays commented out,
    unless it is needed."""
    given = values or {}
    lines = [*_comment(_HEADER), "", *_keys(Settings, "", given), *_tables(Settings, "", given)]
    return "\n".join(lines).rstrip() + "\n"


def _keys(model: type[Frozen], prefix: str, given: Mapping[str, Any], mark: str = "") -> Iterator[str]:
    """The plain values of a model; `mark` is put before the active ones."""
    for name, field in model.model_fields.items():
        if part_of(field)[0] is not None:
            continue
        yield from _comment(field.description or "")
        if f"{prefix}{name}" in given:
            yield f"{name} = {literal(given[f'{prefix}{name}'])}"
            yield ""
            continue
        line = f"{name} = {literal(field.examples[0] if field.examples else '')}"
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("alternative"):
            yield f"# {line}"  # it excludes another key, so it is only shown
        else:
            yield f"{mark if field.is_required() else '#'}{line}"
        yield ""


def _tables(model: type[Frozen], prefix: str, given: Mapping[str, Any]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner, several = part_of(field)
        if inner is None:
            continue
        below = f"{prefix}{name}."
        header = f"[[{prefix}{name}]]" if several else f"[{prefix}{name}]"
        optional = (several or field.default is None) and not field.is_required()
        mark = "#" if optional and not any(key.startswith(below) for key in given) else ""
        yield from _comment(field.description or "")
        yield f"{mark}{header}"
        yield from _keys(inner, below, given, mark)
        yield from _tables(inner, below, given)


def _comment(text: str) -> list[str]:
    lines = []
    for paragraph in text.rstrip("\n").split("\n"):
        lines += textwrap.wrap(paragraph, 98, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"# {line}".rstrip() for line in lines]
