"""A machine whose programs are answers in a table, and whose /proc is a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from todoku.host.client import Completed, Host, HostError

Answer = tuple[int, str, str]  # code, standard output, standard error


class FakeMachine(Host):
    """`answers`: the beginning of a command line, and what the program answers in turn; the last stays."""

    def __init__(self, root: Path, answers: Mapping[str, Sequence[Answer]] | None = None) -> None:
        super().__init__(root)
        object.__setattr__(self, "answers", {start: list(some) for start, some in (answers or {}).items()})
        object.__setattr__(self, "asked", [])

    answers: dict[str, list[Answer]]
    asked: list[str]

    def run(self, args: Sequence[str], *, check: bool = True, **_: object) -> Completed:  # type: ignore[override]
        line = " ".join(args)
        self.asked.append(line)
        for start, some in self.answers.items():
            if line.startswith(start):
                code, out, err = some.pop(0) if len(some) > 1 else some[0]
                if check and code:
                    raise HostError(f"`{line}` failed with code {code}: {err}")
                return Completed(tuple(args), code, out, err)
        return Completed(tuple(args), 0, "", "")

    def has(self, program: str) -> bool:
        return any(start.split()[0] == program for start in self.answers)

    def process(self, pid: int, name: str, started: float, *sockets: int, parent: int = 1) -> None:
        """A process that started at that time and holds those sockets open."""
        ticks = round((started - time.time() + time.clock_gettime(time.CLOCK_BOOTTIME)) * 100)
        folder = self.real(f"/proc/{pid}/fd")
        folder.mkdir(parents=True)
        rest = " ".join(["S", str(parent), *["0"] * 17, str(ticks)])
        (folder.parent / "stat").write_text(f"{pid} ({name}) {rest}\n")
        for number, inode in enumerate(sockets):
            (folder / str(number)).symlink_to(f"socket:[{inode}]")

    def listeners(self, *sockets: tuple[str, int, int]) -> None:
        """Listening sockets: address as the kernel writes it, port, inode."""
        lines = ["header", *(f" 0: {at}:{port:04X} 0:0 0A 0 0 0 0 0 {inode}" for at, port, inode in sockets)]
        self.real("/proc/net").mkdir(parents=True, exist_ok=True)
        self.real("/proc/net/tcp").write_text("\n".join(lines) + "\n")
