"""What rules know besides the message: loaded at start and on reload, frozen, the same for a whole message.

Loaded in the parent before it forks: nothing in it may hold an open connection or file (open those lazily, per
worker).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from todoku.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings | None = None
