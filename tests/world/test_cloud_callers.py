# Who asks, and where: an instance without any key, a key that is wrong, people in an identity domain of their own,
# a home region that is not the region in which mail is sent.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oci
import pytest
from clouds import Tenancy, configured, fully_aligned, plan, problems, settle, writes
from conftest import World

pytestmark = pytest.mark.slow  # each applies several times


@pytest.fixture
def tenancy(world: World) -> Iterator[Tenancy]:
    world.relay(reset=True)
    yield Tenancy(world)
    world.relay(reset=True)


def callers(world: World, operation: str) -> set[str]:
    """The OCIDs that asked for `operation` since the switchboard was reset."""
    calls = world.relay()["rest_seen"]["calls"]
    return {call["principal"] for call in calls if call["operation"] == operation}


# --- an instance principal


@pytest.fixture
def instances(tenancy: Tenancy, world: World) -> Iterator[str]:
    """The name of a dynamic group that this machine is in, with the rights of docs/cloud.md."""
    models, identity, root = oci.identity.models, tenancy.identity, tenancy.config["tenancy"]
    where = f"compartment id {tenancy.compartment}"
    rights = [
        f"manage email-family in {where}",
        f"manage dkims in {where}",
        f"manage policies in {where}",
        f"manage dns in {where}",
        f"manage log-groups in {where}",
        f"read log-content in {where}",
        "inspect tenancies in tenancy",
        "manage users in tenancy",
        "manage groups in tenancy",
        "manage credentials in tenancy where target.credential.type = 'smtp'",
    ]
    group = identity.create_dynamic_group(
        models.CreateDynamicGroupDetails(
            compartment_id=root,
            name="this-host",
            description="-",
            matching_rule=f"instance.compartment.id = '{tenancy.compartment}'",
        )
    ).data
    policy = identity.create_policy(
        models.CreatePolicyDetails(
            compartment_id=root,
            name="this-host",
            description="-",
            statements=[f"Allow dynamic-group this-host to {right}" for right in rights],
        )
    ).data
    yield "this-host"
    identity.delete_policy(policy.id)
    identity.delete_dynamic_group(group.id)


def test_an_instance_without_rights_is_told_the_statement_for_its_dynamic_group(
    world: World, tenancy: Tenancy
) -> None:
    with configured(auth="instance_principal"):
        told = problems(plan(world))
    assert (
        f"Allow dynamic-group YOUR-DYNAMIC-GROUP to read email-domains in compartment id {tenancy.compartment}"
        in told
    )
    assert writes(world) == {}


def test_an_instance_needs_no_key_and_does_all_of_it(world: World, tenancy: Tenancy, instances: str) -> None:
    (whole,) = [each for each in tenancy.senders if each.email_address == f"@{world.domain}"]
    with configured(auth="instance_principal", config_file="/no/such/file"):
        steps = [step for step in plan(world)["steps"] if step["world"] != "host"]
        assert len(steps) > 15
        assert not [step for step in steps if step["action"] or step["problem"]]  # sees all, and all is there
        tenancy.email.delete_sender(whole.id)
        assert f"sender:@{world.domain}" in world.apply()["changed"]
    (caller,) = callers(world, "create_sender")
    assert caller.startswith("ocid1.instance.")
    assert world.relay()["rest_seen"]["operations"]["get_security_token"] >= 1
    settle(world)


# --- a wrong key


def test_a_wrong_key_is_told_once_and_not_in_every_row(
    world: World, tenancy: Tenancy, tmp_path: Path
) -> None:
    lines = Path(tenancy.world.described["cloud"]["config_file"]).read_text().splitlines()
    path = tmp_path / "oci"
    wrong = "fingerprint=" + ":".join(["00"] * 16)
    path.write_text("\n".join(wrong if line.startswith("fingerprint") else line for line in lines))
    path.chmod(0o600)
    with configured(config_file=str(path)):
        done = world.todoku("plan")
    assert done.returncode == 1
    assert done.stdout.count("Oracle does not accept the API key") == 1, done.stdout
    assert "as for " in done.stdout


# --- another home region


def test_iam_is_written_in_the_home_region_and_mail_is_set_up_in_the_other_one(
    world: World, tenancy: Tenancy
) -> None:
    world.relay(home_elsewhere=True)
    notes = "\n".join(plan(world)["notes"])
    assert "relay.region is ap-tokyo-1, but the tenancy's home region is eu-frankfurt-1" in notes
    assert "always-free quota" in notes
    home = oci.identity.IdentityClient({**tenancy.config, "region": "eu-frankfurt-1"})
    (policy,) = [p for p in home.list_policies(tenancy.compartment).data if p.name == "todoku-senders"]
    (whole,) = [each for each in tenancy.senders if each.email_address == f"@{world.domain}"]
    home.delete_policy(policy.id)
    tenancy.email.delete_sender(whole.id)
    # The simulator refuses what is written to IAM elsewhere, as Oracle does; reads may go anywhere.
    outcome = world.apply()
    assert {"iam-policy:todoku-senders", f"sender:@{world.domain}"} <= set(outcome["changed"])
    made = {c["operation"]: c["host"] for c in world.relay()["rest_seen"]["calls"] if c["status"] < 300}
    assert "eu-frankfurt-1" in made["create_policy"]
    assert "ap-tokyo-1" in made["create_sender"]
    world.relay(home_elsewhere=False)
    settle(world)


# --- another identity domain


@pytest.fixture
def staff(tenancy: Tenancy, world: World) -> Iterator[Any]:
    """The SDK's client of a new identity domain, Staff, which the settings name for the time being."""
    root = tenancy.config["tenancy"]
    details = oci.identity.models.CreateDomainDetails(
        compartment_id=root,
        display_name="Staff",
        description="-",
        home_region="ap-tokyo-1",
        license_type="free",
    )
    tenancy.identity.create_domain(details)
    (domain,) = [d for d in tenancy.identity.list_domains(root).data if d.display_name == "Staff"]
    client = oci.identity_domains.IdentityDomainsClient(tenancy.config, domain.url)
    with configured(identity_domain="Staff"):
        yield client
    for policy in tenancy.policies:
        tenancy.identity.delete_policy(policy.id)  # with a statement for the group that goes
    settle(world)
    for user in client.list_users().data.resources:
        client.delete_user(user.id)
    for group in client.list_groups().data.resources:
        client.delete_group(group.id)


def test_the_sending_user_can_live_in_another_identity_domain(
    world: World, tenancy: Tenancy, staff: Any
) -> None:
    settle(world)
    (user,) = staff.list_users(filter='userName eq "todoku-relay"').data.resources
    (credential,) = staff.list_smtp_credentials(filter=f'user.value eq "{user.id}"').data.resources
    assert credential.user_name == Path("/etc/todoku/secrets/relay").read_text().splitlines()[0]
    (policy,) = [p for p in tenancy.policies if p.name == "todoku-senders"]
    assert any("'Staff'/'todoku-senders'" in statement for statement in policy.statements)
    world.submit(world.alice, world.carol, "from another identity domain")
    assert not fully_aligned(world, world.wait_for("from another identity domain"))
    assert credential.user_name.startswith(f"{user.ocid}@")  # with which Postfix has logged in
