# Whoever goes live wants to know before others do. A system in order passes; what is broken in it, with real servers
# and a real DNS, is found, by its name and with what to do.

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from clouds import Tenancy
from conftest import World, wait

from todoku.host.services import DOVECOT, POSTFIX
from todoku.rehearsal.internet.pki import Authority

MAIN_CF = Path("/etc/postfix/main.cf")
SELF_SIGNED = {
    ("tls.certificate", "port 465"),
    ("tls.certificate", "port 587"),
    ("tls.certificate", "port 993"),
}


def check(world: World, *what: str) -> dict[str, Any]:
    done = world.todoku("check", *what, "--json")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if told["ok"] else 1), done.stderr
    return told


def found(told: dict[str, Any], *verdicts: str) -> set[tuple[str, str]]:
    return {(each["rule"], each["about"]) for each in told["findings"] if each["verdict"] in verdicts}


def failed(told: dict[str, Any]) -> set[str]:
    return {rule for rule, _ in found(told, "fail")}


@contextmanager
def postfix(world: World, *parameters: str) -> Iterator[None]:
    """Postfix with these parameters, and as it was afterwards."""
    before = MAIN_CF.read_bytes()
    try:
        subprocess.run(["postconf", "-e", *parameters], check=True)
        reload_postfix(world)
        yield
    finally:
        MAIN_CF.write_bytes(before)
        reload_postfix(world)


def reload_postfix(world: World) -> None:
    """Until port 25 answers again. A smtpd(8) that refuses its parameters is not started again for a minute."""
    subprocess.run(["postfix", "reload"], check=True, capture_output=True)
    time.sleep(0.5)  # processes with the old parameters end when they are idle
    with world.port_25():
        pass


def test_a_system_in_order_passes_within_ten_seconds(world: World) -> None:
    messages = world.relay()["seen"]["messages"]
    begun = time.monotonic()
    told = check(world)
    took = time.monotonic() - begun
    assert not found(told, "fail", "unknown"), told
    assert found(told, "warn") == SELF_SIGNED  # as in the settings of the rehearsal
    assert [each["outcome"] for each in told["providers"]] == ["accepted"] * 3
    assert told["counts"]["pass"] > 50
    assert told["seconds"] < 10
    assert took < 12
    # Nothing of it arrives anywhere.
    assert world.relay()["seen"]["messages"] == messages
    assert world.queue() == []
    assert world.count(world.alice, "Todoku looks whether this ends a message") == 0


@pytest.mark.slow  # settings are applied twice
def test_with_a_certificate_that_is_known_everything_passes(
    world: World, settings_file: Path, tmp_path: Path
) -> None:
    bundle = Path(os.environ["SSL_CERT_FILE"])
    before = bundle.read_bytes()
    authority = Authority.create(tmp_path / "authority")
    certificate, key = authority.issue([world.hostname], Path("/etc/todoku/tls"))
    text = settings_file.read_text()
    assert "\n[tls]\n" in text
    settings_file.write_text(
        text.replace("\n[tls]\n", f'\n[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')
    )
    try:
        bundle.write_bytes(before + authority.certificate_path.read_bytes())
        world.apply()
        told = check(world)
    finally:
        bundle.write_bytes(before)
    assert not found(told, "fail", "unknown", "warn"), found(told, "fail", "unknown", "warn")


# --- the DNS -----------------------------------------------------------------------------------------------------


def test_what_is_broken_in_the_dns_is_found_and_nothing_else(world: World) -> None:
    tenancy = Tenancy(world)
    domain = world.domain
    with (
        tenancy.changed(domain, "TXT", '"v=spf1 include:eu.rp.oracleemaildelivery.com ~all"'),
        tenancy.changed(f"_dmarc.{domain}", "TXT", '"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'),
        tenancy.changed(domain, "MX", "10 no-such-host.mailbox.example."),
    ):
        told = check(world)
    assert failed(told) == {"spf.relay", "dmarc.record", "mx.record", "mx.host"}
    wrong_region = next(each for each in told["findings"] if each["rule"] == "spf.relay")
    assert "is for other regions of Oracle's" in wrong_region["seen"]


