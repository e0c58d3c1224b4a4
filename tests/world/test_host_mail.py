# Cron, root and a web application that calls sendmail write as addresses that the relay has never heard of: with
# the usual recipes such mail is refused by the relay, or lost.

from __future__ import annotations

import subprocess

import pytest
from conftest import World


def _sendmail(message: str, *arguments: str, user: str = "root") -> None:
    command = ["setpriv", f"--reuid={user}", "--clear-groups", "/usr/sbin/sendmail", "-oi", *arguments]
    subprocess.run(command, input=message, text=True, check=True)


@pytest.mark.parametrize(
    ("name", "arguments", "sender"),
    [
        ("cron", (), "root (Cron Daemon)"),
        ("root", (), "root"),
        ("own host", ("-f", "www-data@mx.hoge.example"), "www-data@mx.hoge.example"),
        ("foreign envelope", ("-f", "visitor@gmail.example"), "Visitor <visitor@gmail.example>"),
        ("comment", (), "visitor@gmail.example (alice@hoge.example)"),
        ("disguised", (), '"alice@hoge.example" <visitor@gmail.example>'),
        ("folded", (), "Visitor\n <visitor@gmail.example>"),
        ("no From", (), ""),
    ],
)
def test_mail_made_on_the_host_arrives_under_an_approved_address(
    world: World, name: str, arguments: tuple[str, ...], sender: str
) -> None:
    subject = f"host mail: {name}"
    head = f"From: {sender}\n" if sender else ""
    _sendmail(f"{head}To: {world.carol}\nSubject: {subject}\n\ntext\n", *arguments, world.carol)
    arrived = world.wait_for(subject)
    assert arrived.judged["dmarc"]["result"] == "pass"
    assert arrived.judged["header_from"] == world.alice.address  # the postmaster, until another is named


def test_an_answer_to_a_contact_form_still_reaches_the_visitor(world: World) -> None:
    subject = "contact form"
    visitor = "visitor@gmail.example"
    message = f"From: {visitor}\nReply-To: {visitor}\nTo: {world.carol}\nSubject: {subject}\n\nhi\n"
    _sendmail(message, "-f", "visitor@gmail.example", world.carol, user="www-data")
    assert world.wait_for(subject).message["Reply-To"] == "visitor@gmail.example"


def test_an_application_may_write_as_one_of_our_own_addresses(world: World) -> None:
    subject = "order confirmed"
    message = f"From: Shop <bob@{world.domain}>\nTo: {world.carol}\nSubject: {subject}\n\nthank you\n"
    _sendmail(message, "-f", f"bob@{world.domain}", world.carol, user="www-data")
    arrived = world.wait_for(subject)
    assert arrived.judged["header_from"] == f"bob@{world.domain}"
    assert arrived.message["From"] == f"Shop <bob@{world.domain}>"


def test_mail_to_root_on_the_host_reaches_the_postmaster(world: World) -> None:
    _sendmail("Subject: disk nearly full\n\ntext\n", "root")
    world.read(world.alice, "disk nearly full")
