"""The scenario: what every rehearsal shows. Mail goes out from a mail program in the office and from the host
itself and is judged by the receiving provider; mail comes in from outside and is read; and what must be refused is
refused, each in its own words."""

from __future__ import annotations

import imaplib
import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from todoku.rehearsal.internet import network
from todoku.rehearsal.internet import plan as internet_plan
from todoku.rehearsal.internet.plan import STATE
from todoku.rehearsal.smtp.dialogue import Dialogue, Reply
from todoku.rehearsal.verdict import Expectation, Judgement, Outcome, passes
from todoku.rehearsal.world import Account, World

ARRIVAL = 20.0  # seconds until a message has to have arrived
_SUBJECT = "届きましたか：ご注文の確認"
_BODY = "本日はご注文ありがとうございます。\n商品は明日お届けします。\n"


def play(world: World) -> Outcome:
    """Play all of it; an expectation that cannot even be tried is one that did not hold."""
    expectations: list[Expectation] = []
    for name, attempt in _attempts(world):
        try:
            expectations.append(attempt())
        except (OSError, subprocess.SubprocessError, imaplib.IMAP4.error, ValueError) as error:
            expectations.append(Expectation(name, False, f"{type(error).__name__}: {error}"))
    return Outcome(tuple(expectations), tuple(judgements()), time.monotonic() - world.started)


def judgements() -> list[Judgement]:
    """What the receiving provider wrote about each message, in the order of arrival."""
    files = sorted((STATE / "inbox").glob("*.json"), key=lambda path: int(path.stem))
    return [json.loads(path.read_text()) for path in files]


def _attempts(world: World) -> Iterator[tuple[str, Callable[[], Expectation]]]:
    yield _NOTHING_LEFT, lambda: _nothing_is_left_to_do(world)
    yield "s-nail in the office submits over 587 with STARTTLS and a password", lambda: _office_sends(world)
    yield "mailx on the server sends plain text", lambda: _server_sends(world)
    yield "the provider received both messages", lambda: _both_arrived(world)
    for check, name in _JUDGEMENTS:
        yield name, lambda check=check, name=name: _judged(name, check)  # type: ignore[misc]
    yield "a Japanese subject and body arrive as they were written", lambda: _japanese_arrived()
    for family, server in (("IPv4", world.server), ("IPv6", world.server6)):
        if server:
            yield (
                f"mail from outside arrives over {family} and is read over IMAPS",
                lambda family=family, server=server: _mail_comes_in(world, family, server),  # type: ignore[misc]
            )
    for name, refusal in _refusals(world):
        yield name, lambda name=name, refusal=refusal: _refused(name, refusal)  # type: ignore[misc]


_NOTHING_LEFT = "after todoku apply nothing is left to do"


def _nothing_is_left_to_do(world: World) -> Expectation:
    done = subprocess.run(
        ["todoku", "plan", "--check", "--json"],
        capture_output=True,
        text=True,
        env=world.environment,
        timeout=60,
        check=False,
    )
    plan = json.loads(done.stdout)
    waiting = [step["id"] for step in plan["steps"] if step["waits"]]
    summary = plan["summary"]
    seen = f"{summary['unchanged']} resources unchanged"
    if done.returncode != 0 or waiting:
        seen = ", ".join(f"{count} {kind}" for kind, count in summary.items() if count)
    began = "empty tenancy and zone: " if world.settings.cloud else ""
    return Expectation(_NOTHING_LEFT, done.returncode == 0 and not waiting, began + seen)


# --- out -----------------------------------------------------------------------------------------------------


