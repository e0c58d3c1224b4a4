"""The JSON Schema of the settings file, for editors that complete and check it (Even Better TOML, taplo)."""

from __future__ import annotations

from typing import Any

from todoku.settings.models import Settings


def schema() -> dict[str, Any]:
    """The schema of todoku.toml: of single values; what has to fit together, only the program checks."""
    made = _without_null(Settings.model_json_schema(mode="validation"))
    # Draft 7 is what taplo reads; nothing here needs a later one.
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made, "title": "todoku.toml"}


def _without_null(node: Any) -> Any:
    """`node` without the null type and null defaults: toml has no null, a key is left out instead."""
    if isinstance(node, list):
        return [_without_null(member) for member in node]
    if not isinstance(node, dict):
        return node
    clean = {
        key: _without_null(value)
        for key, value in node.items()
        if not (key == "default" and value is None) and key != "alternative"
    }
    if isinstance(options := clean.get("anyOf"), list) and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        del clean["anyOf"]
        clean = {**rest[0], **clean} if len(rest) == 1 else {**clean, "anyOf": rest}
    if isinstance(default := clean.get("default"), dict):
        clean["default"] = {key: value for key, value in default.items() if value is not None}
    return clean
