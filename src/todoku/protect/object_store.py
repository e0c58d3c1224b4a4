"""Encrypted files in any store that speaks S3, in the place of this host's disk (Oracle's Object Storage is one).

By botocore, Amazon's own client and the only one that every such store is tested with; imported where a store is
configured, and nowhere else. Requests are signed (Signature Version 4), the certificate is verified, buckets are named
in the path, and checksums and chunks of Amazon's own are left out: Oracle's store refuses them. What is larger than one
part is uploaded in parts as it comes, and counts only once it is complete; what stays incomplete is removed.
"""

from __future__ import annotations

import codecs
import functools
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from todoku.settings import Settings, StoreCredential

log = logging.getLogger(__name__)

# What the gate and the page read; `todoku apply` makes it from the administrator's file, which they may not enter.
CREDENTIAL = Path("/var/lib/todoku/protect/store-credential")
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
PART = 8 * 1024 * 1024  # bytes; S3 takes none but the last below 5 MiB
_READ = 256 * 1024
_CONNECT, _READ_TIMEOUT = 5, 30  # seconds
_TRIES = 3
_NOT_INSTALLED = (
    "[protect.store] needs botocore: pip install 'todoku[object-store]' in Todoku's environment, "
    "or leave the table out"
)
_CODECS = (
    "ascii",
    "idna",
    "iso-8859-1",
    "utf-8",
)  # that names, headers and answers are read and written with
_KEY_FAULTS = {
    "AccessDenied", "Forbidden", "InvalidAccessKeyId", "NotAuthenticated", "NotAuthorized", "SignatureDoesNotMatch",
    "401", "403",
}  # fmt: skip


class StoreFailed(OSError):
    """The store did not do what it was asked; the text says which, what it said, and what to do."""


class NoSuchObject(StoreFailed):
    """It is not there (any more)."""


