"""The SMTP engine: only CRLF ends a line, nothing slips in before TLS, and no client can bring it down."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from todoku.rehearsal.internet import pki
from todoku.rehearsal.smtp.client import Client, stuffed
from todoku.rehearsal.smtp.server import PortTaken, Server
from todoku.rehearsal.smtp.session import Bounds, Listen, Reply, Session


class Keeping(Session):
    """Takes everything and keeps it."""

    def __init__(self, kept: list[tuple[str, tuple[str, ...], bytes]], limit: int = 100_000) -> None:
        super().__init__("test.example", limit)
        self.kept = kept

    async def message(self, content: bytes) -> Reply:
        self.kept.append((self.sender or "", tuple(self.recipients), content))
        return Reply.of(f"250 Ok {len(self.kept)}")


@contextlib.asynccontextmanager
async def serving(kept, *, tls=None, bounds=None, limit=100_000, session=Keeping) -> AsyncIterator[Server]:
    server = Server("a test", [Listen("127.0.0.1", 0)], lambda: session(kept, limit), tls=tls, bounds=bounds)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def talk(server: Server, octets: bytes, *, then_eof: bool = True) -> bytes:
    """Send octets, and return all that comes back until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.listens[0].port)
    with contextlib.suppress(OSError):
        writer.write(octets)
        await writer.drain()
        if then_eof:
            writer.write_eof()
    received = b""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(10):
            while chunk := await reader.read(65536):
                received += chunk
    writer.close()
    return received


def conversation(octets: bytes, **options) -> tuple[list[str], list]:
    kept: list = []

    async def run() -> bytes:
        async with serving(kept, **options) as server:
            return await talk(server, octets)

    return asyncio.run(run()).decode().split("\r\n")[:-1], kept


BEGIN = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"


def codes(lines: list[str]) -> list[str]:
    return [line[:3] for line in lines if line[3:4] == " "]


def test_commands_may_be_sent_all_at_once_also_after_data():
    second = b"MAIL FROM:<e@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\ntwo\r\n.\r\nQUIT\r\n"
    lines, kept = conversation(BEGIN + b"one\r\n.\r\n" + second)
    assert codes(lines) == ["220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221"]
    assert [(sender, content) for sender, _, content in kept] == [
        ("a@b.example", b"one\r\n"),
        ("e@b.example", b"two\r\n"),
    ]


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n"])
def test_a_message_ends_at_crlf_dot_crlf_only(end):
    smuggled = b"text" + end + b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nspoofed"
    lines, kept = conversation(BEGIN + smuggled + b"\r\n.\r\nQUIT\r\n")
    assert codes(lines)[-2:] == ["250", "221"]
    [(sender, _, content)] = kept
    assert sender == "a@b.example"
    assert b"spoofed" in content


@pytest.mark.parametrize(
    "line", [b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b"NO\0OP\r\n", b"\r\n", b"\xff\xfe\r\n"]
)
def test_a_command_with_a_bare_line_feed_or_other_control_characters_is_none(line):
    lines, _ = conversation(line + b"QUIT\r\n")
    assert codes(lines) == ["220", "500", "221"]


@pytest.mark.parametrize(
    "content",
    [b"", b".\r\n", b"..\r\n", b"a\r\n.\r\nb\r\n", b"\r\n\r\n", b".a\r\n.b\r\n..\r\n", b"bare\n.\nfeed\r\n"],
)
def test_dots_come_through_unchanged(content):
    _, kept = conversation(BEGIN + stuffed(content) + b"QUIT\r\n")
    assert kept[0][2] == (content or b"\r\n")


@given(st.binary(max_size=300).map(lambda octets: octets + b"\r\n"))
@settings(max_examples=150, deadline=None)
@example(b"\r\n.\r\n.\r\n")
def test_what_is_stuffed_comes_out_as_it_went_in(content):
    _, kept = conversation(BEGIN + stuffed(content) + b"QUIT\r\n")
    assert [message for _, _, message in kept] == [content]


