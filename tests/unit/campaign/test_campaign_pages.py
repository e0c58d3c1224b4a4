# "I clicked unsubscribe and they asked for my password"; "the virus scanner unsubscribed everybody".

from __future__ import annotations

import re
import urllib.parse
import urllib.request

import pytest
from campaign_browser import Browser
from campaign_place import Clock, subscribe
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from todoku.campaign import campaigns, letters, lists, message, persons
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.campaign.tokens import Link


def state(opened: Opened, address: str) -> str:
    return str(persons.export(opened, address)["lists"][0]["state"])


def path(opened: Opened, purpose: str, subscriber: int, list_id: int, recipient: int = 0) -> str:
    return f"/{purpose}/{opened.keys.token(Link(subscriber, list_id, recipient), purpose)}"


def test_looking_changes_nothing_and_one_click_unsubscribes_at_once(
    opened: Opened, news: int, browser: Browser
) -> None:
    number = subscribe(opened, news, "alice@mailbox.example")
    campaigns.create(opened, "spring", "news", Source("Hi", "x"))
    campaigns.start(opened, "spring")
    link = path(opened, "unsubscribe", number, news)
    for _ in range(3):
        status, text = browser.get(link)
        assert (status, "alice@mailbox.example" in text) == (200, True)
    assert browser.head(link) == 200  # as many a scanner asks
    assert browser.head(path(opened, "preferences", number, news)) == 200
    assert state(opened, "alice@mailbox.example") == "confirmed"
    assert browser.post(link, "List-Unsubscribe=One-Click")[0] == 200
    assert state(opened, "alice@mailbox.example") == "unsubscribed"
    assert "one click" in persons.export(opened, "alice@mailbox.example")["consent"][-1]["source"]
    with opened.read() as connection:
        assert campaigns.numbers(connection, 1).unsubscribed == 1
    assert browser.post(link, "List-Unsubscribe=One-Click")[0] == 200  # again is no fault


def test_one_click_as_gmail_may_post_it(opened: Opened, news: int, browser: Browser) -> None:
    number = subscribe(opened, news, "alice@mailbox.example")
    body = '--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n'
    link = path(opened, "unsubscribe", number, news)
    assert browser.post(link, body, "multipart/form-data; boundary=b")[0] == 200
    assert "one click" in persons.export(opened, "alice@mailbox.example")["consent"][-1]["source"]


def test_a_link_for_one_thing_is_none_for_another_and_a_forged_one_none_at_all(
    opened: Opened, news: int, browser: Browser
) -> None:
    number = subscribe(opened, news, "alice@mailbox.example")
    token = opened.keys.token(Link(number, news), "confirm")
    for link in (f"/unsubscribe/{token}", "/unsubscribe/AAAA", "/preferences/" + "A" * 56, "/confirm/%00"):
        assert browser.get(link)[0] == 404
        assert browser.post(link, "List-Unsubscribe=One-Click")[0] == 404
    assert state(opened, "alice@mailbox.example") == "confirmed"


def test_who_fills_in_the_form_is_on_the_list_only_after_confirming(
    opened: Opened, news: int, browser: Browser, clock: Clock
) -> None:
    assert "月に一度" in browser.get("/subscribe/news?lang=ja")[1]
    status, told = browser.post("/subscribe/news", "address=Bob%40mailbox.example")
    assert status == 200
    assert state(opened, "bob@mailbox.example") == "unconfirmed"
    number = persons_number(opened, "bob@mailbox.example")
    link = path(opened, "confirm", number, news)
    browser.get(link)
    assert browser.head(link) == 200
    assert browser.head("/subscribe/news?address=eve%40mailbox.example") == 200
    assert state(opened, "bob@mailbox.example") == "unconfirmed"
    assert browser.post(link)[0] == 200
    kept = persons.export(opened, "bob@mailbox.example")
    assert [step["what"] for step in kept["consent"]] == ["asked", "confirmed"]
    assert all(step["text"] == "月に一度のお知らせを受け取ります。" for step in kept["consent"])
    assert "from 127.0.0.1" in kept["consent"][1]["source"]
    # Nobody can find out who is on the list.
    assert browser.post("/subscribe/news", "address=Bob%40mailbox.example") == (status, told)


