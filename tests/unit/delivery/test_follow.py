# Log readers lose lines at rotation, or read them twice after a restart. Here every line is read exactly once: renamed,
# copied and truncated, compressed, written in halves, with the reader stopped at any moment.

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from todoku.delivery.follow import BLOCK, LONGEST_LINE, Folder, Follower, Position


class Log:
    """A log and its reader."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mail.log"
        self.path.touch()
        self.lines = 0
        self.seen: list[str] = []
        self.now = 0.0
        self.position: Position | None = None
        self.follower = Follower(Folder(self.path), None, lambda: self.now)
        self.open = self.path.open("ab", buffering=0)

    def write(self, count: int = 1, end: str = "\n") -> None:
        for _ in range(count):
            self.open.write(f"Nov 24 08:12:19 mx postfix/qmgr[1]: line {self.lines}{end}".encode())
            self.lines += 1

    def read(self) -> None:
        """To the end; what was read is committed with its position."""
        for _ in range(50):
            block = self.follower.read()
            self.seen += block.decode().splitlines()
            self.position = self.follower.position
            if not block:
                self.now += 1.5

    def restart(self) -> None:
        self.follower.close()
        if self.position is not None:
            self.position = Position.of(self.position.text())
        self.follower = Follower(Folder(self.path), self.position, lambda: self.now)

    def rename(self, reopen: bool = True) -> None:
        _shift(self.path)
        self.path.rename(f"{self.path}.1")
        if reopen:
            self.reopen()

    def reopen(self) -> None:
        self.open.close()
        self.open = self.path.open("ab", buffering=0)

    def copytruncate(self) -> None:
        _shift(self.path)
        shutil.copy(self.path, f"{self.path}.1")
        os.truncate(self.path, 0)

    def check(self) -> None:
        assert [line.rpartition(" ")[2] for line in self.seen] == [str(n) for n in range(self.lines)]


def _shift(path: Path) -> None:
    for number in (3, 2, 1):
        for end in ("", ".gz"):
            old = Path(f"{path}.{number}{end}")
            if old.exists():
                old.rename(f"{path}.{number + 1}{end}")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_lines_are_read_as_they_are_written(log: Log) -> None:
    log.read()
    for _ in range(3):
        log.write(2)
        log.read()
    log.check()


def test_a_half_line_is_read_when_it_is_whole(log: Log) -> None:
    log.write(1)
    log.open.write(b"Nov 24 08:12:19 mx post")
    log.read()
    assert len(log.seen) == 1
    log.restart()
    log.open.write(b"fix/qmgr[1]: line 1\n")
    log.lines += 1
    log.read()
    log.check()


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_rotation_in_mid_stream(log: Log, how: str, stopped: bool) -> None:
    log.write(5)
    log.read()
    log.write(5)  # not read yet
    getattr(log, how)()
    log.write(5)
    if stopped:
        log.restart()
    log.read()
    log.check()


def test_a_writer_that_opens_the_new_file_late_loses_nothing(log: Log) -> None:
    log.write(2)
    log.read()
    log.rename(reopen=False)
    log.path.touch()
    log.follower.read()
    log.write(2)  # still into the renamed file
    log.read()
    log.reopen()
    log.write(2)
    log.read()
    log.check()


def test_what_is_compressed_while_it_is_read_is_not_read_again(log: Log) -> None:
    # `postfix logrotate` renames the log, and compresses it at once.
    log.write(5)
    log.read()
    log.write(2)
    log.rename()
    plain = Path(f"{log.path}.1")
    subprocess.run(["gzip", plain], check=True)
    log.write(3)
    log.read()
    log.check()


def test_three_rotations_and_a_compression_while_the_reader_was_down(log: Log) -> None:
    log.write(3)
    log.read()
    log.follower.close()
    for turn in range(3):
        log.write(3)
        os.utime(log.path, ns=(turn * 10**9, turn * 10**9))
        log.rename()
    for number in (3, 2):
        plain = Path(f"{log.path}.{number}")
        written = plain.stat().st_mtime_ns
        packed = Path(f"{plain}.gz")
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        os.utime(packed, ns=(written, written))
        plain.unlink()
    log.write(3)
    log.restart()
    log.read()
    log.check()


def test_a_file_that_grew_beyond_the_old_offset_after_truncation_is_a_new_one(log: Log) -> None:
    log.write(3)
    log.read()
    os.truncate(log.path, 0)
    log.write(30)
    log.read()
    log.check()


def test_a_log_that_is_gone_is_told_and_the_next_one_read(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    log.write(3)
    log.read()
    log.path.unlink()
    log.reopen()
    log.write(2)
    log.restart()
    log.read()
    log.check()
    assert "lines may be missing" in caplog.text


def test_a_log_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    follower = Follower(Folder(tmp_path / "mail.log"))
    assert follower.read() == b""
    (tmp_path / "mail.log").write_bytes(b"a\n")
    assert follower.read() == b"a\n"


def test_an_endless_line_does_not_fill_the_memory_or_stop_the_reading(log: Log) -> None:
    log.write(1)
    log.open.write(b"x" * (2 * BLOCK + LONGEST_LINE) + b"\n")
    log.write(1)
    blocks = []
    while block := log.follower.read() or (log.follower.position.offset < log.path.stat().st_size and b"\n"):
        blocks.append(block)
        assert len(block) <= BLOCK
    lines = b"".join(blocks).splitlines()
    assert lines[0].endswith(b"line 0")
    assert lines[-1].endswith(b"line 1")


def test_a_position_that_is_none_is_refused() -> None:
    for text in ("{}", "[]", "", "nothing", '{"inode": 1}'):
        with pytest.raises(ValueError):
            Position.of(text)


class Anything(RuleBasedStateMachine):
    """Writing, halves, rotations, restarts in any order: each line once, in order."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.log = Log(Path(self.folder.name))
        self.rotations = 0
        self.log.write(1)
        self.log.read()  # what was rotated away before the very first start is not read

    @rule(count=st.integers(1, 40))
    def write(self, count: int) -> None:
        self.log.write(count)

    @rule()
    def half(self) -> None:
        self.log.write(1, end="")
        self.log.read()
        assert str(self.log.lines - 1) not in [line.rpartition(" ")[2] for line in self.log.seen]
        self.log.open.write(b"\n")

    @rule()
    def read(self) -> None:
        self.log.read()

    @rule()
    def restart(self) -> None:
        self.log.restart()

    @rule()
    def rename(self) -> None:
        self._rotate(self.log.rename)

    @rule()
    def copytruncate(self) -> None:
        # A file of which nothing was read yet cannot be known again after it was copied and emptied.
        follower = self.log.follower
        if follower.position.offset and follower.position.inode == self.log.path.stat().st_ino:
            self._rotate(self.log.copytruncate)

    def _rotate(self, how) -> None:
        if self.log.path.stat().st_size and self.rotations < 3:
            self.rotations += 1
            stat = self.log.path.stat()
            how()
            # Rotations are a day apart, not a millisecond.
            os.utime(f"{self.log.path}.1", ns=(stat.st_atime_ns, self.rotations * 10**9))

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.write(1)
            self.log.read()
            self.log.check()
            self.folder.cleanup()


Anything.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestAnything = Anything.TestCase
