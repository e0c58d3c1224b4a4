# "v=spf1 -all" at the host of bulk mail's pages keeps others from sending in its name. Published without a look it
# would take a web site from the net: the name is somebody's web server, often a CNAME, or lives from a wildcard.

from __future__ import annotations

import re

import pytest
from internet import Internet

from todoku.dns import desired, overview, silent_names
from todoku.dns.client import Names
from todoku.dns.manual import Manual
from todoku.dns.overview import State
from todoku.dns.records import RecordSet, page_records
from todoku.dns.resources import RecordSetResource, Seen
from todoku.plan.outputs import Outputs
from todoku.settings import Settings, parse

ZONE, PAGES = "hoge.example", "news.hoge.example"
ADDRESS = {(PAGES, "A"): ["203.0.113.80"]}
NOTHING = '"v=spf1 -all"'


def settings(url: str = f"https://{PAGES}/mail", more: str = "") -> Settings:
    text = f"""
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
{more}
[relay]
region = "ap-tokyo-1"
[dns]
publisher = "manual"
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "{url}"
"""
    return parse(text, "todoku.toml")


def client(records: dict[tuple[str, str], list[str]], **zones: dict[tuple[str, str], list[str]]) -> Names:
    world = Internet()
    world.zone(ZONE, records)
    for name, others in zones.items():
        world.zone(f"{name}.{ZONE}", others)
    lookups = world.lookups()
    return Names(Manual(lookups), lookups, Outputs(), (ZONE,), 0.0, lambda _: None)


def record() -> RecordSet:
    (wanted,) = page_records(settings())
    return wanted


def seen(names: Names) -> Seen:
    found = RecordSetResource(record()).look(names)
    assert isinstance(found, Seen)
    return found


def test_the_pages_of_bulk_mail_send_nothing_and_say_so() -> None:
    found = seen(client(ADDRESS))
    assert found.wanted == ("v=spf1 -all",)
    change = RecordSetResource(record()).differ(found)
    assert change is not None
    assert change.summary == f"publish {PAGES} TXT, by hand"
    names = client({**ADDRESS, (PAGES, "TXT"): [NOTHING]})
    assert RecordSetResource(record()).differ(seen(names)) is None
    assert overview.row(names, record()).right


def test_it_is_part_of_the_plan() -> None:
    ids = [item.resource.id for item in desired.items(settings(), Outputs(), names=client(ADDRESS))]
    assert ids.count(f"dns:{PAGES}/TXT") == 1


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("https://news.fuga.example", ""),  # in nobody's zone that we know
        ("https://nothoge.example", ""),
        ("https://hoge.example/news", ""),  # the domain has a record for what it sends
        ("https://mx.hoge.example/news", ""),  # the mail host has it already
        ("https://203.0.113.80", ""),
        ("https://key._domainkey.hoge.example", ""),
        ("https://_dmarc.hoge.example", ""),
        ("https://sub.hoge.example", '[[domains]]\nname = "sub.hoge.example"'),
    ],
)
def test_names_that_are_something_else_get_no_second_record(url: str, more: str) -> None:
    assert silent_names.names(settings(url, more)) == []
    assert page_records(settings(url, more)) == []


@pytest.mark.parametrize("url", ["https://NEWS.hoge.example:8443/x/", "https://news.hoge.example./"])
def test_the_name_is_read_from_the_address(url: str) -> None:
    assert silent_names.names(settings(url)) == [PAGES]


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({(PAGES, "CNAME"): ["web.example."]}, "is a CNAME"),
        ({**ADDRESS, (PAGES, "MX"): ["10 shop.example."]}, "may send mail"),
        ({}, "has no address yet"),
        ({(PAGES, "TXT"): ['"proof=1"']}, "has no address yet"),
        ({**ADDRESS, (f"*.{ZONE}", "A"): ["203.0.113.80"]}, r"from \*\.hoge\.example"),
    ],
)
def test_where_a_record_would_harm_it_is_left_alone_and_said_why(
    there: dict[tuple[str, str], list[str]], why: str
) -> None:
    names = client(there)
    found = seen(names)
    assert RecordSetResource(record()).differ(found) is None
    shown = overview.row(names, record())
    assert (shown.state, shown.right, shown.wanted) == (State.RIGHT, True, ())
    assert re.search(why, " ".join(shown.hints))


def test_an_address_of_its_own_beside_a_wildcard_is_enough() -> None:
    assert seen(client({**ADDRESS, (f"*.{ZONE}", "A"): ["203.0.113.99"]})).wanted == ("v=spf1 -all",)


def test_a_zone_of_its_own_is_whose_it_is() -> None:
    names = client({}, news={(PAGES, "A"): ["203.0.113.80"]})
    found = seen(names)
    assert RecordSetResource(record()).differ(found) is None
    assert "whoever has it decides" in found.left_alone


@pytest.mark.parametrize("spf", ["v=spf1 a -all", "v=spf1 include:shop.example ~all"])
def test_a_record_that_is_there_is_enough_whatever_it_says(spf: str) -> None:
    names = client({**ADDRESS, (PAGES, "TXT"): ['"proof=1"', f'"{spf}"']})
    assert RecordSetResource(record()).differ(seen(names)) is None


def test_other_texts_stay_beside_it() -> None:
    assert seen(client({**ADDRESS, (PAGES, "TXT"): ['"proof=1"']})).wanted == ("proof=1", "v=spf1 -all")
