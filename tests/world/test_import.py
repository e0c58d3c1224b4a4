# Promise: who moves here keeps mail, folders, flags and dates, has nothing twice however often it was broken off, and
# logs in with the password of the old server. The old server is a second Dovecot, with the habits of another house.

from __future__ import annotations

import imaplib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import documented
import pytest
from conftest import World, wait

from todoku.rehearsal.internet.pki import Authority

OLD = Path("/run/old-server")
PORT = 1993
PASSWORD = "the old pass phrase"
CONFIG_2_3 = f"""
base_dir = {OLD}/run
log_path = {OLD}/log
protocols = imap
listen = ADDRESS
ssl = required
ssl_cert = </etc/todoku/tls/self-signed.pem
ssl_key = </etc/todoku/tls/self-signed.key
mail_location = maildir:{OLD}/mail/%u:LAYOUT=fs
first_valid_uid = 1
namespace inbox {{
  inbox = yes
  prefix = INBOX/
  separator = /
  mailbox Gesendet {{
    special_use = \\Sent
    auto = create
  }}
}}
passdb {{
  driver = static
  args = password={PASSWORD.replace(" ", "_")}
}}
userdb {{
  driver = static
  args = uid=vmail gid=vmail home={OLD}/mail/%u
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
  inet_listener imaps {{
    port = {PORT}
    ssl = yes
  }}
}}
"""
MESSAGES = 60


@pytest.fixture(scope="module")
def old_server(the_world: World) -> Iterator[World]:
    """A second Dovecot on this machine, with mail in it."""
    version = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout
    if not version.startswith("2.3"):
        pytest.skip("the old server's configuration is written for Dovecot 2.3")
    (OLD / "mail").mkdir(parents=True)
    shutil.chown(OLD / "mail", "vmail", "vmail")
    (OLD / "dovecot.conf").write_text(CONFIG_2_3.replace("ADDRESS", the_world.ip))
    (OLD / "password").touch(mode=0o600)
    (OLD / "password").write_text(PASSWORD.replace(" ", "_") + "\n")
    process = subprocess.Popen(["dovecot", "-F", "-c", str(OLD / "dovecot.conf")])
    try:
        wait(lambda: _fill(the_world), "the old server", 20)
        yield the_world
    finally:
        process.terminate()
        process.wait(20)


def _old(world: World) -> imaplib.IMAP4_SSL:
    imap = imaplib.IMAP4_SSL(world.hostname, PORT, ssl_context=world.tls(), timeout=20)
    imap.login("alice.old", PASSWORD.replace(" ", "_"))
    return imap


def _message(subject: str) -> bytes:
    return f"From: dave@outside.example\r\nSubject: {subject}\r\n\r\ntext of {subject}\r\n".encode()


def _fill(world: World) -> bool:
    try:
        imap = _old(world)
    except OSError:
        return False
    with imap:
        for number in range(MESSAGES):
            flags = r"(\Seen \Answered)" if number % 2 else "($Important)"
            date = f'"{number % 28 + 1:02}-Mar-2019 10:00:00 +0900"'
            assert imap.append("INBOX", flags, date, _message(f"old {number:03}"))[0] == "OK"
        # Two that are the same, letter by letter, are two.
        for _ in range(2):
            imap.append("INBOX", "", '"01-Jan-2020 00:00:00 +0000"', _message("the same"))
        for folder in ("INBOX/Angebote 3.2", "INBOX/&iYt6TQ-", "INBOX/Gesendet"):  # 見積
            imap.create(f'"{folder}"')
            imap.append(
                f'"{folder}"', r"(\Flagged)", '"02-Feb-2020 02:02:02 +0000"', _message(f"in {folder}")
            )
    return True


@pytest.fixture
def mover(old_server: World) -> Iterator[str]:
    """A new, empty account."""
    address = f"mover{time.monotonic_ns()}@{old_server.domain}"
    made = old_server.todoku("account", "add", address, "--password-stdin", stdin="a new pass phrase")
    assert made.returncode == 0, made.stderr
    yield address
    old_server.todoku("account", "remove", address, "--yes")


