# Mail to others goes in the clear where their server offers no TLS, and not at all where they promised what it does not
# keep. `todoku check domain` looks at their servers, sends nothing, and is not fooled by what they say.

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dns.flags
import dns.message
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from internet_for_checks import DOMAIN, HOST, Place
from test_check_ports import WORLD, Faults, Server

from todoku.check import inbound_tls, mx_tls
from todoku.check.finding import Finding, Verdict
from todoku.check.inbound_tls import Policy
from todoku.check.means import Dns, Means
from todoku.dns.lookups import Lookups


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no finding."""
    monkeypatch.setattr(mx_tls, "_SECONDS", 60.0)
    monkeypatch.setattr(mx_tls, "_ALL_SECONDS", 120.0)


@contextmanager
def server(faults: Faults, folder: Path, *, trusted: bool = True) -> Iterator[tuple[Means, Server, Place]]:
    """The only MX host of the domain, and what the judge looks with."""
    with Server(WORLD, faults, folder) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()

        def connect(_host: str, port: int, timeout: float) -> socket.socket:
            assert port == 25
            return socket.create_connection(found.server_address[:2], timeout)

        def trust() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=str(found.certificate) if trusted else None)

        place = Place()
        yield Means(Dns(place.lookups()), connect=connect, trust=trust), found, place
        found.shutdown()


def look(means: Means) -> Finding:
    (finding,) = mx_tls.look(DOMAIN, means)
    return finding


def enforcing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The domain has an MTA-STS policy; how it is fetched is tested with that."""
    monkeypatch.setattr(inbound_tls, "policy", lambda *_: Policy("enforce", (HOST,), 86400))


def test_a_host_in_order_passes_and_gets_no_mail(tmp_path: Path) -> None:
    with server(Faults(), tmp_path) as (means, _, _place):
        found = look(means)
    assert (found.verdict, found.about) == (Verdict.PASS, HOST)
    assert "STARTTLS, TLSv1." in found.seen


MISTAKES = [
    (Faults(starttls=False), True, "does not offer STARTTLS"),
    (Faults(days=-1), True, "expired"),
    (Faults(name="other.hoge.example"), True, "mismatch"),
    (Faults(), False, "self-signed"),
    (Faults(most=ssl.TLSVersion.TLSv1, least=ssl.TLSVersion.TLSv1), True, "TLS does not come about"),
]


