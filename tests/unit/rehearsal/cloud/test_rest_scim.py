"""Identity domains: the official SDK and command line keep people in them, and the older IAM sees only Default's."""

from __future__ import annotations

from typing import Any

import oci
import pytest
from cloud_side import Side, side_fixture  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from oci.identity_domains import models
from test_rest_cli import OCI
from test_rest_cli import oci as command_line

from todoku.rehearsal.cloud.errors import ApiError
from todoku.rehearsal.cloud.scim_filter import matcher

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@pytest.fixture
def domain(side: Side) -> Any:
    """The client of an identity domain that the SDK has just made."""
    details = oci.identity.models.CreateDomainDetails(
        compartment_id=side.config.tenancy,
        display_name="Staff",
        description="people",
        home_region="ap-tokyo-1",
        license_type="free",
    )
    identity = side.identity()
    request = identity.create_domain(details).headers["opc-work-request-id"]
    assert identity.get_iam_work_request(request).data.status == "SUCCEEDED"
    listed = {each.display_name: each for each in identity.list_domains(side.config.tenancy).data}
    assert set(listed) == {"Default", "Staff"}
    assert listed["Staff"].url.startswith("https://idcs-")
    assert listed["Staff"].url != listed["Default"].url
    return oci.identity_domains.IdentityDomainsClient(side.sdk_config(), side.endpoint)


def user(login: str = "relay", **more: Any) -> Any:
    emails = [models.UserEmails(value="a@hoge.example", type="work", primary=True)]
    given = {
        "schemas": [USER],
        "user_name": login,
        "name": models.UserName(family_name=login),
        "emails": emails,
    }
    return models.User(**{**given, **more})


def refused(call: Any, status: int, detail: str) -> None:
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call()
    assert caught.value.status == status
    # SCIM's words: the SDK finds neither code nor message in them.
    assert (caught.value.code, caught.value.message) == (None, None)
    assert detail in caught.value.args[0]["detail"]


def test_somebody_in_a_domain_is_not_seen_by_the_older_api(side: Side, domain: Any) -> None:
    made = domain.create_user(user=user()).data
    assert made.ocid.startswith("ocid1.user.")
    names = [each.name for each in side.identity().list_users(side.config.tenancy).data]
    assert names == ["administrator"]
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        side.identity().get_user(made.ocid)
    assert caught.value.status == 404
    # The same name is free in the older API.
    details = oci.identity.models.CreateUserDetails(
        compartment_id=side.config.tenancy, name="relay", description="-", email="b@hoge.example"
    )
    assert side.identity().create_user(details).data.id != made.ocid


def test_members_are_told_only_on_request(domain: Any) -> None:
    made = domain.create_user(user=user()).data
    group = domain.create_group(group=models.Group(schemas=[GROUP], display_name="senders")).data
    members = [{"value": made.id, "type": "User"}]
    add = models.PatchOp(
        schemas=[PATCH], operations=[models.Operations(op="ADD", path="members", value=members)]
    )
    domain.patch_group(group.id, patch_op=add)
    assert domain.get_group(group.id).data.members is None
    assert [m.ocid for m in domain.get_group(group.id, attributes="members").data.members] == [made.ocid]
    (found,) = domain.list_groups(filter=f'members.value eq "{made.id}"').data.resources
    assert found.id == group.id
    domain.delete_user(made.id)
    assert domain.list_groups(filter=f'members.value eq "{made.id}"').data.resources == []


def test_a_group_with_a_member_who_is_not_there_is_not_made(domain: Any) -> None:
    members = [models.GroupMembers(value="nobody", type="User")]
    group = models.Group(schemas=[GROUP], display_name="senders", members=members)
    refused(lambda: domain.create_group(group=group), 404, "not found")
    assert domain.list_groups().data.resources == []