def command(world: World, account: str, *more: str) -> list[str]:
    return [
        *("todoku", "import", "mail", account, "--from", world.hostname, "--port", str(PORT)),
        *("--login", "alice.old", "--password-file", str(OLD / "password")),
        *("--ca-file", "/etc/todoku/tls/self-signed.pem", *more),
    ]


def run(world: World, account: str, *more: str) -> dict[str, object]:
    done = subprocess.run(
        command(world, account, "--json", *more), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def subjects(account: str, folder: str = "INBOX") -> list[str]:
    found = subprocess.run(
        ["doveadm", "fetch", "-u", account, "hdr.subject", "mailbox", folder],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(line.partition(": ")[2] for line in found.splitlines() if line.startswith("hdr.subject"))


EVERYTHING = sorted([*(f"old {number:03}" for number in range(MESSAGES)), "the same", "the same"])


def test_killed_again_and_again_it_copies_all_and_nothing_twice(old_server: World, mover: str) -> None:
    assert run(old_server, mover, "--dry-run")["copied"] == MESSAGES + 5
    assert subjects(mover) == []
    kills = 0
    for round_ in range(3):
        process = subprocess.Popen(command(old_server, mover), stdout=subprocess.DEVNULL)
        wait(lambda target=12 * (round_ + 1): len(subjects(mover)) >= target, "some messages", 40)
        process.send_signal(signal.SIGKILL)
        kills += process.wait(20) == -signal.SIGKILL
    assert kills == 3
    # New mail here comes in between, and has nothing to do with it.
    assert old_server.outside_sends(mover, "new mail").returncode == 0
    wait(lambda: "new mail" in subjects(mover), "new mail")
    run(old_server, mover)
    assert subjects(mover) == sorted([*EVERYTHING, "new mail"])
    assert run(old_server, mover)["copied"] == 0
    assert subjects(mover, "Angebote 3_2") == ["in INBOX/Angebote 3.2"]
    assert subjects(mover, "見積") == ["in INBOX/&iYt6TQ-"]
    assert subjects(mover, "Sent") == ["in INBOX/Gesendet"]
    told = subprocess.run(
        ["doveadm", "fetch", "-u", mover, "flags date.received", "mailbox", "INBOX", "subject", "old 003"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert r"\Answered" in told
    assert r"\Seen" in told
    assert "2019-03-04 01:00:00" in told or "2019-03-04 10:00:00" in told


@pytest.mark.slow  # some ten seconds of refusals
def test_what_cannot_be_copied_is_said_and_nothing_is_lost(old_server: World, mover: str) -> None:
    def refused(*changes: str) -> str:
        attempt = [*command(old_server, mover), *changes]
        done = subprocess.run(attempt, capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode in (1, 2)
        assert PASSWORD.replace(" ", "_") not in done.stdout + done.stderr
        return done.stderr

    assert "does not prove that it is" in refused("--ca-file", "/etc/ssl/certs/ca-certificates.crt")
    wrong = OLD / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("nope")
    assert "does not take the password of alice.old" in refused("--password-file", str(wrong))
    wrong.chmod(0o644)
    assert "chmod 600" in refused("--password-file", str(wrong))
    assert "there is no folder Nirgendwo: there are" in refused("--folder", "Nirgendwo")
    assert (
        "there is no account"
        in subprocess.run(
            command(old_server, "nobody@" + old_server.domain), capture_output=True, text=True, check=False
        ).stderr
    )
    # A mailbox that is full stops it; with more room it goes on.
    full = f"full@{old_server.domain}"
    old_server.todoku(
        "account", "add", full, "--password-stdin", "--quota", "2000", stdin="a new pass phrase"
    )
    stopped = subprocess.run(
        command(old_server, full), capture_output=True, text=True, timeout=90, check=False
    )
    assert "the mailbox is full" in stopped.stderr
    assert 0 < len(subjects(full)) < MESSAGES


def test_accounts_log_in_with_the_passwords_of_the_old_server(old_server: World) -> None:
    scheme = {"sha": "SHA512-CRYPT", "blf": "BLF-CRYPT"}
    lines = []
    for name, kind in scheme.items():
        made = subprocess.run(
            ["doveadm", "pw", "-s", kind, "-p", PASSWORD], capture_output=True, text=True, check=True
        )
        lines.append(f"{name}:{made.stdout.strip()}:1000:1000::/home/{name}::\n")
    file = OLD / "passwd"
    file.write_text("".join(lines) + "weak:{PLAIN}secret word:::::\n")
    refused = old_server.todoku("import", "accounts", str(file), "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["mistakes"][0]["line"] == 3
    assert "secret word" not in refused.stdout + refused.stderr
    file.write_text("".join(lines))
    try:
        done = old_server.todoku("import", "accounts", str(file))
        assert done.returncode == 0, done.stderr
        assert "2 accounts made" in done.stdout
        for name in scheme:
            with imaplib.IMAP4_SSL(old_server.hostname, 993, ssl_context=old_server.tls()) as imap:
                assert imap.login(f"{name}@{old_server.domain}", PASSWORD)[0] == "OK"
        assert "2 were here already" in old_server.todoku("import", "accounts", str(file)).stdout
    finally:
        for name in scheme:
            old_server.todoku("account", "remove", f"{name}@{old_server.domain}", "--yes")
        os.unlink(file)  # noqa: PTH108


BUNDLE, HOSTS = Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/hosts")
OLD_ADDRESS, OLD_NAME = "127.9.9.9", "imap.old.example"


@pytest.fixture
def imap_old_example(old_server: World, tmp_path: Path) -> Iterator[World]:
    """The old server under the name that the page uses, with a certificate that is trusted, on the usual ports."""
    authority = Authority.create(tmp_path / "pki")
    certificate, key = authority.issue([OLD_NAME], tmp_path / "pki")
    before = {file: file.read_bytes() for file in (BUNDLE, HOSTS)}
    BUNDLE.write_bytes(before[BUNDLE] + authority.certificate_path.read_bytes())
    HOSTS.write_bytes(before[HOSTS] + f"\n{OLD_ADDRESS} {OLD_NAME}\n".encode())
    config = tmp_path / "dovecot.conf"
    config.write_text(
        CONFIG_2_3.replace("ADDRESS", OLD_ADDRESS)
        .replace(f"base_dir = {OLD}/run", f"base_dir = {OLD}/run-of-the-page")
        .replace("/etc/todoku/tls/self-signed.pem", str(certificate))
        .replace("/etc/todoku/tls/self-signed.key", str(key))
        .replace("port = 0", "port = 143")
        .replace(f"port = {PORT}", "port = 993")
    )
    process = subprocess.Popen(["dovecot", "-F", "-c", str(config)])
    try:
        wait(lambda: _one_message_for("alice@hoge.example", "bob"), "the old server", 30)
        yield old_server
    finally:
        process.terminate()
        process.wait(20)
        for file, content in before.items():
            file.write_bytes(content)


def _one_message_for(*logins: str) -> bool:
    try:
        for login in logins:
            with imaplib.IMAP4_SSL(OLD_NAME, 993, timeout=20) as imap:
                imap.login(login, PASSWORD.replace(" ", "_"))
                imap.append("INBOX", "", "", _message(f"kept for {login}"))
    except OSError:
        return False
    return True


@pytest.mark.slow  # three commands, two of them at a terminal
def test_the_commands_of_the_page_copy_mail(imap_old_example: World, tmp_path: Path) -> None:
    password = tmp_path / "alice.password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD.replace(" ", "_") + "\n")
    example = {"/root/alice.password": str(password)}
    dry, copied, starttls = documented.block("moving.md", "todoku import mail", example)
    typed = {"assword": PASSWORD.replace(" ", "_")}
    documented.typed(dry, tmp_path, typed, hidden=typed)
    assert "kept for alice@hoge.example" not in subjects("alice@hoge.example")
    documented.run([copied], tmp_path)
    assert "kept for alice@hoge.example" in subjects("alice@hoge.example")
    documented.typed(starttls, tmp_path, typed, hidden=typed)
    assert "kept for bob" in subjects("bob@hoge.example")
