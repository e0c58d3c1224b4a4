"""Benchmark "protect": what it costs to protect attachments, and to hand them out.

The ZIP and the shelf are measured in this process, on one core, beside pyzipper in the same rounds; a gate under load
and the page as they run on the host: 20 messages of 25 MiB at once, and 200 downloads of 10 MiB at once.
"""

from __future__ import annotations

import asyncio
import email.policy
import io
import json
import os
import re
import smtplib
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from email.utils import make_msgid
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

from bench import processes
from bench.host import BenchFailed, World
from todoku.gate.message import Body
from todoku.protect import attachments, mime, zipping
from todoku.protect.shelf import FOLDERS, Shelf

CONFIG = Path("/etc/todoku/todoku.toml")
CERTIFICATE = "/etc/todoku/tls/self-signed.pem"
PORT = 8443
MIB = 1024 * 1024
CHUNK = 65535  # bytes: Postfix gives a milter so much of a body at once
MESSAGES, MESSAGE = 20, 25 * MIB
DOWNLOADS, DOWNLOAD = 200, 10 * MIB
_ON = f"""
[limits]
message_size = "60 MB"
[protect]
on = true
page_port = {PORT}
downloads = 100000
"""


@dataclass(frozen=True, slots=True)
class Result:
    """`zip_store`, `pyzipper`, `link`: megabytes of content a second; `memory`: most bytes (PSS) of all processes of
    the gate; `seconds` for all messages; `first_byte`, `all_bytes`: seconds, 99th percentile."""

    zip_store: float
    pyzipper: float
    zip_of_pyzipper: float
    link: float
    memory: int
    memory_before: int
    seconds: float
    first_byte: float
    all_bytes: float


def measure(world: World, rounds: int, tell: Callable[[str], None]) -> Result:
    ours, peers, ratios, links = [], [], [], []
    content = os.urandom(64 * MIB)
    for _ in range(rounds):
        tell("protect: ZIP")
        ours.append(_rate(len(content), lambda: _zip(content)))
        peers.append(_rate(len(content), lambda: _pyzipper(content)))
        ratios.append(ours[-1] / peers[-1])
        tell("protect: link")
        links.append(_link(content[:MESSAGE]))
    with _switched_on():
        tell("protect: messages")
        before, memory, seconds = _messages(world)
        tell("protect: downloads")
        first, whole = asyncio.run(_downloads(world))
    return Result(
        median(ours), median(peers), median(ratios), median(links), memory, before, seconds, first, whole
    )


def _rate(octets: int, work: Callable[[], None]) -> float:
    """Megabytes a second of this process's own processor time: others of this machine do not count."""
    began = time.process_time()
    work()
    return octets / 1e6 / (time.process_time() - began)


def _pieces(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), attachments.PIECE):
        yield content[at : at + attachments.PIECE]


def _zip(content: bytes) -> None:
    for _ in zipping.write([zipping.Entry("a.pdf", _pieces(content))], "password"):
        pass


def _pyzipper(content: bytes) -> None:
    import pyzipper

    with pyzipper.AESZipFile(
        io.BytesIO(), "w", compression=pyzipper.ZIP_STORED, encryption=pyzipper.WZ_AES
    ) as archive:
        archive.setpassword(b"password")
        archive.writestr("a.pdf", content)


def _link(content: bytes) -> float:
    """From the body as the milter has it, in a file, to the encrypted file on the disk: by the clock."""
    raw = _message("bench", content).as_bytes(policy=email.policy.SMTP)
    head, _, rest = raw.partition(b"\r\n\r\n")
    with tempfile.TemporaryDirectory() as folder:
        received = Body(Path(folder))
        for at in range(0, len(rest), CHUNK):
            received.append(rest[at : at + CHUNK])
        for name in FOLDERS:
            Path(folder, name).mkdir()
        given = Shelf(Path(folder)).give("alice@hoge.example", "bench", "en", time.time() + 86400, 1)
        began = time.monotonic()
        body = received.view()
        (found,) = attachments.found(mime.read(head + b"\r\n", body))
        given.add(found.name, attachments.content(found.part, body))
        given.link("carol@mailbox.example")
        given.close()
        seconds = time.monotonic() - began
        received.close()
        return len(content) / 1e6 / seconds


def _message(subject: str, content: bytes) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "alice@hoge.example"
    message["To"] = "carol@mailbox.example"
    message["Subject"] = subject
    message["Message-ID"] = make_msgid(domain="hoge.example")
    message.set_content("text\n")
    message.add_attachment(content, "application", "pdf", filename="a.pdf")
    return message


