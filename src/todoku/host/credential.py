"""The relay's user name and password, in the file that Postfix reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from todoku.host.client import Host
from todoku.host.files import FileSeen, difference, look_at
from todoku.host.postfix import render_credential
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Change, Impossible, LookFailed
from todoku.settings import CredentialError, Settings


@dataclass(frozen=True, slots=True)
class CredentialSeen:
    """The file as it has to be, and as it is."""

    wanted: RenderedFile
    file: FileSeen


@dataclass(frozen=True, kw_only=True)
class RelayCredentialFile(HostResource[CredentialSeen]):
    """Read from where the administrator keeps the credential only when looked at: it is in no plan."""

    settings: Settings
    given_out: bool = False  # the cloud's credential is put into the administrator's file by the same plan
    environ: Mapping[str, str] = field(repr=False, hash=False, compare=False)

    @property
    def id(self) -> str:
        return "relay-credential"

    def look(self, client: Host) -> CredentialSeen:
        try:
            wanted = render_credential(self.settings, self.environ)
        except (CredentialError, ValueError) as error:
            kind = LookFailed if self.given_out else Impossible
            raise kind(str(error)) from error
        return CredentialSeen(wanted, look_at(wanted, client))

    def differ(self, seen: CredentialSeen) -> Change | None:
        return difference(seen.wanted, seen.file)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        file = self.look(client).wanted
        client.replace(file.path, file.content.encode(), mode=file.mode, owner=file.owner, group=file.group)
