# A policy that was forgotten when the mail host moved: Gmail and Outlook keep to it, and deliver nothing.

from __future__ import annotations

import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from internet_for_checks import DOMAIN, HOST, Place, rules

from todoku.check import inbound_tls
from todoku.check.finding import Finding, Verdict
from todoku.check.inbound_tls import Unusable
from todoku.check.means import Dns, Means
from todoku.rehearsal.internet.pki import Authority

NAME = f"mta-sts.{DOMAIN}"
GOOD = f"version: STSv1\r\nmode: enforce\r\nmx: {HOST}\r\nmax_age: 604800\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("pki"))


@contextmanager
def web_server(
    authority: Authority, folder: Path, policy: str, status: int = 200, name: str = NAME
) -> Iterator[Means]:
    """The web server that has the policy, and what the judge looks with."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = status if self.path == "/.well-known/mta-sts.txt" else 404
            self.send_response(found)
            if found == 301:
                self.send_header("Location", f"https://{NAME}/other")
            self.end_headers()
            self.wfile.write(policy.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    certificate, key = authority.issue([name], folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    place = Place()
    place.ours[f"_mta-sts.{DOMAIN}", "TXT"] = ['"v=STSv1; id=20261124;"']

    def connect(host: str, port: int, timeout: float) -> socket.socket:
        assert (host, port) == (NAME, 443)
        return socket.create_connection(server.server_address[:2], timeout)

    yield Means(
        Dns(place.lookups()),
        connect=connect,
        trust=lambda: ssl.create_default_context(cafile=str(authority.certificate_path)),
    )
    server.shutdown()
    server.server_close()


def look(means: Means) -> Finding:
    (found,) = inbound_tls.mta_sts(DOMAIN, means)
    return found


@pytest.mark.parametrize(
    ("policy", "verdict", "words"),
    [
        (GOOD, Verdict.PASS, "says enforce and has all MX hosts"),
        (GOOD.replace(HOST, f"*.{DOMAIN}"), Verdict.PASS, "has all MX hosts"),
        (GOOD.replace(HOST, HOST.upper()), Verdict.PASS, "has all MX hosts"),
        (GOOD.replace("\r\n", "\n"), Verdict.PASS, "has all MX hosts"),
        ("version: STSv1\nmode: none\nmax_age: 86400\n", Verdict.PASS, "says none"),
        (GOOD.replace(HOST, "old.hoge.example"), Verdict.FAIL, f"does not have the MX host {HOST}"),
        (GOOD.replace(HOST, "*.example"), Verdict.FAIL, f"does not have the MX host {HOST}"),
        (GOOD.replace(HOST, "old.hoge.example").replace("enforce", "testing"), Verdict.WARN, "says testing"),
        (GOOD.replace("STSv1", "STSv2"), Verdict.WARN, "does not say version: STSv1"),
        (GOOD.replace("enforce", "strict"), Verdict.WARN, "is none of enforce, testing, none"),
        (GOOD.replace("604800", "a week"), Verdict.WARN, "is no number of seconds"),
        (GOOD.replace("604800", "99999999"), Verdict.WARN, "is no number of seconds"),
        (GOOD.replace(f"mx: {HOST}\r\n", ""), Verdict.WARN, "names no MX host"),
        (GOOD + "<html>", Verdict.WARN, "is no NAME: VALUE"),
        (GOOD + "x: " + "y" * 70_000, Verdict.WARN, "larger than 64 KiB"),
    ],
)
def test_a_policy_is_held_against_the_mx_hosts(
    authority: Authority, tmp_path: Path, policy: str, verdict: Verdict, words: str
) -> None:
    with web_server(authority, tmp_path, policy) as means:
        found = look(means)
    assert found.verdict is verdict, found
    assert words in found.seen


@pytest.mark.parametrize(("status", "words"), [(404, "answered by 404"), (301, "answered by 301")])
def test_a_policy_that_is_elsewhere_is_none(
    authority: Authority, tmp_path: Path, status: int, words: str
) -> None:
    with web_server(authority, tmp_path, GOOD, status) as means:
        found = look(means)
    assert found.verdict is Verdict.WARN
    assert words in found.seen


def test_a_certificate_for_another_name_makes_it_none(authority: Authority, tmp_path: Path) -> None:
    with web_server(authority, tmp_path, GOOD, name=f"www.{DOMAIN}") as means:
        found = look(means)
    assert found.verdict is Verdict.WARN
    assert "certificate" in found.seen


def test_a_web_server_that_is_not_there_makes_it_none() -> None:
    place = Place()
    place.ours[f"_mta-sts.{DOMAIN}", "TXT"] = ['"v=STSv1; id=1"']

    def connect(host: str, port: int, timeout: float) -> socket.socket:
        raise ConnectionRefusedError("nobody is there")

    found = look(Means(Dns(place.lookups()), connect=connect))
    assert found.verdict is Verdict.WARN
    assert "nobody is there" in found.seen


def test_without_a_record_nobody_is_asked() -> None:
    found = Place().seen_by_us(("mx",))
    assert {"mta-sts.policy", "tls-rpt.record"} <= rules(found, Verdict.PASS)


@given(st.text(max_size=300))
def test_no_policy_makes_the_judge_fail(text: str) -> None:
    try:
        inbound_tls.read("version: STSv1\nmode: none\nmax_age: 1\n" + text)
    except Unusable as problem:
        assert str(problem)
