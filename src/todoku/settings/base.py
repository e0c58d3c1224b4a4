"""What every part of the settings is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class NotKnownError(AttributeError):
    """A field of an incomplete model was asked for: its own value is wrong, so nothing follows from it."""


class Frozen(BaseModel):
    """What all parts of the settings have in common: they never change, and know no other keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    if not TYPE_CHECKING:
        # `diagnosis` makes models from the fields that are right, and leaves out the others.
        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise NotKnownError(name)
            return super().__getattr__(name)


def part_of(field: FieldInfo) -> tuple[type[Frozen] | None, bool]:
    """The model that a field holds (a table in the file), and whether several; None for a plain value."""
    members = get_args(field.annotation)
    held = members[0] if members else field.annotation
    if isinstance(held, type) and issubclass(held, Frozen):
        return held, get_origin(field.annotation) is tuple
    return None, False
