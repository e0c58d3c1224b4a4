# "They track us, and did not say so": opens and clicks are counted only where that is switched on and said, links lead
# where the message said and nowhere else, and what is counted is told apart from what programs do.

from __future__ import annotations

import email
import email.policy
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from campaign_browser import Browser
from campaign_place import Clock, agree, settings, subscribe
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sink import Sink
from test_campaign_sending import WIDE, send

from todoku.campaign import campaigns, letters, lists, persons, tracking, trial
from todoku.campaign.errors import NotSoError
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.campaign.tokens import Link
from todoku.campaign.tracking import Counting
from todoku.campaign.trial import Trial
from todoku.settings import SettingsError, load
from todoku.store import campaign_schema as schema

HTML = (
    '<html><body><p>{{ name }}</p><a class="x" href="https://shop.example/a?b=1&amp;c=2">shop</a>'
    "<a href='https://shop.example/{{ name }}'>yours</a> <a href=\"{{ unsubscribe }}\">stop</a>"
    '<a href="https://news.hoge.example/about">us</a></body></html>'
)
TEXT = "https://shop.example/a\n{{ unsubscribe }}\n"
COUNTED = {
    "count_opens": True,
    "count_clicks": True,
    "privacy_ja": "開封とクリックを記録します。",
    "privacy_en": "We count opens and clicks.",
}
READER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.0"


@pytest.fixture
def opened(opened: Opened) -> Opened:
    return Opened(opened.engine, opened.keys, settings(plan=WIDE, **COUNTED), opened.clock)


def sent(opened: Opened, tmp_path: Path, counting: Counting, name: str = "spring") -> str:
    """What the one recipient got as HTML."""
    campaigns.create(opened, name, "news", Source("Hi", TEXT, HTML), counting=counting)
    campaigns.start(opened, name)
    sink = Sink()
    send(opened, sink, tmp_path, **COUNTED)
    body = email.message_from_bytes(sink.raw[-1], policy=email.policy.default).get_body(("html",))
    assert body is not None
    return str(body.get_content())


