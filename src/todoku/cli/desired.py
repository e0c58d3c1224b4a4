"""Everything that a settings file wants, of all worlds, in the stages in which it is applied.

Today there is only the host. Whatever else comes adds its resources here, so that they meet in one plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from todoku.plan.stages import Stage
    from todoku.settings import Settings


def stages(settings: Settings) -> Sequence[Stage]:
    """The stages for `settings`; each is called when the one before it is in place."""
    from todoku.host.desired import stages as host

    return host(settings)
