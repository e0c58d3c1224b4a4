# Files that lie in an object store are handed out as those on the disk are; while the store does not answer the page
# says so, and that nothing is lost; nobody else waits for it.

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from s3_server import ACCESS, SECRET, S3Server
from todoku.protect import object_store
from todoku.protect.shelf import DAY, FOLDERS, Kept, Shelf
from todoku.web.application import application
from todoku.web.attachments import COOKIE, Desk

CONTENT = bytes(range(256)) * 40_000  # 10 MB: two parts


class Site:
    """One link to one file, and the browser of somebody who has shown the code."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        for name in FOLDERS:
            (folder / name).mkdir()
        self.server, settings = server, server.settings()
        shelf = Shelf(folder, lambda: object_store.of(settings))
        given = shelf.give("alice@hoge.example", "x", "en", time.time() + DAY, 3)
        given.add("a.bin", [CONTENT])
        self.token = given.link("carol@mailbox.example")
        given.close()
        link = shelf.find(self.token, time.time())
        assert link
        self.kept: Kept = link.files[0]
        desk = Desk(shelf, lambda _to, _letter: None)
        cookies = {COOKIE: desk.sessions.new(link.id, time.time())}
        self.browser = TestClient(application(desk), base_url="https://mx.hoge.example", cookies=cookies)

    @property
    def file(self) -> str:
        return f"/a/{self.token}/0"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    server = S3Server(tmp_path / "s3")
    server.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(server.authorities))
    credential = tmp_path / "store-credential"
    credential.write_text(f"{ACCESS}\n{SECRET}\n")
    monkeypatch.setattr(object_store, "CREDENTIAL", credential)
    yield Site(tmp_path, server)
    server.stop()


def test_the_file_comes_in_whole_and_in_part(site: Site) -> None:
    whole = site.browser.get(site.file)
    assert (whole.status_code, whole.content) == (200, CONTENT)
    part = site.browser.get(site.file, headers={"Range": "bytes=8388600-8388700"})
    assert (part.status_code, part.content) == (206, CONTENT[8388600:8388701])
    assert part.headers["content-range"] == f"bytes 8388600-8388700/{len(CONTENT)}"


def test_while_the_store_does_not_answer_the_page_says_so_and_counts_nothing(site: Site) -> None:
    site.server.stop()
    for language, words in (("en", "It is not lost: try again later"), ("ja", "失われてはいません")):
        answer = site.browser.get(site.file, headers={"Accept-Language": language})
        assert answer.status_code == 503
        assert words in answer.text
    site.server.start()
    for _ in range(3):  # as often as it may be fetched
        assert site.browser.get(site.file).content == CONTENT


def test_a_file_that_is_gone_from_the_store_cannot_be_read_any_more(site: Site) -> None:
    store = object_store.of(site.server.settings())
    assert store
    store.remove(site.kept.object)
    answer = site.browser.get(site.file)
    assert answer.status_code == 500
    assert "cannot be read any more" in answer.text
