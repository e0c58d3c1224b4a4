"""How fast mail leaves: never faster than the relay's plan allows, also when a queue that has grown is worked off.

The gate admits no more in any minute than the plan has (`gate.limits`), which is enough while mail leaves as it comes.
When the relay was away, hours of mail leave at once, and all that is above the plan is refused (455) and waits for its
next turn, which comes later each time. So Postfix starts one delivery after the other, some seconds apart
(`relay_transport_rate_delay`, postconf(5)), each with no more recipients than that leaves room for.
"""

from __future__ import annotations

from dataclasses import dataclass

from todoku.settings.outside import RelayPlan

MOST_RECIPIENTS = 50  # that the relay takes in one message
# Postfix counts in whole seconds: 60 deliveries a minute at most. What one connection can carry (some 45 ms for a
# message) needs no brake that would make it slower than the plan; should the relay ever say 455, the rest waits.
_UNBRAKED = 1200  # emails a minute


@dataclass(frozen=True, slots=True)
class Pace:
    """`delay`: seconds from the beginning of one delivery to that of the next, 0 for none; `recipients`: of each."""

    delay: int
    recipients: int


def pace(plan: RelayPlan) -> Pace:
    """For a plan. One delivery more than needed fits between, as one may take longer to begin than the next."""
    if plan.per_minute >= _UNBRAKED:
        return Pace(0, MOST_RECIPIENTS)
    if plan.per_minute > 60:
        return Pace(1, min(MOST_RECIPIENTS, plan.per_minute // 61))
    return Pace(60 // plan.per_minute + 1, 1)
