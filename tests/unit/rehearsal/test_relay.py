"""The relay answers as Oracle documents it, so that what works in the rehearsal works against the service."""

from __future__ import annotations

import asyncio
import base64
import json
import smtplib
import ssl
import time
import warnings
from pathlib import Path

import pytest
from conftest import LETTER, PASSWORD, Around, plain, until

from todoku.rehearsal.relay.state import Limits
from todoku.rehearsal.smtp.client import Client


def said(answer):
    return f"{answer.code} {answer.text}"


def test_before_tls_only_starttls_is_offered_and_nothing_else_is_possible(play):
    async def scene(around: Around):
        client = await around.submission(tls=False)
        host = around.plan.relay_hostname
        assert client.transcript[1:] == [
            f"S: 220 {host} ESMTP smtp-in",
            "C: EHLO mx.hoge.example",
            f"S: 250-{host}",
            "S: 250-STARTTLS",
            "S: 250 Ok",
        ]
        assert said(await client.say("MAIL FROM:<alice@hoge.example>")) == "535 Authentication required"
        assert said(await around.login(client)) == "504 Method not supported"

    play(scene)


def test_after_tls_only_auth_plain_is_offered(play):
    async def scene(around: Around):
        client = await around.submission()
        assert client.transcript[-6:] == [
            f"S: 250-{around.plan.relay_hostname}",
            "S: 250-PIPELINING",
            "S: 250-8BITMIME",
            "S: 250-SIZE 2000000",
            "S: 250-AUTH PLAIN",
            "S: 250 Ok",
        ]

    play(scene)


def test_implicit_tls_offers_the_same(play):
    async def scene(around: Around):
        listen = around.relay.server.listens[1]
        reader, writer = await asyncio.open_connection(
            listen.host, listen.port, ssl=around.context(), server_hostname=around.plan.relay_hostname
        )
        assert (await reader.readline()).startswith(b"220 ")
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.write(b"EHLO x\r\n")
        lines = [await reader.readline() for _ in range(6)]
        assert b"250-AUTH PLAIN\r\n" in lines
        assert not any(b"STARTTLS" in line for line in lines)
        writer.close()

    play(scene)


def test_tls_1_1_is_refused(play):
    async def scene(around: Around):
        context = around.context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        client = await around.submission(tls=False)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.starttls(context, around.plan.relay_hostname)

    play(scene)


def encoded(octets: bytes) -> str:
    return "AUTH PLAIN " + base64.b64encode(octets).decode()


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("AUTH LOGIN", "504 Method not supported"),
        ("AUTH CRAM-MD5", "504 Method not supported"),
        ("AUTH", "504 AUTH mechanism mismatch"),
        ("AUTH PLAIN ***", "501 Invalid command argument, not a valid Base64 string"),
        (encoded(b"no separator"), "501 Invalid command argument, does not contain NUL"),
        (encoded(b"\0user"), "501 Invalid command argument, does not contain the second NUL"),
        (encoded(b"\0user\0password"), "535 Authentication credentials invalid"),
        ("MAIL FROM:<alice@hoge.example>", "535 Authentication required"),
        ("RCPT TO:<carol@mailbox.example>", "535 Authentication required"),
        ("DATA", "535 Authentication required"),
        ("VRFY postmaster", "535 Authentication required"),
        ("NOOP", "250 Ok"),
    ],
)
def test_what_an_unauthenticated_client_is_told(play, command, reply):
    async def scene(around: Around):
        assert said(await (await around.submission()).say(command)) == reply

    play(scene)


def test_the_password_counts_byte_for_byte(play):
    async def scene(around: Around):
        client = await around.submission()
        user = around.plan.credential.username
        for wrong in (PASSWORD + " ", PASSWORD[:-1], PASSWORD.upper()):
            answer = await client.say("AUTH PLAIN " + plain(user, wrong))
            assert said(answer) == "535 Authentication credentials invalid"
        assert (await client.say("AUTH PLAIN")).code == 334
        assert (await client.say(plain(user, PASSWORD))).code == 235

    play(scene)


