"""The order of resources: each after everything that it needs, otherwise as they were given.

Kahn's algorithm with a heap over the positions in the input, so that the same input always gives the same
order and a reader finds the plan in the order in which the rooms wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from heapq import heapify, heappop, heappush

from todoku.plan.resource import Item


class PlanError(Exception):
    """The resources do not make a plan: an id twice, a need that nobody meets, needs in a circle."""


def needs_of(item: Item) -> Set[str]:
    """The ids that have to be in place before `item` is changed: its needs and what it watches."""
    return frozenset(item.resource.needs | item.resource.watches)


def ordered(items: Sequence[Item], in_place: Set[str] = frozenset()) -> list[Item]:
    """`items` so that each comes after its needs; needs in `in_place` are met already.

    Raises PlanError, which names the resources at fault.
    """
    by_id = _unique(items)
    known = by_id.keys() | in_place
    needs = {name: _known(name, needs_of(item), known) - in_place for name, item in by_id.items()}
    position = {name: place for place, name in enumerate(by_id)}
    needed_by: dict[str, list[str]] = {name: [] for name in by_id}
    for name, wanted in needs.items():
        for need in wanted:
            needed_by[need].append(name)

    missing = {name: len(wanted) for name, wanted in needs.items()}
    ready = [(position[name], name) for name, count in missing.items() if count == 0]
    heapify(ready)
    order: list[str] = []
    while ready:
        _, name = heappop(ready)
        order.append(name)
        for follower in needed_by[name]:
            missing[follower] -= 1
            if missing[follower] == 0:
                heappush(ready, (position[follower], follower))
    if len(order) < len(by_id):
        circle = _circle({name: needs[name] for name in by_id if missing[name]})
        raise PlanError(f"these resources need each other in a circle: {' -> '.join(circle)}")
    return [by_id[name] for name in order]


def _unique(items: Sequence[Item]) -> dict[str, Item]:
    twice = [name for name, count in Counter(item.resource.id for item in items).items() if count > 1]
    if twice:
        raise PlanError(f"more than one resource is called {', '.join(twice)}; an id may be used only once")
    return {item.resource.id: item for item in items}


def _known(name: str, needs: Set[str], known: Set[str]) -> Set[str]:
    unknown = sorted(needs - known)
    if unknown:
        raise PlanError(f"{name} needs {', '.join(unknown)}, which no resource provides")
    return needs


def _circle(needs: Mapping[str, Set[str]]) -> list[str]:
    """One circle among resources of which every one waits for another: walk until a name comes again."""
    walked: list[str] = []
    name = next(iter(needs))
    while name not in walked:
        walked.append(name)
        name = min(need for need in needs[name] if need in needs)
    return [*walked[walked.index(name) :], name]