@pytest.mark.slow  # Oracle's looks are waited for; tests/unit/check/test_check_cloud.py shows the same in memory
def test_a_key_and_a_return_path_that_lead_elsewhere_are_found(world: World) -> None:
    tenancy = Tenancy(world)
    records = [(r.domain, r.rdata) for r in tenancy.records() if r.rtype == "CNAME"]
    (key,) = [name for name, _ in records if "._domainkey." in name]
    (path,) = [name for name, _ in records if ".rp." in name]
    with tenancy.changed(key, "CNAME", "mx.mailbox.example."):
        told = check(world, "dkim")
        # Oracle looks at the record from time to time, and stops signing when it is gone.
        assert failed(told) - {"dkim.active"} == {"dkim.target", "dkim.record"}
        target = next(each for each in told["findings"] if each["rule"] == "dkim.target")
        assert f"Publish {key} CNAME" in target["advice"]
    with tenancy.changed(key, "CNAME", f"{key}."):
        assert "dkim.record" in failed(check(world, "dkim")), "a CNAME that leads to itself"
    wait(lambda: not failed(check(world, "dkim")), "Oracle to sign again")
    with tenancy.changed(path, "CNAME"):
        assert failed(check(world, "return-path")) == {
            "return-path.record",
            "return-path.spf",
            "return-path.bounces",
        }


def test_a_resolver_that_does_not_answer_makes_it_unknown_and_not_slow(world: World) -> None:
    resolv = Path("/etc/resolv.conf")
    before = resolv.read_text()
    resolv.write_text("nameserver 192.0.2.251\n")
    try:
        begun = time.monotonic()
        told = check(world, "spf")
        took = time.monotonic() - begun
    finally:
        resolv.write_text(before)
    assert found(told, "pass", "warn", "fail") == set()
    assert found(told, "unknown") == {("spf.record", world.domain)}
    assert took < 12