def test_repeated_auth_failures_throttle_the_address_but_not_others(play):
    async def scene(around: Around):
        now = [1000.0]
        around.relay.state.clock = lambda: now[0]
        client = await around.submission(source="127.0.0.2")
        for _ in range(5):
            assert said(await around.login(client, "wrong")) == "535 Authentication credentials invalid"
        assert said(await around.login(client)) == "421 Too many auth failures, try again later"
        listen = around.relay.server.listens[0]
        greeting = await Client(5).connect(listen.host, listen.port, "127.0.0.2")
        assert said(greeting) == "421 Too many auth failures, try again later"
        assert (await Client(5).connect(listen.host, listen.port, "127.0.0.3")).code == 220
        now[0] += 61
        assert (await Client(5).connect(listen.host, listen.port, "127.0.0.2")).code == 220

    play(scene)


def test_senders_that_are_not_approved_throttle_too(play):
    async def scene(around: Around):
        client = await around.authenticated()
        for _ in range(5):
            await client.say("MAIL FROM:<bob@outside.example>")
        answer = await client.say("MAIL FROM:<alice@hoge.example>")
        assert said(answer) == "421 Too many auth failures, try again later"

    play(scene)


@pytest.mark.parametrize(
    ("sender", "reply"),
    [
        ("<alice@hoge.example>", "250 Ok"),
        ("<anything+else@HOGE.example>", "250 Ok"),
        ("<dave@other.example>", "250 Ok"),
        (
            "<bob@outside.example>",
            "535 Authorization failed: Envelope From address bob@outside.example not authorized",
        ),
        (
            "<alice@sub.hoge.example>",
            "535 Authorization failed: Envelope From address alice@sub.hoge.example not authorized",
        ),
        (
            "<erin@other.example>",
            "535 Authorization failed: Envelope From address erin@other.example not authorized",
        ),
        ("<>", "535 Authorization failed: Envelope From address not authorized"),
        ("<alice>", "553 alice Invalid email address"),
        ("<@a.example:alice@hoge.example>", "553 @a.example:alice@hoge.example Invalid email address"),
        ("alice@hoge.example", "553 alice@hoge.example Invalid email address"),
        ("<アリス@hoge.example>", r"553 \u30a2\u30ea\u30b9@hoge.example Invalid email address"),
        ("<alice@hoge.example> SIZE=2000001", "552 Exceeds byte limit"),
        ("<alice@hoge.example> SIZE=2000000 BODY=8BITMIME", "250 Ok"),
        ("<alice@hoge.example> SMTPUTF8", "555 MAIL FROM parameters not recognized"),
    ],
)
def test_the_envelope_sender_has_to_be_approved(play, sender, reply):
    async def scene(around: Around):
        assert said(await (await around.authenticated()).say(f"MAIL FROM:{sender}")) == reply

    play(scene)


def test_data_needs_a_recipient(play):
    async def scene(around: Around):
        client = await around.authenticated()
        await client.say("MAIL FROM:<alice@hoge.example>")
        assert said(await client.say("DATA")) == "503 Need RCPT command"
        assert said(await client.say("RCPT TO:<nonsense>")) == "553 nonsense Invalid email address"
        answer = await client.say("RCPT TO:<carol@mailbox.example>")
        assert said(answer) == "250 2.1.5 carol@mailbox.example and options Ok"

    play(scene)


