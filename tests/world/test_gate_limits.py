# Who sends too much waits, and is told until when; the postmaster hears of it before, and when; and neither bulk mail
# nor strangers use up what people need.

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import Account, World, wait
from test_gate_service import PROGRAM, stopped, supervisorctl, wait_until_served

from todoku.rehearsal.smtp.dialogue import Reply

PASSWORD = "a password of a dozen words"
SHORT = {
    "recipients_per_minute = 1000": "recipients_per_minute = 1000\nrecipients_per_day = 60",
    "per_minute = 18000": "per_minute = 1000",
}


@pytest.fixture(scope="module", autouse=True)
def small(the_world: World) -> Iterator[None]:
    """Limits that a test can reach; alice, bob and this machine have sent before, so accounts of their own are used."""
    from conftest import CONFIG

    before = text = CONFIG.read_text()
    for old, new in SHORT.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    text = text.replace("[gate]\n", "[gate]\nforwarded_per_day = 2\nreserved_share = 95\n")
    CONFIG.write_text(text)
    the_world.apply()
    yield
    CONFIG.write_text(before)
    the_world.apply()


@pytest.fixture
def account(world: World) -> Iterator[Callable[[str], Account]]:
    made: list[str] = []

    def make(name: str) -> Account:
        address = f"{name}@{world.domain}"
        done = world.todoku("account", "add", address, "--password-stdin", stdin=f"{PASSWORD}\n")
        assert done.returncode == 0, done.stderr
        made.append(address)
        time.sleep(1.1)  # the book is looked at once a second
        return Account(address, address, PASSWORD)

    yield make
    for address in made:
        world.todoku("account", "remove", address, "--yes")


def several(world: World, number: int) -> list[str]:
    return [f"carol+{n}@{world.carol.partition('@')[2]}" for n in range(number)]


def send(world: World, account: Account, subject: str, *recipients: str, extra: str = "") -> Reply:
    with world.submission(account) as smtp:
        assert smtp.say(f"MAIL FROM:<{account.address}>").code == 250
        for recipient in recipients or (world.carol,):
            assert smtp.say(f"RCPT TO:<{recipient}>").code == 250
        return smtp.message(f"From: {account.address}\nSubject: {subject}\n{extra}\ntext\n")


def test_strangers_use_up_the_share_of_one_alias_and_no_more(world: World) -> None:
    flooded, spared = (f"{name}@{world.domain}" for name in ("flooded", "spared"))
    for alias in (flooded, spared):
        assert world.todoku("alias", "add", alias, world.carol).returncode == 0
    try:

        def deliver(subject: str, to: str) -> Reply:
            with world.port_25() as smtp:
                assert smtp.say(f"MAIL FROM:<{world.dave}>").code == 250
                assert smtp.say(f"RCPT TO:<{to}>").code == 250
                return smtp.message(
                    f"From: {world.dave}\nSubject: {subject}\nMessage-ID: <{subject}@x>\n\n{subject}\n"
                )

        assert [deliver(f"flood{n}", flooded).code for n in range(3)] == [250, 250, 451]
        assert deliver("elsewhere", spared).code == 250
        world.wait_for("elsewhere")
        world.read(
            world.alice, f"The alias {flooded} has reached its limit of 2 forwarded recipients in 24 hours"
        )
        # and what cannot be passed on is not delivered by half
        assert all(arrived.message["Subject"] != "flood2" for arrived in world.arrived())
    finally:
        for alias in (flooded, spared):
            world.todoku("alias", "remove", alias)


def test_what_is_passed_on_in_part_is_told_to_its_writer(world: World) -> None:
    # A refusal would be taken to be about both, while carol has it already.
    one, wide = f"one@{world.domain}", f"wide@{world.domain}"
    assert world.todoku("alias", "add", one, world.carol).returncode == 0
    assert world.todoku("alias", "add", wide, *several(world, 3)).returncode == 0  # two a day are allowed
    try:
        with world.port_25() as smtp:
            for command in (f"MAIL FROM:<{world.dave}>", f"RCPT TO:<{wide}>"):
                assert smtp.say(command).code == 250
            refused = smtp.message(f"From: {world.dave}\nSubject: to the wide one\n\ntext\n")
            assert refused.code == 550, refused
            for command in (f"MAIL FROM:<{world.dave}>", f"RCPT TO:<{one}>", f"RCPT TO:<{wide}>"):
                assert smtp.say(command).code == 250
            assert smtp.message(f"From: {world.dave}\nSubject: to both\n\ntext\n").code == 250
        assert world.wait_for("to both").judged["rcpt_to"] == world.carol
        notice = world.wait_for("Undelivered mail: passed on in part only", where=world.outside_inbox)
        assert notice.judged["rcpt_to"] == world.dave
        assert notice.judged["dmarc"]["result"] == "pass"
        words = " ".join(notice.message.get_content().split())
        assert f"{wide} leads to" in words
        assert "3 forwarded recipients" in words
    finally:
        for alias in (one, wide):
            world.todoku("alias", "remove", alias)


def test_bulk_mail_waits_while_personal_mail_passes(world: World, account: Callable[[str], Account]) -> None:
    # 1,000 a minute, of which bulk mail may use 50
    news, frida = account("news"), account("frida")
    bulk = [
        send(world, news, "bulk", *several(world, 18), extra="List-Id: <news.hoge.example>\n")
        for _ in range(3)
    ]
    held = bulk[-1]
    assert held.code == 451, bulk
    assert "has 50 emails a minute for bulk and forwarded mail (gate.reserved_share)" in " ".join(
        held.text.split()
    )
    assert send(world, frida, "personal, meanwhile").code == 250
    world.wait_for("personal, meanwhile")


