"""A file as it is wanted on the host: what the renderers for Postfix and Dovecot hand over, and what the file
resources compare with what is there.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One whole file. `secret` content is never shown in a plan, and no previous version of it is kept."""

    path: str  # absolute
    content: str = field(repr=False)
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"a rendered file needs an absolute path, not {self.path!r}")
