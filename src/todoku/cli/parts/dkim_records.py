"""Where a DKIM rotation meets the DNS: publishing the new key's record, and seeing it at the name servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from todoku.cloud.dkim_rotation import Record
    from todoku.settings import Settings

    Publish = Callable[[tuple[Record, ...]], None]
    Visible = Callable[[Record], bool]


def publishing(settings: Settings, say: Callable[[str], None]) -> tuple[Publish, Visible]:
    """How records are published as the settings say, and whether the authoritative servers show one.

    Without a [dns] table, and with the manual publisher, a person is told what to enter. Raises LookFailed.
    """
    from todoku.dns.lookups import Lookups, NotFound
    from todoku.plan.resource import LookFailed

    try:
        lookups = Lookups.of_system(settings.dns.resolver if settings.dns is not None else ())
    except NotFound as error:
        raise LookFailed(str(error)) from error

    def visible(record: Record) -> bool:
        from todoku.dns.diagnosis import view

        type_, value = _type_and_value(record)
        lookups.forget()
        try:
            return view(lookups, record.name, type_).shows([value])
        except NotFound:
            return False

    def publish(records: tuple[Record, ...]) -> None:
        from todoku.plan.resource import NotYet

        for record in records:
            try:
                _publish(settings, record)
            except NotYet as told:
                say(str(told))

    return publish, visible


def _publish(settings: Settings, record: Record) -> None:
    """Through the same resource as `apply`: it merges, refuses what would clobber, and waits a moment."""
    from todoku.dns.client import Names
    from todoku.dns.merging import Merge
    from todoku.dns.publisher import PublisherFailed
    from todoku.dns.records import RecordSet
    from todoku.dns.resources import RecordSetResource
    from todoku.plan.outputs import Outputs
    from todoku.plan.resource import LookFailed, NotYet

    type_, value = _type_and_value(record)
    if settings.dns is None:
        raise NotYet(f"enter this record where the domain's zone is edited: {record.name} {type_} {value}")
    why = "receivers fetch the new key here"
    wanted = RecordSet(record.name, type_, (value,), settings.dns.ttl, why, Merge.OURS)
    resource = RecordSetResource(wanted)
    try:
        client = Names.of(settings, Outputs())
        change = resource.differ(resource.look(client))
        if change is not None:
            resource.change(change, client)
    except PublisherFailed as error:
        raise LookFailed(str(error)) from error


def _type_and_value(record: Record) -> tuple[str, str]:
    from todoku.dns.text import plain

    return ("CNAME", plain("CNAME", record.cname)) if record.cname else ("TXT", plain("TXT", record.txt))
