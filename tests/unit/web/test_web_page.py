# The page is open to the world: only who reads the recipient's mail gets a file, and nobody else learns anything.

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from todoku.protect.shelf import DAY, FOLDERS, Shelf
from todoku.protect.wording import Letter
from todoku.web import codes, ranges
from todoku.web.application import application
from todoku.web.attachments import Desk

CONTENT = bytes(range(256)) * 1000
CAROL, DAVE, ALICE = "carol@mailbox.example", "dave@outside.example", "alice@hoge.example"
UNKNOWN = "A" * 43


@dataclass
class Site:
    """The page over a shelf with one offer to carol and dave, and the mails that it sent."""

    shelf: Shelf
    mails: list[tuple[str, Letter]] = field(default_factory=list)
    now: float = field(default_factory=time.time)
    carol: str = ""
    dave: str = ""
    alice: str = ""

    def __post_init__(self) -> None:
        given = self.shelf.give(ALICE, "見積書", "ja", self.now + 7 * DAY, 2)
        given.add('見積 "1";\u202e.pdf', [CONTENT])
        given.add("b.txt", [b"two"])
        self.carol, self.dave = given.link(CAROL), given.link(DAVE)
        given.close()
        self.alice = given.token
        self.desk = Desk(
            self.shelf, lambda to, letter: self.mails.append((to, letter)), clock=lambda: self.now
        )

    def browser(self, **limits: int) -> TestClient:
        app = application(self.desk, **{"reads": 10_000, "writes": 10_000, **limits})
        return TestClient(app, base_url="https://mx.hoge.example", follow_redirects=False)

    def code(self, browser: TestClient, token: str) -> str:
        """Asks for one, and reads it in the mail."""
        before = len(self.mails)
        assert browser.post(f"/a/{token}/code").status_code == 200
        deadline = time.monotonic() + 5
        while len(self.mails) == before and time.monotonic() < deadline:
            browser.get("/robots.txt")  # lets the loop run
        return re.findall(r"\d{8}", self.mails[-1][1].text)[0]

    def opened(self, token: str) -> TestClient:
        browser = self.browser()
        answer = browser.post(f"/a/{token}/open", data={"code": self.code(browser, token)})
        assert answer.status_code == 303, answer.text
        return browser


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    return Site(Shelf(tmp_path))


def test_the_recipients_whole_way(site: Site) -> None:
    browser = site.browser()
    with browser:
        page = browser.get(f"/a/{site.carol}", headers={"Accept-Language": "ja,en;q=0.5"})
        assert '<html lang="ja">' in page.text
        assert "確認コードを送る" in page.text
        code = site.code(browser, site.carol)
        assert site.mails[-1][0] == CAROL
        answer = browser.post(f"/a/{site.carol}/open", data={"code": f" {code[:4]} {code[4:]} "})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/a/{site.carol}")
        assert re.search(r"; HttpOnly; Path=/a/\S+; SameSite=strict; Secure", answer.headers["set-cookie"])
        page = browser.get(f"/a/{site.carol}")
        assert "見積 &#34;1&#34;;" in page.text
        file = browser.get(f"/a/{site.carol}/0")
        assert file.content == CONTENT
        assert file.headers["content-type"] == "application/octet-stream"
        assert "filename*=UTF-8''%E8%A6%8B%E7%A9%8D%20%221%22%3B" in file.headers["content-disposition"]
        deadline = time.monotonic() + 5
        while site.mails[-1][0] != ALICE and time.monotonic() < deadline:
            browser.get("/robots.txt")
        assert site.mails[-1][0] == ALICE
        assert CAROL in site.mails[-1][1].text


def test_scanners_that_follow_links_consume_and_learn_nothing(site: Site) -> None:
    browser = site.browser()
    for token in (site.carol, UNKNOWN):
        for path in (f"/a/{token}", f"/a/{token}/0", f"/r/{site.alice}", f"/a/{token}/code"):
            for method in ("GET", "HEAD", "OPTIONS"):
                assert CONTENT[:100] not in browser.request(method, path).content
    assert site.mails == []
    assert list((site.shelf.root / "events").iterdir()) == []
    assert site.shelf.find(site.carol, site.now)


