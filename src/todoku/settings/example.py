"""The commented example of a settings file, made from the fields of the models: it is never out of date.

Two kinds of comment: "# text" explains, "#key = value" is a line to activate by removing the "#".
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from todoku.settings.base import Frozen, part_of
from todoku.settings.literals import literal
from todoku.settings.models import Settings

_HEADER = """\
Settings of Todoku, the mail system of this machine: /etc/todoku/todoku.toml

What you have to decide is active below; what has a good default stands behind a # without a space.
Check with `todoku settings check`, look at what would change with `todoku plan`, then `todoku apply`.
"""


def example() -> str:
    """A complete todoku.toml for hoge.example."""
    return "\n".join([*_comment(_HEADER), "", *_keys(Settings), *_tables(Settings, "")]).rstrip() + "\n"


def _keys(model: type[Frozen], mark: str = "") -> Iterator[str]:
    """The plain values of a model; `mark` is put before the active ones."""
    for name, field in model.model_fields.items():
        if part_of(field)[0] is not None:
            continue
        line = f"{name} = {literal(field.examples[0] if field.examples else '')}"
        yield from _comment(field.description or "")
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("alternative"):
            yield f"# {line}"  # it excludes another key, so it is only shown
        else:
            yield f"{mark if field.is_required() else '#'}{line}"
        yield ""


def _tables(model: type[Frozen], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner, several = part_of(field)
        if inner is None:
            continue
        header = f"[[{prefix}{name}]]" if several else f"[{prefix}{name}]"
        mark = "#" if (several or field.default is None) and not field.is_required() else ""
        yield from _comment(field.description or "")
        yield f"{mark}{header}"
        yield from _keys(inner, mark)
        yield from _tables(inner, f"{prefix}{name}.")


def _comment(text: str) -> list[str]:
    lines = []
    for paragraph in text.rstrip("\n").split("\n"):
        lines += textwrap.wrap(paragraph, 98, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"# {line}".rstrip() for line in lines]