def letter(*lines: str) -> bytes:
    return "\r\n".join(lines).encode() + b"\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (LETTER, "250 Ok"),
        (
            letter("From: alice@hoge.example, bob@outside.example"),
            "535 Authorization failed: address bob@outside.example not authorized",
        ),
        (
            letter("From: alice@hoge.example", "From: bob@outside.example"),
            "535 Authorization failed: address bob@outside.example not authorized",
        ),
        (
            letter('From: "alice@hoge.example" <bob@outside.example>'),
            "535 Authorization failed: address bob@outside.example not authorized",
        ),
        (letter("From: 有栖 <alice@hoge.example>", "Subject: 日本"), "250 Ok"),
        (letter("Subject: without From"), "554 Message parse error"),
        (letter("From: undisclosed:;"), "554 Message parse error"),
        (letter("From: alice@hoge.example <bob@outside.example>"), "554 Message parse error"),
        (b"\r\nno header\r\n", "554 Message parse error"),
        (b"just text\r\n", "554 Message parse error"),
        (b"From: alice@hoge.example\nX: y\r\n\r\nbody\r\n", "554 Message parse error"),
        (letter("From: alice@hoge.example", "X: " + "x" * 256_000), "554 Message parse error"),
        (letter("From: alice@hoge.example") + b"x" * 2_000_000, "552 Exceeds byte limit"),
    ],
    ids=range(13),
)
def test_the_message_is_judged_at_its_end(play, content, reply):
    async def scene(around: Around):
        client = await around.authenticated()
        client.extensions.pop("SIZE")  # so that the size is found out at the end
        [(_, answer)] = await client.send("alice@hoge.example", ["carol@mailbox.example"], content)
        assert said(answer) == reply

    play(scene)