@pytest.mark.parametrize(("faults", "trusted", "words"), MISTAKES)
def test_a_mistake_is_a_warning_and_a_failure_where_more_was_promised(
    faults: Faults, trusted: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(faults, tmp_path, trusted=trusted) as (means, _, _place):
        found = look(means)
        enforcing(monkeypatch)
        promised = look(means)
    assert found.verdict is Verdict.WARN, found
    assert words in found.seen
    assert promised.verdict is Verdict.FAIL, promised
    assert "delivers nothing" in promised.seen


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    with server(Faults(days=5), tmp_path) as (means, _, _place):
        found = look(means)
    assert (found.verdict, found.advice) == (Verdict.WARN, "Renew it")


def tlsa(certificate: Path, selector: int, kind: int) -> str:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    key = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    octets = key if selector else found.public_bytes(Encoding.DER)
    coded = octets if not kind else hashlib.new({1: "sha256", 2: "sha512"}[kind], octets).digest()
    return f"3 {selector} {kind} {coded.hex()}"


def asking(place: Place, means: Means) -> Means:
    """With what the zone says now."""
    place.internet.zones.clear()
    return replace(means, dns=Dns(place.lookups()))


def validating(means: Means) -> Means:
    """With a resolver that says AD to everything."""
    ask = means.dns.lookups

    def send(query: dns.message.Message, address: str, port: int, timeout: float) -> dns.message.Message:
        reply = ask.send(query, address, port, timeout)
        reply.flags |= dns.flags.AD
        return reply

    return replace(means, dns=Dns(Lookups(ask.resolvers, send=send, timeout=ask.timeout)))


@pytest.mark.parametrize(("selector", "kind"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
def test_dane_is_enough_without_an_authority(selector: int, kind: int, tmp_path: Path) -> None:
    with server(Faults(days=-1, name="other.example"), tmp_path, trusted=False) as (means, there, place):
        place.ours[f"_25._tcp.{HOST}", "TLSA"] = [tlsa(there.certificate, selector, kind)]
        found = look(validating(asking(place, means)))
        place.ours[f"_25._tcp.{HOST}", "TLSA"] = [f"3 {selector} {kind} {'ab' * (64 if kind == 2 else 32)}"]
        other = look(validating(asking(place, means)))
        unsigned = look(asking(place, means))
    assert (found.verdict, "as its TLSA record says" in found.seen) == (Verdict.PASS, True), found
    assert (other.verdict, "is not about its certificate" in other.seen) == (Verdict.FAIL, True), other
    assert unsigned.verdict is Verdict.WARN


def test_a_network_that_lets_nobody_out_is_one_thing_that_is_not_known() -> None:
    place = Place()
    place.ours[DOMAIN, "MX"] = [f"{number} mx{number}.{DOMAIN}." for number in (10, 20, 30, 40, 50)]
    place.ours |= {(f"mx{number}.{DOMAIN}", "A"): ["203.0.113.7"] for number in (10, 20, 30, 40, 50)}
    tried = []

    def connect(host: str, port: int, _timeout: float) -> socket.socket:
        tried.append((host, port))
        raise TimeoutError("timed out")

    found = look(Means(Dns(place.lookups()), connect=connect))
    assert (found.verdict, found.about) == (Verdict.UNKNOWN, DOMAIN)
    assert tried == [("203.0.113.7", 25)] * 3  # a few of the five


def test_one_host_that_never_ends_does_not_keep_the_others_findings(tmp_path: Path) -> None:
    done = threading.Event()
    with server(Faults(), tmp_path) as (means, _, place):
        place.ours[DOMAIN, "MX"] = [f"10 {HOST}.", f"20 slow.{DOMAIN}."]
        place.ours[f"slow.{DOMAIN}", "A"] = ["203.0.113.99"]
        asked = asking(place, means)

        def connect(host: str, port: int, timeout: float) -> socket.socket:
            if host == "203.0.113.99":
                done.wait(60)
                raise TimeoutError("timed out")
            return means.connect(host, port, timeout)

        # When it begins, while it waits for the first answer, and when that is there.
        clock = iter([0.0, 0.0, 1000.0])
        asked = replace(asked, connect=connect, monotonic=lambda: next(clock))
        found = {each.about: each for each in mx_tls.look(DOMAIN, asked)}
        done.set()
    assert found[f"slow.{DOMAIN}"].verdict is Verdict.UNKNOWN
    assert "no answer within 120 s" in found[f"slow.{DOMAIN}"].seen
    assert found[HOST].verdict is Verdict.PASS


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254"])
def test_nobodys_mx_record_has_us_connect_within_our_own_network(address: str) -> None:
    place = Place()
    place.ours[HOST, "A"] = [address]

    def connect(host: str, _port: int, _timeout: float) -> socket.socket:
        raise AssertionError(f"connected to {host}")

    assert look(Means(Dns(place.lookups()), connect=connect)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "faults",
    [
        Faults(garbled=True),
        Faults(greeting=b"554 5.7.1 go away"),
        Faults(greeting=b"220-" + b"x" * 200_000),
        Faults(greeting=b"220-more\r\n" * 1000),
        Faults(greeting=b"\xff\x00\r\n"),
    ],
    ids=["no reply", "refused", "one line", "many lines", "no text"],
)
def test_a_hostile_greeting_is_bounded_and_not_our_fault(faults: Faults, tmp_path: Path) -> None:
    with server(faults, tmp_path) as (means, _, _place):
        found = look(means)
    assert found.verdict is Verdict.UNKNOWN, found
    assert len(found.seen) < 400


def test_a_domain_that_takes_no_mail_is_left_alone() -> None:
    place = Place()
    place.ours[DOMAIN, "MX"] = ["0 ."]
    assert list(mx_tls.look(DOMAIN, Means(Dns(place.lookups())))) == []
