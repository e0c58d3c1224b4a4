# A zone whose DNSSEC signatures do not hold looks right to whoever edits it, and mail to it fails for half the world.
# The zone is signed by a real Knot; unbound checks it as the big providers' resolvers do.

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import CONFIG, World
from name_servers import ADDRESS, RESOLVER, ds_records, knot, unbound

from todoku.dns.desired import items
from todoku.dns.rfc2136 import Key
from todoku.plan.apply import apply
from todoku.plan.events import Outcome
from todoku.plan.outputs import Outputs
from todoku.settings import Settings, parse

ZONE = "fuga.example"
ZONE_FILE = f"""\
$ORIGIN {ZONE}.
$TTL 300
@ SOA ns admin 1 3600 600 86400 60
@ NS ns
ns A {ADDRESS}
"""
SETTINGS = """
hostname = "mx.fuga.example"
addresses = ["203.0.113.11"]
postmaster = "dan@fuga.example"
[[domains]]
name = "fuga.example"
[relay]
region = "ap-tokyo-1"
[dns]
publisher = "rfc2136"
server = "{server}"
tsig_name = "todoku"
tsig_secret_file = "{secret}"
resolver = ["{resolver}"]
"""


@dataclass(frozen=True)
class Signed:
    """A signed zone, and the settings that publish in it and ask the resolver that checks."""

    world: World
    folder: Path
    knot: Path
    config: Path

    @property
    def settings(self) -> Settings:
        return parse(self.config.read_text(), str(self.config))

    def apply(self) -> Outcome:
        outcome = apply(items(self.settings, Outputs()), lambda _event: None)
        outcome.raise_bug()
        return outcome

    def checked(self) -> dict[str, Any]:
        done = self.world.todoku("--config", str(self.config), "dns", "check", "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["ok"] == (done.returncode == 0)
        return found


@pytest.fixture
def signed(world: World, tmp_path: Path) -> Iterator[Signed]:
    key = Key("todoku", "hmac-sha256", secrets.token_bytes(32))
    secret = tmp_path / "tsig"
    secret.touch(0o600)
    secret.write_text(base64.b64encode(key.secret).decode())
    config = CONFIG.with_name("signed.toml")
    config.write_text(SETTINGS.format(server=ADDRESS, secret=secret, resolver=RESOLVER))
    with knot(tmp_path, key, {ZONE: ZONE_FILE}, port=53, signed=True) as configuration:
        yield Signed(world, tmp_path, configuration, config)
    config.unlink()


def test_a_zone_that_is_signed_well_is_published_and_seen(signed: Signed) -> None:
    with unbound(signed.folder, [ZONE], ds_records(signed.knot, ZONE)):
        outcome = signed.apply()
        assert outcome.ok and not outcome.waits, (outcome.failed, outcome.waits)
        assert f"dns:{ZONE}/MX" in outcome.done
        checked = signed.checked()
    assert checked["ok"], checked


def test_a_ds_record_of_another_key_is_told_in_words_and_publishing_goes_on(signed: Signed) -> None:
    (anchor, *_) = ds_records(signed.knot, ZONE)
    digest = anchor.split()[-1]
    wrong = anchor.replace(
        digest, digest[::-1]
    )  # what the registrar has is the key of a server before this one
    with unbound(signed.folder, [ZONE], [wrong]):
        outcome = signed.apply()
        assert outcome.ok, outcome.failed
        assert f"dns:{ZONE}/MX" in outcome.done
        (waits,) = outcome.waits  # once, not for every record
        assert (waits.id, waits.for_person) == ("dns:signatures", True)
        assert f"resolvers that check DNSSEC refuse {ZONE}" in waits.reason
        assert "DS record is removed at the registrar" in waits.reason
        rows = signed.checked()["records"]
    assert rows and not any(row["right"] for row in rows)
    for row in rows:
        assert row["published"] == row["wanted"]
        assert row["seen"] == []  # the third column: what the world sees is nothing
        assert "its signatures do not hold" in " ".join(row["remarks"])


def test_signatures_that_have_expired_are_told(signed: Signed) -> None:
    with unbound(signed.folder, [ZONE], ds_records(signed.knot, ZONE), now="20400101000000"):
        (waits,) = signed.apply().waits
        assert waits.id == "dns:signatures"
        assert "zone is signed anew" in waits.reason
