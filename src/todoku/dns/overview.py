"""What is published, what is wanted and what the world sees, side by side, with what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from todoku.dns import diagnosis, spf
from todoku.dns.client import Names
from todoku.dns.merging import Merge
from todoku.dns.records import RecordSet
from todoku.dns.resources import RecordSetResource, Unknown
from todoku.dns.text import presentation, short
from todoku.plan.resource import LookFailed, NotYet

_WORKERS = 8


class State(StrEnum):
    """How a record set stands."""

    RIGHT = "right"  # published, and seen by the world
    UNSEEN = "unseen"  # published, but not seen everywhere yet
    MISSING = "missing"  # to be published
    DIFFERENT = "different"  # to be changed
    WRONG = "wrong"  # something is in the way; the remarks say what
    LATER = "later"  # known only after the cloud has been asked


@dataclass(frozen=True, slots=True)
class Row:
    """One record set in the three views. Values are in presentation format."""

    name: str
    type: str
    why: str
    state: State
    wanted: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    zone: str = ""
    ttl: int = 0
    remarks: tuple[str, ...] = ()  # what is wrong
    hints: tuple[str, ...] = ()  # what could be better

    @property
    def right(self) -> bool:
        return self.state is State.RIGHT and not self.remarks


def rows(client: Names, records: Sequence[RecordSet]) -> list[Row]:
    """One row for each record set, looked up at the same time, in the same order."""
    needed = [r for r in records if not (r.optional and client.outputs.resolve(r.name) is None)]
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="dns") as pool:
        return list(pool.map(lambda record: row(client, record), needed))


def row(client: Names, record: RecordSet) -> Row:
    """Look at one record set from all sides."""
    resource = RecordSetResource(record)
    shown = resource.id.removeprefix("dns:").rpartition("/")[0]
    remarks: list[str] = []
    try:
        seen = resource.compare(client)
    except (LookFailed, NotYet) as error:
        return _blocked(client, record, str(error))
    if isinstance(seen, Unknown):
        return Row(shown, record.type, record.why, State.LATER, tuple(map(str, record.values)))
    if seen.left_alone:
        return Row(seen.name, record.type, record.why, State.RIGHT, zone=seen.zone, hints=(seen.left_alone,))
    view = diagnosis.examine(client.lookups, seen.name, record.type, seen.wanted)
    remarks += [trouble.text for trouble in view.troubles]
    in_place = sorted(seen.values) == sorted(seen.wanted)
    if in_place and record.merge is Merge.SPF:
        # It was affordable when it was published; what it includes belongs to others, and grows.
        try:
            resource.require_affordable(seen, client)
        except LookFailed as error:
            remarks.append(str(error))
    visible = in_place and view.shows(seen.wanted)
    state = State.RIGHT if visible else State.UNSEEN if in_place else State.MISSING
    if state is State.MISSING and any(value not in seen.wanted for value in seen.values):
        state = State.DIFFERENT
    return Row(
        seen.name,
        record.type,
        record.why,
        state,
        _exact(record.type, seen.wanted),
        _exact(record.type, seen.values),
        _exact(record.type, view.resolved.values),
        seen.zone,
        record.ttl,
        tuple(remarks),
        tuple(_repeated(seen.values)) if record.merge is Merge.SPF else (),
    )


def _repeated(values: Sequence[str]) -> Iterator[str]:
    for value in filter(spf.is_spf, values):
        for term in spf.repeated(value):
            yield f'the SPF record says "{short(term)}" more than once, and only the first counts: remove the others'


def _blocked(client: Names, record: RecordSet, why: str) -> Row:
    """A record set with something in its way: what is wanted as the settings say it, and what is seen."""
    name = client.outputs.resolve(record.name) or str(record.name)
    wanted = [client.outputs.resolve(value) or str(value) for value in record.values]
    view = diagnosis.examine(client.lookups, name, record.type, wanted)
    answers = [answer.values for answer in view.answers if answer.usable]
    return Row(
        name,
        record.type,
        record.why,
        State.WRONG,
        _exact(record.type, wanted),
        _exact(record.type, answers[0] if answers else ()),
        _exact(record.type, view.resolved.values),
        view.zone.name if view.zone else "",
        record.ttl,
        (why, *(trouble.text for trouble in view.troubles)),
    )


def _exact(type_: str, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(presentation(type_, value) for value in values)
