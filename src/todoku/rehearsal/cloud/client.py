"""The other end: a new tenancy, and the configuration with which the SDK and the command line get into it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from todoku.rehearsal.internet import pki
from todoku.rehearsal.internet.plan import CloudPlan

from .entries import ocid
from .tenancy import fingerprint

PROFILE = "DEFAULT"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What TODOKU_WORLD says under "cloud"."""

    config_file: Path
    profile: str
    tenancy: str
    compartment: str


def new_tenancy(home_region: str) -> CloudPlan:
    """An empty tenancy with new identifiers and a new API key. Takes some 0.1 s."""
    return CloudPlan(
        tenancy=ocid("tenancy"),
        compartment=ocid("compartment"),
        user=ocid("user"),
        api_private_key=pki.generate_dkim_key(),
        home_region=home_region,
        instance=ocid("instance", home_region),
    )


def write_client_config(state_dir: Path, cloud: CloudPlan, region: str) -> ClientConfig:
    """Write `state_dir`/oci/config and the key beside it, both 0600. `region`: where mail is sent from."""
    folder = state_dir / "oci"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = serialization.load_pem_private_key(cloud.api_private_key.encode(), password=None)
    if not isinstance(private, rsa.RSAPrivateKey):
        raise TypeError("the API key of the tenancy is not RSA; make the tenancy with new_tenancy()")
    key, config = folder / "api_key.pem", folder / "config"
    # The last line is what the console puts there and the command line wants to see.
    _write_secret(key, f"{cloud.api_private_key.rstrip()}\nOCI_API_KEY\n")
    lines = [
        f"[{PROFILE}]",
        f"user={cloud.user}",
        f"fingerprint={fingerprint(private.public_key())}",
        f"tenancy={cloud.tenancy}",
        f"region={region}",
        f"key_file={key}",
    ]
    _write_secret(config, "\n".join(lines) + "\n")
    return ClientConfig(config, PROFILE, cloud.tenancy, cloud.compartment)


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
