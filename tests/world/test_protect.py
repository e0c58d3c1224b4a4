# Attachments that leave are protected by policy, without their sender doing anything: the recipient gets a ZIP that the
# mail alone does not open, colleagues get the original, and nothing of it is lost or sent twice.

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import pyzipper
from conftest import CONFIG, Arrived, World, wait

from todoku.rehearsal.smtp.dialogue import Reply

POLICY = """
[protect]
on = true
default = "zip"
page_port = 8443
incoming_zip = "mark"

[[protect.rules]]
mode = "pass"
recipients = "{dave}"

[[protect.rules]]
mode = "refuse"
recipients = "never@{outside}"

[[protect.rules]]
mode = "link"
recipients = "linked@{outside}"
"""
PDF = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def protects(the_world: World) -> Iterator[None]:
    before = CONFIG.read_text()
    outside = the_world.dave.rpartition("@")[2]
    policy = POLICY.format(dave=the_world.dave, outside=outside)
    CONFIG.write_text(before.replace("\n[protect]\n", policy))
    the_world.apply()
    yield
    CONFIG.write_text(before)
    the_world.apply()


def written(world: World, to: list[str], subject: str, *, text: str = "こんにちは\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = world.alice.address
    message["To"] = ", ".join(to)
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=world.domain)
    message["References"] = "<thread@outside.example>"
    message.set_content(text)
    message.add_attachment(PDF, "application", "pdf", filename="見積書.pdf")
    return message


def submit(world: World, message: EmailMessage, to: list[str]) -> Reply:
    with world.submission(world.alice) as smtp:
        assert smtp.say(f"MAIL FROM:<{world.alice.address}>").code == 250
        for recipient in to:
            assert smtp.say(f"RCPT TO:<{recipient}>").code == 250
        return smtp.message(message.as_string())


def send(world: World, to: list[str], subject: str) -> EmailMessage:
    message = written(world, to, subject)
    reply = submit(world, message, to)
    assert reply.code == 250, reply
    return message


def password(world: World, subject: str) -> str:
    notice = world.read(world.alice, subject)
    found = re.search(r"(?:パスワード|Password): (\S+)", notice.get_content())
    assert found, notice.get_content()
    return found[1]


def unpacked(arrived: Arrived, word: str) -> dict[str, bytes]:
    (packed,) = [p for p in arrived.message.iter_attachments() if p.get_content_type() == "application/zip"]
    with pyzipper.AESZipFile(io.BytesIO(packed.get_content())) as archive:
        archive.setpassword(word.encode())
        return {name: archive.read(name) for name in archive.namelist()}


def copies(world: World, subject: str, where: Path | None = None) -> list[Arrived]:
    return [each for each in world.arrived(where) if each.message["Subject"] == subject]


def test_one_message_for_inside_protected_and_passed(protects: None, world: World) -> None:
    to = [world.bob.address, world.carol, world.dave]
    sent = send(world, to, "#zip three ways")
    # the word asks for dave as well, whose rule says pass
    arrived = world.wait_for("three ways")
    assert unpacked(arrived, password(world, "three ways")) == {"見積書.pdf": PDF}
    assert b"AAECAwQFBgcICQoLDA0ODxAREhMU" not in arrived.raw  # how the file begins in base64
    assert arrived.judged["dmarc"]["result"] == "pass", arrived.judged
    assert arrived.message["Message-ID"] == sent["Message-ID"]
    assert arrived.message["References"] == sent["References"]
    assert arrived.message["X-Todoku-Protected"] is None
    texts = [part.get_content() for part in arrived.message.walk() if part.get_content_type() == "text/plain"]
    assert "見積書.pdf" in texts[1]
    to_dave = world.wait_for("three ways", where=world.outside_inbox)
    assert to_dave.judged["dmarc"]["result"] == "pass"
    assert set(unpacked(to_dave, password(world, "three ways"))) == {"見積書.pdf"}
    (original,) = world.read(world.bob, "three ways").iter_attachments()
    assert original.get_content() == PDF


