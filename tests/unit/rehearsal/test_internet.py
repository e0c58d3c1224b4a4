"""The receiving provider, the outside sender, and the process that holds them all."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import LETTER, OUTGOING, OUTSIDE, RECEIVER, Around, until

from todoku.rehearsal import outside, servers
from todoku.rehearsal.internet import plan as world
from todoku.rehearsal.internet.plan_file import PlanUnreadable, read
from todoku.rehearsal.outside import Letter, Post
from todoku.rehearsal.receiver import Inbox
from todoku.rehearsal.smtp.client import Client

CAROL = "carol@mailbox.example"


def where(around: Around, dns, **more) -> Post:
    post = Post({4: OUTSIDE}, around.delivery_port, None, around.folder / "pki/ca.pem", dns)
    return replace(post, **more)


def judgement(around: Around, number: int = 1, inbox: str = "inbox") -> dict:
    return json.loads((around.folder / inbox / f"{number}.json").read_text())


def test_the_outside_sender_delivers_signed_mail_over_tls_from_its_own_address(play, dns, plan):
    async def scene(around: Around):
        letter = Letter("bob@outside.example", (CAROL,), "こんにちは", "本文\n.\n")
        outcomes, transcript = await outside.post(plan, letter, where(around, dns))
        assert [(o.recipient, o.code, o.tls, o.verified) for o in outcomes] == [(CAROL, 250, True, True)]
        assert transcript[0] == f"-- {RECEIVER} port {around.delivery_port} from {OUTSIDE}"
        assert "C: EHLO mail.outside.example" in transcript
        assert "S: 354 Start mail input; end with <CRLF>.<CRLF>" in transcript
        found = judgement(around)
        assert (found["spf"]["result"], found["dkim"][0]["result"], found["dmarc"]["result"]) == ("pass",) * 3
        assert found["dkim"][0]["aligned"] is found["spf"]["aligned"] is found["tls"] is True
        assert (found["mail_from"], found["client_ip"]) == ("bob@outside.example", OUTSIDE)
        assert found["iprev"] == {"result": "pass", "name": "mail.outside.example"}

    play(scene)


def test_without_signature_and_from_elsewhere_a_forgery_fails(play, dns, plan):
    async def scene(around: Around):
        letter = Letter("bob@outside.example", (CAROL,), sign=False)
        await outside.post(plan, letter, where(around, dns, sources={4: OUTGOING}))
        found = judgement(around)
        assert (found["spf"]["result"], found["dkim"]) == ("fail", [])
        assert found["dmarc"] == {"result": "fail", "policy": "reject", "domain": "outside.example"}

    play(scene)


def test_an_eml_file_is_sent_as_it_is_and_kept_exactly_as_received(play, dns, plan):
    async def scene(around: Around):
        letter = Letter("", (CAROL, "dan@mailbox.example"), eml=LETTER.replace(b"\r\n", b"\n"), sign=False)
        await outside.post(plan, letter, where(around, dns))
        for number, recipient in ((1, CAROL), (2, "dan@mailbox.example")):
            assert (around.folder / f"inbox/{number}.eml").read_bytes() == LETTER
            assert judgement(around, number)["rcpt_to"] == recipient
            assert judgement(around, number)["mail_from"] == ""

    play(scene)


def test_recipients_are_refused_each_with_its_reason(play, dns, plan):
    async def scene(around: Around):
        people = ("unknown.x@mailbox.example", "Full@mailbox.example", "busy@mailbox.example", CAROL)
        outcomes, _ = await outside.post(plan, Letter("bob@outside.example", people), where(around, dns))
        assert [(o.code, o.text[:5]) for o in outcomes] == [
            (550, "5.1.1"),
            (552, "5.2.2"),
            (450, "4.2.1"),
            (250, "2.0.0"),
        ]
        busy = Letter("bob@outside.example", ("busy@mailbox.example",))
        codes = [(await outside.post(plan, busy, where(around, dns)))[0][0].code for _ in range(3)]
        assert codes == [450, 250, 250]
        away = Letter("bob@outside.example", ("x@hoge.example",))
        [refused], _ = await outside.post(plan, away, where(around, dns, server=RECEIVER))
        assert (refused.code, refused.text) == (550, "5.7.1 x@hoge.example: relaying denied")

    play(scene)


def test_no_way_to_the_recipient_is_an_outcome_too(play, dns, plan):
    dns.add("null.example", "MX", "0 .")
    dns.broken.add("broken.example")
    dns.host("closed.example", "127.0.3.3")

    async def scene(around: Around):
        people = ("a@null.example", "b@nowhere.example", "c@broken.example", "d@closed.example")
        outcomes, _ = await outside.post(plan, Letter("bob@outside.example", people), where(around, dns))
        assert [o.code for o in outcomes] == [556, 556, 451, 451]
        assert "closed.example[127.0.3.3]: " in outcomes[3].text

    play(scene)


def test_a_certificate_that_is_not_to_be_believed_does_not_stop_the_mail(play, dns, plan):
    async def scene(around: Around):
        for _ in range(2):
            letter = Letter("bob@outside.example", (CAROL,))
            [outcome], _ = await outside.post(plan, letter, where(around, dns, authorities=None))
            assert (outcome.code, outcome.tls, outcome.verified) == (250, True, False)
        assert judgement(around, 2)["tls"] is True

    play(scene)


def test_the_outside_receives_in_the_same_form(play, dns):
    async def scene(around: Around):
        await around.submit(LETTER, "alice@hoge.example", "bob@outside.example")
        await until(lambda: (around.folder / "outside-inbox/1.json").exists())
        assert judgement(around, 1, "outside-inbox")["dmarc"]["result"] == "pass"

    play(scene)


def test_25_megabytes_are_the_limit(play):
    async def scene(around: Around):
        client = Client(20)
        await client.connect(RECEIVER, around.delivery_port)
        await client.ehlo("x.example")
        assert client.extensions["SIZE"] == str(25 * 1024 * 1024)
        assert (await client.say("MAIL FROM:<a@b.example> SIZE=26214401")).code == 552
        client.extensions.clear()
        big = LETTER + b"x" * 100 + b"\r\n"
        [(_, answer)] = await client.send(
            "", [CAROL], big + b"y" * (25 * 1024 * 1024 - len(big) - 2) + b"\r\n"
        )
        assert answer.code == 250
        [(_, answer)] = await client.send("", [CAROL], big + b"y" * (25 * 1024 * 1024))
        assert answer.code == 552

    play(scene)


def test_numbers_go_on_after_a_restart_and_files_appear_whole(tmp_path):
    assert Inbox(tmp_path).keep(b"one", {"a": "あ"}) == 1
    assert Inbox(tmp_path).keep(b"two", {}) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.eml", "1.json", "2.eml", "2.json"]
    assert "あ" in (tmp_path / "1.json").read_text()


def test_who_looks_while_a_message_is_written_sees_whole_files_only(tmp_path, monkeypatch):
    seen = []
    replace_ = Path.replace

    def look(self, target):
        seen.append(sorted(path.name for pattern in ("*.eml", "*.json") for path in tmp_path.glob(pattern)))
        return replace_(self, target)

    monkeypatch.setattr(Path, "replace", look)
    Inbox(tmp_path).keep(b"one", {})
    assert seen == [[], ["1.eml"]]


def test_a_plan_survives_its_file(plan, tmp_path):
    assert servers.load(servers.dump(plan)) == plan
    path = tmp_path / "internet.json"
    path.write_text(servers.dump(plan))
    path.chmod(0o644)
    with pytest.raises(PlanUnreadable, match="chmod 600"):
        read(path)
    path.chmod(0o600)
    assert read(path) == plan
    with pytest.raises(PlanUnreadable) as problem:
        servers.load(servers.dump(plan).replace('"region"', '"religion"'))
    assert "region: Field required" in str(problem.value)
    assert "PRIVATE KEY" not in str(problem.value)


# The process itself, in a network namespace of its own where the world's addresses exist.

SHELL = """
set -e
ip link set lo up
for address in 192.0.2.20 192.0.2.25 198.51.100.25 198.51.100.80; do ip addr add $address/32 dev lo; done
for address in 2001:db8:25::25 2001:db8:80::80; do ip addr add $address/128 dev lo nodad; done
exec "$@"
"""


def can_unshare() -> bool:
    probe = ["unshare", "--net", "ip", "addr", "add", "2001:db8:25::25/128", "dev", "lo"]
    try:
        return subprocess.run(probe, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def started(plan, folder_with_pki: Path, tmp_path: Path):
    (tmp_path / "pki").symlink_to(folder_with_pki / "pki")
    path = tmp_path / "plan.json"
    path.write_text(servers.dump(plan))
    path.chmod(0o600)
    return ["-m", "todoku.rehearsal.servers", "--plan", str(path), "--state", str(tmp_path)]


@pytest.mark.skipif(not can_unshare(), reason="needs root and network namespaces")
def test_the_process_says_ready_when_all_listen_and_ends_on_sigterm(started):
    command = ["unshare", "--net", "sh", "-c", SHELL, "sh", sys.executable, *started]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "READY\n"
        enter = ["nsenter", "--net", "-t", str(process.pid)]
        sockets = subprocess.run([*enter, "ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
        for address in ("192.0.2.20:465", "192.0.2.20:8025", "[2001:db8:25::25]:25", "198.51.100.80:25"):
            assert address in sockets
        second = subprocess.run(
            [*enter, sys.executable, *started], capture_output=True, text=True, timeout=20
        )
        assert (second.returncode, second.stdout) == (1, "")
        assert "cannot listen on 192.0.2.20 port 25 (the relay): " in second.stderr
        sender = [*enter, sys.executable, "-m", "todoku.rehearsal.outside", "send", "--plan", started[3]]
        sent = subprocess.run(
            [*sender, "--to", "unknown@mailbox.example", "--server", "2001:db8:25::25", "--source", "IPv6"],
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert "-- 2001:db8:25::25 port 25 from 2001:db8:80::80" in sent.stdout
        assert "unknown@mailbox.example: 550 5.1.1 " in sent.stdout
        assert sent.returncode == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()


def test_what_is_missing_is_said(started, tmp_path):
    missing = subprocess.run(
        [sys.executable, *started[:-1], str(tmp_path / "elsewhere")],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert missing.returncode == 1
    assert (
        "pki/smtp.email.ap-tokyo-1.oci.oraclecloud.com.pem: No such file or directory" in missing.stderr
        or ("the certificates have to be in pki/" in missing.stderr)
    )
    Path(started[3]).unlink()
    gone = subprocess.run([sys.executable, *started], capture_output=True, text=True, timeout=20)
    assert "No such file or directory; is the rehearsal running?" in gone.stderr


def test_the_command_line_refuses_an_address_that_is_not_the_senders(capsys):
    with pytest.raises(SystemExit) as ended:
        outside.main(["send", "--to", CAROL, "--source", "203.0.113.10"])
    assert ended.value.code == 2
    assert f"is not one of IPv4, IPv6, {world.OUTSIDE}, {world.OUTSIDE6}" in capsys.readouterr().err


def test_send_returns_a_code_for_each_recipient(plan, dns):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        post = Post({4: OUTSIDE}, port, "127.0.0.1", None, dns)
        [(recipient, code, text)] = outside.send(plan, Letter("bob@outside.example", (CAROL,)), post)
    assert (recipient, code) == (CAROL, 451)
    assert "127.0.0.1" in text
