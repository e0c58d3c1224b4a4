"""People write names, addresses and sizes in several ways: each is understood as meant, or refused with what
to write instead."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from todoku.settings import values


def refusal(function: Any, value: Any) -> str:
    with pytest.raises(PydanticCustomError) as caught:
        function(value)
    assert caught.value.context is not None
    return f"{caught.value.message()} | {caught.value.context['fix']}"


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("hoge.example", "hoge.example"),
        ("HOGE.Example", "hoge.example"),
        ("hoge.example.", "hoge.example"),
        ("ほげ.example", "xn--18j4d.example"),
        ("xn--18j4d.example", "xn--18j4d.example"),
        ("XN--18J4D.example", "xn--18j4d.example"),
        ("ほげ。example", "xn--18j4d.example"),  # the ideographic full stop of a Japanese keyboard
        ("ｈｏｇｅ．example", "hoge.example"),  # full-width letters
        ("日本語.jp", "xn--wgv71a119e.jp"),
        ("faß.example", "xn--fa-hia.example"),  # IDNA2008, not 2003, where it would be fass
    ],
)
def test_a_domain_name_is_understood_in_either_form(written: str, stored: str) -> None:
    assert values.domain_name(written) == stored


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("localhost", 'not fully qualified | write the whole name: "localhost.hoge.example"'),
        ("mail.localdomain", "do not exist in the public DNS"),
        ("203.0.113.10", "an address and not a name"),
        ("alice@hoge.example", 'a domain name alone | write "hoge.example"'),
        ("https://hoge.example/mail", 'a domain name alone | write "hoge.example"'),
        (" hoge.example", 'write "hoge.example"'),
        ("hoge..example", "not a valid domain name"),
        ("ho_ge.example", "not a valid domain name"),
        ("-hoge.example", "not a valid domain name"),
        ("💌.example", "not a valid domain name"),
        ("xn--zzzzzzzzz.example", "not a valid domain name"),
        ("a" * 64 + ".example", "not a valid domain name"),
        (".".join(["abcdefgh"] * 40), "not a valid domain name"),
        ("", "not a domain name"),
        (5, "is the number 5, but has to be a text"),
        (True, "is true, but has to be a text"),
    ],
)
def test_what_is_no_public_domain_name_is_refused(written: Any, words: str) -> None:
    assert words in refusal(values.domain_name, written)


def test_a_mail_address_is_stored_in_lower_case_with_a_labels() -> None:
    assert values.mail_address("Alice.Smith+x@ほげ.Example") == "alice.smith+x@xn--18j4d.example"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("alice", 'write it as "alice@hoge.example"'),
        ("mailto:alice@hoge.example", 'write it as "alice@hoge.example"'),
        ("Alice <alice@hoge.example>", 'write it as "alice@hoge.example"'),
        ("@hoge.example", "before the @ cannot be used"),
        ("ア@hoge.example", "before the @ cannot be used"),
        ("a..b@hoge.example", "before the @ cannot be used"),
        ("a%b@hoge.example", "before the @ cannot be used"),
        ("a!b@hoge.example", "before the @ cannot be used"),
        ("a|b@hoge.example", "before the @ cannot be used"),
        ("a/../b@hoge.example", "before the @ cannot be used"),
        ("-f@hoge.example", "before the @ cannot be used"),
        ('"a b"@hoge.example', "before the @ cannot be used"),
        ("a@b@hoge.example", "before the @ cannot be used"),
        ("a" * 65 + "@hoge.example", "before the @ cannot be used"),
        ("alice@localhost", "not fully qualified"),
        ("alice\n@hoge.example", "before the @ cannot be used"),
    ],
)
def test_what_is_no_usable_mail_address_is_refused(written: str, words: str) -> None:
    assert words in refusal(values.mail_address, written)


def test_addresses_of_both_families_private_and_loopback_are_taken() -> None:
    assert values.ip("203.0.113.10") == IPv4Address("203.0.113.10")
    assert values.ip("2001:DB8::1") == IPv6Address("2001:db8::1")
    assert values.ip("10.0.0.5") == IPv4Address("10.0.0.5")  # OCI translates public addresses
    assert values.ip("127.0.0.1") == IPv4Address("127.0.0.1")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("0.0.0.0", "no machine can have"),
        ("::", "no machine can have"),
        ("224.0.0.1", "no machine can have"),
        ("ff02::1", "no machine can have"),
        ("255.255.255.255", "no machine can have"),
        ("fe80::1%eth0", 'with a zone | write "fe80::1"'),
        ("::ffff:203.0.113.10", 'write "203.0.113.10"'),
        ("203.0.113", "not an IP address"),
        ("203.0.113.010", "not an IP address"),
        ("mx.hoge.example", "not an IP address"),
        (3405803786, "has to be a text"),
    ],
)
def test_addresses_that_no_server_can_have_are_refused(written: Any, words: str) -> None:
    assert words in refusal(values.ip, written)


@pytest.mark.parametrize("world", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "2000::/3"])
def test_clients_cannot_be_the_whole_world(world: str) -> None:
    assert "large part of the internet" in refusal(values.client_network, world)


def test_a_client_network_with_host_bits_is_refused_with_both_corrections() -> None:
    words = refusal(values.client_network, "192.168.1.5/24")
    assert '"192.168.1.0/24" for the network' in words
    assert '"192.168.1.5" for that one machine' in words


def test_a_device_is_an_address_or_a_small_network() -> None:
    assert values.device_address("192.168.0.20") == IPv4Address("192.168.0.20")
    assert values.device_address("192.168.0.20/32") == IPv4Address("192.168.0.20")
    assert values.device_address("192.168.0.20/24") == IPv4Network("192.168.0.0/24")
    assert values.device_address("2001:db8::1/64") == IPv6Network("2001:db8::/64")
    assert "too wide" in refusal(values.device_address, "10.0.0.0/8")
    assert "too wide" in refusal(values.device_address, "0.0.0.0/0")
    assert "no address or network" in refusal(values.device_address, "printer/24")


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (2_000_000, 2_000_000),
        ("2 MB", 2_000_000),
        ("2MB", 2_000_000),
        ("2 mb", 2_000_000),
        ("2 MiB", 2_097_152),
        ("1.5 GB", 1_500_000_000),
        ("500 kB", 500_000),
        ("12345 bytes", 12345),
        ("0.1 GB", 100_000_000),
        (0, 0),
    ],
)
def test_a_size_is_a_number_or_has_a_unit(written: Any, size: int) -> None:
    assert values.size(written) == size
    assert values.size(values.size_text(size)) == size


@pytest.mark.parametrize(
    "written", ["2", "2 M", "big", "-1 MB", -1, 2.5, True, "1e9 MB", "9999999999999 TB", "2 MB 3", []]
)
def test_what_is_no_size_is_refused(written: Any) -> None:
    assert 'a text like "25 MB"' in refusal(values.size, written)


@pytest.mark.parametrize("written", ["secrets/relay", "~/relay", "", "/etc/", "/a\nb", "/a\0b"])
def test_a_path_has_to_be_whole(written: str) -> None:
    assert "the whole path of a file" in refusal(values.absolute_path, written)
