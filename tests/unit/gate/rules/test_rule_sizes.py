# A message that the relay would not take is refused with both figures, not lost at 2 MB; inside, 25 MB are fine.

from __future__ import annotations

from pathlib import Path

import pytest
from outbound_mail import CAROL, PLAIN, Site, eml, refused

from todoku.gate.decision import PASS
from todoku.gate.message import MessageSoFar
from todoku.gate.rules.header_size import header_size
from todoku.gate.rules.size import TRACE, size

BOB = "bob@hoge.example"


def _sized(site: Site, total: int, *recipients: str) -> MessageSoFar:
    """A message of so many bytes, with the Received line that Postfix adds."""
    return site.message(PLAIN + b"x" * (total - TRACE - len(PLAIN)), *recipients)


def test_the_relays_limit_counts_to_the_byte(site: Site) -> None:
    assert size(_sized(site, 2_000_000, CAROL)) is PASS
    assert refused(size(_sized(site, 2_000_001, CAROL))) == (
        "552 5.3.4 The message has 2,000,001 bytes with its attachments encoded; mail to carol@mailbox.example "
        "leaves through the relay, which takes 2,000,000: make it smaller, or send a link"
    )


def test_one_recipient_outside_is_enough(site: Site) -> None:
    assert size(_sized(site, 2_000_001, BOB)) is PASS
    assert "carol@mailbox.example" in refused(size(_sized(site, 2_000_001, BOB, CAROL)))


def test_inside_the_local_limit_counts(site: Site) -> None:
    assert size(_sized(site, 25_000_000, BOB)) is PASS
    said = refused(size(_sized(site, 25_000_001, BOB)))
    assert said.startswith("552 5.3.4 The message has 25,000,001 bytes")
    assert "this server takes 25,000,000" in said


def test_a_raised_limit_of_the_relay_is_honoured(tmp_path: Path) -> None:
    site = Site(tmp_path, '[relay.plan]\nmessage_size = "60 MB"')
    assert size(_sized(site, 24_000_000, CAROL)) is PASS
    # what this server itself takes is then the smaller one
    assert "this server takes 25,000,000" in refused(size(_sized(site, 26_000_000, CAROL)))


def test_a_body_on_disk_is_counted_like_one_in_memory(site: Site) -> None:
    message = _sized(site, 2_000_001, CAROL)
    assert message.body.spooled
    assert size(message) is not PASS


def test_mail_from_outside_is_postfixs_to_measure(site: Site) -> None:
    large = PLAIN + b"x" * 3_000_000
    assert size(site.from_outside(large, CAROL)) is PASS
    assert header_size(site.from_outside(eml(*[f"X: {'x' * 900}"] * 300))) is PASS


@pytest.mark.parametrize(("more", "passes"), [(0, True), (1, False)])
def test_256_kib_of_headers_are_the_most(site: Site, more: int, passes: bool) -> None:
    line = "X-Filler: " + "x" * 1012  # 1,024 bytes with its line end
    headers = [line] * 255 + [line + "x" * more]
    decision = header_size(site.message(eml(*headers)))
    if passes:
        assert decision is PASS
    else:
        said = refused(decision)
        assert said.startswith("552 5.3.4 The headers have 262,145 bytes, and the relay takes 262,144")


def test_what_an_alias_of_ours_leads_outside_has_the_relays_limit(site: Site) -> None:
    large = PLAIN + b"x" * 2_000_000
    assert size(site.message(large, "bob@hoge.example")) is PASS
    words = refused(size(site.message(large, "team@hoge.example")))
    assert "mail to carol@mailbox.example leaves through the relay, which takes 2,000,000" in words
