# An address has exactly one form in the directory, whichever way it is typed; what cannot work is refused
# with the reason.

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.directory import addresses
from todoku.directory.errors import AddressRefusedError, DirectoryError, UnknownDomainError
from todoku.settings import parse

SETTINGS = parse(
    """
    hostname = "mx.host.example"
    addresses = "203.0.113.10"
    postmaster = "alice@hoge.example"
    [[domains]]
    name = "hoge.example"
    [[domains]]
    name = "日本.example"
    [relay]
    region = "ap-tokyo-1"
    """,
    "todoku.toml",
)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("alice@hoge.example", "alice@hoge.example"),
        ("Alice.Smith@HOGE.Example", "alice.smith@hoge.example"),
        ("taro@日本.example", "taro@xn--wgv71a.example"),
        ("taro@XN--WGV71A.example", "taro@xn--wgv71a.example"),
        ("taro@日本。example", "taro@xn--wgv71a.example"),
        ("a_b-c.9@hoge.example", "a_b-c.9@hoge.example"),
        ("x" * 64 + "@hoge.example", "x" * 64 + "@hoge.example"),
    ],
)
def test_an_own_address_is_kept_in_one_form(typed: str, kept: str) -> None:
    assert addresses.own(typed, SETTINGS) == kept


def test_an_address_in_an_internationalised_domain_is_shown_in_both_forms() -> None:
    assert addresses.shown("taro@xn--wgv71a.example") == "taro@xn--wgv71a.example (taro@日本.example)"
    assert addresses.shown("alice@hoge.example") == "alice@hoge.example"


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("alice", r"not a whole mail address.*alice@hoge\.example"),
        ("@hoge.example", "empty"),
        ("alice@", "not a whole mail address"),
        ("alice+shop@hoge.example", r"plus sign.*alice@"),
        ('"alice smith"@hoge.example', "quoted"),
        ("alice\\b@hoge.example", "quoted"),
        ("太郎@hoge.example", r"ASCII.*SMTPUTF8"),
        ("ａlice@hoge.example", r"ASCII.*SMTPUTF8"),
        ("alice smith@hoge.example", "blank"),
        ("alice@home@hoge.example", "second @"),
        (".alice@hoge.example", "dot"),
        ("alice.@hoge.example", "dot"),
        ("al..ice@hoge.example", "dot"),
        ("-alice@hoge.example", "dash"),
        ("x" * 65 + "@hoge.example", r"65 octets.*64"),
        ("al\tice@hoge.example", "control"),
        ("alice@hoge.example\n", "control"),
        ("al\x00ice@hoge.example", "control"),
        ("al\u200bice@hoge.example", "control"),
        ("al,ice@hoge.example", ","),
        ("<alice@hoge.example>", "<"),
        ("o'brien@hoge.example", r"ASCII letters, digits and \. _ -"),
        ("a/b@hoge.example", "/"),
        ("bob%outside.example@hoge.example", "%"),
        ("outside.example!bob@hoge.example", "!"),
        ("alice@hoge_.example", "domain"),
        ("alice@hoge", "domain"),
        ("alice@" + ".".join(["x" * 60] * 4) + ".example", "octets|domain"),
    ],
)
def test_what_cannot_be_an_address_here_is_refused_with_the_reason(typed: str, reason: str) -> None:
    with pytest.raises(AddressRefusedError, match=reason):
        addresses.own(typed, SETTINGS)


def test_an_address_of_more_than_254_octets_is_refused() -> None:
    domain = ".".join(["x" * 62] * 3) + ".example"  # 196
    assert addresses.anywhere("a" * 57 + "@" + domain, SETTINGS)
    with pytest.raises(AddressRefusedError, match=r"255 octets.*254"):
        addresses.anywhere("a" * 58 + "@" + domain, SETTINGS)


def test_an_unknown_domain_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownDomainError, match=r"hoge\.example, xn--wgv71a\.example \(日本\.example\)"):
        addresses.own("alice@hige.example", SETTINGS)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Carol+x@Mailbox.example", "Carol+x@mailbox.example"),  # RFC 5321 2.4: only they know their case
        ("o'brien@mailbox.example", "o'brien@mailbox.example"),
        ("Alice@HOGE.example", "alice@hoge.example"),  # ours
    ],
)
def test_the_local_part_of_others_keeps_its_case(typed: str, kept: str) -> None:
    assert addresses.anywhere(typed, SETTINGS) == kept


@given(st.text(max_size=80))
def test_whatever_is_typed_is_refused_or_safe_in_every_exported_file(local: str) -> None:
    try:
        kept = addresses.own(f"{local}@hoge.example", SETTINGS)
    except DirectoryError:
        return
    assert not set(kept) & set(" \t\r\n:,#/%{}*\\\"'")
    assert addresses.own(kept, SETTINGS) == kept
