# The addressee's page, with the service behind its door: looking changes nothing, a password is worth what is in the
# ZIP, and a link that was made up tells nothing.

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
from archives import aes
from httpx import Response
from office import BOB, DAY, Office
from starlette.testclient import TestClient

from todoku.gate.clamd import Infected
from todoku.protect.held import Held
from todoku.protect.shelf import Shelf
from todoku.quarantine.checking import Outcome
from todoku.quarantine.service import Service
from todoku.quarantine.tries import MOST_WRONG
from todoku.web.application import HEADERS, application
from todoku.web.attachments import Desk
from todoku.web.held import Ask, HeldDesk, at_the_door
from todoku.web.pages import Pages
from todoku.web.words import WORDS

PDF = b"the only secret of this message"
MADE_UP = "A" * 43


class Door:
    """The service, in a thread of its own."""

    def __init__(self, office: Office) -> None:
        self.path = office.root / "socket"
        self._service = Service(office.keeper, no_sooner=0.0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._serving = self._loop.create_task(self._service.serve(self.path))
        with pytest.raises(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)
        self._loop.close()

    def open(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self.path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join(30)


@dataclass
class Site:
    office: Office
    door: Door
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.held: Held = self.office.hold(aes({"a.pdf": PDF}))
        self.link = f"/h/{self.office.keeper.token(self.held.id, 0)}"

    async def ask(self, token: str, passwords: Sequence[str]) -> str:
        self.asked.append(tuple(passwords))
        return await at_the_door(token, passwords, self.door.path)

    def browser(self, ask: Ask | None = None, language: str = "en") -> TestClient:
        desk = Desk(Shelf(self.office.root), lambda *_: None, ask_quarantine=ask or self.ask)
        app = application(desk, reads=10_000, writes=10_000)
        return TestClient(app, base_url="https://mx.hoge.example", headers={"Accept-Language": language})

    def gives(self, *passwords: str, link: str = "", language: str = "en") -> Response:
        form = dict(zip(("password", "second", "third"), passwords, strict=False))
        return self.browser(language=language).post(link or self.link, data=form)

    @property
    def state(self) -> str:
        return self.held.fate(0).state


@pytest.fixture
def site(office: Office) -> Iterator[Site]:
    made = Site(office, Door(office))
    made.door.open()  # once it is held: only one thread at a time looks
    yield made
    made.door.close()


@pytest.mark.parametrize("language", ["ja", "en"])
def test_looking_changes_and_tells_nothing(site: Site, language: str) -> None:
    words = WORDS[language]
    before = sorted(each.name for each in site.held.place.iterdir())
    browser = site.browser(language=language)
    shown = browser.get(site.link)
    assert shown.status_code == 200
    assert f'<html lang="{language}">' in shown.text
    for word in ("held", "held_password", "held_several", "held_do"):
        assert words[word] in shown.text
    for secret in (PDF.decode(), "Dave", "dave@", BOB, "a.zip"):
        assert secret not in shown.text
    assert browser.head(site.link).status_code == 200
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert browser.request(method, site.link).status_code == 404
    assert browser.get(f"{site.link}?password=pw").status_code == 200
    assert sorted(each.name for each in site.held.place.iterdir()) == before
    assert (site.state, site.asked) == ("held", [])


def test_the_reader_may_choose_the_other_language_and_keeps_it(site: Site) -> None:
    shown = site.browser(language="en").get(f"{site.link}?l=ja")
    assert WORDS["ja"]["held"] in shown.text
    assert f'action="{site.link}?l=ja"' in shown.text
    assert f'href="{site.link}?l=en"' in shown.text


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_password_opens_the_way_to_the_mailbox_once(site: Site, language: str) -> None:
    for _ in range(2):  # who comes back reads the same
        answer = site.gives("pw", language=language)
        assert answer.status_code == 200
        assert WORDS[language]["held_clean"] in answer.text
        assert "<form" not in answer.text
        assert PDF.decode() not in answer.text
    assert site.state == "delivered"
    assert site.office.handed == [(BOB,)]


@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_wrong_password_is_told_and_may_be_followed_by_the_right_one(site: Site, language: str) -> None:
    answer = site.gives("no", language=language)
    assert answer.status_code == 403
    assert WORDS[language]["held_wrong"].split(":")[0] in answer.text
    assert 'role="alert"' in answer.text
    assert "value=" not in answer.text
    assert (site.state, site.office.handed) == ("held", [])
    assert site.gives("no", "pw", language=language).status_code == 200


def test_malware_is_told_and_goes_nowhere(site: Site) -> None:
    site.office.scan.says = Infected("Eicar-Test-Signature")
    answer = site.gives("pw")
    assert WORDS["en"]["held_malware"] in answer.text
    assert (site.state, site.office.handed) == ("refused", [])
    assert WORDS["en"]["held_malware"] in site.gives("pw").text


def test_a_link_that_was_made_up_or_is_over_is_answered_as_a_wrong_password_is(site: Site) -> None:
    def answer(link: str, *passwords: str) -> tuple[int, str, list[tuple[str, str]]]:
        got = site.gives(*passwords, link=link)
        return got.status_code, got.text.replace(link, "LINK"), list(got.headers.items())

    wrong = answer(site.link, "no")
    assert wrong[0] == 403
    assert answer(f"/h/{MADE_UP}", "no") == answer(f"/h/{MADE_UP}", "pw") == wrong
    assert answer("/h/x", "pw")[:2] == wrong[:2]
    site.office.now += 15 * DAY
    assert answer(site.link, "pw") == wrong
    assert site.office.handed == []
    looks = [site.browser().get(link).text.replace(link, "LINK") for link in (site.link, f"/h/{MADE_UP}")]
    assert looks[0] == looks[1]


@pytest.mark.parametrize("made_up", [False, True])
def test_wrong_passwords_are_limited_also_for_links_that_were_made_up(site: Site, made_up: bool) -> None:
    link = f"/h/{MADE_UP}" if made_up else site.link
    assert [site.gives(str(number), link=link).status_code for number in range(MOST_WRONG)] == [
        403
    ] * MOST_WRONG
    answer = site.gives("pw", link=link)
    assert answer.status_code == 429
    assert WORDS["en"]["held_too-often"].split(":")[0] in answer.text
    assert (site.state, site.office.handed) == ("held", [])


@pytest.mark.parametrize(
    "form",
    [{}, {"password": ""}, {"other": "pw"}, {"password": "x" * 257}, {"password": "pw", "third": "x" * 257},
     {"password": "pw", "more": "x" * 5000}, {"password": "pw"} | {str(number): "x" for number in range(20)}],
)  # fmt: skip
def test_what_is_no_form_of_ours_is_never_asked_about(site: Site, form: dict[str, str]) -> None:
    assert site.browser().post(site.link, data=form).status_code == 403
    assert site.asked == []


def test_a_form_of_another_site_is_not_taken(site: Site) -> None:
    answer = site.browser().post(site.link, data={"password": "pw"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 404
    assert site.asked == []


@pytest.mark.parametrize("language", ["ja", "en"])
def test_without_the_service_it_is_to_be_tried_again(site: Site, language: str) -> None:
    site.door.close()
    site.door.path.unlink(missing_ok=True)
    for _ in range(2):
        answer = site.gives("pw", language=language)
        assert answer.status_code == 503
        assert WORDS[language]["held_later"].split(":")[0] in answer.text
        assert "<form" in answer.text
    assert site.state == "held"


@pytest.mark.parametrize(
    "said", [b"", b"\n", b"nonsense\n", b"[]\n", b"{}\n", b'{"outcome": 1}\n', b'{"outcome": "x"}\n']
)
def test_a_service_that_talks_nonsense_is_one_that_is_away(site: Site, tmp_path: Path, said: bytes) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    async def ask(token: str, passwords: Sequence[str]) -> str:
        server = await asyncio.start_unix_server(nonsense, str(tmp_path / "s"))
        async with server:
            return await at_the_door(token, passwords, tmp_path / "s")

    answer = site.browser(ask).post(site.link, data={"password": "pw"})
    assert answer.status_code == 503


def test_what_takes_long_goes_on_and_says_so(site: Site) -> None:
    async def never(_token: str, _passwords: Sequence[str]) -> str:
        await asyncio.Event().wait()
        return "clean"

    desk = HeldDesk(Pages(), never, patience=0.01)
    assert asyncio.run(desk._outcome("x", ["pw"])) == "under-way"
    answer = site.browser(partial(_says, "under-way")).post(site.link, data={"password": "pw"})
    assert answer.status_code == 202
    assert 'role="status"' in answer.text


async def _says(outcome: str, _token: str, _passwords: Sequence[str]) -> str:
    return outcome


@pytest.mark.parametrize("outcome", [*get_args(Outcome), "too-often", "under-way"])
@pytest.mark.parametrize("language", ["ja", "en"])
def test_every_outcome_has_its_words_and_the_headers(site: Site, outcome: str, language: str) -> None:
    browser = site.browser(partial(_says, outcome), language)
    for answer in (browser.get(site.link), browser.post(site.link, data={"password": "pw"})):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["Cache-Control"] == "no-store"
        assert "<script" not in answer.text
        assert "style=" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert WORDS[language][f"held_{outcome}"].split(":")[0].split("'")[0] in answer.text