class _switched_on:  # noqa: N801
    """The policy is on, and the page runs."""

    def __enter__(self) -> None:
        self._before = CONFIG.read_text()
        CONFIG.write_text(self._before + _ON)
        self._apply()

    def __exit__(self, *_: object) -> None:
        CONFIG.write_text(self._before)
        self._apply()

    def _apply(self) -> None:
        done = subprocess.run(["todoku", "apply", "--yes"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchFailed(f"todoku apply: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def _messages(world: World) -> tuple[int, int, float]:
    """Memory of the gate before and at most, and how long all took."""
    made = [
        _message(f"bench {number}", os.urandom(MESSAGE)).as_bytes(policy=email.policy.SMTP)
        for number in range(MESSAGES)
    ]
    before = processes.memory(processes.named("todoku-gate")).pss
    most, over = [before], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            most.append(processes.memory(processes.named("todoku-gate")).pss)

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(MESSAGES) as pool:
            list(pool.map(lambda raw: _submit(world, raw), made))
    finally:
        over.set()
        watching.join()
    return before, max(most), time.monotonic() - began


def _submit(world: World, raw: bytes) -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    with smtplib.SMTP(world.hostname, 587, timeout=300) as smtp:
        smtp.starttls(context=context)
        smtp.login(world.login, world.password)
        smtp.sendmail("alice@hoge.example", ["carol@mailbox.example"], raw)


async def _downloads(world: World) -> tuple[float, float]:
    """Seconds to the first byte of the file, and to the last; the 99th percentile."""
    given = Shelf().give("alice@hoge.example", "bench", "en", time.time() + 86400, 100_000)
    given.add("a.bin", [os.urandom(DOWNLOAD)])
    token = given.link("carol@mailbox.example")
    given.close()
    context = ssl.create_default_context(cafile=CERTIFICATE)
    cookie = await _cookie(world, context, token)
    connections = [await asyncio.open_connection(world.hostname, PORT, ssl=context) for _ in range(DOWNLOADS)]
    request = _request(world, "GET", f"/a/{token}/0", f"Cookie: {cookie}\r\n")
    times = await asyncio.gather(*(_download(*connection, request) for connection in connections))
    return tuple(quantiles([each[place] for each in times], n=100)[98] for place in (0, 1))  # type: ignore[return-value]


async def _download(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[float, float]:
    began = time.monotonic()
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise BenchFailed(f"the page says {head[:200]!r}")
    left = DOWNLOAD - len(await reader.read(1))
    first = time.monotonic() - began
    while left:
        got = await reader.read(256 * 1024)
        if not got:
            raise BenchFailed(f"a download ended {left} bytes too early")
        left -= len(got)
    writer.close()
    return first, time.monotonic() - began


async def _cookie(world: World, context: ssl.SSLContext, token: str) -> str:
    await _ask(world, context, _request(world, "POST", f"/a/{token}/code"))
    inbox = Path(json.loads(Path(os.environ["TODOKU_WORLD"]).read_text())["receiver"]["inbox"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in inbox.glob("*.eml"):
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if message["Subject"] == "Code for your attachments":
                code = re.findall(r"\d{8}", message.get_content())[0]  # type: ignore[attr-defined]
                form = urlencode({"code": code})
                more = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n"
                answer = await _ask(world, context, _request(world, "POST", f"/a/{token}/open", more, form))
                return re.findall(r"(?i)set-cookie: ([^;]+)", answer)[0]
        await asyncio.sleep(0.2)
    raise BenchFailed("the code did not arrive")


def _request(world: World, method: str, path: str, more: str = "", body: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {world.hostname}\r\n{more}\r\n{body}".encode()


async def _ask(world: World, context: ssl.SSLContext, request: bytes) -> str:
    reader, writer = await asyncio.open_connection(world.hostname, PORT, ssl=context)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return answer.decode()


def table(result: Result) -> str:
    rows = (
        ("ZIP, AES-256, stored", f"{result.zip_store:,.0f} MB/s on one core"),
        ("the same by pyzipper", f"{result.pyzipper:,.0f} MB/s"),
        ("link: from the message to the encrypted file", f"{result.link:,.0f} MB/s"),
        ("20 messages of 25 MiB at once: memory of the gate", f"{result.memory / MIB:.0f} MiB"),
        ("the gate's memory before", f"{result.memory_before / MIB:.0f} MiB"),
        ("all 20 accepted after", f"{result.seconds:.1f} s"),
        ("200 downloads of 10 MiB at once: first byte, p99", f"{result.first_byte:.2f} s"),
        ("the whole of it, p99", f"{result.all_bytes:.1f} s"),
    )
    return "\n".join(f"  {what:<52}{seen}" for what, seen in rows)


def verdicts(result: Result) -> list[tuple[str, float, float, bool]]:
    return [
        ("ZIP store, MB/s on one core, at least", 1000, result.zip_store, result.zip_store >= 1000),
        ("ZIP store, times pyzipper, at least", 3, result.zip_of_pyzipper, result.zip_of_pyzipper >= 3),
        ("link, MB/s to the encrypted disk, at least", 300, result.link, result.link >= 300),
        ("20 x 25 MiB, MiB of memory, at most", 300, result.memory / MIB, result.memory <= 300 * MIB),
        ("200 downloads, first byte p99 in s, under", 0.5, result.first_byte, result.first_byte < 0.5),
    ]


def as_json(result: Result) -> dict[str, Any]:
    return asdict(result)
