"""Publishing in Oracle's DNS service, through the official SDK.

One PATCH removes and adds the records of one set, on the condition (If-Match) that the set is still the one
that was looked at.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from todoku.dns import oci_auth
from todoku.dns.oci_caller import Caller
from todoku.dns.publisher import (
    ChangedMeanwhile,
    Found,
    Listing,
    Published,
    Publisher,
    PublisherFailed,
    Replacement,
)
from todoku.dns.text import plain, presentation, within
from todoku.settings import Settings

_ATTEMPTS = 4  # when others change the same zone at the same time


class OciPublisher(Publisher):
    """The zones in one compartment."""

    def __init__(self, client: Any, compartment: str, caller: Caller) -> None:
        self._client = client
        self._compartment = compartment
        self._caller = caller
        self._oci = oci_auth.sdk()
        self._listing = Listing(self._fetch)
        self._zones: tuple[str, ...] | None = None
        self._lock = threading.Lock()

    @staticmethod
    def of(settings: Settings) -> OciPublisher:
        """From the settings. Raises PublisherFailed."""
        client, caller = oci_auth.client(settings)
        return OciPublisher(client, oci_auth.compartment(settings), caller)

    def look(self, zone: str, name: str, type_: str) -> Found:
        return self._listing.found(zone, name, type_)

    def content(self, zone: str) -> tuple[Published, ...] | None:
        return self._listing.records(zone)

    def zone_of(self, name: str) -> str | None:
        """The longest of the compartment's zones that holds `name`. Raises PublisherFailed when none does."""
        with self._lock:
            if self._zones is None:
                self._zones = self._list_zones()
            holding = [zone for zone in self._zones if within(name, zone)]
        if not holding:
            raise PublisherFailed(
                f"there is no zone for {name} in the compartment {self._compartment}: create it in Oracle's DNS "
                "service (and have the domain delegated to it), or set dns.compartment"
            )
        return max(holding, key=len)

    def apply(self, zone: str, replacement: Replacement) -> None:
        with self._listing.lock(zone):
            try:
                for attempt in range(1, _ATTEMPTS + 1):
                    values, etag = self._values(zone, replacement)
                    if values == sorted(replacement.after):
                        return  # an answer was lost, and the request was sent again
                    if values != sorted(record.value for record in replacement.before):
                        raise ChangedMeanwhile(replacement.name, replacement.type)
                    if self._patch(zone, replacement, etag, last=attempt == _ATTEMPTS):
                        return
            finally:
                self._listing.forget(zone)

    def _patch(self, zone: str, replacement: Replacement, etag: str | None, *, last: bool) -> bool:
        """False when something else in the zone changed meanwhile: the ETag is that of the zone."""
        name, type_ = replacement.name, replacement.type
        models = self._oci.dns.models
        operations = [
            models.RecordOperation(operation="REMOVE", domain=name, rtype=type_, rdata=record.raw)
            for record in replacement.remove
        ] + [
            models.RecordOperation(
                operation="ADD",
                domain=name,
                rtype=type_,
                rdata=presentation(type_, value),
                ttl=replacement.common_ttl,
            )
            for value in replacement.add
        ]
        condition = {"if_match": etag} if etag else {}
        details = models.PatchRRSetDetails(items=operations)
        try:
            self._ask(
                f"change the {type_} records of {name}",
                lambda: self._client.patch_rr_set(zone, name, type_, details, **condition),
                replacement,
            )
        except ChangedMeanwhile:
            if last:
                raise
            return False
        return True

    def _values(self, zone: str, replacement: Replacement) -> tuple[list[str], str | None]:
        """What the set has now, sorted, and its ETag."""
        name, type_ = replacement.name, replacement.type
        answer = self._ask(
            f"read the {type_} records of {name}", lambda: self._client.get_rr_set(zone, name, type_)
        )
        if answer is None:
            return [], None
        return sorted(plain(type_, item.rdata) for item in answer.data.items), answer.headers.get("etag")

    def _fetch(self, zone: str) -> tuple[Published, ...]:
        items = self._all(f"list the zone {zone}", self._client.get_zone_records, zone)
        if items is None:
            raise PublisherFailed(
                f"Oracle's DNS service has no zone {zone} that Todoku may read. Create it there, if it is missing. "
                + self._caller.statement(self._compartment)
            )
        return tuple(
            Published(
                item.domain.lower().removesuffix("."),
                item.rtype,
                plain(item.rtype, item.rdata),
                int(item.ttl or 0),
                item.rdata,
                item.record_hash or "",
            )
            for item in items
        )

    def _list_zones(self) -> tuple[str, ...]:
        zones = self._all("list the zones", self._client.list_zones, self._compartment, scope="GLOBAL")
        if zones is None:
            raise PublisherFailed(
                f"the zones of the compartment {self._compartment} may not be listed. "
                + self._caller.statement(self._compartment)
            )
        return tuple(zone.name.lower().removesuffix(".") for zone in zones)

    def _all(self, what: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any] | None:
        """All pages of a list; None for 404. Not by oci.pagination, whose own retries go on for ten minutes."""
        found: list[Any] = []
        page: dict[str, str] = {}
        while (answer := self._ask(what, functools.partial(method, *args, **kwargs, **page))) is not None:
            found += getattr(answer.data, "items", answer.data)
            if not answer.next_page:
                return found
            page = {"page": answer.next_page}
        return None

    def _ask(self, what: str, call: Callable[[], Any], replacement: Replacement | None = None) -> Any:
        """The SDK's response; None for 404, which Oracle also says to who may not know. Raises PublisherFailed."""
        exceptions = self._oci.exceptions
        try:
            return call()
        except exceptions.ServiceError as error:
            if error.status == 404 and replacement is None:
                return None
            if error.status == 412 and replacement is not None:
                raise ChangedMeanwhile(replacement.name, replacement.type) from None
            raise PublisherFailed(f"Oracle's DNS service was asked to {what}: {self._said(error)}") from None
        except (exceptions.RequestException, exceptions.ConnectTimeout, OSError) as error:
            raise PublisherFailed(
                f"Oracle's DNS service could not be asked to {what} ({type(error).__name__}): look whether this "
                "machine reaches it, then run it again"
            ) from None

    def _said(self, error: Any) -> str:
        said = f"{error.status} {error.code}, {error.message}"
        match error.status:
            case 401:
                return f"{said}. The API key, its fingerprint or this machine's clock is wrong"
            case 403 | 404:
                return f"{said}. {self._caller.statement(self._compartment)}"
            case 429:
                return f"{said}. Too many requests: wait a minute, then run it again"
            case _:
                return f"{said} (request {error.request_id})"
