# "We sent the newsletter with a mail program, to 300 people in Bcc, and our domain was blocked." One message to many,
# each personal, every one accounted for, and nobody who said no.

from __future__ import annotations

import email
import email.policy
import grp
import json
import re
import secrets
import sqlite3
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clouds import Tenancy
from conftest import CONFIG, WATCH, Arrived, World, wait

from todoku.campaign import tokens
from todoku.delivery import left as leaving

TABLE = """
[campaign]
sender = "news@hoge.example"
sender_name = "ほげ"
url = "https://news.hoge.example"
per_second = 400
connections = 10
"""
TEXT = "{{ first_name }}様\n\n春のお知らせです。\n\n配信停止: {{ unsubscribe }}\n"
HTML = '<p>{{ first_name }}様</p><p>春のお知らせです。</p><p><a href="{{ unsubscribe }}">配信停止</a></p>\n'
BOUNCE = """\
From: Mail Delivery System <mailer-daemon@outside.example>\r
To: {to}\r
Subject: Undelivered Mail Returned to Sender\r
Date: Tue, 24 Nov 2026 05:00:00 +0000\r
Message-ID: <bounce@outside.example>\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r
\r
--b\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mail.outside.example\r
\r
Final-Recipient: rfc822; {whom}\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 no such user\r
\r
--b--\r
"""
DATABASE = Path("/var/lib/todoku/campaign/campaign.sqlite3")
FOLDER = Path("/var/lib/todoku/campaign-test")
ALARMS = Path("/var/lib/todoku/alarms/campaign.json")


@pytest.fixture(scope="module", autouse=True)
def bulk(the_world: World) -> Iterator[None]:
    """A host with [campaign], as `todoku apply` makes it."""
    before = CONFIG.read_text()
    zone, pages = Tenancy(the_world), f"news.{the_world.domain}"
    try:
        zone.put(pages, "A", "203.0.113.80")  # whoever serves the pages has entered it
        CONFIG.write_text(before + TABLE.replace("hoge.example", the_world.domain))
        the_world.apply()
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "text").write_text(TEXT)
        (FOLDER / "html").write_text(HTML)
        yield
    finally:
        CONFIG.write_text(before)
        the_world.apply()
        for type_ in ("A", "TXT"):
            zone.put(pages, type_)
        for name in ("todoku-campaign", "todoku-pages"):
            subprocess.run(["supervisorctl", "stop", name], check=False, capture_output=True)


@pytest.fixture(autouse=True)
def nothing_goes_on(bulk: None, world: World) -> Iterator[None]:
    """What a test that failed has left is cancelled: it would be sent beside the next one's, and keep the postmaster
    alarmed for good once nothing sends any more."""
    yield
    left = looked_up(
        "SELECT name FROM campaign WHERE kind = 'bulk' AND state IN ('started', 'paused', 'stopped')"
    )
    for (name,) in left:
        asked(world, "campaign", "cancel", name)
    if left:
        wait(lambda: not ALARMS.exists() or "stopped:" not in ALARMS.read_text(), "the alarms to be over", 30)


def own(name: str) -> str:
    """A name, of a list or a campaign or a person, that no earlier try of the same test has used in this world."""
    return f"{name}-{secrets.token_hex(3)}"


def test_the_name_of_the_pages_is_published_as_one_that_sends_nothing(world: World) -> None:
    pages = f"news.{world.domain}"
    assert Tenancy(world).values(pages, "TXT") == ['"v=spf1 -all"']
    assert Tenancy(world).values(pages, "A") == ["203.0.113.80"]
    shown = {(row["name"], row["type"]): row for row in asked(world, "dns", "check")["records"]}
    assert shown[pages, "TXT"]["seen"] == ['"v=spf1 -all"']


