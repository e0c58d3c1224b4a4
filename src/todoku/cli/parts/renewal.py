"""One round of renewing certificates: what is due, done one after the other, and what failed told to the postmaster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from todoku.delivery import alarms
from todoku.host.certificates import resources as certificates
from todoku.host.client import Host
from todoku.host.daemons import gate
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, NotYet
from todoku.plan.trouble import EXPECTED, explain
from todoku.settings import Settings

SOURCE = "certificate"
_ADVICE = (
    "the old certificate goes on being served; it is tried again twice a day: `todoku certificate renew`"
)
_ORDER = (
    *("certificate-authority", "certificate", "certificate:internal"),
    *("acme-certificate", "certificate-served"),
)


def is_due(settings: Settings, config: Path) -> bool:
    """Whether anything is to be done, or cannot be looked at. Asked without `apply`'s lock, so that a round in which
    there is nothing to do is in nobody's way."""
    host = Host()
    for resource in _resources(settings, config, host):
        try:
            if resource.differ(resource.look(host)) is not None:
                return True
        except (*EXPECTED, NotYet):
            return True
    return False


def renew(settings: Settings, config: Path, *, force: bool) -> tuple[list[str], dict[str, str]]:
    """What was done, and what failed, by its id. One that fails keeps nothing else from being done."""
    host, done, failed = Host(), [], {}
    for resource in _resources(settings, config, host):
        try:
            change = resource.differ(resource.look(host))
            if change is None and force and resource.id == "acme-certificate":
                change = Change(Action.UPDATE, "get a new certificate, as asked")
            if change is not None:
                resource.change(change, host)
                done.append(change.summary)
        except NotYet as error:
            failed[resource.id] = str(error)
        except EXPECTED as error:
            failed[resource.id] = explain(error)
    return done, failed


def report(failed: dict[str, str]) -> None:
    """What is wrong now, for the postmaster. Without the agent's folder there is nobody to be told."""
    if alarms.FOLDER.is_dir():
        found = [alarms.Alarm(name, f"certificates: {why}", _ADVICE) for name, why in failed.items()]
        alarms.report(SOURCE, found)


def _resources(settings: Settings, config: Path, host: Host) -> list[HostResource[Any]]:
    """The certificates, each after what it needs."""
    wanted = certificates.resources(settings, gate.Program(config.absolute(), gate.code_is_open(host)))
    return sorted(wanted, key=lambda each: _ORDER.index(each.id))
