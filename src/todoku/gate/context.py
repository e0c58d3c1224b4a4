"""What rules know besides the message: loaded at start and on reload, the same for a whole message.

Loaded in the parent before it forks: nothing in it may hold an open connection or file (those are opened lazily,
in each worker). What the directory and `todoku apply` write is read anew when it changes, without a reload.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from todoku.gate.aliases import VIRTUAL_ALIAS, AliasBook
from todoku.gate.book import APPROVED, SENDER_LOGIN, ApprovedSenders, SenderBook, Suppressions

if TYPE_CHECKING:
    from todoku.gate.limits import Limits
    from todoku.settings import Settings


@dataclass(frozen=True, slots=True)
class Context:
    """`limits` None: nothing is counted."""

    settings: Settings | None = None
    senders: SenderBook = field(default_factory=SenderBook)
    approval: ApprovedSenders = field(default_factory=ApprovedSenders)
    limits: Limits | None = None
    aliases: AliasBook = field(default_factory=AliasBook)
    suppressions: Suppressions = field(default_factory=Suppressions)

    @property
    def site(self) -> Settings:
        """The settings, which every gate but one under test has. RuntimeError without."""
        if self.settings is None:
            raise RuntimeError("this rule needs the settings, and the gate was started without")
        return self.settings

    @property
    def approved(self) -> frozenset[str] | None:
        """The senders approved at the relay, "@domain" for a whole domain; None when it is not known."""
        return self.approval.now


def load(
    config: Path,
    *,
    sender_login: Path = SENDER_LOGIN,
    approved: Path = APPROVED,
    virtual_alias: Path = VIRTUAL_ALIAS,
) -> Context:
    """The context of a gate that works. Raises SettingsError."""
    from todoku.gate.limits import Limits
    from todoku.settings import load as load_settings

    settings = load_settings(config)
    if settings.protect.on:  # while its files can be read
        from todoku.protect import object_store, speed

        speed.prepare()
        object_store.prepare(settings)
    return Context(
        settings,
        SenderBook(sender_login),
        ApprovedSenders(approved),
        Limits(settings),
        AliasBook(virtual_alias),
    )