class ObjectStore:
    """One bucket, below a prefix. Everything blocks: for a thread. Raises StoreFailed, with its words."""

    def __init__(self, client: Any, endpoint: str, bucket: str, prefix: str) -> None:
        self._client = client
        self._place = endpoint.removeprefix("https://")
        self._bucket = bucket
        self._prefix = prefix

    def put(self, name: str, pieces: Iterable[bytes]) -> int:
        """Bytes written. Whatever goes wrong, `pieces` included, nothing of it is there."""
        waiting, size, upload = bytearray(), 0, ""
        parts: list[dict[str, Any]] = []
        try:
            for piece in pieces:
                waiting += piece
                size += len(piece)
                while len(waiting) > PART:
                    if not upload:
                        upload = self._ask("create_multipart_upload", Key=self._key(name))["UploadId"]
                    parts.append(self._part(name, upload, len(parts) + 1, bytes(waiting[:PART])))
                    del waiting[:PART]
            if not upload:
                self._ask("put_object", Key=self._key(name), Body=bytes(waiting))
                return size
            parts.append(self._part(name, upload, len(parts) + 1, bytes(waiting)))
            together = {"Parts": parts}
            self._ask(
                "complete_multipart_upload", Key=self._key(name), UploadId=upload, MultipartUpload=together
            )
        except BaseException:
            if upload:
                self._abandon(self._key(name), upload)
            raise
        return size

    def _part(self, name: str, upload: str, number: int, content: bytes) -> dict[str, Any]:
        answer = self._ask(
            "upload_part", Key=self._key(name), UploadId=upload, PartNumber=number, Body=content
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abandon(self, key: str, upload: str) -> None:
        try:
            self._ask("abort_multipart_upload", Key=key, UploadId=upload)
        except StoreFailed as problem:
            log.warning("an incomplete upload is left for later: %s", problem)

    @contextmanager
    def read(self, name: str, first: int, after: int) -> Iterator[Callable[[int], bytes]]:
        """What reads on from byte `first` to before `after`, at most as many bytes as are asked for."""
        answer = self._ask("get_object", Key=self._key(name), Range=f"bytes={first}-{after - 1}")
        body = answer["Body"]
        try:
            yield lambda octets: self._said("get_object", lambda: body.read(octets))
        finally:
            body.close()

    def remove(self, name: str) -> None:
        """Nothing happens when it is not there."""
        self._ask("delete_object", Key=self._key(name))

    def names(self) -> Iterator[tuple[str, float]]:
        """Everything that is there, and when it was written (seconds since 1970)."""
        more: dict[str, str] = {}
        while True:
            answer = self._ask("list_objects_v2", Prefix=self._prefix, **more)
            for each in answer.get("Contents", ()):
                yield each["Key"].removeprefix(self._prefix), each["LastModified"].timestamp()
            if not answer.get("IsTruncated"):
                return
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def remove_incomplete(self, before: float) -> int:
        """Uploads that were begun before that moment and not finished; how many there were."""
        found: list[tuple[str, str]] = []
        more: dict[str, str] = {}
        while True:
            try:
                answer = self._ask("list_multipart_uploads", Prefix=self._prefix, **more)
            except NoSuchObject:  # what rclone's server says where there are none
                break
            found += [
                (each["Key"], each["UploadId"])
                for each in answer.get("Uploads", ())
                if each["Key"].startswith(self._prefix) and each["Initiated"].timestamp() < before
            ]
            if not answer.get("IsTruncated"):
                break
            more = {
                "KeyMarker": answer["NextKeyMarker"],
                "UploadIdMarker": answer.get("NextUploadIdMarker", ""),
            }
        for key, upload in found:
            with suppress(NoSuchObject):  # it has ended meanwhile
                self._ask("abort_multipart_upload", Key=key, UploadId=upload)
        return len(found)

    def look(self) -> None:
        """Whether the bucket is there, and the key may see what is in it."""
        self._ask("list_objects_v2", Prefix=self._prefix, MaxKeys=1)

    def try_out(self) -> None:
        """Whether all that is needed works: a few bytes are written, read and removed."""
        name, content = f"try-{secrets.token_hex(8)}", secrets.token_bytes(64)
        self.put(name, [content])
        try:
            with self.read(name, 0, len(content)) as reading:
                found = reading(len(content))
            if found != content:
                raise StoreFailed(f"the object store {self._place} gave back something else than it got")
        finally:
            self.remove(name)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _ask(self, operation: str, **arguments: Any) -> Any:
        return self._said(
            operation, lambda: getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        )

    def _said(self, operation: str, work: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, SSLError
        from urllib3.exceptions import HTTPError

        try:
            return work()
        except ClientError as error:
            raise self._refused(operation, error.response) from None
        except SSLError as error:
            raise StoreFailed(
                f"the certificate of the object store {self._place} cannot be verified: {error}"
            ) from None
        except (BotoCoreError, HTTPClientError, HTTPError, OSError) as error:
            if isinstance(error, StoreFailed):
                raise
            raise StoreFailed(f"the object store {self._place} does not answer: {error}") from None

    def _refused(self, operation: str, response: dict[str, Any]) -> StoreFailed:
        said = response.get("Error", {})
        code = str(said.get("Code", ""))
        words = f"{code}: {said.get('Message', '')}".rstrip(": ")
        if code in ("NoSuchKey", "NoSuchUpload"):
            return NoSuchObject(f"the object store {self._place} has no such file: {words}")
        if code == "NoSuchBucket" or (code == "404" and operation != "get_object"):
            return StoreFailed(
                f'the object store {self._place} has no bucket "{self._bucket}": make it, or correct '
                "protect.store.bucket"
            )
        if code in _KEY_FAULTS:
            return StoreFailed(
                f"the object store {self._place} refuses the key ({words}): write a good one into "
                "protect.store.credential_file, give its user rights to the bucket, and run `todoku apply`"
            )
        return StoreFailed(f"the object store {self._place} refuses {operation} ({words})")


def of(settings: Settings, credential: StoreCredential | None = None) -> ObjectStore | None:
    """The store of the settings; None where files lie on the disk. `credential`: other than what `todoku apply` gave to
    the gate and the page. Raises StoreFailed."""
    wanted = settings.protect.store
    if wanted is None:
        return None
    known = credential or _given()
    client = _client(wanted.endpoint, wanted.region, known.access_key, known.secret_key)
    return ObjectStore(client, wanted.endpoint, wanted.bucket, f"{settings.hostname}/")


def prepare(settings: Settings) -> None:
    """Load what a client needs: once, before a process gives up its right to read files, and before it forks."""
    wanted = settings.protect.store
    if wanted is not None and settings.protect.on:
        for codec in _CODECS:
            codecs.lookup(codec)
        try:
            _client(wanted.endpoint, wanted.region, "none", "none")
        except StoreFailed as problem:
            log.error("%s", problem)


def _given() -> StoreCredential:
    try:
        access_key, secret_key = CREDENTIAL.read_bytes().decode("ascii").split("\n")[:2]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not as it was written"
        raise StoreFailed(
            f"{CREDENTIAL}, the object store's credential, cannot be read ({why}): run `todoku apply`"
        ) from None
    return StoreCredential(access_key, secret_key)


@functools.cache
def _session() -> Any:
    try:
        from botocore.session import Session
    except ImportError:
        raise StoreFailed(_NOT_INSTALLED) from None
    session = Session()
    for each in ("config_file", "credentials_file"):  # of whoever runs this
        session.set_config_variable(each, os.devnull)
    return session


@functools.lru_cache(8)
def _client(endpoint: str, region: str, access_key: str, secret_key: str) -> Any:
    """No connection is opened before it is needed."""
    session = _session()
    from botocore.config import Config

    logging.getLogger("botocore").setLevel(logging.WARNING)  # it would write down what it signs
    return session.create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        verify=os.environ.get("SSL_CERT_FILE", AUTHORITIES),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": _TRIES, "mode": "standard"},
            connect_timeout=_CONNECT,
            read_timeout=_READ_TIMEOUT,
            max_pool_connections=32,
            proxies={},
        ),
    )
