# The relay refuses a sender that it does not know when the writer has long gone on: so it is said here, at once.

from __future__ import annotations

from pathlib import Path

import pytest
from outbound_mail import ALICE, CAROL, PLAIN, Site, eml, refused

from todoku.gate.decision import PASS
from todoku.gate.rules.approved import approved

BOB = "bob@hoge.example"


@pytest.mark.parametrize("known", ["alice@hoge.example\n", "# all\n@hoge.example\n", "ALICE@hoge.example"])
def test_an_approved_address_or_domain_passes(tmp_path: Path, known: str) -> None:
    assert approved(Site(tmp_path, approved=known).message(PLAIN)) is PASS


def test_the_refusal_names_the_sender_and_the_command(tmp_path: Path) -> None:
    said = refused(approved(Site(tmp_path, approved=f"{BOB}\n").message(PLAIN)))
    assert said == (
        "550 5.7.1 The relay, through which mail to carol@mailbox.example leaves, does not know the sender "
        "alice@hoge.example: ask the postmaster to run `todoku apply`, which has it approved there"
    )


def test_envelope_and_header_are_both_looked_at(tmp_path: Path) -> None:
    site = Site(tmp_path, approved=f"{BOB}\n")
    assert f"sender {ALICE}" in refused(approved(site.message(PLAIN, sender=BOB)))
    assert f"sender {ALICE}" in refused(approved(site.message(eml(f"From: {BOB}"), sender=ALICE)))
    assert approved(site.message(eml(f"From: {BOB}"), sender=BOB)) is PASS


def test_a_subdomain_is_not_covered_by_its_domain(tmp_path: Path) -> None:
    site = Site(tmp_path, approved="@hoge.example\n")
    assert "x@sub.hoge.example" in refused(approved(site.message(eml("From: x@sub.hoge.example"))))


def test_mail_that_stays_here_needs_no_approval(tmp_path: Path) -> None:
    site = Site(tmp_path, approved="")
    assert approved(site.message(PLAIN, BOB, "carol@xn--18j4d.example")) is PASS
    assert approved(site.message(PLAIN, BOB, CAROL)) is not PASS


def test_nothing_is_refused_while_it_is_not_known_what_is_approved(site: Site) -> None:
    assert approved(site.message(PLAIN)) is PASS


def test_nothing_approved_at_all_is_not_the_same_as_not_known(tmp_path: Path) -> None:
    assert approved(Site(tmp_path, approved="").message(PLAIN)) is not PASS


def test_the_host_and_devices_are_held_to_it_too_but_not_the_world(tmp_path: Path) -> None:
    site = Site(tmp_path, approved=f"{BOB}\n")
    assert "alice@" in refused(approved(site.from_host(PLAIN)))
    assert "scanner@" in refused(approved(site.from_device(eml("From: scanner@hoge.example"))))
    assert approved(site.from_outside(PLAIN, CAROL)) is PASS
