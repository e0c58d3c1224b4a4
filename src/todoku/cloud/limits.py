"""What Oracle lets this tenancy send: the service limits of Email Delivery (family "email-delivery"), from the Limits
service (ListLimitValues). A tenancy that is new has small ones; the settings say what the plan is thought to be.
"""

from __future__ import annotations

from dataclasses import dataclass

from todoku.cloud.permissions import Right
from todoku.cloud.sdk import Sdk
from todoku.cloud.sdk_api import access_of
from todoku.settings import Settings

READ = Right("inspect", "limits", tenancy_wide=True)
SERVICE = "email-delivery"


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """Emails a day and a minute; None where Oracle does not say. (In which unit it gives the size is not published.)"""

    per_day: int | None
    per_minute: int | None


def read(settings: Settings) -> SendingLimits:
    """Those of the settings' tenancy, in the region of the relay. Raises CloudError."""
    sdk = Sdk(access_of(settings))
    attempt = sdk.attempt("read the limits of Email Delivery", READ)
    found = sdk.all_pages(attempt, sdk.limits.list_limit_values, sdk.tenancy, SERVICE)
    values = {str(each.name): int(each.value) for each in found if each.value is not None}
    return SendingLimits(values.get("max-emails-day"), values.get("sendrate"))
