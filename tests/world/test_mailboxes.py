# What arrives is put into the right mailbox at once, can be read over IMAPS alone, and a change of accounts is
# in force within a second, without a restart.

from __future__ import annotations

import imaplib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Account, World, wait

SOON = 10  # seconds; on an idle machine one is enough


@pytest.fixture
def erin(world: World) -> Iterator[Account]:
    address = f"erin@{world.domain}"
    password = "correct horse battery"
    assert world.todoku("account", "add", address, "--password-stdin", stdin=password + "\n").returncode == 0
    yield Account(address, address, password)
    assert world.todoku("account", "remove", address, "--yes").returncode == 0


def test_only_imaps_is_spoken(world: World) -> None:
    for port in (110, 143, 995, 4190):
        with socket.socket() as probe:
            assert probe.connect_ex((world.ip, port)) != 0, f"port {port} is open"
    with world.imap(world.alice) as imap:
        assert "STARTTLS" not in imap.capabilities


def test_the_login_is_the_address_or_the_bare_name_when_that_is_unambiguous(world: World) -> None:
    with world.imap(world.alice) as imap:
        imap.select("INBOX")
    with world.imap(world.alice, login="alice") as imap:
        assert imap.select("INBOX")[0] == "OK"
    with world.submission(None) as smtp:
        assert smtp.auth_plain("alice", world.alice.password).code == 235
        assert smtp.say(f"MAIL FROM:<{world.alice.address}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250


def test_imaps_is_closed_to_the_world(world: World) -> None:
    # From outside the client networks even the right password is no use.
    raw = socket.create_connection((world.ip, 993), 10, (world.outside_ip, 0))
    with raw, world.tls().wrap_socket(raw, server_hostname=world.hostname) as tls:
        tls.settimeout(20)
        tls.recv(1000)
        tls.sendall(f'a LOGIN "{world.alice.login}" "{world.alice.password}"\r\n'.encode())
        answer = b""
        while b"\na " not in b"\n" + answer:
            more = tls.recv(1000)
            if not more:
                break
            answer += more
    assert b"a OK" not in answer


def test_the_greeting_names_no_product(world: World) -> None:
    with world.imap(world.alice) as imap:
        assert b"dovecot" not in imap.welcome.lower()


def test_the_usual_folders_are_there_and_marked(world: World) -> None:
    with world.imap(world.alice) as imap:
        listed = b"\n".join(line for line in imap.list()[1] if isinstance(line, bytes))
    for mark in (b"\\Drafts", b"\\Sent", b"\\Junk", b"\\Trash", b"\\Archive"):
        assert mark in listed, listed


def test_a_new_account_receives_and_logs_in_at_once(world: World, erin: Account) -> None:
    # The fixture has only just returned.
    deadline = time.monotonic() + SOON
    with world.port_25() as smtp:
        smtp.say(f"MAIL FROM:<{world.dave}>")
        assert smtp.say(f"RCPT TO:<{erin.address}>").code == 250
    while True:
        try:
            with world.imap(erin) as imap:
                imap.select("INBOX")
            break
        except imaplib.IMAP4.error:
            assert time.monotonic() < deadline, "the new account is not known"


def test_a_changed_password_is_soon_in_force_even_when_changed_twice_in_a_second(
    world: World, erin: Account
) -> None:
    # Dovecot compares whole seconds and sizes of its password file: the second change could go unseen.
    for number in range(3):
        password = f"changed password {number}"
        done = world.todoku("account", "password", erin.address, "--password-stdin", stdin=password + "\n")
        assert done.returncode == 0
        deadline = time.monotonic() + SOON
        while True:
            try:
                with world.imap(Account(erin.address, erin.login, password)):
                    break
            except imaplib.IMAP4.error:
                assert time.monotonic() < deadline, "the new password is not known"
        with pytest.raises(imaplib.IMAP4.error):
            world.imap(Account(erin.address, erin.login, f"changed password {number - 1}"))


def test_a_removed_account_is_soon_unknown_and_its_mail_is_kept(world: World) -> None:
    address = f"frank@{world.domain}"
    world.todoku("account", "add", address, "--password-stdin", stdin="correct horse battery\n")
    assert world.outside_sends(address, "for frank").returncode == 0
    box = Path(f"/var/lib/todoku/mail/{world.domain}/frank")
    wait(lambda: any(b"for frank" in p.read_bytes() for p in box.rglob("*") if p.is_file()), "mail for frank")
    assert world.todoku("account", "remove", address, "--yes").returncode == 0

    def is_unknown() -> bool:
        with world.port_25() as smtp:
            smtp.say(f"MAIL FROM:<{world.dave}>")
            return smtp.say(f"RCPT TO:<{address}>").code == 550

    wait(is_unknown, "the removed account to be unknown")
    assert any(b"for frank" in p.read_bytes() for p in box.rglob("*") if p.is_file())


def test_an_alias_delivers_to_every_member(world: World) -> None:
    everyone = f"everyone@{world.domain}"
    assert world.todoku("alias", "add", everyone, world.alice.address, world.bob.address).returncode == 0
    try:
        assert world.outside_sends(everyone, "to all of you").returncode == 0
        world.read(world.alice, "to all of you")
        world.read(world.bob, "to all of you")
    finally:
        assert world.todoku("alias", "remove", everyone).returncode == 0


def test_a_detail_after_a_plus_reaches_the_same_mailbox(world: World) -> None:
    address = world.bob.address.replace("@", "+shop@")
    assert world.outside_sends(address, "with a detail").returncode == 0
    world.read(world.bob, "with a detail")


def test_a_full_mailbox_is_refused_at_rcpt_for_each_of_its_addresses(world: World) -> None:
    # Accepting first and bouncing later would send the bounce to whoever was forged as the sender.
    address, second, alias = (f"{name}@{world.domain}" for name in ("grace", "g.hopper", "computing"))
    arguments = ("--quota", "1MB", "--address", second, "--password-stdin")
    assert (
        world.todoku("account", "add", address, *arguments, stdin="correct horse battery\n").returncode == 0
    )
    assert world.todoku("alias", "add", alias, address).returncode == 0
    try:
        for number in range(2):
            with world.port_25() as smtp:
                smtp.say(f"MAIL FROM:<{world.dave}>")
                if smtp.say(f"RCPT TO:<{address}>").code != 250:
                    break
                assert (
                    smtp.message(f"Subject: filling {number}\n\n" + ("0123456789" * 7 + "\n") * 12_000).code
                    == 250
                )
            time.sleep(1.5)
        for recipient in (address, second, alias):
            with world.port_25() as smtp:
                smtp.say(f"MAIL FROM:<{world.dave}>")
                refused = smtp.say(f"RCPT TO:<{recipient}>")
                assert refused.code == 552, f"{recipient}: {refused}"
                assert "full" in refused.text.lower()
    finally:
        world.todoku("alias", "remove", alias)
        world.todoku("account", "remove", address, "--yes")


def test_mail_between_colleagues_does_not_leave_the_house(world: World) -> None:
    before = int(world.relay()["seen"]["connections"])
    world.submit(world.alice, world.bob.address, "lunch")
    world.read(world.bob, "lunch")
    assert int(world.relay()["seen"]["connections"]) == before


@pytest.mark.parametrize("source", ["198.51.100.80", "2001:db8:80::80"])
def test_mail_from_outside_arrives_over_both_families(world: World, source: str) -> None:
    server = world.ip if "." in source else "2001:db8:10::10"
    subject = f"from {source}"
    done = world.outside_sends(world.bob.address, subject, extra=("--source", source, "--server", server))
    assert done.returncode == 0, done.stdout + done.stderr
    message = world.read(world.bob, subject)
    assert any(source in received for received in message.get_all("Received", []))
    assert message["Return-Path"] == f"<{world.dave}>"
