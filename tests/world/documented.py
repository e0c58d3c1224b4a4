"""The blocks of commands in docs/, for the tests that run them: what people are told to type is read from the page."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def block(page: str, first: str, replaced: Mapping[str, str] | None = None) -> list[str]:
    """The lines of the one block on `page` that begins with `first`. `replaced`: what is only an example there."""
    (found,) = (body for body in _BLOCK.findall((DOCS / page).read_text()) if body.lstrip().startswith(first))
    for example, here in (replaced or {}).items():
        assert example in found, f"{page}: {example} is not in the block any more"
        found = found.replace(example, here)
    return [re.sub(r"\s+#\s.*$", "", line).strip() for line in found.splitlines() if line.strip()]


def run(lines: Iterable[str], folder: Path, *, codes: Iterable[int] = (0,), **more: str) -> str:
    """Each by the shell, in `folder`; `more`: of the environment. What they said."""
    said = ""
    for line in lines:
        done = subprocess.run(
            ["sh", "-c", line], cwd=folder, env=os.environ | more, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode in codes, f"{line}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        said += done.stdout
    return said


def typed(line: str, folder: Path, answers: Mapping[str, str], hidden: Iterable[str] = ()) -> str:
    """The line at a terminal, and an answer to each question when it comes. `hidden`: those without an echo."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvp("sh", ["sh", "-c", line])  # noqa: S606
    shown, waiting = "", dict(answers)
    while True:
        ready, _, _ = select.select([terminal], [], [], 120)
        assert ready, f"{line} says nothing any more:\n{shown}"
        try:
            shown += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the other end is closed: it has ended
            break
        for question in [question for question in waiting if question in shown]:
            if question in hidden:  # what was typed before the echo is off is thrown away
                _wait_for_no_echo(terminal)
            os.write(terminal, f"{waiting.pop(question)}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, f"{line}: {code}\n{shown}"
    assert not waiting, f"{line} did not ask {list(waiting)}:\n{shown}"
    return shown


def _wait_for_no_echo(terminal: int) -> None:
    until = time.monotonic() + 30
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < until, "the prompt was not hidden"
        time.sleep(0.05)