def test_every_mode_in_one_message(protects: None, world: World) -> None:
    to = [world.bob.address, world.carol, world.dave, f"linked@{world.dave.rpartition('@')[2]}"]
    sent = written(world, to, "four ways", text="Hello\n")
    assert submit(world, sent, to).code == 250
    zipped = world.wait_for("four ways")
    assert unpacked(zipped, password(world, "Password of the ZIP: four ways")) == {"見積書.pdf": PDF}

    def both() -> list[Arrived] | None:
        found = copies(world, "four ways", world.outside_inbox)
        return found if len(found) == 2 else None

    outside = wait(both, "both copies for those outside")
    passed, linked = sorted(outside, key=lambda each: len(each.raw), reverse=True)
    (original,) = passed.message.iter_attachments()
    assert original.get_content() == PDF
    assert Browser(world).ask("GET", link_in(linked.message)).status == 200
    for each in (zipped, passed, linked):
        assert each.judged["dmarc"]["result"] == "pass", each.judged
        assert (each.message["Message-ID"], each.message["References"]) == (
            sent["Message-ID"],
            sent["References"],
        )
        assert each.message["X-Todoku-Protected"] is None
    (inside,) = world.read(world.bob, "four ways").iter_attachments()
    assert inside.get_content() == PDF


def test_who_gets_the_original_and_who_nothing(protects: None, world: World) -> None:
    send(world, [world.dave], "as it was")
    (passed,) = world.wait_for("as it was", where=world.outside_inbox).message.iter_attachments()
    assert passed.get_content() == PDF
    never = f"never@{world.dave.rpartition('@')[2]}"
    refused = submit(world, written(world, [never, world.carol], "to nobody"), [never, world.carol])
    assert (refused.code, refused.text.split()[0]) == (550, "5.7.1")
    assert f"Attachments may not be sent to {never} (a rule for never@" in refused.text
    assert not copies(world, "to nobody")


def test_a_password_that_was_agreed_on_with_the_partner(protects: None, world: World) -> None:
    partner = world.carol.rpartition("@")[2]
    done = world.todoku("protect", "password", "set", partner, "--stdin", stdin="agreed long ago\n")
    assert done.returncode == 0, done.stderr
    try:
        assert world.todoku("protect", "password", "list").stdout == f"{partner}\n"
        send(world, [world.carol], "as agreed")
        assert unpacked(world.wait_for("as agreed"), "agreed long ago") == {"見積書.pdf": PDF}
        assert f"{partner} と取り決めた" in world.read(world.alice, "as agreed").get_content()
    finally:
        assert world.todoku("protect", "password", "remove", partner).returncode == 0


def test_what_came_before_is_not_made_twice(protects: None, world: World) -> None:
    message = written(world, [world.carol], "an attachment that came twice")
    for _ in range(2):  # the first answer got lost, say
        assert submit(world, message, [world.carol]).code == 250
    world.wait_for("an attachment that came twice")
    wait(lambda: not world.queue() or None, "an empty queue")
    assert len(copies(world, "an attachment that came twice")) == 1


def test_a_header_that_somebody_made_up_opens_nothing(protects: None, world: World) -> None:
    message = written(world, [world.carol], "made up")
    message["X-Todoku-Protected"] = "0123.0 " + "0" * 64
    assert submit(world, message, [world.carol]).code == 250
    arrived = world.wait_for("made up")
    assert unpacked(arrived, password(world, "made up"))
    assert arrived.message["X-Todoku-Protected"] is None


def gate_processes() -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() == "todoku-gate":
                found.append(int(folder.name))
        except OSError:
            continue
    return found


