# A second domain, with everything that only some domains need: reports that go to another domain need its consent, a
# name too long for Oracle's CNAME gets the key itself as TXT, and others can report trouble with TLS.

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import oci
import pytest
from clouds import Tenancy, plan, require_nothing_to_do, settle, waits
from conftest import World, wait

LONG = ".".join(["a" * 60, "b" * 60, "c" * 60, "d" * 24, "example"])  # 215 characters

pytestmark = pytest.mark.slow  # a domain is made in the cloud and taken away again


@pytest.fixture
def long_domain(world: World, settings_file: Path) -> Iterator[Tenancy]:
    tenancy = Tenancy(world)
    zone = oci.dns.models.CreateZoneDetails(
        name=LONG, compartment_id=tenancy.compartment, zone_type="PRIMARY"
    )
    tenancy.dns.create_zone(zone)
    more = f'[[domains]]\nname = "{LONG}"\ndmarc.reports = "dmarc@{world.domain}"\n\n[relay]\n'
    text = settings_file.read_text().replace("[relay]\n", more, 1)
    text = text.replace(
        'publisher = "oci"\n', f'publisher = "oci"\ntls_report = "postmaster@{world.domain}"\n'
    )
    settings_file.write_text(text)
    yield tenancy
    _remove(tenancy)


def _remove(tenancy: Tenancy) -> None:
    (domain,) = [each for each in tenancy.domains if each.name == LONG]
    for key in tenancy.email.list_dkims(domain.id).data.items:
        tenancy.email.delete_dkim(key.id)
    for path in tenancy.return_paths:
        if path.name.endswith(LONG):
            tenancy.email.delete_email_return_path(path.id)
    for sender in tenancy.senders:
        if sender.email_address.endswith(f"@{LONG}"):
            tenancy.email.delete_sender(sender.id)
    tenancy.email.delete_email_domain(domain.id)
    tenancy.dns.delete_zone(LONG)
    for record in {(r.domain, r.rtype) for r in tenancy.records()}:
        if "_report" in record[0] or "_tls" in record[0]:
            tenancy.put(*record)


def values(tenancy: Tenancy, zone: str, name: str, type_: str) -> list[str]:
    listed = tenancy.dns.get_zone_records(zone).data.items
    return [r.rdata for r in listed if (r.domain, r.rtype) == (name, type_)]


def test_a_domain_with_a_long_name_sends_and_everything_it_needs_is_published(
    world: World, long_domain: Tenancy
) -> None:
    settle(world)
    (agreement,) = values(long_domain, world.domain, f"{LONG}._report._dmarc.{world.domain}", "TXT")
    assert agreement == '"v=DMARC1"'
    for domain in (world.domain, LONG):
        (report,) = values(long_domain, domain, f"_smtp._tls.{domain}", "TXT")
        assert report == f'"v=TLSRPTv1; rua=mailto:postmaster@{world.domain}"'
    keys = [r for r in long_domain.dns.get_zone_records(LONG).data.items if "._domainkey." in r.domain]
    assert [key.rtype for key in keys] == ["TXT"]
    assert max(len(part) for part in keys[0].rdata.split('"')) <= 255  # cut, as the wire wants it
    assert waits(plan(world)) == {}
    require_nothing_to_do(world)
    checked = json.loads(world.todoku("dns", "check", "--json").stdout)
    assert checked["ok"], checked

    # The next key is published in the same form: a CNAME would stand in the way of what apply wants there.
    done = world.todoku("dkim", "rotate", LONG, "--wait", "60", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [each["stage"] for each in json.loads(done.stdout)["rotations"]] == ["old_remains"]
    keys = [r for r in long_domain.dns.get_zone_records(LONG).data.items if "._domainkey." in r.domain]
    assert [key.rtype for key in keys] == ["TXT", "TXT"]
    require_nothing_to_do(world)

    address = f"erin@{LONG}"
    assert (
        world.todoku("account", "add", address, "--password-stdin", stdin="a long password 1\n").returncode
        == 0
    )
    try:
        with world.submission(None) as smtp:
            assert smtp.auth_plain(address, "a long password 1").code == 235
            assert smtp.say(f"MAIL FROM:<{address}>").code == 250
            assert smtp.say(f"RCPT TO:<{world.carol}>").code == 250
            head = f"From: {address}\nTo: {world.carol}\nSubject: from a long name\nMessage-ID: <1@{LONG}>\n"
            assert smtp.message(f"{head}Date: Tue, 24 Nov 2026 10:00:00 +0000\n\ntext\n").code == 250
        judged = world.wait_for("from a long name").judged
    finally:
        world.todoku("account", "remove", address, "--yes")
    signed = [s for s in judged["dkim"] if s["domain"] == LONG]
    assert [(s["result"], s["aligned"]) for s in signed] == [("pass", True)], judged
    assert judged["dmarc"]["result"] == "pass", judged
    wait(lambda: world.queue() == [], "an empty queue")
