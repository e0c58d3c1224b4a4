"""Everything that is wrong with a document at once: pydantic does not look at what has to fit together until
each value is right, but people want to hear of all their mistakes in one go.

The document is read field by field. What is right goes into incomplete models, on which the rules are tried.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import Annotated, Any, cast, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from todoku.settings import rules
from todoku.settings.base import Frozen, part_of
from todoku.settings.literals import literal
from todoku.settings.models import Settings
from todoku.settings.problems import Fault, KeyPath, dotted
from todoku.settings.values import kind

_SECRETS = ("password", "passwd", "pass", "secret", "username", "user", "credential", "credentials")


def faults(document: dict[str, Any]) -> list[Fault]:
    """All that is wrong with `document`, a toml file's content."""
    reader = _Reader()
    draft = cast(Settings, reader.model(Settings, document, ()))
    return reader.faults + rules.faults(draft)


def from_pydantic(error: ErrorDetails, path: KeyPath, field: FieldInfo | None = None) -> Fault:
    """What pydantic found wrong with the value at `path`, in our words."""
    path = (*path, *error["loc"])
    context = error.get("ctx", {})
    if error["type"] == "todoku":
        return Fault(path, str(context["message"]), str(context["fix"]))
    found = kind(error["input"])
    if error["type"] == "literal_error" and field is not None:
        choices = [literal(choice) for choice in get_args(field.annotation)]
        fix = f"write {' or '.join(choices)}"
        if isinstance(error["input"], str):
            if error["input"] in choices:
                fix = f"write {error['input']} without quotes"
            elif near := _nearest(literal(error["input"]).lower(), choices):
                fix = f"did you mean {near}?"
        return Fault(path, f"is {found}, but can only be one of {', '.join(choices)}", fix)
    example = f"write for example {literal(field.examples[0])}" if field and field.examples else "correct it"
    if error["type"] == "tuple_type":
        return Fault(path, f"is {found}, but has to be a list", example)
    return Fault(path, f"is {found}: {error['msg']}", example)


class _Reader:
    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def model(self, model: type[Frozen], table: dict[str, Any], path: KeyPath) -> Frozen:
        """A model with those fields that are right, and without the others."""
        table = self._spelt_right(model, table, path)
        right: dict[str, Any] = {}
        for name, field in model.model_fields.items():
            if name in table:
                for value in self._field(model, name, field, table[name], (*path, name)):
                    right[name] = value
            elif field.is_required():
                self.faults.append(_missing(name, field, path))
            else:
                right[name] = field.get_default(call_default_factory=True, validated_data=right)
        draft = model.model_construct(_fields_set=set(table) & set(right), **right)
        for name in set(vars(draft)) - set(right):  # construct() put in defaults for what is wrong
            del vars(draft)[name]
        return draft

    def _spelt_right(self, model: type[Frozen], table: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        """`table` with the known keys only; a misspelt one is reported, then taken for what it means."""
        known = {key: value for key, value in table.items() if key in model.model_fields}
        for key in table.keys() - known.keys():
            meant, fault = _unknown(model, (*path, key))
            self.faults.append(fault)
            if meant and meant not in known:
                known[meant] = table[key]
        return known

    def _field(
        self, model: type[Frozen], name: str, field: FieldInfo, value: Any, path: KeyPath
    ) -> Iterator[Any]:
        """The value of a field if there is one that makes sense, else nothing."""
        part, several = part_of(field)
        if part is None:
            try:
                yield _adapter(model, name).validate_python(value)
            except ValidationError as error:
                self.faults += (from_pydantic(each, path, field) for each in error.errors(include_url=False))
        elif several and isinstance(value, list):
            yield tuple(
                self._table(part, member, (*path, index), f"[[{name}]]") for index, member in enumerate(value)
            )
        elif several:
            brackets = " with two brackets on each side" if isinstance(value, dict) else ""
            self.faults.append(
                Fault(
                    path, f"is {kind(value)}, but there can be several", f"write [[{dotted(path)}]]{brackets}"
                )
            )
        elif isinstance(value, dict):
            yield self.model(part, value, path)
        else:
            yield self._table(part, value, path, f"[{dotted(path)}]")

    def _table(self, part: type[Frozen], value: Any, path: KeyPath, header: str) -> Frozen:
        if isinstance(value, dict):
            return self.model(part, value, path)
        self.faults.append(
            Fault(
                path,
                f"is {kind(value)}, but has to be a table",
                f"write {header}, and its keys on the lines below",
            )
        )
        nothing = part.model_construct()
        vars(nothing).clear()
        return nothing


@functools.cache
def _adapter(model: type[Frozen], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    held: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(held)


def _missing(name: str, field: FieldInfo, path: KeyPath) -> Fault:
    part, several = part_of(field)
    if part is not None:
        inner, inner_field = next((n, f) for n, f in part.model_fields.items() if f.is_required())
        header = f"[[{name}]]" if several else f"[{name}]"
        fix = f"add {header}, and below it {inner} = {_example(inner_field)}"
    else:
        where = " in this table" if path else " at the top of the file"
        fix = f"add {name} = {_example(field)}{where}"
    return Fault((*path, name), "is missing", fix)


def _example(field: FieldInfo) -> str:
    return literal(field.examples[0]) if field.examples else "..."


def _unknown(model: type[Frozen], path: KeyPath) -> tuple[str | None, Fault]:
    """The key that was probably meant, if it is one of the same table, and what to say."""
    key = str(path[-1])
    message = "is not a key that exists here"
    if key.lower() in ("password", "database_password") and "database_password_file" in model.model_fields:
        fix = "write the password into a file that only root can read, and name that: database_password_file"
        return None, Fault(path, "does not belong in this file, which is no place for secrets", fix)
    if key.lower() in _SECRETS:
        fix = "write user name and password into the file that relay.credential_file names, each on a line"
        return None, Fault(path, "does not belong in this file, which is no place for secrets", fix)
    if home := _home(key):
        return None, Fault(path, message, f"move it {home}")
    if near := _nearest(key.lower().replace("-", "_"), list(model.model_fields)):
        return near, Fault(path, message, f"did you mean {near}?")
    return None, Fault(path, message, f"remove it; the keys here are: {', '.join(model.model_fields)}")


def _home(key: str) -> str | None:
    """Where a misplaced key belongs: often it slid below the header of a table."""
    if key in Settings.model_fields:
        return "to the top of the file, above the first [table]"
    for name, field in Settings.model_fields.items():
        part, several = part_of(field)
        for owner, header in ((part, name), *((part_of(f)[0], f"{name}.{n}") for n, f in _fields(part))):
            if owner is not None and key in owner.model_fields:
                return f"below [[{header}]]" if several and owner is part else f"below [{header}]"
    return None


def _fields(model: type[Frozen] | None) -> list[tuple[str, FieldInfo]]:
    return list(model.model_fields.items()) if model else []


def _nearest(text: str, choices: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(text, choices, n=1, cutoff=0.7)), None)