def _office_sends(world: World) -> Expectation:
    name = "s-nail in the office submits over 587 with STARTTLS and a password"
    alice = world.accounts[0]
    settings = STATE / "s-nail.rc"
    user, password = (_url_quoted(text) for text in (alice.login, alice.password))
    text = "\n".join(
        [
            "set v15-compat",
            f"set mta=smtp://{user}:{password}@{world.settings.hostname}:587",
            "set smtp-config=-all,ehlo,starttls,plain",
            "set smtp-auth=plain smtp-use-starttls",
            f"set tls-verify=strict tls-ca-file={_trusted(world)} tls-ca-no-defaults",
            f"set from={alice.address} ttycharset=utf-8 sendcharsets=utf-8 sendwait",
        ]
    )
    with os.fdopen(os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
    done = subprocess.run(
        [*network.OFFICE_COMMAND, "s-nail", "-s", _SUBJECT, f"carol@{internet_plan.RECEIVER_DOMAIN}"],
        input=_BODY,
        text=True,
        capture_output=True,
        env=world.environment | {"MAILRC": str(settings), "LC_ALL": "C.UTF-8"},
        timeout=30,
        check=False,
    )
    said = done.stderr.strip().splitlines()
    return Expectation(name, done.returncode == 0, said[-1] if said else "accepted")


def _server_sends(world: World) -> Expectation:
    done = subprocess.run(
        ["mailx", "-s", "plain text from the server", f"carol@{internet_plan.RECEIVER_DOMAIN}"],
        input="The nightly job has ended well.\n",
        text=True,
        capture_output=True,
        env=world.environment,
        timeout=30,
        check=False,
    )
    seen = done.stderr.strip() or f"as {world.settings.host_sender}"
    return Expectation("mailx on the server sends plain text", done.returncode == 0, seen)


def _both_arrived(world: World) -> Expectation:
    deadline = time.monotonic() + ARRIVAL
    while len(judgements()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    arrived = judgements()
    seen = ", ".join(f"From {m['header_from']}" for m in arrived) or f"nothing arrived; {_queue(world)}"
    own = all(world.settings.is_own(m["header_from"]) for m in arrived)
    return Expectation("the provider received both messages", len(arrived) == 2 and own, seen)


def _queue(world: World) -> str:
    listed = subprocess.run(
        ["postqueue", "-p"], capture_output=True, text=True, env=world.environment, check=False
    )
    return "queue: " + " ".join(listed.stdout.split())


def _spf(m: Judgement) -> tuple[bool, str]:
    aligned = " (aligned)" if m["spf"]["aligned"] else ""
    return m["spf"]["result"] == "pass", f"{m['spf']['result']} for {m['spf']['domain']}{aligned}"


def _dkim(m: Judgement) -> tuple[bool, str]:
    signatures = [f"{s['result']} {s['domain']}{' (aligned)' if s['aligned'] else ''}" for s in m["dkim"]]
    return passes("dkim", m), ", ".join(signatures) or "not signed"


def _dmarc(m: Judgement) -> tuple[bool, str]:
    return m["dmarc"]["result"] == "pass", f"{m['dmarc']['result']} for {m['dmarc']['domain']}"


def _tls(m: Judgement) -> tuple[bool, str]:
    return bool(m["tls"]), "yes" if m["tls"] else "no"


def _iprev(m: Judgement) -> tuple[bool, str]:
    return m["iprev"]["result"] == "pass", f"{m['client_ip']} is {m['iprev']['name']}"


_JUDGEMENTS = (
    (_spf, "SPF passes for both"),
    (_dkim, "DKIM passes for both, aligned with From"),
    (_dmarc, "DMARC passes for both"),
    (_tls, "TLS was used to the provider"),
    (_iprev, "the relay's PTR agrees with its name"),
)


def _judged(name: str, check: Callable[[Judgement], tuple[bool, str]]) -> Expectation:
    results = [check(message) for message in judgements()]
    seen = "; ".join(dict.fromkeys(seen for _, seen in results)) or "nothing to judge"
    return Expectation(name, len(results) >= 2 and all(ok for ok, _ in results), seen)


def _japanese_arrived() -> Expectation:
    import email
    import email.policy

    name = "a Japanese subject and body arrive as they were written"
    for path in (STATE / "inbox").glob("*.eml"):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if str(message["Subject"]).strip() == _SUBJECT:
            body = message.get_body(("plain",))
            text = str(body.get_content()) if body else ""
            return Expectation(name, text.split() == _BODY.split(), _SUBJECT)
    return Expectation(name, False, "no message with that subject")


# --- in ------------------------------------------------------------------------------------------------------


def _mail_comes_in(world: World, family: str, server: str) -> Expectation:
    name = f"mail from outside arrives over {family} and is read over IMAPS"
    bob = world.accounts[1]
    source = internet_plan.OUTSIDE if family == "IPv4" else internet_plan.OUTSIDE6
    subject = f"from outside over {family}"
    done = subprocess.run(
        [
            *("python3", "-m", "todoku.rehearsal.outside", "send"),
            *("--from", f"dave@{internet_plan.OUTSIDE_DOMAIN}", "--to", bob.address),
            *("--subject", subject, "--source", str(source), "--server", server),
        ],
        capture_output=True,
        text=True,
        env=world.environment,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        return Expectation(name, False, (done.stdout + done.stderr).strip().splitlines()[-1])
    found = _read_over_imaps(world, bob, subject)
    return Expectation(name, found is not None, found or "not in the INBOX")


def _read_over_imaps(world: World, account: Account, subject: str) -> str | None:
    """The Return-Path of the message with that subject, once it is in the INBOX."""
    deadline = time.monotonic() + ARRIVAL
    with imaplib.IMAP4_SSL(world.settings.hostname, 993, ssl_context=trust(world)) as imap:
        imap.login(account.login, account.password)
        while time.monotonic() < deadline:
            imap.select("INBOX", readonly=True)
            _, found = imap.search(None, "SUBJECT", f'"{subject}"')
            if found and found[0]:
                _, parts = imap.fetch(
                    found[0].split()[-1].decode(), "(BODY.PEEK[HEADER.FIELDS (RETURN-PATH)])"
                )
                headers = parts[0][1] if isinstance(parts[0], tuple) else b""
                return headers.decode().strip()
            time.sleep(0.1)
    return None


# --- what must be refused --------------------------------------------------------------------------------------


def _refusals(world: World) -> Iterator[tuple[str, Callable[[], tuple[bool, Reply]]]]:
    alice, bob = world.accounts[:2]
    outside = f"dave@{internet_plan.OUTSIDE_DOMAIN}"
    carol = f"carol@{internet_plan.RECEIVER_DOMAIN}"

    def relaying() -> tuple[bool, Reply]:
        with _from_outside(world) as smtp:
            smtp.say(f"MAIL FROM:<{outside}>")
            reply = smtp.say(f"RCPT TO:<{carol}>")
            return reply.code // 100 == 5 and "relay" in reply.text.lower(), reply

    def auth_without_tls() -> tuple[bool, Reply]:
        with Dialogue(world.settings.hostname, 587) as smtp:
            greeted = smtp.say("EHLO client.example")
            reply = smtp.auth_plain(alice.login, alice.password)
            return reply.code // 100 == 5 and "AUTH" not in greeted.text, reply

    def forged_envelope() -> tuple[bool, Reply]:
        with submission(world, alice) as smtp:
            reply = smtp.say(f"MAIL FROM:<{bob.address}>")
            return reply.code == 553 and "not owned by user" in reply.text, reply

    def forged_from() -> tuple[bool, Reply]:
        with submission(world, alice) as smtp:
            smtp.say(f"MAIL FROM:<{alice.address}>")
            taken = smtp.say(f"RCPT TO:<{carol}>")
            reply = smtp.message(f"From: {bob.address}\r\nTo: {carol}\r\nSubject: forged\r\n\r\ntext\r\n")
            return taken.code == 250 and reply.code == 550 and bob.address in reply.text, reply

    def unknown_recipient() -> tuple[bool, Reply]:
        with _from_outside(world) as smtp:
            smtp.say(f"MAIL FROM:<{outside}>")
            reply = smtp.say(f"RCPT TO:<nobody-of-that-name@{alice.address.partition('@')[2]}>")
            return reply.code == 550 and "unknown" in reply.text.lower(), reply

    def oversized() -> tuple[bool, Reply]:
        with submission(world, alice) as smtp:
            smtp.say(f"MAIL FROM:<{alice.address}>")
            smtp.say(f"RCPT TO:<{carol}>")
            limit = world.settings.relay.plan.message_size
            text = "0123456789" * 7 + "\r\n"
            reply = smtp.message(f"From: {alice.address}\r\nSubject: large\r\n\r\n{text * (limit // 72 + 1)}")
            return reply.code == 552 and f"{limit:,}" in reply.text, reply

    def bare_line_feeds() -> tuple[bool, Reply]:
        with _from_outside(world) as smtp:
            smtp.say(f"MAIL FROM:<{outside}>")
            smtp.say(f"RCPT TO:<{bob.address}>")
            smuggled = (
                f"Subject: one\r\n\r\ntext\n.\nMAIL FROM:<{alice.address}>\r\nSubject: two\r\n\r\n.\r\n"
            )
            reply = smtp.message(smuggled.encode())
            return reply.code // 100 == 5 and "bare" in reply.text.lower(), reply

    yield "relaying without AUTH is refused", relaying
    yield "AUTH without TLS is refused", auth_without_tls
    yield "a forged envelope sender is refused", forged_envelope
    yield "a forged header From is refused", forged_from
    yield "an unknown local recipient is refused", unknown_recipient
    yield "an oversized message is refused", oversized
    yield "bare line feeds around a dot are refused", bare_line_feeds


def _refused(name: str, attempt: Callable[[], tuple[bool, Reply]]) -> Expectation:
    refused, reply = attempt()
    return Expectation(name, refused, str(reply))


def _from_outside(world: World) -> Dialogue:
    """A greeted connection to port 25 from the outside sender's address."""
    smtp = Dialogue(world.server, 25, source=str(internet_plan.OUTSIDE), hostname=world.settings.hostname)
    smtp.say(f"EHLO {internet_plan.OUTSIDE_HOST}")
    return smtp


def submission(world: World, account: Account) -> Dialogue:
    """An authenticated connection to port 587."""
    smtp = Dialogue(world.settings.hostname, 587)
    smtp.say("EHLO client.example")
    smtp.starttls(trust(world))
    smtp.say("EHLO client.example")
    smtp.auth_plain(account.login, account.password)
    return smtp


def trust(world: World) -> ssl.SSLContext:
    """TLS verified against our server's own certificate, or the world's authorities when it has a real one."""
    return ssl.create_default_context(cafile=str(_trusted(world)))


def _trusted(world: World) -> Path:
    from todoku.host.certificates import certificate, own_authority

    match world.settings.tls.kind:
        case "acme":
            return Path("/etc/ssl/certs/ca-certificates.crt")  # the world's authority is among them
        case "own-ca":
            return Path(own_authority.ROOT)
        case _:
            return Path(certificate.paths(world.settings)[0])


def _url_quoted(text: str) -> str:
    import urllib.parse

    return urllib.parse.quote(text, safe="")
