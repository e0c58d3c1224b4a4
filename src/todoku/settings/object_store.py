"""A place for encrypted attachments that is not this host's disk: any store that speaks S3, as settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from todoku.settings import values
from todoku.settings.base import Frozen
from todoku.settings.problems import WrongValueError, wrong
from todoku.settings.values import FilePath

CREDENTIAL_FILE = Path("/etc/todoku/secrets/object-store")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")  # Amazon's are stricter, Oracle's less so
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def https_endpoint(value: Any) -> str:
    """https://HOST or https://HOST:PORT, nothing behind it."""
    text = value.strip().rstrip("/") if isinstance(value, str) else ""
    try:
        place = urlsplit(text)
        found = place.port or 443
    except ValueError:
        place, found = urlsplit(""), 0
    alone = text.isascii() and not (place.path or place.query or place.fragment or "@" in place.netloc)
    if place.scheme != "https" or not place.hostname or not found or not alone:
        raise wrong(
            f"is {values.kind(value)}, not the https:// address of a store",
            'write it without the bucket, for example "https://NAMESPACE.compat.objectstorage.REGION.oraclecloud.com"',
        )
    return text


def _bucket(value: Any) -> str:
    if not isinstance(value, str) or not _BUCKET.fullmatch(value):
        raise WrongValueError(f"is {value!r}, not the name of a bucket", 'write for example "attachments"')
    return value


def _region(value: Any) -> str:
    if not isinstance(value, str) or not _REGION.fullmatch(value):
        raise WrongValueError(f"is {value!r}, not a region", 'write for example "ap-tokyo-1"')
    return value


class ObjectStore(Frozen):
    """Where the encrypted files behind links lie, in the place of this host's disk: any store that speaks S3."""

    endpoint: Annotated[str, BeforeValidator(https_endpoint)] = Field(
        description="The store's address. Oracle's is https://NAMESPACE.compat.objectstorage.REGION.oraclecloud.com, "
        "with the tenancy's Object Storage namespace.",
        examples=["https://axexample.compat.objectstorage.ap-tokyo-1.oraclecloud.com"],
    )
    bucket: Annotated[str, BeforeValidator(_bucket)] = Field(
        description="The bucket, which has to be there. Below a folder of the host's name, all in it is Todoku's.",
        examples=["attachments"],
    )
    region: Annotated[str, BeforeValidator(_region)] = Field(
        description="The region that requests are signed for.", examples=["ap-tokyo-1"]
    )
    credential_file: FilePath = Field(
        CREDENTIAL_FILE,
        description="A file that only root can read, with the access key on its first line and the secret key on its "
        "second (at Oracle, a Customer Secret Key).",
        examples=["/etc/todoku/secrets/object-store"],
    )
