# Oracle refuses: a wrong key, a clock that is off, a right that is missing, a region that is not ours, somebody
# else's domain. Each is told in words that say what to do, and nothing is changed.

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oci
import pytest
from clouds import Tenancy, plan, problems, settle, writes
from conftest import CONFIG, World
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

pytestmark = pytest.mark.slow


@pytest.fixture
def tenancy(world: World) -> Tenancy:
    return Tenancy(world)


def settings(folder: Path, **cloud: str) -> str:
    """The path of a copy of the settings with other values in [cloud]."""
    lines = "".join(f'{key} = "{value}"\n' for key, value in cloud.items())
    path = folder / "todoku.toml"
    path.write_text(CONFIG.read_text().replace("\n[cloud]\n", f"\n[cloud]\n{lines}"))
    return str(path)


def new_key(folder: Path) -> tuple[Path, str]:
    """A private key's file, and its public half as PEM."""
    key = rsa.generate_private_key(65537, 2048)
    path = folder / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return path, public.decode()


def login(tenancy: Tenancy, folder: Path, **other: str) -> str:
    """The path of a copy of the API configuration with other values."""
    named = ("user", "fingerprint", "tenancy", "region", "key_file")
    values = {name: tenancy.config[name] for name in named} | other
    path = folder / "oci"
    path.write_text("[DEFAULT]\n" + "".join(f"{key}={value}\n" for key, value in values.items()))
    path.chmod(0o600)
    return str(path)


def refused(world: World, config: str) -> str:
    """The problems of a plan that cannot be carried out; apply refuses it too, and changes nothing."""
    planned = json.loads(world.todoku("--config", config, "plan", "--json").stdout)
    assert not planned["ok"]
    done = world.todoku("--config", config, "apply", "--yes")
    assert done.returncode == 1, done.stdout
    assert "nothing was changed" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert writes(world) == {}
    return problems(planned)


def test_a_key_that_is_not_the_users_is_told_as_that(world: World, tenancy: Tenancy, tmp_path: Path) -> None:
    key, _ = new_key(tmp_path)
    told = refused(world, settings(tmp_path, config_file=login(tenancy, tmp_path, key_file=str(key))))
    assert "does not accept the API key" in told
    assert "fingerprint" in told


def test_a_key_file_that_is_not_there_is_told(world: World, tenancy: Tenancy, tmp_path: Path) -> None:
    config = settings(tmp_path, config_file=login(tenancy, tmp_path, key_file="/no/such.pem"))
    done = world.todoku("--config", config, "apply", "--yes")
    assert done.returncode == 1
    assert "no plan could be made" in done.stderr
    assert "key_file" in done.stderr or "/no/such.pem" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert writes(world) == {}


def test_a_clock_that_is_off_is_told_with_by_how_much(world: World, tmp_path: Path) -> None:
    # Only for the one program: the world's clock is this machine's.
    (tmp_path / "sitecustomize.py").write_text(
        "import datetime, time\n"
        "now, real = time.time, datetime.datetime\n"
        "time.time = lambda: now() - 1000\n"
        "class Slow(real):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None):\n"
        "        return real.now(tz) - datetime.timedelta(seconds=1000)\n"
        "datetime.datetime = Slow\n"
    )
    done = subprocess.run(
        ["todoku", "plan", "--json"], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    told = problems(json.loads(done.stdout))
    assert "the clock of this machine is wrong by" in told
    assert "s (behind)" in told
    assert "timedatectl set-ntp true" in told


@pytest.fixture
def limited(tenancy: Tenancy, tmp_path: Path) -> Iterator[str]:
    """An API configuration whose user may do all that "email-family" gives, which is what people grant."""
    models, identity = oci.identity.models, tenancy.identity
    root = tenancy.config["tenancy"]
    made: list[Any] = []
    user = identity.create_user(
        models.CreateUserDetails(compartment_id=root, name="limited", description="-", email="l@x.example")
    ).data
    made.append(lambda: identity.delete_user(user.id))
    try:
        group = identity.create_group(
            models.CreateGroupDetails(compartment_id=root, name="limited", description="-")
        ).data
        made.append(lambda: identity.delete_group(group.id))
        member = identity.add_user_to_group(
            models.AddUserToGroupDetails(user_id=user.id, group_id=group.id)
        ).data
        made.append(lambda: identity.remove_user_from_group(member.id))
        statements = [
            f"Allow group limited to manage email-family in compartment id {tenancy.compartment}",
            f"Allow group limited to manage dns in compartment id {tenancy.compartment}",
        ]
        policy = identity.create_policy(
            models.CreatePolicyDetails(
                compartment_id=tenancy.compartment, name="limited", description="-", statements=statements
            )
        ).data
        made.append(lambda: identity.delete_policy(policy.id))
        path, public = new_key(tmp_path)
        key = identity.upload_api_key(user.id, models.CreateApiKeyDetails(key=public)).data
        yield login(tenancy, tmp_path, user=user.id, fingerprint=key.fingerprint, key_file=str(path))
    finally:
        for undo in reversed(made):
            undo()


def test_a_missing_right_is_told_as_the_policy_statement_that_gives_it(
    world: World, tenancy: Tenancy, limited: str, tmp_path: Path
) -> None:
    # DKIM keys are not part of email-family: many a policy lacks them, and Oracle only says "404".
    world.relay(reset=True)
    told = refused(world, settings(tmp_path, config_file=limited))
    assert f"Allow group YOUR-GROUP to read dkims in compartment id {tenancy.compartment}" in told
    assert "Allow group YOUR-GROUP to inspect users in tenancy" in told
    assert "to read email-domains" not in told  # what is allowed is not asked for


def test_a_region_without_a_subscription_is_told_as_that(world: World, tmp_path: Path) -> None:
    path = tmp_path / "todoku.toml"
    text = CONFIG.read_text()
    assert 'region = "ap-tokyo-1"' in text
    path.write_text(text.replace('region = "ap-tokyo-1"', 'region = "eu-frankfurt-1"'))
    told = refused(world, str(path))
    assert "is eu-frankfurt-1 right?" in told
    planned = json.loads(world.todoku("--config", str(path), "plan", "--json").stdout)
    assert any("not subscribed to it (it is to ap-tokyo-1)" in note for note in planned["notes"])


def test_a_domain_of_another_tenancy_is_told_as_that_and_apply_goes_on_when_it_is_free(
    world: World, tenancy: Tenancy
) -> None:
    done = world.todoku("destroy", "--confirm", world.domain, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    world.relay(advance_s=2 * 86_400)
    try:
        world.relay(claimed=[world.domain])
        done = world.todoku("apply", "--yes", "--json")
        outcome = json.loads(done.stdout.splitlines()[-1])
        assert done.returncode == 1
        (failed,) = outcome["failed"]
        assert failed["id"] == f"email-domain:{world.domain}"
        assert "another tenancy has claimed it" in failed["reason"]
        assert f"dkim:{world.domain}" in [each["id"] for each in outcome["not_tried"]]
    finally:
        world.relay(reset=True)
        settle(world)
    assert plan(world)["changes"] == 0
