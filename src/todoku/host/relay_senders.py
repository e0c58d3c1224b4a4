"""The senders that the relay takes, as the cloud has them now, in a file for the gate: it refuses at once what the
relay would refuse later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from todoku.host.client import Host
from todoku.host.files import FileSeen, difference, look_at
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Change

PATH = "/var/lib/todoku/gate/approved"
_HEADER = (
    "# Approved senders at the relay, as `todoku apply` last saw them; @domain stands for all of a domain.\n"
)


def approved(file: Path | None = None) -> frozenset[str] | None:
    """What the file says, in lower case; None where it cannot be read."""
    try:
        text = (file or Path(PATH)).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return frozenset(line.strip().lower() for line in text.splitlines() if line and line[0] != "#")


@dataclass(frozen=True, slots=True)
class SendersSeen:
    """The file as it has to be, and as it is."""

    wanted: RenderedFile
    file: FileSeen


@dataclass(frozen=True, kw_only=True)
class RelaySenders(HostResource[SendersSeen]):
    """`ask` tells the addresses that are approved now. Raises what it raises."""

    ask: Callable[[], Sequence[str]] = field(repr=False, hash=False, compare=False)

    @property
    def id(self) -> str:
        return f"file:{PATH}"

    def look(self, client: Host) -> SendersSeen:
        content = _HEADER + "".join(f"{address}\n" for address in sorted(self.ask()))
        wanted = RenderedFile(PATH, content)
        return SendersSeen(wanted, look_at(wanted, client))

    def differ(self, seen: SendersSeen) -> Change | None:
        return difference(seen.wanted, seen.file)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        file = self.look(client).wanted
        client.replace(file.path, file.content.encode(), mode=file.mode, owner=file.owner, group=file.group)
