# Held against rspamd, which nobody here wrote: mail from each broken zone of the matrix, and each broken message. Where
# it judges differently, docs/check-others.md says why, and says it of nothing else.

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import dkim
import pytest
import test_check_matrix
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rspamd_peer import rspamd, symbols

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/check"))
import broken_messages
from broken_zones import MUTATIONS
from internet_for_checks import SELECTOR, private_key
from other_opinions import different

pytestmark = pytest.mark.slow  # rspamd is fetched first (script/peers)

RELAY = "192.0.2.25"  # the relay's outgoing address, which the zones' SPF includes
KINDS = ("spf", "dkim", "dmarc")  # what rspamd judges of a zone
NOT_SIGNED = ("dkim of 512 bits", "dkim with Ed25519 alone")  # nothing here signs with such a key
FIRST_ONE = {
    "spf doubled",
    "spf doubled, the same twice",
    "dkim doubled",
}  # its verdict changes with the order
DMARC_UNUSABLE = {"DMARC_NA", "DMARC_BAD_POLICY", "DMARC_DNSFAIL"}
# What rspamd notes about a message without holding it against it.
NOTES = ("DMARC_", "HAS_", "REPLYTO_", "RCPT_COUNT_", "TO_MATCH_", "RCVD_", "R_DKIM_", "R_SPF_")
NOTED = {"FROM_NO_DN", "R_MISSING_CHARSET", "SUBJECT_ENDS_QUESTION", "CC_EXCESS_QP", "SUBJ_EXCESS_QP",
         "SUBJ_EXCESS_BASE64"}  # fmt: skip

domains = test_check_matrix.domains


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with rspamd(tmp_path_factory.mktemp("rspamd")):
        yield


def judged(message: bytes, domain: str) -> set[str]:
    return symbols(
        message,
        ip=RELAY,
        sender=f"alice@{domain}",
        helo="a.oracleemaildelivery.com",
        to="carol@mailbox.example",
    )


def letter(domain: str, bits: int) -> bytes:
    """A letter in order, signed in the name of `domain`."""
    raw = (
        f"From: Alice <alice@{domain}>\r\nTo: carol@mailbox.example\r\nSubject: Hello\r\nDate: {formatdate()}\r\n"
        f"Message-ID: <1@{domain}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nHello.\r\n"
    ).encode()
    key = private_key(bits).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return bytes(dkim.sign(raw, SELECTOR.encode(), domain.encode(), key)) + raw


def broken_for_rspamd(kind: str, said: set[str]) -> bool:
    if kind == "dmarc":
        return bool(said & DMARC_UNUSABLE)
    return f"R_{kind.upper()}_ALLOW" not in said


def test_rspamd_judges_the_zones_alike_but_for_what_is_explained(domains: dict[str, str], peer: None) -> None:
    in_order = judged(letter(domains[test_check_matrix.IN_ORDER], 2048), domains[test_check_matrix.IN_ORDER])
    assert {"R_SPF_ALLOW", "R_DKIM_ALLOW", "DMARC_POLICY_ALLOW"} <= in_order
    differing = {}
    compared = [name for name in MUTATIONS if name.startswith(KINDS) and name not in NOT_SIGNED]
    assert len(compared) >= 60
    for name in compared:
        kind = name.split()[0]
        said = judged(letter(domains[name], 1024 if "1024" in name else 2048), domains[name])
        ours = any(rule.startswith(f"{kind}.") for rule in MUTATIONS[name][1])
        if broken_for_rspamd(kind, said) is not ours:
            differing[name] = sorted(said)
    explained = {name for name in different("rspamd") if name in MUTATIONS}
    assert explained >= FIRST_ONE
    assert set(differing) - FIRST_ONE == explained - FIRST_ONE, (differing, set(differing) ^ explained)


def test_rspamd_judges_the_messages_alike_but_for_what_is_explained(
    domains: dict[str, str], peer: None
) -> None:
    now = datetime.now(UTC)

    def said(raw: bytes) -> set[str]:
        fresh = raw.replace(b"Tue, 24 Nov 2026 08:59:00", f"{now:%a, %d %b %Y %H:%M:%S}".encode())
        return {
            symbol
            for symbol in judged(fresh, domains[test_check_matrix.IN_ORDER])
            if not symbol.startswith(NOTES) and symbol not in NOTED
        }

    good = said(broken_messages.LETTER) | said(broken_messages.MAILING)
    compared = {
        name: raw for name, (raw, _, _) in broken_messages.MUTATIONS.items() if b"DKIM-Signature:" not in raw
    }
    silent = {name for name, raw in compared.items() if not said(raw) - good}
    explained = {name for name in different("rspamd") if name in broken_messages.MUTATIONS}
    assert silent == explained, (silent - explained, explained - silent)
    assert len(compared) - len(silent) > 25


def test_the_page_names_nothing_that_is_not_in_the_matrices() -> None:
    assert set(different("rspamd")) <= {*MUTATIONS, *broken_messages.MUTATIONS}
