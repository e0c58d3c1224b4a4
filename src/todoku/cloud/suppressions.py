"""The relay's suppression list: addresses that it accepts mail for and sends nothing to.

Email Delivery puts an address on it after a hard bounce, a complaint or an unsubscription; entries are the tenancy's,
not a compartment's (oci.email.models.Suppression). One list for the whole tenancy, and not ours alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.permissions import Right
from todoku.cloud.sdk import Sdk
from todoku.cloud.sdk_api import access_of
from todoku.settings import Settings

READ = Right("read", "suppressions", tenancy_wide=True)
MANAGE = Right("manage", "suppressions", tenancy_wide=True)


@dataclass(frozen=True, slots=True)
class Suppression:
    """One entry. `reason`: HARDBOUNCE, COMPLAINT, MANUAL, SOFTBOUNCE, UNSUBSCRIBE, UNKNOWN or one that is new.

    `detail` and `source` (what the other side said, and which server) are empty in a list.
    """

    id: str
    address: str
    reason: str
    created: str  # ISO 8601
    detail: str = ""
    source: str = ""
    message_id: str = ""


class Suppressions:
    """All calls raise CloudError."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk

    @classmethod
    def of(cls, settings: Settings) -> Suppressions:
        """Those of the settings' tenancy, in the region of the relay."""
        return cls(Sdk(access_of(settings)))

    def all(self) -> list[Suppression]:
        """Every entry, the newest first."""
        attempt = self._sdk.attempt("list the suppressed addresses", READ)
        found = self._sdk.all_pages(attempt, self._sdk.email.list_suppressions, self._sdk.tenancy)
        return [_suppression(each) for each in found]

    def find(self, address: str) -> Suppression | None:
        """The entry of one address, with what the other side said."""
        attempt = self._sdk.attempt(f"look for {address} among the suppressed addresses", READ)
        found = self._sdk.all_pages(
            attempt, self._sdk.email.list_suppressions, self._sdk.tenancy, email_address=address.lower()
        )
        if not found:
            return None
        return _suppression(self._sdk.call(attempt, self._sdk.email.get_suppression, found[0].id))

    def add(self, address: str) -> bool:
        """Puts an address on the list by hand; False when it was there."""
        details = self._sdk.oci.email.models.CreateSuppressionDetails(
            compartment_id=self._sdk.tenancy, email_address=address
        )
        attempt = self._sdk.attempt(f"suppress {address}", MANAGE)
        try:
            self._sdk.call(attempt, self._sdk.email.create_suppression, details)
        except CloudError as error:
            if error.trouble is not Trouble.CONFLICT:
                raise
            return False
        return True

    def lift(self, suppression: Suppression) -> None:
        """Takes it from the list; one that is gone already is no error."""
        attempt = self._sdk.attempt(f"lift the suppression of {suppression.address}", MANAGE)
        try:
            self._sdk.call(attempt, self._sdk.email.delete_suppression, suppression.id)
        except CloudError as error:
            # The cloud says the same for what is not there and for what is not allowed.
            if error.trouble is not Trouble.DENIED or self.find(suppression.address) is not None:
                raise


def _suppression(found: Any) -> Suppression:
    return Suppression(
        str(found.id),
        str(found.email_address),
        str(found.reason or "UNKNOWN"),
        found.time_created.isoformat() if found.time_created else "",
        str(getattr(found, "error_detail", None) or ""),
        str(getattr(found, "error_source", None) or ""),
        str(getattr(found, "message_id", None) or ""),
    )
