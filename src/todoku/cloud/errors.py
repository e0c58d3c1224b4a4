"""What the cloud's refusals mean: a sentence with what to do, and whether trying again can help.

Oracle's "API Errors" page has the codes. 404 NotAuthorizedOrNotFound hides on purpose whether something does
not exist or may not be seen, so the sentence names both, with the policy statement that would be needed. The
code in a 409 differs from service to service: only the status is relied on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from todoku.cloud.permissions import Right
from todoku.plan.resource import ChangeFailed, LookFailed

# Oracle: "the difference between the client's clock and the server's must be no more than 5 minutes".
_LARGEST_SKEW = 300.0  # seconds
_LONGEST_PAUSE = 60.0  # seconds: more than that is not asked of anybody who waits


class Trouble(Enum):
    """What kind of refusal it was."""

    DENIED = "denied"  # not there, or not allowed
    UNKNOWN_CALLER = "unknown caller"  # the signature, the key, the clock
    CONFLICT = "conflict"
    LIMIT = "limit"
    THROTTLED = "throttled"  # certainly not done; later it may be
    UNSURE = "unsure"  # perhaps done, perhaps not: look again
    WRONG = "wrong"  # the request itself
    LOCAL = "local"  # configuration, key file: nothing was asked yet


class CloudError(LookFailed, ChangeFailed):
    """The cloud refused or did not answer: a failed look while looking, else a failed change."""

    def __init__(self, message: str, trouble: Trouble, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.retry_after = retry_after

    @property
    def passes(self) -> bool:
        """Whether the same request may succeed later."""
        return self.trouble in (Trouble.THROTTLED, Trouble.UNSURE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was tried, for the sentence: "create the DKIM key of hoge.example"."""

    to: str
    right: Right
    compartment: str
    region: str
    caller: str = "group YOUR-GROUP"  # or "dynamic-group YOUR-DYNAMIC-GROUP"

    @property
    def statement(self) -> str:
        """The policy statement without which it cannot succeed."""
        return self.right.statement(self.caller, self.compartment)


@dataclass(frozen=True, slots=True)
class Reply:
    """An error reply of the service."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str]


def refused(attempt: Attempt, reply: Reply, now: datetime | None = None) -> CloudError:
    """The error for an HTTP reply that is none of success."""
    said = f"{reply.status} {reply.code}: {' '.join(reply.message.split())}"
    match reply.status:
        case 401:
            return CloudError(_who_are_you(attempt, reply, said, now), Trouble.UNKNOWN_CALLER)
        case 403 | 404:
            return CloudError(_not_there(attempt, said), Trouble.DENIED)
        case 409:
            return CloudError(
                f"cannot {attempt.to} in {attempt.region}: it exists already, or is being changed ({said})",
                Trouble.CONFLICT,
            )
        case 412:
            return CloudError(
                f"cannot {attempt.to}: somebody else changed it since it was looked at ({said}); nothing was done, "
                "apply again",
                Trouble.CONFLICT,
            )
        case 429:
            pause = _retry_after(reply)
            message = f"cannot {attempt.to}: Oracle asks to slow down ({said}); try again in a few minutes"
            return CloudError(message, Trouble.THROTTLED, retry_after=pause)
    if reply.status >= 500 and reply.status != 501:
        message = (
            f"cannot {attempt.to}: Oracle's service in {attempt.region} has trouble ({said}); try again "
            "later, and look at https://ocistatus.oraclecloud.com"
        )
        return CloudError(message, Trouble.UNSURE, retry_after=_retry_after(reply))
    if "limit" in reply.code.lower() or "quota" in reply.code.lower():
        advice = "delete what is not needed, or ask Oracle to raise it (console: Limits, Quotas and Usage)"
        return CloudError(f"cannot {attempt.to}: a limit is reached ({said}); {advice}", Trouble.LIMIT)
    return CloudError(f"cannot {attempt.to}: Oracle does not accept the request ({said})", Trouble.WRONG)


def unreachable(attempt: Attempt, reason: str, *, sent: bool) -> CloudError:
    """No reply. `sent`: the request may have arrived, so it may have been done."""
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        advice = "something between here and Oracle answers in its place, or REQUESTS_CA_BUNDLE is missing"
        message = f"cannot {attempt.to}: the certificate of Oracle's API is not trusted ({reason}): {advice}"
        return CloudError(message, Trouble.LOCAL)
    what = "the connection was lost before the answer came" if sent else "Oracle's API cannot be reached"
    hint = "" if sent else "; check the network, the name server and a proxy"
    message = f"cannot {attempt.to} in {attempt.region}: {what} ({reason}){hint}"
    return CloudError(message, Trouble.UNSURE)


def claimed_elsewhere(attempt: Attempt, what: str, error: CloudError) -> CloudError:
    """A conflict about something that cannot be seen in our compartment."""
    return CloudError(
        f"cannot {attempt.to}: {what} exists already in {attempt.region}, but not in the compartment "
        f"{attempt.compartment}. Either it is in another compartment of this tenancy (find it in the "
        "console under Email Delivery and move it, or set cloud.compartment), or another tenancy has "
        f"claimed it (delete it there, or ask Oracle's support). Oracle said: {error}",
        Trouble.CONFLICT,
    )


def _who_are_you(attempt: Attempt, reply: Reply, said: str, now: datetime | None) -> str:
    skew = _skew(reply, now or datetime.now(UTC))
    if (skew is not None and abs(skew) > _LARGEST_SKEW) or "skew" in reply.message.lower():
        measured = "" if skew is None else f" by {abs(skew):.0f} s ({'ahead' if skew > 0 else 'behind'})"
        return (
            f"cannot {attempt.to}: the clock of this machine is wrong{measured}, and Oracle takes no request "
            f"that is more than 5 minutes off: set it (`timedatectl set-ntp true`), then try again ({said})"
        )
    if attempt.caller.startswith("dynamic-group"):
        return (
            f"cannot {attempt.to}: Oracle does not know this instance ({said}). Instance principals work only "
            'on an instance of Oracle\'s cloud; elsewhere set cloud.auth = "config"'
        )
    return (
        f"cannot {attempt.to}: Oracle does not accept the API key ({said}). Check that user, tenancy, "
        "fingerprint and key_file in the config file belong together, and that the public key is listed in "
        "the console under your profile, API keys; a new key needs a minute. A region to which the tenancy is not "
        f"subscribed says the same: is {attempt.region} right?"
    )


def _not_there(attempt: Attempt, said: str) -> str:
    return (
        f"cannot {attempt.to} in {attempt.region}: it does not exist or is not allowed ({said}). If it is not "
        f"allowed, this policy statement is missing:\n  {attempt.statement}\n"
        "If it is there, check the compartment's OCID and the region in the settings"
    )


def _skew(reply: Reply, now: datetime) -> float | None:
    """By how many seconds our clock is ahead of the server's; None when the server did not say."""
    stamp = next((value for name, value in reply.headers.items() if name.lower() == "date"), "")
    try:
        there = parsedate_to_datetime(stamp)
    except ValueError:
        return None
    return (now - there).total_seconds() if there.tzinfo is not None else None


def _retry_after(reply: Reply) -> float | None:
    value = next((value for name, value in reply.headers.items() if name.lower() == "retry-after"), "")
    try:
        return min(max(float(value), 0.0), _LONGEST_PAUSE)
    except ValueError:  # an HTTP date is allowed too; our own back-off does as well
        return None
