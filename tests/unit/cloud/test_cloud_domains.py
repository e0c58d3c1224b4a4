# The sending user may live in an identity domain of its own, which the older IAM API does not see. The same
# things are then asked for by SCIM (RFC 7644) at that domain's address, by the official SDK.

import pytest
from organisation import (
    Organisation,
    internet_fixture,  # noqa: F401
    organisation_fixture,  # noqa: F401
    side_fixture,  # noqa: F401
)

from todoku.cloud import credential_rotation, destruction
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.permissions import READ_USERS
from todoku.cloud.sdk import Access
from todoku.cloud.sdk_api import open_api

pytest.importorskip("oci")


@pytest.fixture
def staff(side, monkeypatch):
    """An organisation whose sending user is in the identity domain Staff."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", side.ca)
    return Organisation(side, identity_domain="staff")


@pytest.fixture
def people(staff):
    return staff.client().api


def test_from_nothing_to_mail_that_the_relay_takes_and_back_to_nothing(staff):
    staff.apply_all(addresses=["alice@hoge.example"])  # ends only when the relay takes mail from them

    tenancy = staff.side.cloud.tenancy
    (user,) = [each for each in tenancy.users.values() if each.name == "todoku-relay"]
    (group,) = [each for each in tenancy.groups.values() if each.name == "todoku-senders"]
    assert (user.domain, group.domain) == ("Staff", "Staff")
    (policy,) = [each for each in tenancy.policies.values() if each.name == "todoku-senders"]
    assert policy.statements[0].startswith("Allow group 'staff'/'todoku-senders' to use email-family")
    (credential,) = tenancy.credentials.alive()
    assert credential.name == staff.keeper.kept[0]
    seen = staff.side.identity().list_users(staff.side.config.tenancy).data
    assert "todoku-relay" not in [each.name for each in seen]  # the older API does not see it

    found = destruction.made(staff.settings, staff.client())
    assert destruction.destroy(found, lambda _what: None) == ()
    assert not any(each.name == "todoku-relay" for each in tenancy.users.alive())
    assert not any(each.name == "todoku-senders" for each in tenancy.groups.alive())
    assert list(tenancy.credentials.alive()) == []


def test_a_group_there_with_somebody_else_in_it_keeps_its_policy(staff):
    # An identity domain deletes a group whoever is in it: IAM itself does not.
    staff.apply_all()
    client = staff.client()
    group = client.group("todoku-senders")
    person = client.api.create_user("person", "p@hoge.example", "t1")
    client.api.join(person, group, "t2")

    found = destruction.made(staff.settings, client)
    assert any("group todoku-senders: others are in the group" in kept for kept in found.kept)
    assert destruction.destroy(found, lambda _what: None) == ()
    client = staff.client()
    assert client.members(client.group("todoku-senders")) == {person.id}
    assert [policy.name for policy in client.policies(staff.side.config.compartment)] == ["todoku-senders"]


def test_the_credential_is_rotated_there(staff):
    staff.apply_all()
    before = staff.keeper.kept
    steps = credential_rotation.Steps(
        keeper=staff.keeper, relay=staff.relay, reload=lambda: None, say=lambda _text: None, settle=0
    )
    rotated = credential_rotation.rotate("todoku-relay", "mx.hoge.example", staff.client(), steps)
    assert rotated.deleted == (before[0],)
    assert staff.keeper.kept[0] == rotated.username


@pytest.mark.parametrize("cut", ["before", "after"])
def test_every_write_may_be_cut_and_nothing_is_made_twice(staff, cut):
    staff.side.switch(rest={"cut": cut, "operation": "writes", "count": 6})

    staff.apply_all()

    tenancy = staff.side.cloud.tenancy
    assert [each.name for each in tenancy.users.alive()].count("todoku-relay") == 1
    assert [each.name for each in tenancy.groups.alive()].count("todoku-senders") == 1
    assert len(list(tenancy.credentials.alive())) == 1


def test_user_group_membership_and_credential_are_made_seen_and_deleted(people):
    assert people.user("todoku-relay") is None
    made = people.create_user("todoku-relay", "postmaster@hoge.example", "token")
    user = people.user("todoku-relay")
    assert user == made and user.ours and user.active and user.may_use_smtp

    group = people.create_group("todoku-senders", "token")
    assert people.group("todoku-senders") == group and group.ours
    assert not people.is_member(user, group)
    people.join(user, group, "token")
    assert people.is_member(user, group)

    credential = people.create_smtp_credential(user, "todoku mx.hoge.example")
    assert len(credential.password) == 20
    (listed,) = people.smtp_credentials(user)
    assert (listed.username, listed.description) == (credential.username, "todoku mx.hoge.example")
    assert listed.created is not None

    people.delete_smtp_credential(user, listed)
    people.leave(user, group)
    assert people.smtp_credentials(user) == [] and not people.is_member(user, group)
    people.delete_user(user)
    people.delete_group(group)
    assert people.user("todoku-relay") is None and people.group("todoku-senders") is None


def test_the_capability_is_switched_on(people, staff):
    user = people.create_user("todoku-relay", "a@hoge.example", "token")
    (kept,) = [each for each in staff.side.cloud.tenancy.users.values() if each.name == "todoku-relay"]
    kept.capabilities["canUseSmtpCredentials"] = False
    assert not people.user("todoku-relay").may_use_smtp

    people.allow_smtp(user)

    assert people.user("todoku-relay").may_use_smtp


def test_a_list_is_read_to_its_end(people):
    for number in range(103):
        people.create_group(f"group{number:03}", f"token {number}")
    attempt = people.attempt("look for groups", READ_USERS)
    assert len(people._all(attempt, people._client.list_groups, 'displayName sw "group"')) == 103


def test_a_name_with_quotes_stays_a_name(people):
    people.create_group('say "hi"', "token")
    assert people.group('say "hi"') is not None
    assert people.group('x" or displayName eq "say') is None


def test_a_refusal_is_told_in_the_words_of_the_domain(people):
    user = people.create_user("todoku-relay", "a@hoge.example", "token")
    with pytest.raises(CloudError, match="is not unique") as caught:
        people.create_user("todoku-relay", "a@hoge.example", "another")
    assert caught.value.trouble is Trouble.CONFLICT
    with pytest.raises(CloudError, match=r"error.identity.user.primaryEmailNotSpecified.* primary email"):
        people.create_user("nobody", "", "a third")
    for number in range(2):
        people.create_smtp_credential(user, f"number {number}")
    with pytest.raises(CloudError, match="at most 2 SMTP credentials") as caught:
        people.create_smtp_credential(user, "one too many")
    assert caught.value.trouble is Trouble.LIMIT


def test_a_missing_right_is_told_as_the_statement_that_is_missing(staff, people):
    import oci

    identity = staff.side.identity()
    (policy,) = identity.list_policies(staff.side.config.tenancy).data
    statements = ["Allow group Administrators to inspect domains in tenancy"]
    identity.update_policy(policy.id, oci.identity.models.UpdatePolicyDetails(statements=statements))

    with pytest.raises(CloudError, match="Allow group YOUR-GROUP to inspect users in tenancy") as caught:
        people.user("todoku-relay")
    assert caught.value.trouble is Trouble.DENIED


def test_a_domain_that_is_kept_in_our_compartment_is_found(staff, people):
    tenancy = staff.side.cloud.tenancy
    tenancy.domains.pop(next(key for key, each in tenancy.domains.items() if each.name == "Staff"))
    tenancy.add_domain("Staff", staff.side.config.compartment)
    assert people.user("todoku-relay") is None


def test_a_domain_that_is_not_there_is_told_with_those_that_are(side, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", side.ca)
    with pytest.raises(CloudError, match=r"no identity domain Staf .*Default, Staff") as caught:
        Organisation(side, identity_domain="Staf").client().api.user("x")
    assert caught.value.trouble is Trouble.LOCAL


def test_the_older_api_is_used_for_the_default_domain():
    for name, kind in ((None, "_InDefault"), ("Default", "_InDefault"), ("Staff", "_InOtherDomain")):
        access = Access("ocid1.compartment.oc1..aaaa", "ap-tokyo-1", identity_domain=name)
        assert type(open_api(access)).__name__ == kind
