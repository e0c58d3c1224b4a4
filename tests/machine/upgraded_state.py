"""Inside the worlds of test_upgrade.py. `before`: have mail, and write the state to standard output. `after`: put it in
place on a newer system, apply, and find everything as it was."""

from __future__ import annotations

import imaplib
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

WORLD = json.loads(Path(os.environ["TODOKU_WORLD"]).read_text())
CARRIED = ("etc/todoku", "var/lib/todoku")
PASSWORDS = Path("/etc/todoku/carried-accounts.json")  # the world gives its accounts new ones each time
PROGRAMS = ("todoku-postfix", "todoku-dovecot", "todoku-gate", "todoku-agent")


def main(part: str) -> None:
    {"before": before, "after": after}[part]()


def before() -> None:
    assert version("dovecot-core").startswith("1:2.3"), version("dovecot-core")
    alice = WORLD["accounts"][0]
    for number in range(3):
        send(alice["address"], f"before {number}")
    wait(lambda: len(subjects(alice)) == 3)
    with imap(alice) as box:
        box.select("INBOX")
        box.store("1", "+FLAGS", r"(\Flagged kept)")
        box.create("Kept.2025")
        box.copy("2", "Kept.2025")
    todoku("alias", "add", "team@hoge.example", alice["address"], WORLD["accounts"][1]["address"])
    PASSWORDS.write_text(json.dumps(WORLD["accounts"]))
    supervise("stop")
    subprocess.run(["tar", "--create", "--directory=/", *CARRIED], check=True)


def after() -> None:
    assert version("dovecot-core").startswith("1:2.4"), version("dovecot-core")
    supervise("stop")
    for place in CARRIED:
        shutil.rmtree(Path("/", place))
    # By the names of the owners, as an upgrade in place keeps them.
    subprocess.run(["tar", "--extract", "--directory=/"], check=True)
    accounts = json.loads(PASSWORDS.read_text())
    alice, bob = accounts[:2]
    supervise("start")
    todoku("apply", "--yes")
    assert (
        subprocess.run(["todoku", "plan", "--check"], stdout=subprocess.DEVNULL, check=False).returncode == 0
    )
    assert subjects(alice) == ["before 0", "before 1", "before 2"]
    assert subjects(alice, "Kept.2025") == ["before 1"]
    with imap(alice) as box:
        box.select("INBOX", readonly=True)
        flags = box.fetch("1", "(FLAGS)")[1][0]
        assert b"\\Flagged" in flags, flags
        assert b"kept" in flags, flags
    send("team@hoge.example", "after the upgrade")
    for account in (alice, bob):
        wait(lambda account=account: "after the upgrade" in subjects(account))
    print(
        f"Dovecot {version('dovecot-core')}, Postfix {version('postfix')}: all mail is there, and new mail arrives"
    )


def imap(account: dict[str, str]) -> imaplib.IMAP4_SSL:
    context = ssl.create_default_context(cafile="/etc/todoku/tls/self-signed.pem")
    box = imaplib.IMAP4_SSL(WORLD["server"]["hostname"], 993, ssl_context=context, timeout=20)
    box.login(account["login"], account["password"])
    return box


def subjects(account: dict[str, str], folder: str = "INBOX") -> list[str]:
    with imap(account) as box:
        box.select(folder, readonly=True)
        numbers = box.search(None, "ALL")[1][0].split()
        parts = [box.fetch(number, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0] for number in numbers]
    return sorted(part[1].decode().partition(":")[2].strip() for part in parts if isinstance(part, tuple))


def send(to: str, subject: str) -> None:
    subprocess.run(
        ["python", "-m", "todoku.rehearsal.outside", "send", "--from", f"dave@{WORLD['outside']['domain']}",
         "--to", to, "--subject", subject, "--server", WORLD["server"]["ip"]],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def todoku(*arguments: str) -> None:
    done = subprocess.run(["todoku", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def supervise(what: str) -> None:
    subprocess.run(["supervisorctl", what, *PROGRAMS], check=False, stdout=subprocess.DEVNULL)


def version(package: str) -> str:
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, check=True)
    return shown.stdout.decode()


def wait(done: object) -> None:
    until = time.monotonic() + 30
    while not done():  # type: ignore[operator]
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1])