def family(master: int) -> list[int]:
    """The master process, then its children."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(master)], capture_output=True, text=True, check=False
    )
    return [master, *map(int, listed.stdout.split())]


@pytest.mark.slow  # it is waited for
def test_whatever_is_dead_the_answer_is_there_within_ten_seconds(world: World) -> None:
    resolv = Path("/etc/resolv.conf")
    before = resolv.read_text()
    servers = [
        each for daemon in (POSTFIX, DOVECOT) for each in family(int(Path(daemon.pid_file).read_text()))
    ]
    world.relay(latency_ms=60_000)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.9", 53))  # it takes every question, and says nothing
            resolv.write_text("nameserver 127.0.0.9\n")
            for server in servers:  # connections are taken by the kernel, and nobody says anything
                os.kill(server, signal.SIGSTOP)
            begun = time.monotonic()
            told = check(world)
            took = time.monotonic() - begun
    finally:
        for server in servers:
            with suppress(ProcessLookupError):
                os.kill(server, signal.SIGCONT)
        resolv.write_text(before)
        world.relay(reset=True)
    assert told["seconds"] < 10
    assert took < 12
    topics = {rule.partition(".")[0] for rule, _ in found(told, "unknown", "fail")}
    assert topics >= {
        "host",
        "addresses",
        "dns",
        "mx",
        "spf",
        "dkim",
        "dmarc",
        "cloud",
        "relay",
        "tls",
        "submission",
    }
    assert {rule.partition(".")[0] for rule, _ in found(told, "pass", "warn")} == {"host"}


@pytest.mark.slow  # the gate is stopped and started
def test_a_service_that_does_not_run_is_the_one_thing_to_do(world: World) -> None:
    subprocess.run(["supervisorctl", "stop", "todoku-gate"], check=True, capture_output=True)
    try:
        told = check(world)
        shown = world.todoku("check", "--only-problems").stdout
    finally:
        subprocess.run(["supervisorctl", "start", "todoku-gate"], check=True, capture_output=True)
        wait(lambda: "inbound.accepted" not in failed(check(world, "submission")), "mail to be taken again")
    standing = [
        each for each in told["findings"] if each["verdict"] in ("fail", "unknown") and not each["because"]
    ]
    assert [(each["rule"], each["about"]) for each in standing] == [("host.services", "todoku-gate")]
    assert "inbound.accepted" in failed(told)
    assert shown.startswith("FAIL    host.services (todoku-gate): todoku-gate does not run")
    assert shown.count("FAIL ") == 1
    assert "UNKNOWN" not in shown


@contextmanager
def black_hole() -> Iterator[None]:
    """Nothing that leaves this machine, or a socket of it, is ever answered, nor refused."""
    tables = ("iptables", "ip6tables")
    rules = [["-p", "tcp", "--syn"], ["-p", "udp", "--dport", "53"], ["!", "-o", "lo"]]
    try:
        for table in tables:
            for rule in rules:
                subprocess.run([table, "-w", "-I", "OUTPUT", *rule, "-j", "DROP"], check=True)
        yield
    finally:
        for table in tables:
            for rule in rules:
                subprocess.run([table, "-w", "-D", "OUTPUT", *rule, "-j", "DROP"], check=False)


@pytest.mark.slow  # it is waited for
@pytest.mark.parametrize("what", [(), ("domain", "outside.example")], ids=["everything", "a domain"])
def test_when_the_network_swallows_everything_the_answer_is_there_within_ten_seconds(
    world: World, what: tuple[str, ...]
) -> None:
    with black_hole():
        begun = time.monotonic()
        told = check(world, *what)
        took = time.monotonic() - begun
    assert told["seconds"] < 10
    assert took < 15  # with the start of Python, on a machine that is busy
    assert not {rule.partition(".")[0] for rule, _ in found(told, "pass", "warn")} - {"host"}
    assert all(each["advice"] for each in told["findings"] if each["verdict"] != "pass")


def test_any_domain_can_be_looked_at_from_outside(world: World) -> None:
    told = check(world, "domain", "outside.example", "--selector", "mail")
    assert not found(told, "fail", "unknown"), told
    nobody = check(world, "domain", "no-such-domain.example")
    assert ("dns.exists", "no-such-domain.example") in found(nobody, "fail")


def test_whether_mail_to_others_goes_within_tls_is_seen_at_their_servers(world: World) -> None:
    for domain, host in (
        ("mailbox.example", "mx.mailbox.example"),
        ("outside.example", "mail.outside.example"),
    ):
        assert ("mx.tls", host) in found(check(world, "domain", domain), "pass")
    messages = world.relay()["seen"]["messages"]
    # A real Postfix: with a certificate that nobody but it has signed, and without any TLS.
    assert _tls_of(world, world.domain) == (
        "warn",
        "its certificate does not convince (self-signed certificate)",
    )
    with postfix(world, "smtpd_tls_security_level=none"):
        assert _tls_of(world, world.domain) == ("warn", "it does not offer STARTTLS")
    assert world.relay()["seen"]["messages"] == messages


def _tls_of(world: World, domain: str) -> tuple[str, str]:
    (each,) = [each for each in check(world, "domain", domain)["findings"] if each["rule"] == "mx.tls"]
    return each["verdict"], each["seen"].partition(": ")[2].partition(";")[0]


# --- our own ports -------------------------------------------------------------------------------------------------


# Postfix itself does not start with `permit` alone there; "my network" is what people write too large.
OPEN_RELAY = ("mynetworks=0.0.0.0/0 [::]/0", "mx_relay_restrictions=permit_mynetworks, reject")
CLEAR_PASSWORDS = (
    "smtpd_sasl_auth_enable=yes",
    "smtpd_tls_auth_only=no",
    "smtpd_sasl_security_options=noanonymous",
)


def lenient_line_ends() -> list[str]:
    """Postfix as it was before CVE-2023-51764, as far as this version can still be told so."""
    known = subprocess.run(["postconf"], capture_output=True, text=True, check=True).stdout
    names = ("smtpd_forbid_bare_newline", "smtpd_forbid_unauth_pipelining", "cleanup_replace_stray_cr_lf")
    return [f"{name}=no" for name in names if re.search(rf"^{name} =", known, re.MULTILINE)]


def test_an_open_relay_passwords_in_the_clear_and_smuggling_are_found(world: World) -> None:
    with postfix(world, *OPEN_RELAY, *CLEAR_PASSWORDS, *lenient_line_ends()):
        with world.port_25() as stranger:  # what the judge has to see is really so
            assert stranger.say("MAIL FROM:<>").code == 250
            assert stranger.say(f"RCPT TO:<{world.dave}>").code == 250
        told = check(world, "submission")
    assert failed(told) == {"submission.relay", "submission.auth", "submission.smuggling"}
    assert told["findings"][0]["rule"] in ("submission.auth", "submission.relay")
    relaying = next(each for each in told["findings"] if each["rule"] == "submission.relay")
    assert relaying["advice"].startswith("Stop the mail server now")


@pytest.mark.slow  # Postfix is reloaded twice; the test above has all of them at once
def test_an_open_relay_alone_is_found(world: World) -> None:
    with postfix(world, *OPEN_RELAY):
        told = check(world, "submission")
    assert failed(told) == {"submission.relay"}


@pytest.mark.slow  # the same
def test_line_ends_that_let_a_second_message_in_are_found(world: World) -> None:
    with postfix(world, *lenient_line_ends()):
        told = check(world, "submission")
    assert failed(told) == {"submission.smuggling"}
    assert ("submission.smuggling", "LF.LF") in found(told, "fail")
    assert ("submission.smuggling", "CR.CRLF") in found(told, "pass")


@pytest.mark.slow  # the same
def test_passwords_in_the_clear_are_found(world: World) -> None:
    with postfix(world, *CLEAR_PASSWORDS):
        told = check(world, "submission")
    assert ("submission.auth", "port 25") in found(told, "fail")
    assert failed(told) == {"submission.auth"}


@pytest.mark.slow  # the same; tests/unit/check/test_check_ports.py has a port without TLS as well
def test_a_port_without_tls_is_found(world: World) -> None:
    with postfix(world, "smtpd_tls_security_level=none"):
        told = check(world, "tls")
    assert found(told, "fail") == {("tls.offered", "port 25")}


@pytest.mark.slow  # Dovecot is started anew twice; tests/unit/check/test_check_ports.py shows the same elsewhere
def test_a_second_imap_port_is_reported(world: World) -> None:
    config = Path("/etc/dovecot/dovecot.conf")
    before = config.read_bytes()
    extra = "\nservice imap-login {\n  inet_listener imap {\n    port = 143\n  }\n}\n"
    try:
        config.write_bytes(before + extra.encode())
        subprocess.run(["supervisorctl", "restart", "todoku-dovecot"], check=True, capture_output=True)
        wait(lambda: world.imap(world.alice), "Dovecot")
        told = check(world, "submission")
    finally:
        config.write_bytes(before)
        subprocess.run(["supervisorctl", "restart", "todoku-dovecot"], check=True, capture_output=True)
    assert found(told, "fail", "warn") == {("submission.imap", "port 143")}


# --- the relay -----------------------------------------------------------------------------------------------------


def test_a_sender_that_the_relay_does_not_take_is_found(world: World) -> None:
    world.relay(senders=["somebody@else.example"])
    told = check(world, "cloud")
    assert failed(told) == {"relay.sender"}
    assert "535" in next(each["seen"] for each in told["findings"] if each["rule"] == "relay.sender")


def test_a_plan_beyond_oracles_limits_and_a_forward_to_somebody_suppressed_are_found(world: World) -> None:
    assert world.todoku("alias", "add", f"sales@{world.domain}", "gone@mailbox.example").returncode == 0
    world.relay(limits={"per_day": 1000})
    world.relay(suppress=["gone@mailbox.example", "somebody@else.example"])
    try:
        told = check(world, "cloud")
    finally:
        world.todoku("alias", "remove", f"sales@{world.domain}")
    assert failed(told) == {"cloud.suppressions"}
    assert found(told, "warn") == {("cloud.quota", world.described["relay"]["region"])}
    (lost,) = [each for each in told["findings"] if each["verdict"] == "fail"]
    assert lost["seen"].startswith(
        f"mail that sales@{world.domain} forwards to gone@mailbox.example is not sent"
    )
    assert "todoku suppression lift" in lost["advice"]


def test_a_relay_that_is_down_is_found(world: World) -> None:
    world.relay(down=True)
    assert failed(check(world, "cloud")) == {"relay.login"}


@pytest.mark.slow  # it is waited for; tests/unit/check/test_check_cloud.py shows the same in memory
def test_a_cloud_that_fails_makes_it_unknown(world: World) -> None:
    world.relay(rest={"status": 500, "operation": "*", "count": 200})
    told = check(world, "dkim")
    assert found(told, "unknown") == {("dkim.active", world.domain)}


# --- one message ---------------------------------------------------------------------------------------------------


def test_a_message_that_arrived_at_a_provider_is_one_that_it_takes(world: World, tmp_path: Path) -> None:
    world.submit(world.alice, world.carol, "one to be looked at")
    file = tmp_path / "arrived.eml"
    file.write_bytes(world.wait_for("one to be looked at").raw)
    told = check(world, "message", str(file), "--no-bulk")
    assert not found(told, "fail", "warn"), told


def test_what_a_provider_wrote_into_a_probe_is_explained(world: World, tmp_path: Path) -> None:
    sent = world.todoku("check", "send", world.carol, "--json")
    assert sent.returncode == 0, sent.stderr
    message_id = json.loads(sent.stdout)["message_id"]
    subject = f"Does it arrive? ({message_id.partition('.')[2].partition('@')[0]})"
    arrived = world.wait_for(subject)
    # The provider of the rehearsal keeps its judgement beside the message; a real one writes it into the head.
    judged = arrived.judged
    signatures = "; ".join(f"dkim={s['result']} header.d={s['domain']}" for s in judged["dkim"])
    results = f"spf={judged['spf']['result']} smtp.mailfrom={judged['spf']['domain']}; {signatures}; dmarc={judged['dmarc']['result']} header.from={judged['dmarc']['domain']}"  # noqa: E501
    file = tmp_path / "arrived.eml"
    file.write_bytes(f"Authentication-Results: mx.mailbox.example; {results}\r\n".encode() + arrived.raw)
    told = check(world, "send", "--received", str(file))
    assert not found(told, "fail", "unknown"), told
    assert {"received.spf", "received.dkim", "received.dmarc"} <= {rule for rule, _ in found(told, "pass")}


def test_a_probe_is_fetched_over_imap(world: World, tmp_path: Path) -> None:
    bundle = tmp_path / "trusted.pem"
    shutil.copy(os.environ["SSL_CERT_FILE"], bundle)
    with bundle.open("ab") as file:
        file.write(Path("/etc/todoku/tls/self-signed.pem").read_bytes())
    done = subprocess.run(
        ["todoku", "check", "send", world.bob.address, "--imap", world.hostname, "--wait", "30", "--json"],
        input=f"{world.bob.password}\n", capture_output=True, text=True, timeout=90, check=False,
        env={**os.environ, "SSL_CERT_FILE": str(bundle)},
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert ("received.folder", "") in found(told, "pass"), done.stdout + done.stderr
    # It went from one mailbox here to another one here, not through the relay.
    assert "received.relay" in failed(told)
    assert world.bob.password not in done.stdout + done.stderr


def test_a_wrong_password_at_the_provider_is_said(world: World) -> None:
    done = world.todoku("check", "send", world.bob.address, "--imap", "127.0.0.1", stdin="wrong\n")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "wrong" not in done.stdout
