"""The object store for attachments, where the settings name one: its credential for the gate and the page, and whether
it can be used."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from todoku.host.client import Host
from todoku.host.daemons import gate
from todoku.host.files import FileSeen, difference, look_at
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Change, Impossible, LookFailed
from todoku.protect import object_store, shelf
from todoku.settings import CredentialError, Settings, StoreCredential, read_store

CREDENTIAL = str(object_store.CREDENTIAL)
CREDENTIAL_ID = "store-credential"


def files(settings: Settings) -> tuple[str, ...]:
    """What the gate and the page read only when they start."""
    return (CREDENTIAL,) if settings.protect.links and settings.protect.store else ()


def resources(settings: Settings, group: str) -> list[HostResource[Any]]:
    """`group` reads the credential with the gate. Raises LookFailed."""
    if not files(settings):
        return []
    if importlib.util.find_spec("botocore") is None:
        raise LookFailed(
            "[protect.store] needs botocore: pip install 'todoku[object-store]' in Todoku's environment"
        )
    return [
        StoreCredentialFile(
            reason="the gate and the page write to the object store",
            settings=settings,
            group=group,
            after=frozenset({f"folder:{shelf.ROOT}", f"user:{gate.USER}", f"group:{group}"}),
        ),
        StoreInUse(reason="attachments lie there, encrypted", settings=settings),
    ]


@dataclass(frozen=True, slots=True)
class CredentialSeen:
    """The file as it has to be, and as it is."""

    wanted: RenderedFile
    file: FileSeen


@dataclass(frozen=True, kw_only=True)
class StoreCredentialFile(HostResource[CredentialSeen]):
    """Read from the administrator's file only when looked at: it is in no plan."""

    settings: Settings
    group: str

    @property
    def id(self) -> str:
        return CREDENTIAL_ID

    def look(self, client: Host) -> CredentialSeen:
        found = _credential(self.settings)
        content = f"{found.access_key}\n{found.secret_key}\n"
        wanted = RenderedFile(CREDENTIAL, content, mode=0o640, owner=gate.USER, group=self.group, secret=True)
        return CredentialSeen(wanted, look_at(wanted, client))

    def differ(self, seen: CredentialSeen) -> Change | None:
        return difference(seen.wanted, seen.file)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        file = self.look(client).wanted
        client.replace(file.path, file.content.encode(), mode=file.mode, owner=file.owner, group=file.group)


@dataclass(frozen=True, kw_only=True)
class StoreInUse(HostResource[None]):
    """Nothing is made there: looking fails while the store cannot be used, and says why."""

    settings: Settings

    @property
    def id(self) -> str:
        return "object-store"

    def look(self, client: Host) -> None:  # noqa: ARG002
        try:
            store = object_store.of(self.settings, _credential(self.settings))
            assert store is not None, "asked for only where there is one"  # noqa: S101
            store.look()
        except object_store.StoreFailed as problem:
            raise LookFailed(str(problem)) from problem

    def differ(self, seen: None) -> Change | None:  # noqa: ARG002
        return None

    def change(self, change: Change, client: Host) -> None:
        """Never needed: `differ` says so."""


def _credential(settings: Settings) -> StoreCredential:
    assert settings.protect.store is not None, "asked for only where there is one"  # noqa: S101
    try:
        return read_store(settings.protect.store.credential_file)
    except CredentialError as error:
        raise Impossible(str(error)) from error
