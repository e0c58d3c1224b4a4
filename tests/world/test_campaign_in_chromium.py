# The pages of bulk mail in a browser that people have, in Japanese and English, with the keyboard alone and without a
# script: from the form over the mail with its link to the preferences and out again. And what a campaign's author sees
# of a message before anybody gets it.

from __future__ import annotations

import http.server
import os
import re
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import test_campaign
from chromium import Chromium
from conftest import World, wait
from peers import unpack
from test_campaign import DATABASE, FOLDER, asked, own

from todoku.campaign import tokens
from todoku.campaign.tokens import Link
from todoku.web.subscriptions_text import TEXTS

# slow: Chromium and what it needs are fetched first (script/peers, 130 MB), and take half a minute to unpack
pytestmark = pytest.mark.slow

PAGES = "http://127.0.0.1:8025"
CONSENT = {"ja": "月に一度のお知らせを受け取ります。", "en": "I agree to one message a month."}
MAIL = {"ja": "申し込みの確認", "en": "please confirm"}
ROLES = {"field": "textbox", "choice": "checkbox", "languages": "combobox"}

bulk, nothing_goes_on = test_campaign.bulk, test_campaign.nothing_goes_on


@pytest.fixture(scope="module")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> None:
    unpack("chromium", tmp_path_factory.mktemp("chromium"))


@pytest.fixture
def browse(browsers: None, tmp_path: Path) -> Iterator[Callable[..., Chromium]]:
    opened: list[Chromium] = []

    def start(language: str, *, scripts: bool, width: int = 390) -> Chromium:
        opened.append(
            Chromium(tmp_path / "profile", language=language, key=b"", scripts=scripts, width=width)
        )
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def state(name: str, address: str) -> str:
    query = (
        "SELECT o.state FROM subscription o JOIN subscriber s ON s.id = o.subscriber JOIN list l ON l.id = o.list "
        "WHERE l.name = ? AND s.address = ?"
    )
    with sqlite3.connect(DATABASE, timeout=10) as database:
        found = database.execute(query, (name, address)).fetchone()
    return str(found[0]) if found else "nobody"


def page(purpose: str, name: str, address: str) -> str:
    """The address of a page as it stands in the messages of that list to that person."""
    query = "SELECT s.id, l.id FROM subscriber s, list l WHERE l.name = ? AND s.address = ?"
    with sqlite3.connect(DATABASE, timeout=10) as database:
        ((person, number),) = database.execute(query, (name, address)).fetchall()
    token = tokens.read(DATABASE.with_name("key")).token(Link(person, number), purpose)
    return f"{PAGES}/{purpose}/{token}"


@pytest.mark.parametrize("language", ["ja", "en"])
def test_from_the_form_to_the_preferences_and_out_by_the_keyboard_alone_and_without_a_script(
    world: World, browse: Callable[..., Chromium], language: str
) -> None:
    texts, other = TEXTS[language], TEXTS["en" if language == "ja" else "ja"]
    name = own(f"paper-{language}")
    whom, title = f"{name}@{world.carol.partition('@')[2]}", f"Paper {name}"
    asked(world, "list", "add", name, "--title", title, "--consent", CONSENT[language])
    browser = browse(language, scripts=False)
    assert not browser.runs_scripts()

    browser.open(f"{PAGES}/subscribe/{name}")
    assert CONSENT[language] in browser.wait_for(texts["subscribe"])
    browser.tab_to(ROLES["field"], texts["address"])
    browser.type(whom)
    browser.press("Tab")
    assert browser.focused() == ("button", texts["send"])  # not the field that only programs fill in
    browser.press("Enter")
    browser.wait_for(texts["asked"])
    assert state(name, whom) == "unconfirmed"

    arrived = world.wait_for(f"{title}: {MAIL[language]}", 60)
    link = re.search(r"https://\S+(/confirm/\S+)", arrived.message.get_content())
    assert link is not None
    browser.open(PAGES + link[1])
    assert whom in browser.wait_for(texts["confirm_button"])
    assert state(name, whom) == "unconfirmed"  # looking is not agreeing
    browser.tab_to("button", texts["confirm_button"])
    browser.press("Enter")
    browser.wait_for(texts["confirmed"])
    assert state(name, whom) == "confirmed"

    browser.open(page("unsubscribe", name, whom))
    browser.wait_for(texts["unsubscribe_button"])
    browser.tab_to("link", texts["to_preferences"])
    browser.open(
        page("preferences", name, whom)
    )  # where it leads, without the web server that the world lacks
    browser.wait_for(texts["save"])
    assert state(name, whom) == "confirmed"
    browser.tab_to(ROLES["choice"], title)
    browser.press(" ")
    browser.tab_to(ROLES["languages"], texts["language"])
    browser.press("ArrowDown" if language == "ja" else "ArrowUp")
    browser.tab_to("button", texts["save"])
    browser.press("Enter")
    assert other["none"] in browser.wait_for(other["saved"])
    assert state(name, whom) == "unsubscribed"

    browser.tab_to(ROLES["choice"], title)  # and they change their mind
    browser.press(" ")
    browser.tab_to("button", other["save"])
    browser.press("Enter")
    wait(lambda: state(name, whom) == "confirmed", "them to be on the list again", 30)
    browser.open(page("unsubscribe", name, whom))
    browser.wait_for(other["unsubscribe_button"])
    browser.tab_to("button", other["unsubscribe_button"])
    browser.press("Enter")
    browser.wait_for(other["unsubscribed"])
    assert state(name, whom) == "unsubscribed"


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server of somebody's, and what it was asked for."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()


