# A message is looked at before anybody gets it: as a file, or in the browser, and nobody else on the machine sees it.

from __future__ import annotations

import email
import email.policy
import http.client
import json
import os
import re
import resource
import signal
import stat
import tempfile
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from campaign_place import subscribe
from campaign_typed import Commands
from test_campaign_sending import people

from todoku.campaign import lists
from todoku.campaign.opened import Opened
from todoku.cli import campaign_preview
from todoku.cli.parts import campaign_page
from todoku.store import campaign_schema as schema

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the commands are root's")


def test_a_preview_is_written_to_a_new_file_and_never_over_another(
    commands: Commands, opened: Opened, news: int, tmp_path: Path
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="アリス")
    commands.create()
    file = tmp_path / "spring.eml"
    assert str(file) in commands.done("preview spring --eml", str(file))
    assert email.message_from_bytes(file.read_bytes())["To"] == "alice@mailbox.example"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("mine")
    assert "is there already" in commands.refused("preview spring --eml", 1, str(file))
    assert file.read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    commands.refused("preview spring --eml", 1, str(tmp_path / "link"))
    assert not (tmp_path / "nothing").exists()
    assert "No such file" in commands.refused("preview spring --eml", 1, str(tmp_path / "no/where.eml"))


def test_a_preview_that_does_not_fit_on_the_disk_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(SystemExit):
            campaign_preview._write(tmp_path / "a.eml", b"x" * 100_000, as_json=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "cannot be written: File too large" in capfd.readouterr().err
    assert not (tmp_path / "a.eml").exists()


def test_each_is_shown_the_subject_that_is_theirs(commands: Commands, opened: Opened, news: int) -> None:
    people(opened, news, 6)
    subscribe(opened, news, "new@mailbox.example", name="N")
    commands.create("--subject-b", "Beta")
    with opened.write() as connection:
        lists.unsubscribe(connection, news, 7, "test", opened.clock())
        got = schema.recipient
        connection.execute(got.delete().where(got.c.subscriber == 7))
        given = {row.subscriber: row.variant for row in connection.execute(got.select())}
    assert sorted(given.values()).count("b") >= 2
    for number in range(6):
        shown = email.message_from_string(commands.done(f"preview spring --for p{number}@mailbox.example"))
        assert shown["Subject"] == {"a": "Alpha", "b": "Beta"}[given[number + 1]]
    assert "Subject: Alpha" in commands.done("preview spring --for new@mailbox.example")  # has no row
    assert "there is no subscriber" in commands.refused("preview spring --for nobody@mailbox.example", 1)


def get(address: str, host: str | None = None) -> tuple[int, dict[str, str], str]:
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.netloc, timeout=30)
    connection.request("GET", where.path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    found = answer.status, headers, answer.read().decode()
    connection.close()
    return found


def seen_in_browser(monkeypatch: pytest.MonkeyPatch, look: Callable[[str], object]) -> list[str]:
    """The browser looks, then somebody presses Ctrl-C."""
    addresses = []

    def opens(given: str) -> bool:
        """`given` stands in the list of processes: it is a file, and only its owner can read where it leads."""
        file = Path(urlsplit(given).path)
        assert urlsplit(given).scheme == "file"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        (address,) = set(re.findall(r"http://[^\"]+", file.read_text()))
        assert address.split("/")[3] not in given
        addresses.append(address)
        look(address)
        signal.raise_signal(signal.SIGINT)
        return True

    monkeypatch.setattr(webbrowser, "open", opens)
    return addresses


def test_a_preview_is_shown_in_the_browser_without_a_script_or_anything_from_elsewhere(
    commands: Commands, opened: Opened, news: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="<i>アリス</i>")
    commands.create()
    pages = {}
    wrong = []

    def look(address: str) -> None:
        for name in ("", "html", "message.eml"):
            pages[name] = get(address + name)
        where = urlsplit(address)
        root, host = f"{where.scheme}://{where.netloc}/", where.netloc
        wrong.extend(
            get(each)[0] for each in (root, f"{root}x/", f"{address}../x", f"{root}{'é'.encode()!r}/")
        )
        wrong.append(get(address, f"evil.example:{host.rpartition(':')[2]}")[0])

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    addresses = seen_in_browser(monkeypatch, look)
    said = commands.done("preview spring --browser")
    assert addresses[0] in said and "15 minutes" in said
    assert set(wrong) == {404} and len(wrong) == 5
    status, headers, page = pages[""]
    assert status == 200
    assert "&lt;i&gt;アリス&lt;/i&gt;様\r\n&lt;b&gt;no tag" in page
    assert "<dd>Alpha</dd>" in page and "<dd>alice@mailbox.example</dd>" in page
    assert '<iframe src="html" sandbox ' in page
    assert "script" not in page and "unsafe" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    status, headers, html = pages["html"]
    assert status == 200
    assert "&lt;i&gt;アリス" in html and "elsewhere.example" in html  # it is in there, and not loaded:
    rules = headers["content-security-policy"].split("; ")
    assert {"sandbox", "default-src 'none'", "img-src data:", "form-action 'none'"} <= set(rules)
    assert "script-src" not in headers["content-security-policy"]
    assert headers["content-type"] == "text/html; charset=utf-8"
    status, headers, raw = pages["message.eml"]
    assert headers["content-disposition"].startswith("attachment")
    assert email.message_from_string(raw)["To"] == "alice@mailbox.example"
    with pytest.raises(OSError, match="refused"):
        get(addresses[0])
    assert list(tmp_path.glob("todoku-preview-*")) == []


@dataclass
class Passing:
    """Time that passes only for who sleeps."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_without_a_browser_the_address_is_told_and_the_way_to_it(
    commands: Commands, opened: Opened, news: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="A")
    commands.create()
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    time = Passing()
    monkeypatch.setattr(campaign_preview, "time", time)
    result = commands("preview spring --browser --minutes 3")
    assert result.exit_code == 0, result.output
    assert time.now == 180
    port = urlsplit(result.stdout.split()[0]).port
    assert f"ssh -L {port}:127.0.0.1:{port}" in result.stderr


def test_no_browser_is_opened_when_nobody_wants_one(
    commands: Commands, opened: Opened, news: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="A")
    commands.create()
    opens = seen_in_browser(monkeypatch, lambda _: None)
    time = Passing()
    monkeypatch.setattr(campaign_preview, "time", time)
    shown = json.loads(commands.done("preview spring --browser --no-open --minutes 1 --json"))
    assert time.now == 60
    assert shown["address"].startswith("http://127.0.0.1:")
    assert opens == []
    for alone in ("--no-open", "--minutes 3"):
        assert "need --browser" in commands.refused(f"preview spring {alone}", 2)


def test_a_message_without_html_is_its_text() -> None:
    found = campaign_page.answers(
        b"Subject: =?utf-8?b?PHNjcmlwdD4=?=\r\nFrom: a@b\r\nTo: c@d\r\n\r\n<script>\r\n"
    )
    page = found[""].content.decode()
    assert set(found) == {"", "message.eml"}
    assert "iframe src" not in page and "<script" not in page
    assert page.count("&lt;script&gt;") == 3  # title, subject, text
