"""The switchboard's keys for the cloud. Each reads its value, or raises ValueError with what is wrong with it.

"advance_s": 3600                     let time pass at once
"dkim_activation_s": 3900             and the other fields of `Timing`
"claimed": ["hoge.example"]           domains that belong to another tenancy
"home_elsewhere": true                the home region is another one than that in which mail is sent
"rest": {"status": 429, "count": 3, "operation": "create_*"}        or null
"rest": {"cut": "after", "operation": "writes", "skip": 2}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from .cloud import Cloud
from .entries import Timing
from .faults import RestFault


def _seconds(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e10:
        raise ValueError(f"{name} has to be a number of seconds from 0 up, not {value!r}")
    return float(value)


def _names(value: Any, name: str) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} has to be a list of domains, not {value!r}")
    return {item.lower().rstrip(".") for item in value}


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} has to be true or false, not {value!r}")
    return value


def _fault(value: Any, name: str) -> RestFault | None:
    if value is None:
        return None
    allowed = [field.name for field in dataclasses.fields(RestFault)]
    if not isinstance(value, dict) or not value.keys() <= set(allowed):
        raise ValueError(
            f"{name} has to be null or an object with any of {', '.join(allowed)}, not {value!r}"
        )
    status, cut = value.get("status", 0), value.get("cut", "")
    if bool(status) is bool(cut):
        raise ValueError(f"{name} needs either status or cut")
    if cut not in ("", "before", "after"):
        raise ValueError(f"{name}.cut has to be before or after, not {cut!r}")
    if status and (not isinstance(status, int) or not 400 <= status <= 599):
        raise ValueError(f"{name}.status has to be from 400 to 599, not {status!r}")
    for key in ("operation", "code"):
        if not isinstance(value.get(key, ""), str):
            raise ValueError(f"{name}.{key} has to be a string, not {value[key]!r}")
    for key in ("count", "skip"):
        number = value.get(key, 0)
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ValueError(f"{name}.{key} has to be a whole number from 0 up, not {number!r}")
    return RestFault(**value)


_TIMING = tuple(field.name for field in dataclasses.fields(Timing))
# In the order in which they take effect.
KEYS: Mapping[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(_TIMING, _seconds),
    "claimed": _names,
    "home_elsewhere": _flag,
    "rest": _fault,
    "advance_s": _seconds,
}


async def change(cloud: Cloud, values: Mapping[str, Any]) -> None:
    """Apply values that `KEYS` has read."""
    for name in _TIMING:
        if name in values:
            setattr(cloud.timing, name, values[name])
    if "claimed" in values:
        cloud.claimed.clear()
        cloud.claimed |= values["claimed"]
    if "home_elsewhere" in values:
        cloud.move_home(elsewhere=values["home_elsewhere"])
    if "rest" in values:
        cloud.dispatcher.fault = values["rest"]
    if "advance_s" in values:
        await cloud.advance(values["advance_s"])


def state(cloud: Cloud) -> dict[str, Any]:
    """What GET shows; no secrets."""
    seen, fault = cloud.dispatcher.seen, cloud.dispatcher.fault
    return {
        **dataclasses.asdict(cloud.timing),
        "claimed": sorted(cloud.claimed),
        "home_elsewhere": cloud.tenancy.plan.home_region != cloud.plan.region,
        "rest": dataclasses.asdict(fault) if fault and fault.count else None,
        "advanced_s": cloud.clock.offset,
        "rest_seen": {
            "operations": dict(sorted(seen.operations.items())),
            "statuses": {str(status): count for status, count in sorted(seen.statuses.items())},
            "calls": list(seen.calls),
        },
    }
