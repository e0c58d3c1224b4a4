# The recipient's way in a real browser: without a script, by the keyboard alone, in both languages.
#
#     TODOKU_CHROMIUM=/usr/lib/chromium/chromium .venv/bin/python -m pytest tests/browser
#
# With TODOKU_SCREENSHOTS=docs/images it also renews the pictures of the documentation.

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from chromium import Chromium
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from todoku.protect.shelf import DAY, FOLDERS, Shelf
from todoku.protect.wording import Letter
from todoku.web.__main__ import _Patient
from todoku.web.application import application
from todoku.web.attachments import Desk
from todoku.web.words import WORDS

PROGRAM = os.environ.get("TODOKU_CHROMIUM", "")
PICTURES = os.environ.get("TODOKU_SCREENSHOTS", "")
CONTENT = bytes(range(256)) * 5000
NAMES = {"ja": "見積書 2026.pdf", "en": "Quotation 2026.pdf"}

# A browser brings hundreds of packages: script/test installs none, and this is run by hand (CONTRIBUTING.md).
pytestmark = pytest.mark.skipif(not PROGRAM, reason="TODOKU_CHROMIUM does not name a Chromium")


@dataclass
class Site:
    url: str
    shelf: Shelf
    mails: list[tuple[str, Letter]] = field(default_factory=list)

    def link(self, language: str) -> str:
        given = self.shelf.give(
            "alice@hoge.example",
            "見積書" if language == "ja" else "Quotation",
            "ja" if language == "ja" else "en",
            time.time() + 7 * DAY,
            20,
        )
        given.add(NAMES[language], [CONTENT])
        given.add("winmail.dat", [b"x" * 1200])
        token = given.link("carol@mailbox.example")
        given.close()
        self.back = f"{self.url}/r/{given.token}"
        return f"{self.url}/a/{token}"

    def code(self) -> str:
        deadline = time.monotonic() + 20
        while not self.mails and time.monotonic() < deadline:
            time.sleep(0.05)
        return re.findall(r"\d{8}", self.mails[-1][1].text)[0]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for name in FOLDERS:
        (tmp_path / "shelf" / name).mkdir(parents=True)
    listener = socket.create_server(("127.0.0.1", 0))
    made = Site(f"https://localhost:{listener.getsockname()[1]}", Shelf(tmp_path / "shelf"))
    desk = Desk(made.shelf, lambda to, letter: made.mails.append((to, letter)))
    certificate, key = _certificate(tmp_path)
    config = uvicorn.Config(
        application(desk),
        http=_Patient,
        lifespan="off",
        log_config=None,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    yield made
    server.should_exit = True
    thread.join(10)


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8, none = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, none))
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.parametrize("language", ["ja", "en"])
def test_from_the_link_to_the_file_by_keyboard_and_without_a_script(
    site: Site, tmp_path: Path, language: str
) -> None:
    words, link = WORDS[language], site.link(language)
    browser = Chromium(Path(PROGRAM), tmp_path / "profile", language=language)
    try:
        browser.save_into(tmp_path)
        browser.open(link)
        browser.wait_for(words["send"])
        _picture(browser, f"page-{language}-1.png")
        browser.tab_to("button", words["send"])
        browser.press("Enter")
        browser.wait_for(words["code"])
        browser.tab_to("textbox", words["code"])
        browser.type("00000000")
        browser.press("Enter")
        browser.wait_for(words["wrong"])
        browser.tab_to("textbox", words["code"])
        browser.type(site.code())
        _picture(browser, f"page-{language}-2.png")
        browser.press("Enter")
        browser.wait_for(NAMES[language])
        _picture(browser, f"page-{language}-3.png")
        browser.tab_to("link", NAMES[language])
        browser.press("Enter")
        file = tmp_path / NAMES[language]
        deadline = time.monotonic() + 20
        while not (file.exists() and file.stat().st_size == len(CONTENT)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert file.read_bytes() == CONTENT
        browser.open(f"{site.back}?l={language}")
        browser.wait_for(words["back_do"])
        browser.tab_to("button", words["back_do"])
        browser.press("Enter")
        browser.wait_for(words["back_done"])
        browser.open(link)
        browser.wait_for(words["send"])
    finally:
        browser.close()


def _picture(browser: Chromium, name: str) -> None:
    if PICTURES:
        browser.screenshot(Path(PICTURES) / name)
