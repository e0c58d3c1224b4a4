"""The configuration of one daemon: several files that only make sense together.

All of them are written into a folder of their own beside the real ones and validated there with the daemon's
own tools; only then each is renamed into place, which takes no more room on the disk. An invalid set never
replaces a working one, and what a killed run left half done differs, so the next one finishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from todoku.host.client import Host
from todoku.host.files import FileSeen, difference, keep_previous, look_at
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, ChangeFailed

# Postfix does not trust a main.cf that was modified a moment ago: each program reads it again every 0.3 s
# until it is some seconds old (dict_load_file_xp). Ours is complete before anyone can see it.
_COLD = 10.0  # seconds


class Validation(Protocol):
    """How a daemon's own tools judge its configuration."""

    def problems(self, host: Host, stage: str, folder: str, files: tuple[RenderedFile, ...]) -> list[str]:
        """What is wrong with `files`, which are meant for `folder` and lie in `stage`; empty when nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class ConfigSet(HostResource[tuple[FileSeen, ...]]):
    """The files of one daemon, all below `folder`, which are validated together."""

    name: str
    folder: str
    files: tuple[RenderedFile, ...]
    validation: Validation

    @property
    def id(self) -> str:
        return f"configuration:{self.name}"

    @property
    def stage(self) -> str:
        """Below the real folder, which may be a file system of its own: a rename crosses none."""
        return f"{self.folder}/.todoku-stage"

    def look(self, client: Host) -> tuple[FileSeen, ...]:
        return tuple(look_at(file, client) for file in self.files)

    def differ(self, seen: tuple[FileSeen, ...]) -> Change | None:
        pairs = zip(self.files, seen, strict=True)
        changes = [change for change in (difference(file, now) for file, now in pairs) if change is not None]
        if not changes:
            return None
        if len(changes) == 1:
            return changes[0]
        new = all(change.action is Action.CREATE for change in changes)
        detail = "\n".join(f"{change.summary}\n{change.detail}".rstrip() for change in changes)
        verb = "create" if new else "replace"
        summary = f"{verb} {len(changes)} files in {self.folder}: {', '.join(self._changing(seen))}"
        return Change(Action.CREATE if new else Action.UPDATE, summary, detail)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        wanted = set(self._changing(self.look(client)))
        client.remove(self.stage)  # from a run that was killed
        try:
            client.make_directory(self.stage, 0o700)
            for file in self.files:
                self._write(client, file)
            problems = self.validation.problems(client, self.stage, self.folder, self.files)
            if problems:
                told = "\n".join(dict.fromkeys(problems)).replace(self.stage, self.folder)
                reason = f"the new configuration of {self.name} is not valid, nothing was replaced"
                raise ChangeFailed(f"{reason}:\n{told}")
            changing = [file for file in self.files if self._short(file) in wanted]
            for file in changing:
                keep_previous(file, client)
            for file in changing:
                client.rename(self._staged(file), file.path)
        finally:
            client.remove(self.stage)

    def _write(self, client: Host, file: RenderedFile) -> None:
        for path in (self._staged(file), file.path):
            parent = path.rpartition("/")[0]
            if client.stat(parent) is None:
                client.make_directory(parent)
        client.write(
            self._staged(file),
            file.content.encode(),
            mode=file.mode,
            owner=file.owner,
            group=file.group,
            age=_COLD,
        )

    def _changing(self, seen: tuple[FileSeen, ...]) -> list[str]:
        pairs = zip(self.files, seen, strict=True)
        return [self._short(file) for file, now in pairs if difference(file, now) is not None]

    def _short(self, file: RenderedFile) -> str:
        return file.path.removeprefix(f"{self.folder}/")

    def _staged(self, file: RenderedFile) -> str:
        return f"{self.stage}/{self._short(file)}"