def test_who_said_no_is_not_put_back_by_somebody_who_fills_in_the_form_for_them(
    opened: Opened, browser: Browser
) -> None:
    simple = lists.create(opened, "simple", "Simple", "News", double=False, is_open=True)
    number = subscribe(opened, simple, "alice@mailbox.example")
    with opened.write() as connection:
        lists.unsubscribe(connection, simple, number, "test", 5.0)
    persons.forget(opened, "bob@mailbox.example")
    for name in ("alice", "bob", "carol"):
        assert browser.post("/subscribe/simple", f"address={name}%40mailbox.example")[0] == 200
    states = {name: state(opened, f"{name}@mailbox.example") for name in ("alice", "bob", "carol")}
    assert states == {"alice": "unsubscribed", "bob": "unconfirmed", "carol": "confirmed"}
    written_to = {each.address for each in letters.people(opened, "simple:confirm", 10)}
    assert written_to == {"alice@mailbox.example", "bob@mailbox.example"}

    def is_forgotten() -> bool:
        with opened.read() as connection:
            return persons.is_forgotten(opened, connection, "bob@mailbox.example")

    assert is_forgotten()  # an import of an old file would not bring them back
    bob = persons_number(opened, "bob@mailbox.example")
    assert browser.post(path(opened, "confirm", bob, simple))[0] == 200
    assert state(opened, "bob@mailbox.example") == "confirmed"
    assert not is_forgotten()


def persons_number(opened: Opened, address: str) -> int:
    with opened.read() as connection:
        found = lists.subscriber(connection, address)
    assert found is not None
    return int(found.id)


def test_an_address_is_not_bothered_by_others(
    opened: Opened, news: int, browser: Browser, clock: Clock
) -> None:
    for _ in range(5):
        browser.post("/subscribe/news", "address=bob%40mailbox.example")
    with opened.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM recipient").scalar() == 1
    browser.post("/subscribe/news", "address=eve%40mailbox.example&website=http%3A%2F%2Fspam")
    with opened.read() as connection:
        assert lists.subscriber(connection, "eve@mailbox.example") is None


def test_the_preferences_show_all_lists_and_speak_both_languages(
    opened: Opened, news: int, browser: Browser
) -> None:
    other = lists.create(opened, "events", "Events", "Events, now and then", double=False, is_open=False)
    number = subscribe(opened, news, "alice@mailbox.example")
    subscribe(opened, other, "alice@mailbox.example")
    link = path(opened, "preferences", number, news)
    text = browser.get(link)[1]
    assert "配信の設定" in text
    assert len(re.findall("checked", text)) == 2
    text = browser.post(link, f"list={other}&language=en")[1]
    assert "Your subscriptions" in text
    assert len(re.findall("checked", text)) == 1
    kept = {each["list"]: each["state"] for each in persons.export(opened, "alice@mailbox.example")["lists"]}
    assert kept == {"news": "unsubscribed", "events": "confirmed"}


@pytest.mark.parametrize("address", ["", "nobody", "a@b", "x@localhost", "a\r\nb@mailbox.example"])
def test_what_is_no_address_is_said_to_be_none(
    opened: Opened, news: int, browser: Browser, address: str
) -> None:
    assert browser.post("/subscribe/news", urllib.parse.urlencode({"address": address}))[0] == 422
    assert browser.post("/subscribe/nothing", "address=a%40mailbox.example")[0] == 404
    assert browser.post("/subscribe/news", "x" * 20_000)[0] == 413


@hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.binary(max_size=200),
    st.sampled_from(["subscribe/news", "unsubscribe/x", "preferences/ok", "confirm/x"]),
)
def test_no_form_breaks_a_page(opened: Opened, news: int, browser: Browser, body: bytes, where: str) -> None:
    if where == "preferences/ok":
        where = path(opened, "preferences", subscribe(opened, news, "fuzz@mailbox.example"), news)[1:]
    request = urllib.request.Request(f"{browser.base}/{where}", body)
    assert browser._ask(request)[0] in (200, 404, 422)


def test_pages_send_nothing_elsewhere_and_are_not_kept(opened: Opened, news: int, browser: Browser) -> None:
    with urllib.request.urlopen(f"{browser.base}/subscribe/news") as answer:
        headers = answer.headers
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert message.UNSUBSCRIBE == "unsubscribe"
