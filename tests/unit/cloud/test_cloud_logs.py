# Without the relay's own log nobody learns whether a recipient's server took a message. It is switched on with the
# rest; where that is not allowed, the statement that is missing is told, and mail goes all the same.

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cloud_fake import COMPARTMENT, cloud
from cloud_tenancy import Tenancy

from todoku.cloud import destruction, logs
from todoku.cloud.values import ACTIVE, Log, LogGroup


@pytest.fixture
def tenancy() -> Iterator[Tenancy]:
    return Tenancy()


def log_ids(outcome) -> set[str]:
    return {step for step in outcome.done if step.startswith("log")}


def test_both_logs_of_each_domain_are_switched_on_once(tenancy):
    tenancy.apply()

    assert [group.name for group in tenancy.api.all_log_groups] == ["todoku"]
    assert {log.category for log in tenancy.api.all_logs} == {"outboundaccepted", "outboundrelayed"}
    assert {log.resource for log in tenancy.api.all_logs} == {tenancy.api.domains[0].id}
    assert log_ids(tenancy.apply()) == set()


def test_an_answer_that_gets_lost_makes_nothing_twice(tenancy):
    tenancy.api.breaks = {"create_log": ["lost", "lost"], "create_log_group": ["lost"]}

    tenancy.apply()

    assert (len(tenancy.api.all_log_groups), len(tenancy.api.all_logs)) == (1, 2)


def test_what_somebody_made_in_the_console_will_do(tenancy):
    tenancy.apply()
    theirs = LogGroup("theirs", "audit", ACTIVE, False)
    tenancy.api.all_log_groups[:] = [tenancy.api.all_log_groups[0], theirs]
    tenancy.api.all_logs[:] = [
        Log("l", "theirs", "x", ACTIVE, False, True, tenancy.api.domains[0].id, category)
        for category in logs.CATEGORIES
    ]

    assert log_ids(tenancy.apply()) == set()


def test_ours_is_switched_on_again_and_theirs_is_left_off(tenancy):
    tenancy.apply()
    for number, ours in enumerate((True, False)):
        tenancy.api.all_logs[number] = replace(tenancy.api.all_logs[number], enabled=False, ours=ours)

    tenancy.apply()

    assert [log.enabled for log in tenancy.api.all_logs] == [True, False]


def test_without_the_right_the_statement_is_told_and_all_else_goes_on(tenancy):
    tenancy.api.denied = {"create_log_group"}

    outcome = tenancy.apply()

    assert not outcome.failed
    reason = {one.id: one.reason for one in outcome.waits}["log-group:todoku"]
    assert "Allow group YOUR-GROUP to manage" in reason
    assert "cloud.logs = false" in reason
    assert tenancy.keeper.kept is not None


def test_none_is_wanted_with_logs_false():
    tenancy = Tenancy("logs = false\n")

    tenancy.apply()

    assert tenancy.api.all_log_groups == []
    assert tenancy.api.count("log_groups") == 0


def test_destroy_takes_ours_and_leaves_a_group_with_other_logs_in_it(tenancy):
    tenancy.apply()
    foreign = replace(tenancy.api.all_logs[0], id="theirs", ours=False, resource="ocid1.other")
    tenancy.api.all_logs.append(foreign)

    found = destruction.made(tenancy.settings, cloud(tenancy.api))

    assert any("log group todoku: other logs are in it" in kept for kept in found.kept)
    assert len([thing for thing in found.things if thing.what.startswith("log ")]) == 2
    tenancy.api.all_logs.remove(foreign)
    found = destruction.made(tenancy.settings, cloud(tenancy.api))
    assert destruction.destroy(found, lambda _what: None) == ()
    assert (tenancy.api.all_logs, tenancy.api.all_log_groups) == ([], [])


def test_the_search_names_compartment_and_types():
    assert logs.query(COMPARTMENT) == (
        f"search \"{COMPARTMENT}\" | type='com.oraclecloud.emaildelivery.emaildomain.outboundaccepted' or "
        "type='com.oraclecloud.emaildelivery.emaildomain.outboundrelayed' | sort by datetime asc"
    )