def test_a_suppressed_recipient_is_told_by_a_success_code_and_the_others_go_on(play):
    async def scene(around: Around):
        around.relay.state.set_suppressions(["Gone@mailbox.example"])
        client = await around.authenticated()
        await client.say("MAIL FROM:<alice@hoge.example>")
        answer = await client.say("RCPT TO:<GONE@mailbox.example>")
        assert said(answer) == "254 4.7.1 Suppression for user ocid1.user.oc1..aaaa to GONE@mailbox.example"
        await client.say("RCPT TO:<carol@mailbox.example>")
        await client.say("DATA")
        await client.write(LETTER.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert said(await client.answer()) == "250 Ok"
        await until(lambda: (around.folder / "inbox/1.json").exists())
        await until(lambda: not around.relay.outbox.waiting)
        assert len(list((around.folder / "inbox").glob("*.eml"))) == 1
        assert around.relay.seen.submitted[0].suppressed == ("GONE@mailbox.example",)

    play(scene)


def test_a_message_to_suppressed_recipients_only_is_accepted_and_vanishes(play):
    async def scene(around: Around):
        around.relay.state.set_suppressions(["gone@mailbox.example"])
        [(_, answer)] = await around.submit(LETTER, "alice@hoge.example", "gone@mailbox.example")
        assert said(answer) == "250 Ok"
        assert around.relay.outbox.waiting == 0

    play(scene)


def test_the_rate_per_minute_counts_recipients(play):
    async def scene(around: Around):
        around.relay.state.limits = Limits(per_minute=3)
        people = [f"user{n}@mailbox.example" for n in range(4)]
        answers = await around.submit(LETTER, "alice@hoge.example", *people)
        assert [answer.code for _, answer in answers] == [250, 250, 250, 455]
        assert said(answers[3][1]) == "455 Maximum messages sent per minute reached : limit is 3"
        [(_, answer)] = await around.submit()
        assert answer.code == 455

    play(scene)


def test_the_rate_per_day_is_told_as_such_and_given_back_when_nothing_was_sent(play):
    async def scene(around: Around):
        around.relay.state.limits = Limits(per_day=1)
        client = await around.authenticated()
        for _ in range(3):
            await client.say("MAIL FROM:<alice@hoge.example>")
            assert (await client.say("RCPT TO:<a@mailbox.example>")).code == 250
            await client.say("RSET")
        await around.submit()
        [(_, answer)] = await around.submit()
        assert said(answer) == "455 Maximum messages sent per day reached : limit is 1"

    play(scene)


def test_each_started_two_megabytes_count_as_one_more(play):
    async def scene(around: Around):
        around.relay.state.limits = Limits(per_minute=3, size=60_000_000)
        client = await around.authenticated()
        client.extensions.pop("SIZE")
        big = LETTER + b"x" * 4_000_000
        [(_, answer)] = await client.send("alice@hoge.example", ["carol@mailbox.example"], big)
        assert answer.code == 250
        assert around.relay.state.minute.total == 3

    play(scene)


def test_a_new_sender_is_believed_after_its_propagation(play):
    async def scene(around: Around):
        now = [1000.0]
        around.relay.state.clock = lambda: now[0]
        around.relay.state.sender_propagation = 30
        around.relay.state.approve("new@fresh.example")
        client = await around.authenticated()
        assert (await client.say("MAIL FROM:<new@fresh.example>")).code == 535
        assert (await client.say("MAIL FROM:<alice@hoge.example>")).code == 250
        await client.say("RSET")
        now[0] += 30
        assert (await client.say("MAIL FROM:<new@fresh.example>")).code == 250

    play(scene)


@pytest.mark.parametrize("implicit", [False, True])
def test_pythons_own_smtp_client_can_submit(play, implicit):
    async def scene(around: Around):
        listen = around.relay.server.listens[1 if implicit else 0]
        context = around.context()
        context.check_hostname = False  # smtplib checks the name that it connects to

        def submit() -> dict:
            if implicit:
                client = smtplib.SMTP_SSL(listen.host, listen.port, context=context, timeout=10)
            else:
                client = smtplib.SMTP(listen.host, listen.port, timeout=10)
                client.starttls(context=context)
            with client:
                assert client.sock.version() == "TLSv1.2"
                client.login(around.plan.credential.username, PASSWORD)
                return client.sendmail("alice@hoge.example", ["carol@mailbox.example"], LETTER)

        assert await asyncio.to_thread(submit) == {}
        await until(lambda: (around.folder / "inbox/1.json").exists())

    play(scene)


# What it does to a message, and whether it arrives.


def arrived(around: Around, number: int = 1) -> tuple[bytes, dict]:
    inbox: Path = around.folder / "inbox"
    return (inbox / f"{number}.eml").read_bytes(), json.loads((inbox / f"{number}.json").read_text())


async def delivered(around: Around, content: bytes, sender: str = "alice@hoge.example") -> tuple[bytes, dict]:
    [(_, answer)] = await around.submit(content, sender)
    assert said(answer) == "250 Ok"
    await until(lambda: (around.folder / "inbox/1.json").exists())
    return arrived(around)


def test_mail_arrives_with_spf_dkim_dmarc_tls_and_reverse_dns_in_order(play):
    async def scene(around: Around):
        _, judgement = await delivered(around, LETTER)
        mail_from = judgement.pop("mail_from")
        assert mail_from.endswith("@nrt1.rp.oracleemaildelivery.com")
        assert judgement == {
            "rcpt_to": "carol@mailbox.example",
            "header_from": "alice@hoge.example",
            "client_ip": "127.0.0.25",
            "tls": True,
            "spf": {"result": "pass", "domain": "nrt1.rp.oracleemaildelivery.com", "aligned": False},
            "dkim": [
                {"result": "pass", "domain": "hoge.example", "selector": "todoku-nrt", "aligned": True},
                {
                    "result": "pass",
                    "domain": "nrt1.rp.oracleemaildelivery.com",
                    "selector": "prod-nrt-20240101",
                    "aligned": False,
                },
            ],
            "dmarc": {"result": "pass", "policy": "reject", "domain": "hoge.example"},
            "iprev": {"result": "pass", "name": "aib29agh025.nrt1.oracleemaildelivery.com"},
        }
        [relayed] = await until(lambda: around.relay.seen.relayed)
        assert (relayed.action, relayed.tls, relayed.tls_verified) == ("relay", True, True)

    play(scene)


def test_headers_are_rewritten_as_seen_on_delivered_mail(play):
    submitted = (
        b"Received: from secret.lan by mx.hoge.example\r\n\twith ESMTPS; today\r\n"
        b"MIME-Version: 1.0\r\nIn-Reply-To: <0@x>\r\nContent-Transfer-Encoding: 8bit\r\n" + LETTER
    )

    async def scene(around: Around):
        message, _ = await delivered(around, submitted)
        head, _, body = message.partition(b"\r\n\r\n")
        assert b"secret.lan" not in head
        for name in (b"Message-id:", b"MIME-version:", b"Content-type:", b"In-reply-to:", b"Reporting-Meta:"):
            assert b"\r\n" + name in head
        assert message.startswith(
            b"Received: by omta-ad1-fd1-401-ap-tokyo-1.omtaad1.vcndpnrt.oraclevcn.com\r\n"
        )
        assert b"for carol@mailbox.example;" in head
        assert b"\r\nList-Unsubscribe: <https://" in head
        assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click" in head
        assert head.count(b"DKIM-Signature:") == 2
        assert b"<1@mx.hoge.example>" in head
        assert body == LETTER.partition(b"\r\n\r\n")[2]

    play(scene)


def test_ones_own_https_unsubscription_stays_and_a_mailto_is_replaced(play):
    async def scene(around: Around):
        for number, given in enumerate((b"<https://hoge.example/u>", b"<mailto:u@hoge.example>"), 1):
            await around.submit(b"List-Unsubscribe: " + given + b"\r\n" + LETTER)
            await until(lambda number=number: (around.folder / f"inbox/{number}.json").exists())
            message, _ = arrived(around, number)
            assert message.lower().count(b"list-unsubscribe:") == 3  # the field, and twice in h=
            assert (given in message) == given.startswith(b"<https")

    play(scene)


def test_a_missing_message_id_is_generated(play):
    async def scene(around: Around):
        message, _ = await delivered(around, letter("From: alice@hoge.example"))
        assert b"\r\nMessage-id: <" in message

    play(scene)


def test_without_an_email_domain_of_exactly_that_name_only_the_regional_signature_is_there(play, dns):
    dns.add("_dmarc.other.example", "TXT", "v=DMARC1; p=none")

    async def scene(around: Around):
        content = letter("From: dave@other.example")
        _, judgement = await delivered(around, content, "dave@other.example")
        assert [s["domain"] for s in judgement["dkim"]] == ["nrt1.rp.oracleemaildelivery.com"]
        assert judgement["dmarc"] == {"result": "fail", "policy": "none", "domain": "other.example"}

    play(scene)


def test_a_hard_bounce_suppresses_the_recipient(play):
    async def scene(around: Around):
        await around.submit(LETTER, "alice@hoge.example", "Unknown1@mailbox.example")
        [bounce] = await until(lambda: list(around.relay.seen.bounces))
        assert (bounce.bounce, bounce.reply) == (
            "hard",
            "550 5.1.1 Unknown1@mailbox.example: no such user here",
        )
        entry = around.relay.state.suppressions["unknown1@mailbox.example"]
        assert (entry.reason, entry.message_id) == ("HARDBOUNCE", "1@mx.hoge.example")
        [(_, answer)] = await around.submit(LETTER, "alice@hoge.example", "unknown1@mailbox.example")
        assert answer.code == 250

    play(scene)


def test_a_busy_mailbox_is_tried_again_and_a_dead_one_bounces_softly(play, dns):
    dns.host("dead.mailbox2.example", "127.0.2.99")
    dns.add("mailbox2.example", "MX", "10 dead.mailbox2.example.")

    async def scene(around: Around):
        await around.submit(LETTER, "alice@hoge.example", "busy@mailbox.example", "a@mailbox2.example")
        await until(lambda: around.relay.seen.relayed and around.relay.seen.bounces)
        assert around.relay.seen.relayed[0].tries == 3
        [bounce] = around.relay.seen.bounces
        assert (bounce.bounce, bounce.tries) == ("soft", 5)
        assert not around.relay.state.suppressions

    play(scene)


def test_it_takes_300_messages_over_20_connections_in_a_few_seconds(play):
    async def scene(around: Around):
        async def one(number: int):
            client = await around.authenticated()
            for _ in range(15):
                [(_, answer)] = await client.send(
                    "alice@hoge.example", [f"u{number}@mailbox.example"], LETTER
                )
                assert answer.code == 250
            await client.quit()

        started = time.monotonic()
        await asyncio.gather(*(one(number) for number in range(20)))
        accepted = time.monotonic() - started
        await until(lambda: len(around.relay.seen.relayed) == 300, 30)
        print(f"accepted in {accepted:.1f} s, arrived in {time.monotonic() - started:.1f} s")
        assert len(list((around.folder / "inbox").glob("*.json"))) == 300

    play(scene)