def test_what_a_domain_refuses(domain: Any) -> None:
    refused(lambda: domain.create_user(user=user(emails=[])), 400, "The primary email must be specified.")
    refused(lambda: domain.create_user(user=user(schemas=[GROUP])), 400, "schemas")
    refused(lambda: domain.create_user(user=user(name=None)), 400, "name.familyName")
    domain.create_user(user=user())
    refused(lambda: domain.create_user(user=user("RELAY")), 409, "not unique")
    refused(lambda: domain.list_users(filter="userName like x"), 400, "cannot parse the filter")
    refused(lambda: domain.get_user("nobody"), 404, "not found")
    bad = models.PatchOp(schemas=[PATCH], operations=[models.Operations(op="ADD", path="members", value=[])])
    made = domain.list_users(filter='userName eq "relay"').data.resources[0]
    refused(lambda: domain.patch_user(made.id, patch_op=bad), 400, "cannot add 'members'")


def test_a_wrong_signature_is_refused(side: Side, domain: Any) -> None:
    from todoku.rehearsal.internet import pki

    path = side.folder / "other.pem"
    path.write_text(pki.generate_dkim_key())
    config = side.sdk_config() | {"key_file": str(path)}
    stranger = oci.identity_domains.IdentityDomainsClient(config, side.endpoint)
    refused(lambda: stranger.list_users(), 401, "authentication")


def test_a_policy_of_the_domain_gives_its_user_rights(side: Side, domain: Any) -> None:
    made = domain.create_user(user=user()).data
    members = [models.GroupMembers(value=made.id, type="User")]
    domain.create_group(group=models.Group(schemas=[GROUP], display_name="senders", members=members))
    statement = (
        f"Allow group 'Staff'/'senders' to use email-family in compartment id {side.config.compartment}"
    )
    details = oci.identity.models.CreatePolicyDetails(
        compartment_id=side.config.compartment, name="p", description="-", statements=[statement]
    )
    side.identity().create_policy(details)
    tenancy = side.cloud.tenancy
    from todoku.rehearsal.cloud.api import Principal

    who = Principal("user", made.ocid)
    assert tenancy.may(who, "use", "approved-senders", side.config.compartment)
    assert not tenancy.may(who, "manage", "approved-senders", side.config.compartment)
    wrong = oci.identity.models.CreatePolicyDetails(
        compartment_id=side.config.compartment,
        name="q",
        description="-",
        statements=[statement.replace("'Staff'", "'Default'")],
    )
    with pytest.raises(oci.exceptions.ServiceError, match="senders does not exist"):
        side.identity().create_policy(wrong)


@pytest.mark.skipif(not OCI.exists(), reason="oci-cli is not installed (dependency group dev)")
def test_the_command_line_finds_them(side: Side, domain: Any) -> None:
    domain.create_user(user=user())
    listed = command_line(side, "identity-domains", "users", "list", "--filter", 'userName eq "relay"')
    assert [each["user-name"] for each in listed["data"]["resources"]] == ["relay"]
    domains = command_line(side, "iam", "domain", "list", "--compartment-id", side.config.tenancy)
    assert [each["display-name"] for each in domains["data"]] == ["Staff", "Default"]


@given(st.text(max_size=80) | st.from_regex(r'[a-z.]+ (eq|co|pr) "[^"]*"( (and|or) .*)?', fullmatch=True))
def test_any_filter_is_understood_or_refused(text: str) -> None:
    try:
        matches = matcher(text)
    except ApiError as refusal:
        assert refusal.status == 400
    else:
        assert matches({"members": [{"value": "x"}], "active": True, "name": None}) in (True, False)


def test_filters_compare_without_case_and_join() -> None:
    thing = {"userName": "Relay", "members": [{"value": "1"}, {"value": "2"}], "urn:x:y": {"on": True}}
    for text, matches in {
        'username eq "relay"': True,
        'userName eq "relay" and members.value eq "2"': True,
        'userName eq "x" or members.value eq "3"': False,
        'userName eq "x" or members.value eq "1"': True,
        "urn:x:y:on eq true": True,
        "urn:x:y:on eq false": False,
        "title pr": False,
        'userName sw "re"': True,
    }.items():
        assert matcher(text)(thing) is matches, text
