# Somebody outside gets a link in place of an attachment, and a mail with a code. In a browser that people have, in
# Japanese and English, with the keyboard alone and without a script, what really arrived brings the very file.
#
# With TODOKU_SCREENSHOTS it writes the documentation's pictures into that folder, which is gone with the world:
#
#     script/rehearse -- sh -c 'export TODOKU_SCREENSHOTS=/root
#     python -m pytest -q tests/world/test_attachment_in_chromium.py >&2
#     tar -C /root -c $(ls /root | grep ^page-)' | tar -C docs/images -x

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

import pytest
import test_protect
from chromium import Chromium
from conftest import Arrived, World, wait
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from peers import unpack
from test_protect import copies, link_in, submit

from todoku.web.words import WORDS

# slow: Chromium and what it needs are fetched first (script/peers, 130 MB), and take half a minute to unpack
pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 5000
CERTIFICATE = Path("/etc/todoku/tls/self-signed.pem")
PICTURES = os.environ.get("TODOKU_SCREENSHOTS", "")

protects = test_protect.protects


@dataclass(frozen=True)
class Sample:
    """A message as it is written in that language, and the subject of the mail with the code."""

    about: str
    text: str
    file: str
    code: str


SAMPLES = {
    "ja": Sample("見積書", "見積書をお送りします。\n", "見積書 2026.pdf", "添付ファイルの確認コード"),
    "en": Sample("Quotation", "Here is our quotation.\n", "Quotation 2026.pdf", "Code for your attachments"),
}


@pytest.fixture(scope="module")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> None:
    unpack("chromium", tmp_path_factory.mktemp("chromium"))


@pytest.fixture
def browse(browsers: None, tmp_path: Path) -> Iterator[Callable[..., Chromium]]:
    opened: list[Chromium] = []
    public = x509.load_pem_x509_certificate(CERTIFICATE.read_bytes()).public_key()
    key = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()

    def start(language: str, *, scripts: bool) -> Chromium:
        opened.append(Chromium(tmp_path / "profile", language=language, key=key, scripts=scripts))
        opened[-1].save_into(tmp_path)
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def given(world: World, language: str, number: str) -> Arrived:
    """What arrived of a message with two attachments that alice sent to carol outside. `number` is in its subject."""
    sample = SAMPLES[language]
    subject = f"{sample.about} {number}"
    message = EmailMessage()
    message["From"] = world.alice.address
    message["To"] = world.carol
    message["Subject"] = f"#link {subject}"
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=world.domain)
    message.set_content(sample.text)
    message.add_attachment(CONTENT, "application", "pdf", filename=sample.file)
    message.add_attachment(b"x" * 1200, "application", "ms-tnef", filename="winmail.dat")
    reply = submit(world, message, [world.carol])
    assert reply.code == 250, reply
    arrived = world.wait_for(subject)
    assert arrived.judged["dmarc"]["result"] == "pass", arrived.judged
    assert [part.get_content_type() for part in arrived.message.walk() if part.get_filename()] == []
    return arrived


def code_of(world: World, language: str, before: int) -> str:
    """The one in the mail that arrived next."""
    subject = SAMPLES[language].code
    mail = wait(lambda: copies(world, subject)[before:] or None, "the mail with the code", 60)[0]
    assert mail.judged["dmarc"]["result"] == "pass", mail.judged
    return str(re.findall(r"\d{8}", mail.message.get_content())[0])


def fetched(folder: Path, language: str) -> bytes:
    file = folder / SAMPLES[language].file
    wait(lambda: file.exists() and file.stat().st_size == len(CONTENT), f"{file.name} to be fetched", 60)
    return file.read_bytes()


def picture(browser: Chromium, name: str) -> None:
    if PICTURES:
        browser.screenshot(Path(PICTURES) / name)


@pytest.mark.parametrize(("language", "number"), [("ja", "A-81"), ("en", "A-82")])
def test_by_the_keyboard_alone_and_without_a_script(
    protects: None, world: World, browse: Callable[..., Chromium], tmp_path: Path, language: str, number: str
) -> None:
    sample, words = SAMPLES[language], WORDS[language]
    link = link_in(given(world, language, number).message)
    back = link_in(world.read(world.alice, number), "r")
    before = len(copies(world, sample.code))
    browser = browse(language, scripts=False)
    assert not browser.runs_scripts()

    browser.open(link)
    browser.wait_for(words["send"])
    picture(browser, f"page-{language}-1.png")
    browser.tab_to("button", words["send"])
    browser.press("Enter")
    browser.wait_for(words["code"])
    browser.tab_to("textbox", words["code"])
    browser.type("00000000")
    browser.press("Enter")
    browser.wait_for(words["wrong"])
    browser.tab_to("textbox", words["code"])
    browser.type(code_of(world, language, before))
    picture(browser, f"page-{language}-2.png")
    browser.press("Enter")
    browser.wait_for(sample.file)
    picture(browser, f"page-{language}-3.png")
    browser.tab_to("link", sample.file)
    browser.press("Enter")
    assert fetched(tmp_path, language) == CONTENT

    browser.open(back)  # and its sender takes it back
    browser.wait_for(words["back_do"])
    browser.tab_to("button", words["back_do"])
    browser.press("Enter")
    browser.wait_for(words["back_done"])
    browser.open(link)
    browser.wait_for(words["send"])


@pytest.mark.parametrize(("language", "number"), [("ja", "A-83"), ("en", "A-84")])
def test_with_the_mouse_in_a_browser_as_it_comes(
    protects: None, world: World, browse: Callable[..., Chromium], tmp_path: Path, language: str, number: str
) -> None:
    sample, words = SAMPLES[language], WORDS[language]
    link = link_in(given(world, language, number).message)
    before = len(copies(world, sample.code))
    browser = browse(language, scripts=True)
    assert browser.runs_scripts()

    browser.open(link)
    browser.wait_for(words["send"])
    browser.click("button", words["send"])
    browser.wait_for(words["code"])
    browser.click("textbox", words["code"])
    browser.type(code_of(world, language, before))
    browser.click("button", words["open"])
    browser.wait_for(sample.file)
    browser.click("link", sample.file)
    assert fetched(tmp_path, language) == CONTENT
