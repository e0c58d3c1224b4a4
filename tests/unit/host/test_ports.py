# No two services of ours want the same port: one of them would not start, on some hosts only.

from __future__ import annotations

import re
from pathlib import Path

import todoku
from todoku.host import guessing, postfix
from todoku.host.facts import Facts, Version
from todoku.settings import parse, ports
from todoku.settings.campaign import Campaign
from todoku.settings.metrics import Metrics
from todoku.settings.protect import Protect

SETTINGS = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
OTHERS = {
    25,
    465,
    587,
    993,
    int(Protect.model_fields["page_port"].default),
}  # which the world or our people may reach
LISTEN = re.compile(r"^(?:127\.0\.0\.1|localhost):(\d+)\s+inet", re.M)


def ours() -> dict[str, int]:
    return {name: value for name, value in vars(ports).items() if name.isupper() and isinstance(value, int)}


def test_no_two_services_choose_the_same_port() -> None:
    chosen = ours()
    assert len(chosen) >= 5
    assert len({*chosen.values()} | OTHERS) == len(chosen) + len(OTHERS), (chosen, OTHERS)


def test_the_services_listen_where_the_list_says() -> None:
    facts = Facts("debian", "13", "trixie", Version(3, 10, 5), None, None, "systemd")
    files = {
        Path(each.path).name: each.content for each in postfix.render(parse(SETTINGS, "todoku.toml"), facts)
    }
    assert [int(number) for number in LISTEN.findall(files["master.cf"])] == [ports.FORWARD, ports.ALARM]
    assert f":{ports.GUESSING}/" in guessing.URL
    assert Metrics.model_fields["port"].default == ports.METRICS
    assert Campaign.model_fields["pages_port"].default == ports.PAGES


def test_nobody_writes_such_a_number_elsewhere() -> None:
    numbers = re.compile(rf"(?<![\w.]){'|'.join(str(each) for each in ours().values())}(?![\w.])")
    package = Path(todoku.__file__).parent
    found = {
        f"{path.relative_to(package)}:{number}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "ports.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if numbers.search(line.partition("#")[0]) and '"""' not in line
    }
    # The rehearsal's switchboard has an address of its own, in a network of its own.
    assert not {each for each in found if not each.startswith("rehearsal/internet/plan.py")}, found