def test_a_link_that_does_not_exist_is_answered_like_one_that_does(site: Site) -> None:
    browser = site.browser()
    site.code(browser, site.dave)
    for method, path, form in (
        ("GET", "/a/{}", None),
        ("GET", "/a/{}/0", None),
        ("GET", "/a/{}/7", None),
        ("POST", "/a/{}/code", None),
        ("POST", "/a/{}/open", {"code": "00000000"}),
        ("GET", "/r/{}", None),
        ("POST", "/r/{}", None),
    ):
        answers = []
        for token in (site.carol, UNKNOWN):
            answer = browser.request(method, path.format(token), data=form)
            headers = {k: v for k, v in answer.headers.items() if k != "date"}
            answers.append((answer.status_code, answer.text.replace(token, "TOKEN"), headers))
        assert answers[0] == answers[1]


def test_a_code_is_good_once_for_few_tries_for_ten_minutes_and_for_one_link(site: Site) -> None:
    browser = site.browser()
    with browser:
        code = site.code(browser, site.carol)
        assert browser.post(f"/a/{site.dave}/open", data={"code": code}).status_code == 403
        assert browser.post(f"/a/{site.carol}/open", data={"code": code}).status_code == 303
        assert browser.post(f"/a/{site.carol}/open", data={"code": code}).status_code == 403  # replayed
        code = site.code(browser, site.carol)
        for _ in range(codes.MOST_TRIES):
            assert browser.post(f"/a/{site.carol}/open", data={"code": "x"}).status_code == 403
        assert (
            browser.post(f"/a/{site.carol}/open", data={"code": code}).status_code == 403
        )  # guessed too often
        code = site.code(browser, site.carol)
        site.now += codes.GOOD_FOR
        assert browser.post(f"/a/{site.carol}/open", data={"code": code}).status_code == 403


def test_nobody_is_flooded_with_codes(site: Site) -> None:
    made = codes.Codes()
    assert sum(made.new("link", 0.0) is not None for _ in range(50)) == 5
    assert made.new("link", 4000.0) is not None
    for _ in range(40):
        assert not made.use("link", "wrong", 4000.0)
    assert not made.use("link", made.new("link", 4001.0) or "", 4001.0)  # too many wrong ones that day


def test_one_recipients_session_does_not_open_anothers_link(site: Site) -> None:
    browser = site.opened(site.carol)
    cookie = browser.cookies["todoku"]
    assert browser.get(f"/a/{site.carol}/0").status_code == 200
    stranger = site.browser()
    for value in (cookie, cookie[:-1], "9999999999.", f"9999999999.{cookie.partition('.')[2]}", "é.é", ""):
        raw = {"Cookie": f"todoku={value}".encode()}
        assert stranger.get(f"/a/{site.dave}/0", headers=raw).status_code == 403  # type: ignore[arg-type]
    site.now += codes.SHOWN_FOR
    assert browser.get(f"/a/{site.carol}/0").status_code == 403


def test_parts_of_a_file_and_what_counts_as_fetched(site: Site) -> None:
    browser = site.opened(site.carol)
    part = browser.get(f"/a/{site.carol}/0", headers={"Range": "bytes=100000-100009"})
    assert (part.status_code, part.content) == (206, CONTENT[100000:100010])
    assert part.headers["content-range"] == f"bytes 100000-100009/{len(CONTENT)}"
    assert browser.get(f"/a/{site.carol}/0", headers={"Range": "bytes=999999999-"}).status_code == 416
    assert browser.head(f"/a/{site.carol}/0").headers["content-length"] == str(len(CONTENT))
    for _ in range(2):
        assert browser.get(f"/a/{site.carol}/0").status_code == 200
    assert browser.get(f"/a/{site.carol}/0").status_code == 410
    assert browser.get(f"/a/{site.carol}/1").content == b"two"
    events = [
        event["what"]
        for path in (site.shelf.root / "events").iterdir()
        for event in site.shelf.events(path.stem)
    ]
    assert events.count("fetched") == 3