class Browser:
    """As much of one as the page needs: verified TLS, and its cookie."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.cookie = ""

    def ask(self, method: str, url: str, form: dict[str, str] | None = None) -> HTTPResponse:
        place = urlsplit(url)
        connection = HTTPSConnection(place.hostname or "", place.port, context=self._world.tls(), timeout=20)
        body = urlencode(form) if form is not None else None
        connection.request(method, place.path, body, {"Cookie": self.cookie, "Accept-Language": "ja"})
        answer = connection.getresponse()
        self.cookie = (answer.headers["Set-Cookie"] or self.cookie).partition(";")[0]
        return answer


def link_in(message: EmailMessage, kind: str = "a") -> str:
    texts = [part.get_content() for part in message.walk() if part.get_content_type() == "text/plain"]
    (found,) = re.findall(rf"https://\S+/{kind}/\S+", "\n".join(texts))
    return str(found)


def code(world: World, link: str) -> str:
    before = len(copies(world, "添付ファイルの確認コード"))
    assert Browser(world).ask("POST", f"{link}/code").status == 200
    mails = wait(lambda: copies(world, "添付ファイルの確認コード")[before:] or None, "the mail with the code")
    assert mails[0].judged["dmarc"]["result"] == "pass"
    return str(re.findall(r"\d{8}", mails[0].message.get_content())[0])


def test_a_link_from_the_mail_to_the_file_and_what_its_sender_learns(protects: None, world: World) -> None:
    sent = send(world, [world.carol, world.bob.address], "#link #expire=3d by link")
    arrived = world.wait_for("by link")
    assert arrived.judged["dmarc"]["result"] == "pass", arrived.judged
    assert arrived.message["Message-ID"] == sent["Message-ID"]
    assert "application/pdf" not in [part.get_content_type() for part in arrived.message.walk()]
    link = link_in(arrived.message)
    browser = Browser(world)
    assert "確認コードを送る" in browser.ask("GET", link).read().decode()
    assert browser.ask("GET", f"{link}/0").status == 403
    assert browser.ask("POST", f"{link}/open", {"code": "00000000"}).status == 403
    assert browser.ask("POST", f"{link}/open", {"code": code(world, link)}).status == 303
    assert "見積書.pdf" in browser.ask("GET", link).read().decode()
    file = browser.ask("GET", f"{link}/0")
    assert file.status == 200
    assert file.read() == PDF
    assert "filename*=UTF-8''%E8%A6%8B%E7%A9%8D%E6%9B%B8.pdf" in file.headers["Content-Disposition"]
    wait(lambda: world.count(world.alice, "by link") >= 2, "the notice, and that it was fetched")
    (original,) = world.read(world.bob, "by link").iter_attachments()
    assert original.get_content() == PDF


def test_a_large_file_leaves_as_a_link_and_is_taken_back(protects: None, world: World) -> None:
    message = written(world, [world.carol], "#link large")
    message.add_attachment(os.urandom(6_000_000), "application", "zip", filename="large.zip")
    assert submit(world, message, [world.carol]).code == 250
    arrived = world.wait_for("large")
    assert len(arrived.raw) < 100_000  # the relay takes 2 MB
    shelf = Path("/var/lib/todoku/protect/objects")
    assert sum(path.stat().st_size for path in shelf.iterdir()) > 6_000_000
    assert all(path.stat().st_mode & 0o007 == 0 for path in shelf.rglob("*"))
    given = world.todoku("protect", "list", "--json")
    (offer,) = [each for each in json.loads(given.stdout)["offers"] if each["subject"] == "large"]
    assert offer["recipients"] == [world.carol]
    done = world.todoku("protect", "revoke", offer["id"][:12])
    assert done.returncode == 0, done.stdout + done.stderr
    link = link_in(arrived.message)
    assert Browser(world).ask("POST", f"{link}/code").status == 200
    assert "確認コード" in Browser(world).ask("GET", link).read().decode()
    assert sum(path.stat().st_size for path in shelf.iterdir()) < 6_000_000


# slow: 82 MB go through Postfix, and the settings are applied twice for them
@pytest.mark.slow
def test_a_file_of_60_mb_leaves_as_a_link_and_arrives_whole(protects: None, world: World) -> None:
    before = CONFIG.read_text()
    assert before.count("\n[limits]\n") == 1
    CONFIG.write_text(before.replace("\n[limits]\n", '\n[limits]\nmessage_size = "90 MB"\n'))
    try:
        world.apply()
        shown = subprocess.run(
            ["postconf", "-h", "message_size_limit"], capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == "90000000"
        content = os.urandom(1_000_000) * 60
        message = written(world, [world.carol], "#link sixty")
        message.add_attachment(content, "video", "mp4", filename="large.mp4")
        raw = message.as_bytes(policy=SMTP)
        assert len(raw) > 80_000_000
        with world.submission(world.alice) as smtp:
            smtp.be_patient(240)
            assert smtp.say(f"MAIL FROM:<{world.alice.address}> SIZE={len(raw)}").code == 250
            assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250
            assert smtp.message(raw + b"\r\n.\r\n").code == 250
        arrived = world.wait_for("sixty", 60)
        assert len(arrived.raw) < 100_000  # the relay takes 2 MB
        assert arrived.judged["dmarc"]["result"] == "pass", arrived.judged
        link, browser = link_in(arrived.message), Browser(world)
        assert browser.ask("POST", f"{link}/open", {"code": code(world, link)}).status == 303
        assert "60.0 MB" in browser.ask("GET", link).read().decode()
        file = browser.ask("GET", f"{link}/1")
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(content).digest()
        given = json.loads(world.todoku("protect", "list", "--json").stdout)["offers"]
        (offer,) = [each for each in given if each["subject"] == "sixty"]
        assert world.todoku("protect", "revoke", offer["id"][:12]).returncode == 0
    finally:
        CONFIG.write_text(before)
        world.apply()


def test_without_the_place_for_files_the_message_is_held(protects: None, world: World) -> None:
    place, aside = Path("/var/lib/todoku/protect/objects"), Path("/var/lib/todoku/protect/aside")
    place.rename(aside)
    try:
        held = submit(world, written(world, [world.carol], "#link held"), [world.carol])
        assert (held.code, held.text.split()[0]) == (452, "4.3.1")
        assert "cannot be protected now" in held.text
    finally:
        aside.rename(place)
    assert not copies(world, "held")


def test_the_page_can_do_nothing_else(protects: None, world: World) -> None:
    pid = Path("/var/lib/todoku/protect/web.pid").read_text().strip()
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^Uid:\s+(?!0\b)(\d+)\s+\1\s+\1", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


def test_a_password_protected_zip_from_outside_is_marked(protects: None, world: World) -> None:
    packed = io.BytesIO()
    with pyzipper.AESZipFile(packed, "w", encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(b"pw")
        archive.writestr("a.txt", "unseen")
    message = EmailMessage()
    message["From"] = world.dave
    message["To"] = world.bob.address
    message["Subject"] = "look at this"
    message.set_content("the password is pw\n")
    message.add_attachment(packed.getvalue(), "application", "pdf", filename="a.pdf")
    with world.port_25() as smtp:
        assert smtp.say(f"MAIL FROM:<{world.dave}>").code == 250
        assert smtp.say(f"RCPT TO:<{world.bob.address}>").code == 250
        reply = smtp.message(message.as_string())
        assert reply.code == 250, reply
    arrived = world.read(world.bob, "look at this")
    assert arrived["Subject"] == "[Encrypted ZIP, not scanned] look at this"
    assert arrived["X-Todoku-Encrypted-ZIP"] == "a.pdf"


# slow: each of the twelve kills waits for supervisord to start the gate anew
@pytest.mark.slow
def test_kill_9_at_any_moment_loses_and_doubles_nothing(protects: None, world: World) -> None:
    for number in range(12):
        message = written(world, [world.carol], f"killed {number}")
        if number % 2:  # in the middle of this message
            _kill_soon(0.005 * number)
        wait(lambda message=message: _accepted(world, message), "the gate to be back")  # type: ignore[misc]
        if not number % 2:  # while its copies are handed over
            time.sleep(0.004 * number)
            _kill()
    for number in range(12):
        world.wait_for(f"killed {number}", 40)
    wait(lambda: not list(Path("/var/lib/todoku/gate/protect/outgoing").iterdir()), "all handed over", 40)
    wait(lambda: not world.queue(), "an empty queue", 40)
    assert [len(copies(world, f"killed {number}")) for number in range(12)] == [1] * 12


def _accepted(world: World, message: EmailMessage) -> bool:
    try:
        return submit(world, message, [world.carol]).code == 250
    except (OSError, AssertionError):
        return False


def _kill() -> None:
    for process in gate_processes():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _kill_soon(seconds: float) -> None:
    if os.fork() == 0:
        try:
            time.sleep(seconds)
            _kill()
        finally:
            os._exit(0)
