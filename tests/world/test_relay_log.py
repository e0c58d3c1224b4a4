# "250 Ok" from the relay is where every log ends. What came after is in the relay's own log, in the cloud: here it is
# in the ledger, for each recipient, with the words of the server that has the mailbox.

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import oci
import pytest
from alarmed import subjects
from clouds import Tenancy
from conftest import CONFIG, World, wait
from test_ledger import journeys, settled
from test_suppressions import _notices, _rcpt, listed, watching  # noqa: F401

if "\n[cloud]\n" not in CONFIG.read_text():
    pytest.skip("this world has no cloud, so nobody to ask", allow_module_level=True)


pytestmark = pytest.mark.usefixtures("watching")


def sent(world: World, to: str, what: str) -> str:
    subject = f"{what} {time.monotonic_ns()}"
    world.submit(world.alice, to, subject)
    return subject


def test_it_is_relayed_in_the_words_of_the_recipients_own_server(world: World) -> None:
    # A search fails for a while, as Oracle's do when they are asked too much.
    world.relay(rest={"status": 429, "count": 2, "operation": "search_logs"})
    subject = sent(world, world.carol, "relayed")
    (carol,) = settled(world, subject, world.carol, "relayed", 40)["recipients"]
    accepted, relayed = carol["attempts"]
    assert (accepted["state"], relayed["state"]) == ("accepted", "relayed")
    assert relayed["words"].startswith("250")
    assert relayed["host"].startswith("mx.mailbox.example")
    assert abs(relayed["time"] - accepted["time"]) < 20
    assert "was accepted by the recipient's own mail server" in world.todoku("trace", world.carol).stdout
    assert '"relayed"' in world.todoku("stats", "--json").stdout
    for path in Path("/var/lib/todoku/relay").glob("log-*T*"):
        assert (path.stat().st_mode & 0o777, path.group()) == (0o640, "todoku-agent")


def test_the_same_is_found_by_oracles_own_sdk(world: World) -> None:
    subject = sent(world, world.carol, "by the SDK")
    message_id = settled(world, subject, world.carol, "relayed", 40)["message_id"]
    tenancy, now = Tenancy(world), datetime.now(UTC)
    details = oci.loggingsearch.models.SearchLogsDetails(
        search_query=f"search \"{tenancy.compartment}\" | data.messageId='{message_id}'",
        time_start=now - timedelta(hours=1),
        time_end=now + timedelta(minutes=1),
    )
    found = oci.loggingsearch.LogSearchClient(tenancy.config).search_logs(details).data.results
    actions: list[Any] = [each.data["logContent"]["data"]["action"] for each in found]
    assert actions == ["relay"]


@pytest.mark.slow  # waits for list, log and gate one after the other, twice
def test_reported_as_unwanted_then_lifted_and_sent_again(world: World) -> None:
    eve = world.carol.replace("carol", "eve")
    subject = sent(world, eve, "unwanted")
    settled(world, subject, eve, "relayed", 40)
    told = len(subjects(world, "Complaint about mail of"))
    world.relay(complain=[eve])
    settled(world, subject, eve, "complained", 40)
    # The postmaster hears of it by mail, once a day for each sender: somebody before may have had it today.
    wait(lambda: len(subjects(world, f"Complaint about mail of {world.alice.address}")) == 1, "the mail", 40)
    assert len(subjects(world, "Complaint about mail of")) - told <= 1
    assert "complaints" in {
        alarm["name"] for alarm in json.loads(world.todoku("status", "--json").stdout)["alarms"]
    }
    wait(lambda: listed(world).get(eve) == "COMPLAINT", "the suppression")
    wait(lambda: "suppression lift" in _rcpt(world, eve), "the gate to refuse it", 30)
    assert world.todoku("suppression", "lift", eve).returncode == 0
    wait(lambda: _rcpt(world, eve).startswith("250"), "the gate to let it pass again", 30)
    time.sleep(1.1)  # each worker of the gate looks once a second
    subject = sent(world, eve, "wanted again")
    settled(world, subject, eve, "relayed", 40)


@pytest.mark.slow  # waits for the list, then for the log
def test_a_late_record_counts_and_the_bounce_is_told_once(world: World) -> None:
    gone = world.carol.replace("carol", f"unknown.late{time.monotonic_ns()}")
    world.relay(log_delay_s=3600)
    subject = sent(world, gone, "late bounce")
    world.relay(log_delay_s=0)
    later = sent(world, world.carol, "not late")
    settled(world, later, world.carol, "relayed", 40)
    wait(lambda: _notices(world, gone) == 1, "the notice", 40)  # by the suppression list, which is not late
    world.relay(advance_s=3600)
    wait(lambda: _lines(gone), "the late record", 30)
    time.sleep(4)
    (journey,) = journeys(world, f"<{subject.replace(' ', '-')}@{world.domain}>")
    assert [tried["state"] for tried in journey["recipients"][0]["attempts"]] == ["accepted", "bounced"]
    assert _notices(world, gone) == 1


def _lines(address: str) -> int:
    files = Path("/var/lib/todoku/relay").glob("log-*T*")
    lines = [line for path in files for line in path.read_text().splitlines() if address in line]
    return sum('"bounce"' in line for line in lines)