def test_the_sender_takes_it_back(site: Site) -> None:
    browser = site.opened(site.carol)
    assert site.browser().get(f"/r/{site.alice}").status_code == 200
    assert browser.get(f"/a/{site.carol}/0").status_code == 200
    assert "are gone" in site.browser().post(f"/r/{site.alice}").text
    assert browser.get(f"/a/{site.carol}/0").status_code == 403
    assert list((site.shelf.root / "objects").iterdir()) == []


def test_a_file_that_is_gone_is_told_and_not_half_sent(site: Site) -> None:
    browser = site.opened(site.carol)
    for path in (site.shelf.root / "objects").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    answer = browser.get(f"/a/{site.carol}/0")
    assert answer.status_code == 500
    assert "cannot be read any more" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/a/../../etc/passwd",
        "/a/%2e%2e%2f%2e%2e%2fetc%2fpasswd/0",
        "/a/..%2flinks/0",
        "/a/x%0d%0aSet-Cookie:%20a=b",
        "/a/x%0d%0aSet-Cookie:%20a=b?l=%0d%0aX:y",
        "/a/%00/0",
        "/a/<script>alert(1)</script>",
        "/" + "a" * 5000,
        "/style.css/../../x",
        "/a/" + "A" * 43 + "/99999999999999999999999",
    ],
)
def test_hostile_addresses_get_a_page_and_nothing_else(site: Site, path: str) -> None:
    for method in ("GET", "POST"):
        answer = site.browser().request(method, path)
        assert answer.status_code in (200, 403, 404)
        assert "set-cookie" not in answer.headers
        assert "x" not in answer.headers
        assert "root:" not in answer.text
        assert "<script" not in answer.text


def test_every_answer_forbids_what_it_does_not_need(site: Site) -> None:
    browser = site.opened(site.carol)
    for path in (f"/a/{site.carol}", f"/a/{site.carol}/0", "/nothing", "/style.css", f"/r/{UNKNOWN}"):
        headers = browser.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "noindex" in headers["x-robots-tag"]
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
        if path != "/style.css":
            assert headers["cache-control"] == "no-store"


def test_a_form_of_another_site_and_one_that_is_huge_are_not_taken(site: Site) -> None:
    browser = site.browser()
    with browser:
        assert (
            browser.post(f"/a/{site.carol}/code", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 404
        )
        assert site.mails == []
        code = site.code(browser, site.carol)
        assert browser.post(f"/a/{site.carol}/open", data={"code": code, "x": "y" * 9000}).status_code == 403
        assert browser.post(f"/a/{site.carol}/open", content=b"&" * 4000).status_code == 403


def test_who_asks_too_often_waits(site: Site) -> None:
    browser = site.browser(writes=5)
    statuses = [browser.post(f"/a/{UNKNOWN}/open", data={"code": "1"}).status_code for _ in range(8)]
    assert statuses == [403] * 5 + [429] * 3


def test_a_network_of_ipv6_is_one_client_and_clients_take_bounded_memory() -> None:
    rate = codes.Rate(2, most_clients=10)
    assert [rate.allows(f"2001:db8::{n}", 0.0) for n in range(4)] == [True, True, False, False]
    assert rate.allows("2001:db8:0:1::1", 0.0)
    assert [rate.allows("2001:db8::1", t) for t in (0.0, 30.0, 31.0)] == [False, True, False]
    for number in range(100):
        rate.allows(f"198.51.100.{number}", 0.0)
    assert len(rate._left) == 10


@settings(deadline=None)
@given(st.text(alphabet="bytes=-0123456789, x", max_size=20), st.integers(0, 30))
def test_any_range_is_within_the_file(header: str, size: int) -> None:
    try:
        found = ranges.asked(header, size)
    except ranges.NotSatisfiable:
        return
    if found is not None:
        assert 0 <= found[0] < found[1] <= size