def asked(world: World, *words: str) -> dict[str, Any]:
    done = world.todoku(*words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def make(world: World, name: str, addresses: list[str]) -> None:
    """A list of these people, and a campaign to them."""
    asked(world, "list", "add", name, "--title", "ほげ通信", "--consent", "月に一度のお知らせ")
    lines = [f"{each},{each.partition('@')[0]},form of 2026" for each in addresses]
    (FOLDER / "people.csv").write_text("\n".join(["address,first_name,evidence", *lines]))
    imported = asked(world, "list", "import", name, str(FOLDER / "people.csv"))
    assert imported["added"] == len(addresses)
    files = ("--text", str(FOLDER / "text"), "--html", str(FOLDER / "html"))
    made = asked(world, "campaign", "create", name, "--list", name, "--subject", f"春 {name}", *files)
    assert made["recipients"] == len(addresses)


def looked_up(query: str, *values: str) -> list[Any]:
    """From the database itself: a command takes a second."""
    with sqlite3.connect(DATABASE, timeout=10) as database:
        return database.execute(query, values).fetchall()


def numbers(name: str) -> Counter[str]:
    """How many recipients are in which state."""
    query = "SELECT r.state, count(*) FROM recipient r JOIN campaign c ON c.id = r.campaign WHERE c.name = ? GROUP BY 1"
    return Counter(dict(looked_up(query, name)))


def finished(name: str, seconds: float) -> Counter[str]:
    def look() -> bool:
        ((state, words),) = looked_up("SELECT state, words FROM campaign WHERE name = ?", name)
        assert state != "stopped", words
        return bool(state == "finished")

    wait(look, f"the end of the campaign {name}", seconds)
    return numbers(name)


def the_deferred_are_due() -> None:
    """Five minutes pass."""
    with sqlite3.connect(DATABASE, timeout=10) as database:
        database.execute("UPDATE recipient SET due = due - 400 WHERE state = 'deferred'")


def got(world: World, name: str) -> dict[str, Arrived]:
    return {
        str(each.judged["rcpt_to"]): each
        for each in world.arrived()
        if each.message["Subject"] == f"春 {name}"
    }


def account_for_every_one(world: World, name: str, count: int, seconds: float) -> None:
    """3 % suppressed, 2 % bouncing at the provider, 10 % deferred once; and personal mail in between."""
    provider = world.carol.partition("@")[2]
    suppressed = [f"{name}.no{number}@{provider}" for number in range(3 * count // 100)]
    bouncing = [f"unknown.{name}{number}@{provider}" for number in range(2 * count // 100)]
    fine = [f"{name}.p{number}@{provider}" for number in range(count - len(suppressed) - len(bouncing))]
    make(world, name, suppressed + bouncing + fine)
    counted = in_one_count()
    world.relay(
        suppress=suppressed, reply={"stage": "rcpt", "text": "451 Server error", "count": count // 10}
    )
    nothing_is_begun_while_single_addresses_only_are_approved(world, name)
    asked(world, "campaign", "start", name)
    wait(lambda: numbers(name)["sent"] > 0, "the first message")
    begun = time.monotonic()
    world.submit(world.alice, world.carol, f"personal {name}")
    world.wait_for(f"personal {name}")
    assert time.monotonic() - begun < 30  # generous, for a busy machine
    wait(lambda: not numbers(name)["ready"] + numbers(name)["leased"], "all to be tried", seconds)
    assert numbers(name)["deferred"] + numbers(name)["sent"] + numbers(name)["suppressed"] == count
    # What left here and through the queue is one count of the relay's plan; each answer of the relay's is one of it.
    wait(lambda: in_one_count()[0] > counted[0], "the personal message in the count", 60)
    wait(
        lambda: in_one_count()[1] - counted[1] == count,
        "what was granted and not needed to be given back",
        60,
    )
    the_deferred_are_due()
    assert finished(name, seconds) == {"sent": count - len(suppressed), "suppressed": len(suppressed)}
    query = (
        "SELECT count(*) FROM attempt a JOIN recipient r ON r.id = a.recipient JOIN campaign c ON c.id = r.campaign "
        "WHERE a.code = 451 AND c.name = ?"
    )
    ((deferred,),) = looked_up(query, name)
    assert count // 10 - 1 <= deferred <= count // 10  # one may have been the personal message's
    arrived = wait(
        lambda: (all_ := got(world, name)) and len(all_) >= len(fine) and all_, "all to arrive", seconds
    )
    assert set(arrived) == set(fine)
    what_became_of_them_is_known(name, len(bouncing), len(fine))
    mine = [each for each in world.arrived() if each.message["Subject"] == f"春 {name}"]
    assert len(mine) == len(fine)  # nobody got two
    for each in arrived.values():
        assert each.judged["dmarc"]["result"] == "pass"
        assert any(
            signature["aligned"] and signature["result"] == "pass" for signature in each.judged["dkim"]
        )


def in_one_count() -> tuple[int, int]:
    """How many emails of the last day have left the queue, as the agent says, and how many as bulk mail, as its sender
    says to the agent's group and nobody else."""
    folder = leaving.BULK.stat()
    assert (folder.st_mode & 0o777, grp.getgrgid(folder.st_gid).gr_name) == (0o750, "todoku-agent")
    now = time.time()
    queue, bulk = (leaving.read(each, now).used(leaving.DAY, now) for each in (leaving.FOLDER, leaving.BULK))
    return queue, bulk


def nothing_is_begun_while_single_addresses_only_are_approved(world: World, name: str) -> None:
    """Each message has a return address of its own, which the relay takes for a whole domain only."""
    senders = world.relay()["senders"]
    world.relay(senders=[f"news@{world.domain}", f"bounces@{world.domain}"])
    try:
        refused = world.todoku("campaign", "start", name, "--yes")
    finally:
        world.relay(senders=senders)
    assert refused.returncode == 1
    assert "535 Authorization failed" in refused.stderr and f"as @{world.domain}" in refused.stderr
    assert looked_up("SELECT state FROM campaign WHERE name = ?", name) == [("draft",)]


def what_became_of_them_is_known(name: str, bounced: int, relayed: int) -> None:
    """The relay had accepted them, and says later: by its suppression list who bounced, by its log who got it."""
    if not WATCH.exists():  # a world without a cloud has nobody to ask
        return
    query = (
        "SELECT count(*) FROM recipient r JOIN campaign c ON c.id = r.campaign "
        "JOIN subscriber s ON s.id = r.subscriber WHERE c.name = ? AND r.later = 'bounced' AND s.blocked = 'bounced'"
    )
    arrived = (
        "SELECT count(*) FROM recipient r JOIN campaign c ON c.id = r.campaign WHERE c.name = ? "
        "AND r.relayed IS NOT NULL"
    )
    with the_relay_is_asked():
        wait(lambda: looked_up(query, name) == [(bounced,)], "the bounces", 60)
        wait(lambda: looked_up(arrived, name) == [(relayed,)], "the relay's log", 60)


@contextmanager
def the_relay_is_asked() -> Iterator[None]:
    """More often than every few minutes."""
    watch = subprocess.Popen(["python", "-I", "-m", "todoku.cli.services.relay_watch", "--every", "1"])
    try:
        yield
    finally:
        watch.terminate()
        watch.wait(10)


def test_everybody_is_accounted_for_and_personal_mail_does_not_wait(world: World) -> None:
    account_for_every_one(world, own("some"), 100, 40)


@pytest.mark.slow  # two thousand messages, each signed and judged
def test_two_thousand_are_accounted_for(world: World) -> None:
    account_for_every_one(world, own("many"), 2000, 300)


def test_one_click_unsubscribes_at_once_and_it_holds(world: World, tmp_path: Path) -> None:
    provider = world.carol.partition("@")[2]
    name = own("click")
    whom, other = f"{name}@{provider}", f"{name}.other@{provider}"
    make(world, name, [whom, other])
    asked(world, "campaign", "start", name)
    finished(name, 30)
    arrived = wait(lambda: got(world, name).get(whom), "the message")
    message = email.message_from_bytes(arrived.raw, policy=email.policy.default)
    signatures = [re.sub(r"\s", "", value).lower() for value in message.get_all("DKIM-Signature", [])]
    covered = [set(re.findall(r"(?:^|;)h=([^;]*)", each)[0].split(":")) for each in signatures]
    assert covered and all({"list-unsubscribe", "list-unsubscribe-post"} <= each for each in covered)
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    url = message["List-Unsubscribe"].strip("<>")
    assert url.startswith(f"https://news.{world.domain}/unsubscribe/")
    page = "http://127.0.0.1:8025" + url.removeprefix(f"https://news.{world.domain}")
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert "配信停止" in answer.read().decode()
    assert asked(world, "subscriber", "show", whom)["lists"][0]["state"] == "confirmed"
    request = urllib.request.Request(page, b"List-Unsubscribe=One-Click")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    assert asked(world, "subscriber", "show", whom)["lists"][0]["state"] == "unsubscribed"
    what_bounces_to_us_counts(world, other, tmp_path)
    files = ("--text", str(FOLDER / "text"))
    again = asked(world, "campaign", "create", f"{name}-2", "--list", name, "--subject", "x", *files)
    assert again["recipients"] == 0


def what_bounces_to_us_counts(world: World, whom: str, folder: Path) -> None:
    """The other side took it, and finds out later that nobody is there (RFC 3464)."""
    query = "SELECT r.id FROM recipient r JOIN subscriber s ON s.id = r.subscriber WHERE s.address = ?"
    ((row,),) = looked_up(query, whom)
    to = f"bounces+c={tokens.read(DATABASE.with_name('key')).mark(row)}@{world.domain}"
    (folder / "bounce.eml").write_text(BOUNCE.format(whom=whom, to=to), newline="")
    sent = world.outside_sends(to, "", extra=("--eml", str(folder / "bounce.eml"), "--from", ""))
    assert sent.returncode == 0, sent.stdout + sent.stderr
    query = "SELECT blocked FROM subscriber WHERE address = ?"
    wait(lambda: looked_up(query, whom) == [("bounced",)], "the bounce", 30)


@pytest.mark.slow  # one way of many, and each command takes a second
def test_the_form_sends_a_message_whose_link_confirms(world: World) -> None:
    name = own("open")
    asked(world, "list", "add", name, "--title", f"News {name}", "--consent", "News, once a month")
    whom = f"{name}@{world.carol.partition('@')[2]}"
    form = urllib.request.Request(
        f"http://127.0.0.1:8025/subscribe/{name}", f"address={whom}".encode(), {"Accept-Language": "en"}
    )
    with urllib.request.urlopen(form, timeout=10) as answer:
        assert answer.status == 200
    arrived = world.wait_for(f"News {name}: please confirm", 30)
    link = re.search(r"https://\S+/confirm/\S+", arrived.message.get_content())
    assert link is not None
    page = "http://127.0.0.1:8025" + link[0].removeprefix(f"https://news.{world.domain}")
    with urllib.request.urlopen(urllib.request.Request(page, b""), timeout=10) as answer:
        assert answer.status == 200
    kept = asked(world, "subscriber", "show", whom)
    assert [step["what"] for step in kept["consent"]] == ["asked", "confirmed"]


def test_what_sends_has_no_rights(world: World) -> None:
    listed = subprocess.run(["ps", "-eo", "user:20,comm"], capture_output=True, text=True, check=True).stdout
    found = Counter(
        tuple(line.split())
        for line in listed.splitlines()
        if "todoku-campaig" in line or "todoku-pages" in line
    )
    assert found["todoku-campaign", "todoku-pages"] == 1
    assert found["todoku-campaign", "todoku-campaign"] == 1
    assert found["root", "todoku-campaign"] == 1
    assert (DATABASE.stat().st_mode & 0o777, DATABASE.owner()) == (0o600, "todoku-campaign")


@pytest.mark.slow  # the same
def test_a_test_message_goes_to_oneself(world: World) -> None:
    name = own("try")
    make(world, name, [f"{name}@{world.carol.partition('@')[2]}"])
    assert asked(world, "campaign", "check", name)["ok"]
    asked(world, "campaign", "test", name, "--to", world.carol)
    arrived = world.wait_for(f"春 {name}")
    assert arrived.judged["dmarc"]["result"] == "pass"
    assert numbers(name) == {"ready": 1}
