"""Folders and whole files: compared by content, mode and owner, shown as a unified diff, replaced atomically.

The version that was there before is kept under /var/lib/todoku/previous/ with its mode and owner, except for
secrets, which exist once.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from todoku.host.client import Host, Stat
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, LookFailed

PREVIOUS = "/var/lib/todoku/previous"
_LONGEST_NEW_FILE = 60  # lines of a new file that are shown


@dataclass(frozen=True, slots=True)
class FileSeen:
    """A file as it is; `content` and `stat` are None when there is none."""

    content: bytes | None = field(repr=False, default=None)
    stat: Stat | None = None


@dataclass(frozen=True, kw_only=True)
class Directory(HostResource[Stat | None]):
    """A folder with its mode and owner. What is in it is nobody's business here."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"

    @property
    def id(self) -> str:
        return f"folder:{self.path}"

    def look(self, client: Host) -> Stat | None:
        seen = client.stat(self.path)
        if seen is not None and seen.kind != "directory":
            raise LookFailed(f"{self.path} has to be a folder, but a file is in its place: move it away")
        return seen

    def differ(self, seen: Stat | None) -> Change | None:
        wanted = f"{self.mode:04o} {self.owner}:{self.group}"
        if seen is None:
            return Change(Action.CREATE, f"create the folder {self.path} ({wanted})")
        if (seen.mode, seen.owner, seen.group) != (self.mode, self.owner, self.group):
            return Change(
                Action.UPDATE, f"{self.path}: {seen.mode:04o} {seen.owner}:{seen.group} -> {wanted}"
            )
        return None

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        client.make_directory(self.path, self.mode, self.owner, self.group)


@dataclass(frozen=True, kw_only=True)
class File(HostResource[FileSeen]):
    """One whole file."""

    file: RenderedFile

    @property
    def id(self) -> str:
        return f"file:{self.file.path}"

    def look(self, client: Host) -> FileSeen:
        return look_at(self.file, client)

    def differ(self, seen: FileSeen) -> Change | None:
        return difference(self.file, seen)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        keep_previous(self.file, client)
        client.replace(
            self.file.path,
            self.file.content.encode(),
            mode=self.file.mode,
            owner=self.file.owner,
            group=self.file.group,
        )


def look_at(file: RenderedFile, client: Host) -> FileSeen:
    """What is at the file's path. Raises LookFailed when that is not a file, OSError."""
    stat = client.stat(file.path)
    if stat is None:
        return FileSeen()
    if stat.kind != "file":
        raise LookFailed(f"{file.path} has to be a file, but a {stat.kind} is in its place: move it away")
    return FileSeen(client.read(file.path), stat)


def difference(file: RenderedFile, seen: FileSeen) -> Change | None:
    """What would change at the file's path, as a diff unless the file is secret."""
    if seen.content is None or seen.stat is None:
        return Change(Action.CREATE, f"create {file.path}", _new_file(file))
    if seen.content != file.content.encode():
        return Change(Action.UPDATE, f"replace {file.path}", _diff(file, seen.content))
    is_now = f"{seen.stat.mode:04o} {seen.stat.owner}:{seen.stat.group}"
    wanted = f"{file.mode:04o} {file.owner}:{file.group}"
    if is_now != wanted:
        return Change(Action.UPDATE, f"{file.path}: {is_now} -> {wanted}")
    return None


def keep_previous(file: RenderedFile, client: Host) -> None:
    """Keep what is at the file's path as its previous version, unless it is secret or stays the same."""
    content, stat = client.read(file.path), client.stat(file.path)
    if file.secret or content is None or stat is None or content == file.content.encode():
        return
    client.make_directory(PREVIOUS, 0o700)
    kept = f"{PREVIOUS}{file.path}"
    client.make_directory(kept.rpartition("/")[0])
    owner = stat.owner if client.has_user(stat.owner) else "root"
    group = stat.group if client.has_group(stat.group) else "root"
    client.replace(kept, content, mode=stat.mode, owner=owner, group=group)


def _new_file(file: RenderedFile) -> str:
    lines = file.content.splitlines()
    if file.secret:
        return "a new file (secret, not shown)"
    if len(lines) >= _LONGEST_NEW_FILE:
        return f"a new file of {len(lines)} lines"
    return "\n".join(f"+{line}" for line in lines)


def _diff(file: RenderedFile, old: bytes) -> str:
    if file.secret:
        return "content differs (secret, not shown)"
    return (
        "\n".join(
            difflib.unified_diff(
                old.decode("utf-8", "replace").splitlines(),
                file.content.splitlines(),
                file.path,
                f"{file.path} (wanted)",
                lineterm="",
            )
        )
        or "only the line ends differ"
    )
