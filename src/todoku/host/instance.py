"""What an instance of Oracle's cloud is told about itself: the metadata service, version 2.

http://169.254.169.254/opc/v2/instance/ answers only with `Authorization: Bearer Oracle`, and is reachable from the
instance alone. https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

ADDRESS = "169.254.169.254"
_PATIENCE = 1.5  # seconds: where there is no such service, mostly nobody answers at all
_LARGEST = 1_000_000  # bytes


@dataclass(frozen=True, slots=True)
class Instance:
    """The instance that this machine is. Fields that it was not told are empty."""

    region: str  # "ap-tokyo-1"
    compartment: str  # the OCID
    id: str = ""  # the OCID


def ask(address: str = ADDRESS, port: int = 80) -> Instance | None:
    """The instance that this machine is; None when it is none of Oracle's, or cannot be asked."""
    connection = http.client.HTTPConnection(address, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/opc/v2/instance/", headers={"Authorization": "Bearer Oracle"})
        answer = connection.getresponse()
        told = json.loads(answer.read(_LARGEST)) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if not isinstance(told, dict):
        return None
    return Instance(_text(told, "canonicalRegionName"), _text(told, "compartmentId"), _text(told, "id"))


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""
