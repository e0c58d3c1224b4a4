# Who may send, and nothing else: a user, a group, one statement. A password is seen by the file alone, and what
# may not be done by us is told to those who may.

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cloud_fake import COMPARTMENT, TENANCY, cloud
from cloud_tenancy import Tenancy

from todoku.cloud import destruction
from todoku.cloud.logs import CATEGORIES
from todoku.cloud.values import (
    Policy,
    SmtpCredential,
    User,
)
from todoku.plan.apply import apply

SENDING = f"Allow group 'Default'/'todoku-senders' to use email-family in compartment id {COMPARTMENT}"


@pytest.fixture
def tenancy() -> Iterator[Tenancy]:
    return Tenancy()


def test_without_the_right_to_make_policies_the_statement_is_told_and_all_else_goes_on(tenancy):
    tenancy.api.denied = {"create_policy"}

    outcome = tenancy.apply()

    assert not outcome.failed
    reason = {one.id: one.reason for one in outcome.waits}["iam-policy:todoku-senders"]
    assert SENDING in reason and "administrator" in reason
    assert "Allow group YOUR-GROUP to manage" in reason  # what would let Todoku do it
    assert tenancy.keeper.kept is not None


@pytest.mark.parametrize("denied", [{"policies"}, {"create_policy"}, {"log_groups"}])
def test_nobody_waits_for_hours_for_what_only_a_person_can_give(tenancy, denied):
    # `todoku apply --wait` went on for its two hours, although all that can be done was done.
    tenancy.api.dkim_seen = tenancy.api.path_seen = True
    tenancy.apply()
    tenancy.apply()
    tenancy.api.all_policies.clear()
    tenancy.api.denied = denied

    outcome = tenancy.apply()

    assert not outcome.failed and outcome.waits
    assert all(one.for_person for one in outcome.waits), outcome.waits
    waits = {one.id: one.reason for one in outcome.waits}
    if denied == {"log_groups"}:
        assert set(waits) == {"log-group:todoku", *(f"log:hoge.example:{each}" for each in CATEGORIES)}
    else:
        assert SENDING in waits["iam-policy:todoku-senders"]


@pytest.mark.parametrize(
    "statement",
    [
        f"allow group TODOKU-SENDERS to use email-family in compartment id {COMPARTMENT}",
        "Allow group todoku-senders to manage email-family in tenancy",
        "Allow group 'Default'/'todoku-senders' to use approved-senders in compartment mail",
    ],
)
def test_a_policy_that_allows_as_much_is_enough_whoever_wrote_it(tenancy, statement):
    tenancy.api.all_policies.append(Policy("p", "theirs", TENANCY, (statement,), False))

    tenancy.apply()

    assert tenancy.api.count("create_policy") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "Allow group todoku-senders to read email-family in tenancy",
        "Allow group others to manage email-family in tenancy",
        "Allow group 'Staff'/'todoku-senders' to manage email-family in tenancy",
        "Allow group todoku-senders to use email-family in compartment elsewhere",
        "Allow group todoku-senders to use email-family in tenancy where request.region = 'phx'",
    ],
)
def test_a_policy_that_allows_less_is_not_enough(tenancy, statement):
    tenancy.api.all_policies.append(Policy("p", "theirs", TENANCY, (statement,), False))

    tenancy.apply()

    assert tenancy.api.count("create_policy") == 1


def test_the_statement_has_no_identity_domain_where_the_tenancy_has_none(tenancy):
    tenancy.api.denied = {"identity_domains"}  # the older IAM does not know the question

    tenancy.apply()

    assert tenancy.api.all_policies[0].statements == (
        SENDING.replace("'Default'/'todoku-senders'", "todoku-senders"),
    )


def test_a_group_of_an_earlier_identity_domain_may_no_longer_send(tenancy):
    earlier = SENDING.replace("Default", "Staff")
    by_hand = "Allow group auditors to read email-family in tenancy"
    tenancy.api.all_policies.append(Policy("p", "todoku-senders", COMPARTMENT, (earlier, by_hand), True))

    (step,) = [step for step in tenancy.plan().steps if step.id == "iam-policy:todoku-senders"]
    assert step.change and f"- {earlier}\n+ {SENDING}" == step.change.detail
    tenancy.apply()

    assert tenancy.api.all_policies[0].statements == (by_hand, SENDING)


