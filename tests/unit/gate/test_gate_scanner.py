# A scan has an answer or an error within its deadline, and one that fails does not disturb the next. What the real
# clamd does is seen in tests/world/test_gate_malware.py; here it is slow, absent or mad at will.

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from todoku.gate.clamd import ClamdError, Clean, Infected, TooLarge
from todoku.gate.scanner import AT_ONCE, Scanner


class Clamd:
    """The other end. `answer` makes the reply to a scan; None: the connection is closed instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = 0
        self.at_once = self.most_at_once = 0
        self.delay = 0.0
        self.answer: Callable[[int, bytes], bytes | None] = lambda n, _: f"{n}: stream: OK".encode()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Clamd:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()

    def drop(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        number = 0
        try:
            assert await reader.readexactly(11) == b"zIDSESSION\0"
            while True:
                assert await reader.readexactly(10) == b"zINSTREAM\0"
                number += 1
                content = b""
                while length := struct.unpack(">I", await reader.readexactly(4))[0]:
                    content += await reader.readexactly(length)
                self.at_once += 1
                self.most_at_once = max(self.at_once, self.most_at_once)
                await asyncio.sleep(self.delay)
                self.at_once -= 1
                reply = self.answer(number, content)
                if reply is None:
                    break
                writer.write(reply + b"\0")
        except (OSError, EOFError):
            pass
        writer.close()


def run(path: Path, test: Callable[[Clamd, Scanner], Awaitable[None]], deadline: float = 5.0) -> None:
    async def go() -> None:
        async with Clamd(path / "ctl") as clamd:
            await test(clamd, Scanner(path / "ctl", deadline))

    asyncio.run(go())


def test_a_session_serves_one_message_after_the_other(tmp_path: Path) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        clamd.answer = lambda n, content: (
            f"{n}: stream: {'Bad FOUND' if b'bad' in content else 'OK'}".encode()
        )
        for _ in range(3):
            assert await scanner.scan(lambda: [b"go", b"od" * 200_000]) == Clean()
            assert await scanner.scan(lambda: [b"b", b"ad"]) == Infected("Bad")
        assert clamd.connections == 1

    run(tmp_path, test)


def test_a_session_that_clamd_has_closed_meanwhile_costs_nothing(tmp_path: Path) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        assert await scanner.scan(lambda: [b"x"]) == Clean()
        clamd.drop()
        assert await scanner.scan(lambda: [b"x"]) == Clean()
        assert clamd.connections == 2

    run(tmp_path, test)


def test_a_session_that_has_rested_too_long_is_not_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        assert await scanner.scan(lambda: [b"x"]) == Clean()
        monkeypatch.setattr("todoku.gate.scanner._KEPT", 0.0)
        await asyncio.sleep(0.01)
        assert await scanner.scan(lambda: [b"x"]) == Clean()
        assert clamd.connections == 2

    run(tmp_path, test)


def test_a_connection_that_breaks_during_the_scan_is_an_error(tmp_path: Path) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        clamd.answer = lambda *_: None
        with pytest.raises(ClamdError, match="without an answer"):
            await scanner.scan(lambda: [b"x"])
        assert clamd.connections == 1, "a new session is not tried a second time"

    run(tmp_path, test)


def test_no_clamd_is_an_error_that_names_the_socket(tmp_path: Path) -> None:
    with pytest.raises(ClamdError, match="nobody"):
        asyncio.run(Scanner(tmp_path / "nobody").scan(lambda: [b"x"]))


def test_a_deadline_is_kept_and_a_late_answer_is_never_that_of_the_next_message(tmp_path: Path) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        clamd.delay, clamd.answer = 0.5, lambda n, _: f"{n}: stream: Late FOUND".encode()
        with pytest.raises(ClamdError, match=r"no answer within 0\.2 s"):
            await scanner.scan(lambda: [b"x"])
        clamd.delay, clamd.answer = 0.0, lambda n, _: f"{n}: stream: OK".encode()
        await asyncio.sleep(0.5)
        assert await scanner.scan(lambda: [b"x"]) == Clean()

    run(tmp_path, test, deadline=0.2)


def test_an_answer_to_something_else_ends_the_session(tmp_path: Path) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        clamd.answer = lambda n, _: f"{n + 1}: stream: OK".encode()
        with pytest.raises(ClamdError, match="2: stream: OK"):
            await scanner.scan(lambda: [b"x"])
        clamd.answer = lambda n, _: f"{n}: stream: OK".encode()
        assert await scanner.scan(lambda: [b"x"]) == Clean()
        assert clamd.connections == 2

    run(tmp_path, test)


def test_a_worker_does_not_take_all_of_clamds_threads(tmp_path: Path) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        clamd.delay = 0.02
        found = await asyncio.gather(*(scanner.scan(lambda: [b"x"]) for _ in range(4 * AT_ONCE)))
        assert found == [Clean()] * (4 * AT_ONCE)
        assert clamd.most_at_once == clamd.connections == AT_ONCE

    run(tmp_path, test)


def test_what_is_too_large_for_clamd_is_told_and_the_session_is_not_used_again(tmp_path: Path) -> None:
    async def test(clamd: Clamd, scanner: Scanner) -> None:
        clamd.answer = lambda *_: b"INSTREAM size limit exceeded. ERROR"
        assert await scanner.scan(lambda: [b"x"]) == TooLarge("StreamMaxLength")
        assert await scanner.scan(lambda: [b"x"]) == TooLarge("StreamMaxLength")
        assert clamd.connections == 2

    run(tmp_path, test)