def look(
    browser: Browser, path: str, agent: str = READER, method: str = "GET", **headers: str
) -> tuple[int, str]:
    """Status, and where it leads to."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    request = urllib.request.Request(
        browser.base + path, headers={"User-Agent": agent, **headers}, method=method
    )
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=10) as answer:
            return answer.status, answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Location", "")


def counts(opened: Opened, name: str = "spring") -> dict[str, int]:
    with opened.read() as connection:
        return tracking.counts(connection, campaigns.find(connection, name))


def paths(html: str) -> tuple[str, str]:
    """Of the picture and of the counted link."""
    picture, click = (re.findall(rf"https://news\.hoge\.example(/{kind}/[^\"]+)", html) for kind in "oc")
    assert (len(picture), len(click)) == (1, 1)
    return picture[0], click[0]


def test_what_people_open_and_click_is_counted_once_each_and_led_on(
    opened: Opened,
    news: int,
    clock: Clock,
    tmp_path: Path,
    browser: Browser,
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="A")
    html = sent(opened, tmp_path, Counting(opens=True, clicks=True))
    picture, click = paths(html)
    assert "https://shop.example/A'" in html  # each person's own: as it was
    assert re.search('href="https://news.hoge.example/unsubscribe/[^"]+">stop', html)
    assert 'href="https://news.hoge.example/about"' in html
    clock.now += 60
    for _ in range(3):
        assert look(browser, picture) == (200, "image/gif")
        assert look(browser, click) == (302, "https://shop.example/a?b=1&c=2")
    assert counts(opened) == {"opened": 1, "opened_by_machine": 0, "clicked": 1, "clicked_by_machine": 0}
    with opened.read() as connection:
        rows = connection.execute(schema.reaction.select()).all()
        assert tracking.by_link(connection, 1) == [{"target": "https://shop.example/a?b=1&c=2", "clicked": 1}]
    assert sorted((row.link, row.times) for row in rows) == [(0, 3), (1, 3)]
    assert "clicked" in campaigns.overview(opened)[0]["numbers"]


def test_programs_that_look_first_are_told_apart(
    opened: Opened,
    news: int,
    clock: Clock,
    tmp_path: Path,
    browser: Browser,
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="A")
    picture, click = paths(sent(opened, tmp_path, Counting(opens=True, clicks=True)))
    look(browser, click)  # within the ten seconds in which the scanner of the other side looks
    clock.now += 60
    look(browser, click, method="HEAD")
    look(browser, click, **{"Sec-Purpose": "prefetch"})
    look(browser, picture, agent="Mozilla/5.0")  # Apple's Mail Privacy Protection
    look(browser, click, agent="SafeLinksScanner/1.0")
    assert counts(opened) == {"opened": 0, "opened_by_machine": 1, "clicked": 0, "clicked_by_machine": 1}


def test_no_link_leads_anywhere_else(
    opened: Opened,
    news: int,
    clock: Clock,
    tmp_path: Path,
    browser: Browser,
) -> None:
    number = subscribe(opened, news, "alice@mailbox.example", name="A")
    picture, click = paths(sent(opened, tmp_path, Counting(opens=True, clicks=True)))
    token = click.rpartition("/")[2]
    of_other = opened.keys.token(Link(number, news, 1), "unsubscribe")
    for path in (
        f"/c/2/{token}",
        f"/c/1/{of_other}",
        f"/c/1/{token[:-1]}",
        f"/c/1/{token}?to=https://evil.example",
        "/c/1/" + picture.rpartition("/")[2],
        "/o/" + token,
        "/c/99999999999999999999/" + token,
    ):
        status, to = look(browser, path)
        assert (status, to) in ((404, ""), (302, "https://shop.example/a?b=1&c=2"))
        assert "evil" not in to
        assert status == 404 or "?to=" in path
    assert "alice" not in token and str(number) != token


@hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.text(alphabet=st.characters(codec="ascii", categories=("L", "N", "P")), max_size=80))
def test_nothing_that_is_made_up_is_a_link(opened: Opened, made_up: str) -> None:
    assert tracking.who_clicked(opened.keys, made_up, 1) is None


def test_who_does_not_want_it_is_not_counted_and_who_is_forgotten_leaves_nothing_of_it(
    opened: Opened,
    news: int,
    clock: Clock,
    tmp_path: Path,
    browser: Browser,
) -> None:
    number = subscribe(opened, news, "alice@mailbox.example", name="A")
    picture, click = paths(sent(opened, tmp_path, Counting(opens=True, clicks=True)))
    page = f"/preferences/{opened.keys.token(Link(number, news), 'preferences')}"
    shown = browser.get(page)[1]
    assert "クリックを記録します" in shown
    assert re.search('name="counted" value="yes" checked', shown)
    clock.now += 60
    look(browser, picture)
    browser.post(page, f"list={news}&language=ja")  # the mark is not in it
    assert not re.search('name="counted" value="yes" checked', browser.get(page)[1])
    look(browser, click)
    assert counts(opened)["clicked"] == 0
    html = sent(opened, tmp_path, Counting(opens=True, clicks=True), "summer")
    assert 'href="https://shop.example/a?b=1&amp;c=2"' in html
    assert "/o/" not in html and "<img" not in html
    kept = persons.export(opened, "alice@mailbox.example")
    assert [each["link"] for each in kept["reactions"]] == [0]
    persons.forget(opened, "alice@mailbox.example")
    with opened.read() as connection:
        assert connection.execute(schema.reaction.select()).all() == []
    assert look(browser, click)[0] == 302  # still leads there
    with opened.read() as connection:
        assert connection.execute(schema.reaction.select()).all() == []


def test_what_is_not_asked_for_is_not_in_the_message_and_what_is_not_switched_on_cannot_be(
    opened: Opened, news: int, tmp_path: Path
) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="A")
    html = sent(opened, tmp_path, Counting())
    assert "/o/" not in html and "/c/" not in html
    off = Opened(opened.engine, opened.keys, settings(), opened.clock)
    for counting in (Counting(opens=True), Counting(clicks=True)):
        with pytest.raises(NotSoError, match="not switched on"):
            campaigns.create(off, "x", "news", Source("Hi", TEXT, HTML), counting=counting)
    with pytest.raises(NotSoError, match="HTML only"):
        campaigns.create(opened, "x", "news", Source("Hi", TEXT), counting=Counting(opens=True))
    with pytest.raises(NotSoError, match="raw"):
        raw = HTML + "{%- raw %}{{ x }}{% endraw %}"
        campaigns.create(opened, "x", "news", Source("Hi", TEXT, raw), counting=Counting(opens=True))


def test_a_preview_and_a_look_at_it_count_nothing(opened: Opened, news: int) -> None:
    subscribe(opened, news, "alice@mailbox.example", name="A")
    counting = Counting(opens=True, clicks=True)
    campaigns.create(opened, "spring", "news", Source("Hi", TEXT, HTML), counting=counting)
    body = email.message_from_bytes(letters.preview(opened, "spring"), policy=email.policy.default).get_body(
        ("html",)
    )
    assert body is not None
    assert 'href="https://shop.example/a?b=1&amp;c=2"' in body.get_content()
    assert "<img" not in body.get_content()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("count_opens = true", "nobody is told"),
        ('count_opens = true\nprivacy_ja = "住所を保管します。"', "does not say what count_opens does"),
        ('count_clicks = true\nprivacy_ja = "クリックを記録"\nprivacy_en = "We keep it."', "does not say"),
        ('privacy_en = ""', "not a text"),
        ('count_opens = true\nprivacy_en = "We count who opens it."', ""),
    ],
)
def test_it_cannot_be_switched_on_without_saying_so(tmp_path: Path, table: str, words: str) -> None:
    (tmp_path / "todoku.toml").write_text(f"""
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
credential_file = "/etc/todoku/relay"
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "https://news.hoge.example"
{table}
""")
    if not words:
        assert load(tmp_path / "todoku.toml").campaign is not None
        return
    with pytest.raises(SettingsError) as refused:
        load(tmp_path / "todoku.toml")
    assert words in str(refused.value)


def test_who_clicked_decides_between_two_subjects(
    opened: Opened, news: int, clock: Clock, tmp_path: Path
) -> None:
    with opened.write() as connection:
        for number in range(50):
            agree(opened, connection, news, f"p{number}@mailbox.example", name="N")
    counting = Counting(clicks=True)
    source = Source("Alpha", TEXT, HTML, "Beta")
    campaigns.create(opened, "spring", "news", source, test=Trial(40, 3600.0), counting=counting)
    campaigns.start(opened, "spring")
    send(opened, Sink(), tmp_path, **COUNTED)
    clock.now += 60
    with opened.read() as connection:
        got = schema.recipient
        rows = connection.execute(got.select().where(got.c.state == "sent", got.c.variant == "b")).all()
    for row in rows[:6]:
        tracking.note(opened, Link(row.subscriber, news, row.id), 1, machine=False)
    clock.now += 3600
    sink = Sink()
    send(opened, sink, tmp_path, **COUNTED)
    assert len(sink.raw) == 30
    assert all(b"Subject: Beta" in raw for raw in sink.raw)
    with opened.read() as connection:
        assert campaigns.find(connection, "spring").decide_by == "clicks"
        assert trial.seen(connection, 1)["b"].clicked == 6
    assert tracking.NOT_COUNTED in lists.RESERVED  # no import sets it
