# Held against checkdmarc and dkimpy, which nobody here wrote: on every broken zone of the matrix, what they call
# invalid has to be a failure here, and the other way round. Where they disagree, docs/check-others.md says why.

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dkim
import dns.exception
import dns.message
import dns.resolver
import pytest
from broken_zones import MUTATIONS
from checkdmarc.dmarc import check_dmarc
from checkdmarc.spf import check_spf
from checkdmarc.utils import DNS_CACHE
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from internet_for_checks import DOMAIN, RESOLVER, SELECTOR, Place, private_key, rules
from other_opinions import different

from todoku.check.finding import Verdict
from todoku.check.means import Dns, Unanswered


@contextmanager
def name_server(place: Place) -> Iterator[dns.resolver.Resolver]:
    """The small internet on a UDP port, for those who bring their own resolver."""
    place.lookups()

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, endpoint = self.request
            query = dns.message.from_wire(data)
            try:
                reply = place.internet.send(query, RESOLVER, 53, 1.0)
            except dns.exception.DNSException:
                return
            endpoint.sendto(reply.to_wire(), self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], server.server_address[1]
        yield resolver
        server.shutdown()


def theirs(kind: str, place: Place) -> dict[str, Any]:
    DNS_CACHE.clear()
    with name_server(place) as resolver:
        ask = check_spf if kind == "spf" else check_dmarc
        return dict(ask(DOMAIN, resolver=resolver, timeout=1.0))


def _cases(kind: str) -> list[str]:
    return [name for name in MUTATIONS if name.startswith(kind)]


@pytest.mark.parametrize("name", _cases("spf"))
def test_checkdmarc_agrees_about_spf(name: str) -> None:
    _compare("spf", name)


@pytest.mark.parametrize("name", _cases("dmarc"))
def test_checkdmarc_agrees_about_dmarc(name: str) -> None:
    _compare("dmarc", name)


def _compare(kind: str, name: str) -> None:
    explained = different("checkdmarc")
    place = Place()
    MUTATIONS[name][0](place)
    said = theirs(kind, place)
    ours = {rule for rule in rules(place.seen_from_outside(), Verdict.FAIL) if rule.startswith(f"{kind}.")}
    agreed = bool(ours) is (not said["valid"])
    assert agreed is (name not in explained), (
        ours,
        said.get("error"),
        said.get("warnings"),
        explained.get(name),
    )


# --- dkimpy: a letter that is signed, and the record of its key ------------------------------------------------------

NOT_SIGNED = ("dkim of 512 bits", "dkim with Ed25519 alone")  # nothing here signs with such a key


def verified(place: Place, bits: int) -> bool:
    """Whether dkimpy verifies a letter that was signed with the key of the zone in order."""
    raw = b"From: a@hoge.example\r\nTo: c@mailbox.example\r\nSubject: x\r\n\r\ntext\r\n"
    key = private_key(bits).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    signature = dkim.sign(raw, SELECTOR.encode(), DOMAIN.encode(), key)
    zones = Dns(place.lookups())

    def lookup(name: bytes, timeout: float = 0) -> bytes | None:
        # As dkimpy's own: the first record, and nothing where there is no answer.
        try:
            values = zones.values(name.decode().rstrip("."), "TXT")
        except Unanswered:
            return None
        return values[0].encode() if values else None

    return bool(dkim.verify(signature + raw, dnsfunc=lookup))


@pytest.mark.parametrize("name", [name for name in _cases("dkim") if name not in NOT_SIGNED])
def test_dkimpy_agrees_about_dkim(name: str) -> None:
    explained = different("dkimpy")
    place = Place()
    MUTATIONS[name][0](place)
    ours = {rule for rule in rules(place.seen_from_outside(), Verdict.FAIL) if rule.startswith("dkim.")}
    agreed = bool(ours) is not verified(place, 1024 if "1024" in name else 2048)
    assert agreed is (name not in explained), (ours, explained.get(name))


def test_dkimpy_verifies_with_the_zone_in_order() -> None:
    assert verified(Place(), 2048)
    assert set(different("dkimpy")) <= set(_cases("dkim"))


@pytest.mark.parametrize("kind", ["spf", "dmarc"])
def test_checkdmarc_calls_the_zone_in_order_valid(kind: str) -> None:
    said = theirs(kind, Place())
    assert said["valid"] is True, said


def test_what_differs_is_in_the_matrix() -> None:
    assert different("checkdmarc")
    assert set(different("checkdmarc")) <= {*_cases("spf"), *_cases("dmarc")}
