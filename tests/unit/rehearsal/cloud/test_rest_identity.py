"""The official SDK drives Identity: people, groups, policies that are really evaluated, and credentials with which
SMTP lets in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oci
import pytest
from cloud_side import Side, empty, running, side_fixture, until  # noqa: F401
from oci.identity import models

from todoku.rehearsal.internet import pki
from todoku.rehearsal.internet.plan import InternetPlan


def refused(call: Any, status: int, code: str, words: str = "") -> None:
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call()
    assert (caught.value.status, caught.value.code) == (status, code), caught.value.message
    assert words in caught.value.message


def make_user(side: Side, name: str = "todoku-relay") -> Any:
    details = models.CreateUserDetails(
        compartment_id=side.config.tenancy,
        name=name,
        description="sends mail",
        email="postmaster@hoge.example",
    )
    return side.identity().create_user(details).data


def make_group(side: Side, name: str = "todoku-senders") -> Any:
    details = models.CreateGroupDetails(compartment_id=side.config.tenancy, name=name, description="senders")
    return side.identity().create_group(details).data


def join(side: Side, user: Any, group: Any) -> Any:
    details = models.AddUserToGroupDetails(user_id=user.id, group_id=group.id)
    return side.identity().add_user_to_group(details).data


def make_policy(side: Side, *statements: str, name: str = "todoku", compartment: str | None = None) -> Any:
    details = models.CreatePolicyDetails(
        compartment_id=compartment or side.config.tenancy,
        name=name,
        description="what the relay's user may do",
        statements=list(statements),
    )
    return side.identity().create_policy(details).data


def config_of(side: Side, user: Any, folder: Path) -> dict[str, Any]:
    """An API key for `user`, made and uploaded as a person would."""
    from cryptography.hazmat.primitives import serialization

    pem = pki.generate_dkim_key()
    public = serialization.load_pem_private_key(pem.encode(), None).public_key()
    text = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
    key = side.identity().upload_api_key(user.id, models.CreateApiKeyDetails(key=text)).data
    path = folder / "user.pem"
    path.write_text(pem)
    return side.sdk_config() | {"user": user.id, "fingerprint": key.fingerprint, "key_file": str(path)}


def test_a_new_tenancy_has_an_administrator_one_compartment_and_nothing_else(side: Side):
    client, tenancy = side.identity(), side.config.tenancy
    assert client.get_tenancy(tenancy).data.home_region_key == "NRT"
    assert [r.region_name for r in client.list_region_subscriptions(tenancy).data if r.is_home_region] == [
        "ap-tokyo-1"
    ]
    assert "ap-osaka-1" in [region.name for region in client.list_regions().data]
    assert [c.id for c in client.list_compartments(tenancy).data] == [side.config.compartment]
    assert client.get_compartment(tenancy).data.id == tenancy
    assert [u.id for u in client.list_users(tenancy).data] == [side.sdk_config()["user"]]
    assert [g.name for g in client.list_groups(tenancy).data] == ["Administrators"]
    assert [d.display_name for d in client.list_domains(tenancy).data] == ["Default"]
    assert len(client.list_policies(tenancy).data) == 1
    assert len(client.list_availability_domains(tenancy).data) == 1
    assert (
        client.list_api_keys(side.sdk_config()["user"]).data[0].fingerprint
        == side.sdk_config()["fingerprint"]
    )


def test_users_groups_and_memberships_are_made_found_and_removed(side: Side):
    client, tenancy = side.identity(), side.config.tenancy
    user, group = make_user(side), make_group(side)
    member = join(side, user, group)
    assert [m.id for m in client.list_user_group_memberships(tenancy, user_id=user.id).data] == [member.id]
    assert client.list_user_group_memberships(tenancy, group_id="ocid1.group.oc1..x").data == []
    assert [u.id for u in client.list_users(tenancy, name="todoku-relay").data] == [user.id]
    refused(lambda: make_user(side), 409, "UserAlreadyExists", "already exists")
    refused(lambda: make_group(side), 409, "GroupAlreadyExists")
    refused(lambda: join(side, user, group), 409, "MembershipAlreadyExists")
    refused(lambda: client.delete_group(group.id), 409, "Conflict", "membership")
    details = models.UpdateUserDetails(description="changed")
    assert client.update_user(user.id, details).data.description == "changed"
    client.remove_user_from_group(member.id)
    client.delete_user(user.id)
    client.delete_group(group.id)
    refused(lambda: client.get_user(user.id), 404, "NotAuthorizedOrNotFound")
    assert client.list_groups(tenancy, name="todoku-senders").data == []


def test_what_is_missing_or_wrong_is_said(side: Side):
    client, tenancy = side.identity(), side.config.tenancy
    no_email = models.CreateUserDetails(compartment_id=tenancy, name="x", description="y")
    refused(lambda: client.create_user(no_email), 400, "MissingParameter", "email")
    bad_name = models.CreateGroupDetails(compartment_id=tenancy, name="with space", description="y")
    refused(lambda: client.create_group(bad_name), 400, "InvalidParameter", "characters")
    elsewhere = models.CreateGroupDetails(compartment_id=side.config.compartment, name="x", description="y")
    refused(lambda: client.create_group(elsewhere), 400, "InvalidParameter", "tenancy")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("Let group g use email-family in tenancy", "cannot parse the statement"),
        ("Allow group todoku-senders to manage email-return-paths in tenancy", "no permissions found"),
        ("Allow group todoku-senders to use e-mail in tenancy", "no permissions found"),
        ("Allow group nobody to use email-family in tenancy", "group nobody does not exist"),
        ("Allow group 'Other'/'todoku-senders' to use email-family in tenancy", "does not exist"),
        (
            "Allow group todoku-senders to use email-family in compartment nowhere",
            "Compartment {nowhere} does not",
        ),
        (
            "Allow group todoku-senders to use email-family in tenancy where x is y",
            "cannot parse the condition",
        ),
    ],
)
def test_a_policy_with_a_wrong_statement_is_refused(side: Side, statement: str, words: str):
    make_group(side)
    refused(lambda: make_policy(side, statement), 400, "InvalidParameter", words)


def test_a_user_may_do_only_what_policies_allow_and_dkims_are_not_in_the_email_family(
    side: Side, tmp_path: Path
):
    user, group = make_user(side), make_group(side)
    join(side, user, group)
    own = side.email(config=config_of(side, user, tmp_path))
    where = side.config.compartment
    details = oci.email.models.CreateEmailDomainDetails(name="hoge.example", compartment_id=where)
    refused(lambda: own.create_email_domain(details), 404, "NotAuthorizedOrNotFound", "Authorization failed")
    policy = make_policy(side, "Allow group todoku-senders to read email-family in compartment mail")
    assert own.list_email_domains(where).data.items == []
    refused(lambda: own.create_email_domain(details), 404, "NotAuthorizedOrNotFound")
    statement = f"Allow group 'Default'/'todoku-senders' to manage email-family in compartment id {where}"
    side.identity().update_policy(policy.id, models.UpdatePolicyDetails(statements=[statement]))
    domain = own.create_email_domain(details).data
    until(lambda: own.get_email_domain(domain.id).data.lifecycle_state == "ACTIVE")
    key = oci.email.models.CreateDkimDetails(name="s1", email_domain_id=domain.id)
    refused(lambda: own.create_dkim(key), 404, "NotAuthorizedOrNotFound")
    more = models.UpdatePolicyDetails(
        statements=[statement, "Allow group todoku-senders to manage dkims in compartment mail"]
    )
    side.identity().update_policy(policy.id, more)
    own.create_dkim(key)
    # The suppression list is the tenancy's, which the statements do not cover.
    refused(lambda: own.list_suppressions(side.config.tenancy), 404, "NotAuthorizedOrNotFound")
    refused(
        lambda: side.client(oci.identity.IdentityClient, config_of_existing(side, own)).list_users(
            side.config.tenancy
        ),
        404,
        "NotAuthorizedOrNotFound",
    )


def config_of_existing(side: Side, client: Any) -> dict[str, Any]:
    return client.base_client.config


def test_a_new_policy_takes_its_time(side: Side, tmp_path: Path):
    side.switch(policy_propagation_s=10)
    user, group = make_user(side), make_group(side)
    join(side, user, group)
    own = side.email(config=config_of(side, user, tmp_path))
    make_policy(side, "Allow group todoku-senders to manage email-family in compartment mail")
    refused(lambda: own.list_email_domains(side.config.compartment), 404, "NotAuthorizedOrNotFound")
    side.switch(advance_s=11)
    assert own.list_email_domains(side.config.compartment).data.items == []


def test_a_condition_narrows_what_is_allowed(side: Side, tmp_path: Path):
    user, group = make_user(side), make_group(side)
    join(side, user, group)
    own = side.email(config=config_of(side, user, tmp_path))
    make_policy(
        side,
        "Allow group todoku-senders to manage approved-senders in compartment mail "
        "where any {target.approved-sender.email-domain = 'hoge.example', "
        "target.approved-sender.emailaddress = /*@sub.hoge.example/}",
    )

    def create(address: str) -> Any:
        details = oci.email.models.CreateSenderDetails(
            email_address=address, compartment_id=side.config.compartment
        )
        return own.create_sender(details)

    create("a@hoge.example")
    create("a@sub.hoge.example")
    refused(lambda: create("a@other.example"), 404, "NotAuthorizedOrNotFound")


def test_smtp_needs_a_credential_and_a_policy_over_the_senders_compartment(side: Side):
    user, group = make_user(side), make_group(side)
    client, state = side.identity(), side.relay.state
    details = models.CreateSmtpCredentialDetails(description="todoku")
    made = client.create_smtp_credential(details, user.id).data
    assert made.username.startswith(f"{user.id}@{side.config.tenancy}.")
    assert len(made.password) == 20
    assert any(not character.isalnum() for character in made.password)
    name, password = made.username.encode(), made.password.encode()
    until(lambda: state.authenticate(name, password) == user.id)
    assert state.authenticate(name, password + b" ") is None
    listed = client.list_smtp_credentials(user.id).data
    assert [(c.id, c.lifecycle_state, hasattr(c, "password")) for c in listed] == [(made.id, "ACTIVE", False)]
    sender = oci.email.models.CreateSenderDetails(
        email_address="a@hoge.example", compartment_id=side.config.compartment
    )
    side.email().create_sender(sender)
    until(lambda: state.is_approved("a@hoge.example"))
    assert not state.is_approved("a@hoge.example", user.id)
    join(side, user, group)
    make_policy(side, "Allow group todoku-senders to use email-family in compartment mail")
    assert state.is_approved("a@hoge.example", user.id)


def test_a_user_has_two_smtp_credentials_at_most_and_a_deleted_one_is_dead_at_once(side: Side):
    user = make_user(side)
    client, state = side.identity(), side.relay.state
    details = models.CreateSmtpCredentialDetails(description="")
    first, second = (client.create_smtp_credential(details, user.id).data for _ in range(2))
    refused(lambda: client.create_smtp_credential(details, user.id), 400, "LimitExceeded", "at most 2")
    until(lambda: len(state.credentials) == 2)
    change = models.UpdateSmtpCredentialDetails(description="old")
    assert client.update_smtp_credential(user.id, first.id, change).data.description == "old"
    client.delete_smtp_credential(user.id, first.id)
    assert list(state.credentials) == [second.username]
    off = models.UpdateUserCapabilitiesDetails(can_use_smtp_credentials=False)
    assert client.update_user_capabilities(user.id, off).data.capabilities.can_use_smtp_credentials is False
    assert state.credentials == {}
    refused(lambda: client.create_smtp_credential(details, user.id), 400, "InvalidParameter", "capabilities")


def test_iam_is_written_in_the_home_region_only(
    plan: InternetPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "pki/ca.pem"))
    for side in running(empty(plan, home_region="ap-osaka-1"), tmp_path):
        assert side.identity().get_tenancy(side.config.tenancy).data.home_region_key == "KIX"
        refused(lambda side=side: make_user(side), 403, "NotAllowed", "Please go to your home region KIX")


def test_the_instances_certificate_gets_a_token_and_dynamic_groups_give_it_rights(
    side: Side, monkeypatch: pytest.MonkeyPatch
):
    listen = side.cloud.metadata.listen
    monkeypatch.setenv("OCI_METADATA_BASE_URL", f"http://{listen.host}:{listen.port}/opc/v2")
    signer = oci.auth.signers.InstancePrincipalsSecurityTokenSigner(
        federation_endpoint=f"{side.endpoint}/v1/x509"
    )
    assert (signer.region, signer.tenancy_id) == ("ap-tokyo-1", side.config.tenancy)
    email = side.client(oci.email.EmailClient, {"region": signer.region}, signer=signer)
    where = side.config.compartment
    refused(lambda: email.list_email_domains(where), 404, "NotAuthorizedOrNotFound")
    group = models.CreateDynamicGroupDetails(
        compartment_id=side.config.tenancy,
        name="mail-hosts",
        description="our mail host",
        matching_rule=f"Any {{instance.compartment.id = '{where}'}}",
    )
    side.identity().create_dynamic_group(group)
    make_policy(side, "Allow dynamic-group mail-hosts to manage email-family in compartment mail")
    details = oci.email.models.CreateEmailDomainDetails(name="hoge.example", compartment_id=where)
    assert email.create_email_domain(details).data.name == "hoge.example"
    refused(lambda: email.list_suppressions(side.config.tenancy), 404, "NotAuthorizedOrNotFound")


def test_the_metadata_service_wants_its_header(side: Side):
    import urllib.error
    import urllib.request

    listen = side.cloud.metadata.listen
    url = f"http://{listen.host}:{listen.port}/opc/v2/instance/"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=60)
    assert caught.value.code == 401
    request = urllib.request.Request(url, headers={"Authorization": "Bearer Oracle"})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert b'"compartmentId"' in response.read()


def test_the_simulator_does_not_use_the_sdk_that_it_is_proven_with():
    import subprocess
    import sys

    code = "import sys, todoku.rehearsal.servers; print('oci' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_client_configuration_is_secret_and_complete(side: Side):
    path = side.config.config_file
    assert [p.stat().st_mode & 0o777 for p in (path, path.parent / "api_key.pem")] == [0o600, 0o600]
    oci.config.validate_config(side.sdk_config())
    assert (side.config.profile, side.sdk_config()["region"]) == ("DEFAULT", "ap-tokyo-1")