NEARLY_SMTP = st.sampled_from([
    b"EHLO x\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n", b"MAIL FROM:<>\r\n", b"MAIL FROM:<a@b> SIZE=x\r\n",
    b"RCPT TO:<c@d>\r\n", b"RCPT TO:<\"\\\r\n", b"DATA\r\n", b".\r\n", b"\n.\n", b"RSET\r\n",
    b"BDAT 9 LAST\r\n", b"VRFY \xff\r\n", b"HELO\r\n", b"\r\n",
])  # fmt: skip


@given(st.lists(st.one_of(st.binary(max_size=200), NEARLY_SMTP), max_size=12).map(b"".join))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_arbitrary_octets_end_the_session_at_most(octets):
    async def run() -> None:
        async with serving([]) as server:
            problems: list[dict] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
            assert (await talk(server, octets)).startswith(b"220 ")
            assert (await talk(server, b"NOOP\r\nQUIT\r\n")).count(b"\r\n") == 3
            assert not problems

    asyncio.run(run())


def test_an_endless_line_and_an_endless_message_do_not_fill_the_memory():
    async def peak_while_taking(server: Server, octets: bytes) -> tuple[bytes, int]:
        # The client writes small pieces with a thread of its own, so that what is measured is the server's.
        def client() -> bytes:
            with socket.create_connection(("127.0.0.1", server.listens[0].port)) as connection:
                with contextlib.suppress(OSError):
                    for start in range(0, len(octets), 10_000):
                        connection.sendall(octets[start : start + 10_000])
                    connection.shutdown(socket.SHUT_WR)
                received = b""
                with contextlib.suppress(OSError):
                    while chunk := connection.recv(10_000):
                        received += chunk
                return received

        tracemalloc.start()
        try:
            received = await asyncio.to_thread(client)
            return received, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async def run() -> None:
        line, message = b"x" * 5_000_000, BEGIN + b"y" * 5_000_000
        async with serving([], bounds=Bounds(line=1000)) as server:
            assert (await peak_while_taking(server, line))[1] < 1_500_000
            answer, peak = await peak_while_taking(server, message)
            assert b"354 " in answer
            assert peak < 1_500_000

    asyncio.run(run())


def test_a_message_over_the_limit_is_refused_at_its_end_and_the_session_goes_on():
    lines, kept = conversation(BEGIN + stuffed(b"z" * 101) + b"NOOP\r\nQUIT\r\n", limit=100)
    assert codes(lines)[-3:] == ["552", "250", "221"]
    assert not kept
    lines, kept = conversation(
        BEGIN + stuffed(b".\r\n" * 33) + b"QUIT\r\n", limit=100
    )  # 99 octets, 132 stuffed
    assert len(kept) == 1


def test_a_client_that_leaves_in_the_middle_of_a_message_has_sent_none():
    lines, kept = conversation(BEGIN + b"half of it\r\n.\r")
    assert codes(lines)[-1] == "354"
    assert not kept


def test_silence_and_nonsense_end_the_session():
    async def run() -> None:
        async with serving([], bounds=Bounds(idle_seconds=0.1, mistakes=3)) as server:
            silent = await talk(server, b"", then_eof=False)
            assert silent.endswith(b"421 Timeout waiting for data from client\r\n")
            assert (await talk(server, b"WHAT\r\n" * 50)).endswith(b"421 Too many errors\r\n")

    asyncio.run(run())


def test_commands_have_their_order():
    lines, _ = conversation(b"MAIL FROM:<a@b>\r\nEHLO x\r\nRCPT TO:<a@b>\r\nDATA\r\nMAIL FROM:<a@b>\r\n"
                            b"MAIL FROM:<a@b>\r\nDATA\r\nRCPT TO:<>\r\nQUIT\r\n")  # fmt: skip
    assert [line for line in lines if line.startswith("5")] == [
        "503 Need EHLO command",
        "503 Need MAIL command",
        "503 Need MAIL command",
        "503 Need RSET command",
        "503 Need RCPT command",
        "501 5.1.7 Syntax: RCPT TO:<address>",
    ]


