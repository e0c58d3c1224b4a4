"""The files and the code for mail programs are what their formats ask for, whoever the account is of."""

from __future__ import annotations

import json
import plistlib
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from todoku.host.mail_programs import Access, autoconfig, instructions, mobileconfig, qr_payload

ALICE = Access("alice@hoge.example", "alice@hoge.example", "mx.hoge.example", self_signed=False)


def test_the_code_is_as_thunderbird_specifies_it() -> None:
    assert qr_payload(ALICE, "Alice") == (
        '[1,[1,1],[0,"mx.hoge.example",993,3,1,"alice@hoge.example"],'
        '[[[0,"mx.hoge.example",465,3,1,"alice@hoge.example"],["alice@hoge.example","Alice"]]]]'
    )


def test_a_profile_that_is_installed_again_replaces_the_one_before() -> None:
    assert mobileconfig(ALICE, "hoge.example") == mobileconfig(ALICE, "hoge.example")
    other = Access("bob@hoge.example", "bob@hoge.example", "mx.hoge.example", self_signed=False)
    first, second = (plistlib.loads(mobileconfig(each, "hoge")) for each in (ALICE, other))
    assert first["PayloadUUID"] != second["PayloadUUID"]
    assert first["PayloadIdentifier"] != second["PayloadIdentifier"]


def test_thunderbird_makes_the_login_from_the_address_where_it_can() -> None:
    def users(login: str) -> set[str | None]:
        made = Access("alice@hoge.example", login, "mx.hoge.example", self_signed=False)
        return {each.text for each in ElementTree.fromstring(autoconfig(made)).iter("username")}  # noqa: S314

    assert users("alice@hoge.example") == {"%EMAILADDRESS%"}
    assert users("alice") == {"%EMAILLOCALPART%"}
    assert users("al") == {"al"}


def test_a_self_signed_certificate_is_told_of() -> None:
    assert "self-signed" not in instructions(ALICE)
    assert "self-signed" in instructions(Access("a@hoge.example", "a", "mx.hoge.example", self_signed=True))


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=60))
def test_any_name_survives(name: str) -> None:
    assert json.loads(qr_payload(ALICE, name))[3][0][1] == ["alice@hoge.example", name]
    assert plistlib.loads(mobileconfig(ALICE, name))["PayloadOrganization"] == name
