# Oracle refuses with "404" and does not say whom it has refused what. Todoku says which policy statement is
# missing, with the real name of the group, where it may be read.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oci
import pytest
from clouds import Tenancy
from conftest import World
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from todoku.dns.oci_caller import Caller
from todoku.dns.oci_publisher import OciPublisher
from todoku.dns.publisher import PublisherFailed, Replacement


@pytest.fixture
def tenancy(world: World) -> Tenancy:
    return Tenancy(world)


@pytest.fixture
def clerk(tenancy: Tenancy, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The SDK's configuration of a user in the group "mail-clerks", which has no right at all."""
    models, identity, root = oci.identity.models, tenancy.identity, tenancy.config["tenancy"]
    details = {"compartment_id": root, "description": "-"}
    user = identity.create_user(models.CreateUserDetails(name="clerk", email="c@x.example", **details)).data
    group = identity.create_group(models.CreateGroupDetails(name="mail-clerks", **details)).data
    member = identity.add_user_to_group(models.AddUserToGroupDetails(user_id=user.id, group_id=group.id)).data
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    uploaded = identity.upload_api_key(user.id, models.CreateApiKeyDetails(key=public.decode())).data
    path = tmp_path / "key.pem"
    path.touch(0o600)
    path.write_bytes(private)
    yield {
        **tenancy.config, "user": user.id, "fingerprint": uploaded.fingerprint, "key_file": str(path)
    }  # fmt: skip
    identity.delete_api_key(user.id, uploaded.fingerprint)
    identity.remove_user_from_group(member.id)
    identity.delete_group(group.id)
    identity.delete_user(user.id)


def refusals(config: dict[str, Any], tenancy: Tenancy) -> list[str]:
    """What is said when the zones, a zone, and a record set are asked for."""
    zone = tenancy.world.domain
    publisher = OciPublisher(oci.dns.DnsClient(config), tenancy.compartment, Caller(oci, config))
    replacement = Replacement(f"x.{zone}", "A", (), ("192.0.2.1",), 300)
    said = []
    for ask in (
        lambda: publisher.zone_of(zone),
        lambda: publisher.look(zone, zone, "MX"),
        lambda: publisher.apply(zone, replacement),
    ):
        with pytest.raises(PublisherFailed) as refused:
            ask()
        said.append(str(refused.value))
    return said


def test_the_missing_statement_names_the_group_where_it_may_be_read(
    tenancy: Tenancy, clerk: dict[str, Any]
) -> None:
    models = oci.identity.models
    rights = ["users", "groups"]
    policy = tenancy.identity.create_policy(
        models.CreatePolicyDetails(
            compartment_id=tenancy.config["tenancy"], name="clerks", description="-",
            statements=[f"Allow group mail-clerks to inspect {right} in tenancy" for right in rights],
        )
    ).data  # fmt: skip
    try:
        for said in refusals(clerk, tenancy):
            assert f"Allow group mail-clerks to manage dns in compartment id {tenancy.compartment}" in said
    finally:
        tenancy.identity.delete_policy(policy.id)


def test_where_the_group_may_not_be_read_it_is_said_where_to_find_it(
    tenancy: Tenancy, clerk: dict[str, Any]
) -> None:
    for said in refusals(clerk, tenancy):
        assert f"Allow group NAME to manage dns in compartment id {tenancy.compartment}" in said
        assert f"NAME is a group that the user {clerk['user']} is in (console: " in said