def test_what_may_not_be_removed_is_told_to_who_may(tenancy):
    earlier = SENDING.replace("Default", "Staff")
    tenancy.api.all_policies.append(Policy("p", "todoku-senders", COMPARTMENT, (earlier, SENDING), True))
    tenancy.api.denied = {"update_policy"}

    reason = {one.id: one.reason for one in tenancy.apply().waits}["iam-policy:todoku-senders"]

    assert "remove" in reason and earlier in reason and SENDING not in reason


def test_the_statements_of_a_policy_that_somebody_else_made_stay(tenancy):
    earlier = SENDING.replace("Default", "Staff")
    tenancy.api.all_policies.append(Policy("p", "todoku-senders", COMPARTMENT, (earlier, SENDING), False))

    assert not tenancy.apply().failed

    assert tenancy.api.all_policies[0].statements == (earlier, SENDING)


def test_two_credentials_of_others_are_named_and_left_alone(tenancy):
    tenancy.api.users.append(User("u", "todoku-relay", True))
    tenancy.api.credentials += [
        SmtpCredential("1", "first@x", "the shop", tenancy.clock.now()),
        SmtpCredential("2", "second@x", "", tenancy.clock.now()),
    ]

    outcome = tenancy.apply()

    (failure,) = outcome.failed
    assert failure.id == "smtp-credential:todoku-relay"
    assert "first@x (the shop" in failure.reason and "second@x" in failure.reason
    assert len(tenancy.api.credentials) == 2


def test_a_credential_that_cannot_be_stored_is_deleted_again(tenancy):
    tenancy.keeper.broken = OSError(28, "No space left on device", "/etc/todoku/secrets/relay")

    outcome = tenancy.apply()

    assert any("disk is full" in failure.reason for failure in outcome.failed)
    assert tenancy.api.credentials == []


def test_the_password_is_in_no_plan_and_no_message(tenancy):
    shown = []
    plan = tenancy.plan()
    shown.append(repr(plan))
    client, items = tenancy.items()
    apply(items, lambda event: shown.append(repr(event)))
    shown += [repr(client.outputs.__dict__), repr(items), repr(tenancy.plan())]

    password = tenancy.keeper.kept[1]
    assert not any(password in text for text in shown)


def test_a_user_without_the_capability_is_given_it_only_if_todoku_made_the_user(tenancy):
    tenancy.api.users.append(User("u", "todoku-relay", True, may_use_smtp=False))
    assert not tenancy.apply().failed
    assert tenancy.api.users[0].may_use_smtp

    other = Tenancy()
    other.api.users.append(User("u", "todoku-relay", False, may_use_smtp=False))
    (step,) = other.plan().problems
    assert "capability" in step.problem


def test_iam_that_others_manage_is_not_looked_at():
    tenancy = Tenancy("manage_iam = false\n")
    tenancy.apply()

    assert not tenancy.api.users and not tenancy.api.groups and not tenancy.api.all_policies


def test_destroy_takes_the_credential_of_a_host_that_was_renamed_and_none_of_others(tenancy):
    tenancy.apply()
    there = tenancy.api.credentials[0]
    renamed = tenancy.settings.model_copy(update={"hostname": "mail.hoge.example"})

    found = destruction.made(renamed, cloud(tenancy.api), tenancy.keeper.username())
    assert f"SMTP credential {there.username}" in [thing.what for thing in found.things]
    assert {"user todoku-relay", "group todoku-senders"} <= {thing.what for thing in found.things}

    # One that an administrator made and wrote into the file is not Todoku's, nor is one of another host.
    for description, in_use in (("by hand", there.username), ("todoku mx.hoge.example", "somebody.else")):
        tenancy.api.credentials[0] = replace(there, description=description)
        found = destruction.made(renamed, cloud(tenancy.api), in_use)
        kinds = {thing.what.split()[0] for thing in found.things}
        assert kinds.isdisjoint({"SMTP", "policy", "membership", "user", "group"})
        assert f"SMTP credential {there.username}: not made by Todoku for this host" in found.kept