def test_what_a_client_sent_cannot_break_out_of_the_reply():
    assert Reply(550, ("a\r\n250 b\x00ü",)).wire() == b"550 a??250 b?\\xfc\r\n"


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    certificate, key = pki.Authority.create(tmp_path).issue(["test.example"], tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize("together", [True, False])
def test_commands_put_in_front_of_the_tls_handshake_are_discarded(contexts, together):
    tls, trust = contexts

    async def run() -> None:
        kept: list = []
        async with serving(kept, tls=tls) as server:
            client = Client(5)
            await client.connect("127.0.0.1", server.listens[0].port)
            await client.ehlo("c.example")
            injected = b"EHLO evil\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\n"
            if together:
                await client.write(b"STARTTLS\r\n" + injected)
            else:
                await client.write(b"STARTTLS\r\nNOO")
                await client.write(b"P\r\n" + injected)
            assert (await client.answer()).code == 220
            await client._writer.start_tls(trust, server_hostname="test.example")
            assert (await client.say("RCPT TO:<x@d.example>")).code == 503
            assert (await client.say("MAIL FROM:<x@d.example>")).text == "Need EHLO command"
            answer = await client.ehlo("c.example")
            assert "STARTTLS" not in client.extensions
            assert answer.code == 250

    asyncio.run(run())


def test_something_else_than_a_handshake_ends_the_connection(contexts):
    async def run() -> None:
        async with serving([], tls=contexts[0]) as server:
            answer = await talk(server, b"EHLO x\r\nSTARTTLS\r\n")
            assert b"220 Ready to start TLS" in answer or answer.endswith(b"250 ENHANCEDSTATUSCODES\r\n")
            assert (await talk(server, b"QUIT\r\n")).count(b"\r\n") == 2

    asyncio.run(run())


def test_going_down_refuses_and_resets_and_coming_back_uses_the_same_port():
    async def run() -> None:
        async with serving([]) as server:
            port = server.listens[0].port
            client = Client(5)
            await client.connect("127.0.0.1", port)
            await server.stop()
            with pytest.raises(ConnectionResetError):
                while True:
                    await client.write(b"NOOP\r\n")
                    await asyncio.sleep(0.01)
                    if client._reader.exception():
                        raise client._reader.exception()
            with pytest.raises(ConnectionRefusedError):
                await Client(5).connect("127.0.0.1", port)
            await server.start()
            assert (await Client(5).connect("127.0.0.1", port)).code == 220

    asyncio.run(run())


def test_a_message_being_taken_in_is_acknowledged_before_the_server_goes_down():
    class Slow(Keeping):
        async def message(self, content: bytes) -> Reply:
            await asyncio.sleep(0.2)
            return await super().message(content)

    async def run() -> None:
        kept: list = []
        async with serving(kept, session=Slow) as server:
            reading = asyncio.create_task(talk(server, BEGIN + b"one\r\n.\r\n", then_eof=False))
            await asyncio.sleep(0.1)
            await server.stop()
            assert (await reading).endswith(b"250 Ok 1\r\n")
            assert len(kept) == 1

    asyncio.run(run())


def test_a_port_that_is_taken_is_said_in_a_sentence_and_no_other_stays_open():
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            listens = [Listen("127.0.0.2", port), Listen("127.0.0.1", port)]
            server = Server("the relay", listens, lambda: Keeping([]))
            with pytest.raises(
                PortTaken, match=rf"127\.0\.0\.1 port {port} \(the relay\): .*in use; stop what"
            ):
                await server.start()
            with pytest.raises(ConnectionRefusedError):
                await Client(5).connect("127.0.0.2", port)

    asyncio.run(run())