@contextmanager
def previewed(name: str, whom: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The address of the page, and what the browser was started with, which everybody on the machine can read."""
    started = folder / "browser"
    started.write_text('#!/bin/sh\nprintf %s "$*" >"$0.new"\nmv "$0.new" "$0.arguments"\n')
    started.chmod(0o700)
    command = ["todoku", "campaign", "preview", name, "--for", whom, "--browser", "--minutes", "5"]
    environment = os.environ | {"BROWSER": f"{started} %s", "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        address = running.stdout.readline().strip()
        arguments = wait(
            lambda: (file := folder / "browser.arguments").exists() and file.read_text(), "a browser", 60
        )
        yield address, str(arguments)
    finally:
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0


@pytest.mark.parametrize("scripts", [False, True])
def test_a_preview_shows_the_message_and_nothing_in_it_does_anything(
    world: World, browse: Callable[..., Chromium], tmp_path: Path, scripts: bool
) -> None:
    name = own(f"look-{scripts}".lower())
    whom = f"{name}@{world.carol.partition('@')[2]}"
    with elsewhere() as (url, seen):
        (FOLDER / "look.html").write_text(
            f"<h1>{{{{ first_name }}}}様</h1><script>document.body.append('ran')</script><img src='{url}/pixel.gif' "
            f"onerror='document.body.append(\"ran\")'><form action='{url}/form'><button>Send</button></form>"
            f"<a href='{url}/link'>Read more</a> <a href='{{{{ unsubscribe }}}}'>配信停止</a>"
        )
        asked(world, "list", "add", name, "--title", "ほげ通信", "--consent", "月に一度")
        (FOLDER / "people.csv").write_text(f"address,first_name,evidence\n{whom},アリス,form\n")
        asked(world, "list", "import", name, str(FOLDER / "people.csv"))
        files = ("--text", str(FOLDER / "text"), "--html", str(FOLDER / "look.html"))
        asked(world, "campaign", "create", name, "--list", name, "--subject", "春のお知らせ", *files)
        browser = browse("ja", scripts=scripts, width=1200)
        assert browser.runs_scripts() is scripts
        with previewed(name, whom, tmp_path) as (address, arguments):
            key = address.split("/")[3]
            assert len(key) == 32 and key not in arguments
            assert arguments.startswith("file:///")
            browser.open(arguments)
            told = browser.wait_for("Pictures from elsewhere are not loaded")
            assert "春のお知らせ" in told and whom in told
            browser.wait_for("アリス様")  # the text, beside the HTML, and after it in the page
            inside, beside = browser.frame()
            assert "アリス様" in inside and "Read more" in inside and "ran" not in inside.split("\n")
            browser.tab_to("radio", "beside the text")
            browser.press("ArrowRight")
            browser.wait_for("narrow")
            narrow = wait(lambda: (width := browser.frame()[1]) != beside and width, "another width", 30)
            assert (beside > 500, narrow) == (True, 375)
            browser.press_in_frame("button", "Send")
            assert "アリス様" in browser.frame()[0]  # nothing was sent
            browser.press_in_frame("link", "Read more")
            wait(lambda: "アリス様" not in browser.frame()[0], "the browser to say that it is blocked", 30)
        assert seen == []
    assert not list(Path("/tmp").glob("todoku-preview-*"))