def test_the_postmaster_is_told_once_when_a_limit_is_near_and_when_it_is_used_up(
    world: World, account: Callable[[str], Account]
) -> None:
    frank = account("frank")
    near = f"{frank.address} has used 80 % of 60 recipients in 24 hours".capitalize()
    full = f"{frank.address} has reached its limit of 60 recipients in 24 hours".capitalize()
    assert send(world, frank, "47", *several(world, 47)).code == 250
    assert world.count(world.alice, near) == 0
    assert send(world, frank, "48").code == 250
    world.read(world.alice, near)
    assert send(world, frank, "60", *several(world, 12)).code == 250
    for _ in range(2):
        held = send(world, frank, "61")
        assert held.code == 451, held
        words = " ".join(held.text.split())
        assert f"4.7.1 {frank.address} has 60 recipients in 24 hours, and they are used up" in words
        assert "this message can be sent from 20" in words
    notice = world.read(world.alice, full)
    assert "There is room again from 20" in notice.get_content()
    assert send(world, frank, "inside", world.bob.address).code == 250
    world.read(world.bob, "inside")
    assert (world.count(world.alice, near), world.count(world.alice, full)) == (1, 1)


def test_our_own_mail_through_an_alias_that_leads_outside_counts_and_has_the_relays_size(
    world: World, account: Callable[[str], Account]
) -> None:
    greta, team = account("greta"), f"team@{world.domain}"
    assert world.todoku("alias", "add", team, world.bob.address, *several(world, 31)).returncode == 0
    try:
        time.sleep(1.1)
        assert send(world, greta, "to the team", team).code == 250
        world.read(world.bob, "to the team")
        held = send(world, greta, "to the team again", team)
        assert held.code == 451, held
        assert f"{greta.address} has 60 recipients in 24 hours" in " ".join(held.text.split())
        with world.submission(greta) as smtp:
            smtp.say(f"MAIL FROM:<{greta.address}>")
            smtp.say(f"RCPT TO:<{team}>")
            refused = smtp.message(f"From: {greta.address}\nSubject: large\n\n" + ("x" * 76 + "\n") * 28_000)
        assert refused.code == 552, refused
        assert "leaves through the relay, which takes 2,000,000" in " ".join(refused.text.split())
    finally:
        world.todoku("alias", "remove", team)


@pytest.fixture
def small_plan(world: World) -> Iterator[None]:
    """A plan of 20 emails a day, of which nothing is used yet: the gate is started anew with it."""
    from conftest import CONFIG

    before = text = CONFIG.read_text()
    for old in ("per_minute = 1000\n", "per_day = 50000\n"):
        assert text.count(f"\n{old}") == 1
        text = text.replace(f"\n{old}", f"\n{old.partition(' ')[0]} = 20\n")
    supervisorctl("stop", PROGRAM)
    wait(stopped, "the end of the gate")
    for path in Path("/var/lib/todoku/gate").glob("limits.sqlite3*"):
        path.unlink()
    CONFIG.write_text(text)
    supervisorctl("start", PROGRAM)
    wait_until_served(world)
    yield
    CONFIG.write_text(before)
    supervisorctl("restart", PROGRAM)
    wait_until_served(world)


def test_the_postmaster_is_told_when_the_relays_plan_is_near_its_end_and_nobody_exceeds_it(
    world: World, account: Callable[[str], Account], small_plan: None
) -> None:
    paula, peter = account("paula"), account("peter")
    near = "The plan of the relay has used 80 % of 20 emails in 24 hours"
    full = "The plan of the relay has reached its limit of 20 emails in 24 hours"
    assert send(world, paula, "plan 15", *several(world, 15)).code == 250
    assert send(world, peter, "inside", world.bob.address).code == 250
    world.read(world.bob, "inside")
    assert world.count(world.alice, near) == 0
    assert send(world, peter, "plan 16").code == 250
    assert "used 16 of 20 emails in 24 hours" in world.read(world.alice, near).get_content()
    assert send(world, paula, "plan 20", *several(world, 4)).code == 250
    for account_ in (paula, peter):
        held = send(world, account_, "plan 21")
        assert held.code == 451, held
        words = " ".join(held.text.split())
        assert "the plan of the relay has 20 emails in 24 hours, and they are used up" in words
        assert "(relay.plan.per_day in the settings)" in words
        at = re.search(r"this message can be sent from (\S+ \S+) UTC on", words)
        assert at, words
        passes = datetime.strptime(at[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        assert timedelta(hours=23) < passes - datetime.now(UTC) < timedelta(hours=25)
    notice = world.read(world.alice, full).get_content()
    assert f"There is room again from {at[1]} UTC on" in notice
    assert send(world, peter, "inside still", world.bob.address).code == 250
    world.read(world.bob, "inside still")
    assert (world.count(world.alice, near), world.count(world.alice, full)) == (1, 1)
    assert all(arrived.message["Subject"] != "plan 21" for arrived in world.arrived())


def test_the_postmaster_hears_that_mail_of_the_host_waits(world: World) -> None:
    for number in range(2):  # it may have sent something before
        subprocess.run(
            ["mailx", "-s", f"cron {number}", *several(world, 40)], input="x\n", text=True, check=True
        )
    notice = world.read(world.alice, "This machine has reached its limit of 60 recipients in 24 hours")
    assert "waits in Postfix's maildrop folder; nobody else is told" in " ".join(notice.get_content().split())
    waiting = Path("/var/spool/postfix/maildrop")
    assert wait(lambda: list(waiting.iterdir()), "mail that waits")
    for path in waiting.iterdir():
        path.unlink()
