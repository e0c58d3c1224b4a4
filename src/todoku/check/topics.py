"""The steps that each topic takes: for everything that the settings have, or for one other domain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from todoku.check import (
    addresses,
    cloud,
    dkim,
    dmarc,
    host,
    inbound,
    inbound_tls,
    mx,
    return_path,
    spf,
    submission,
    tls,
    zone,
)
from todoku.check.means import Means
from todoku.check.runner import Step
from todoku.check.topic_names import TOPICS
from todoku.settings import Settings


def _dns(settings: Settings, means: Means) -> list[Step]:
    return [step for domain in settings.domains for step in zone.steps(domain.name, means)]


def _mx(settings: Settings, means: Means) -> list[Step]:
    return [
        step
        for domain in settings.domains
        for step in (*mx.steps(domain.name, means, settings.hostname), *inbound_tls.steps(domain.name, means))
    ]


def _spf(settings: Settings, means: Means) -> list[Step]:
    relay = spf.relay_includes(settings)
    return [step for domain in settings.domains for step in spf.steps(domain.name, means, relay)]


def _dkim(settings: Settings, means: Means) -> list[Step]:
    return [step for domain in settings.domains for step in dkim.steps(domain.name, means)]


def _dmarc(settings: Settings, means: Means) -> list[Step]:
    return [step for domain in settings.domains for step in dmarc.steps(domain.name, means, domain)]


def _return_path(settings: Settings, means: Means) -> list[Step]:
    wanted = settings.cloud is not None and settings.cloud.return_path
    relay = spf.relay_includes(settings)
    return [
        step
        for domain in settings.domains
        for step in return_path.steps(domain.name, means, relay, wanted=wanted)
    ]


def _cloud(settings: Settings, means: Means) -> list[Step]:
    return cloud.steps(settings, means, means.login)


def _submission(settings: Settings, means: Means) -> list[Step]:
    return [*inbound.steps(settings, means), *submission.steps(settings, means)]


STEPS: Mapping[str, Callable[[Settings, Means], list[Step]]] = {
    "host": host.steps,
    "addresses": addresses.steps,
    "dns": _dns,
    "mx": _mx,
    "spf": _spf,
    "dkim": _dkim,
    "dmarc": _dmarc,
    "return-path": _return_path,
    "cloud": _cloud,
    "tls": tls.steps,
    "submission": _submission,
}


def steps(settings: Settings, means: Means, names: Iterable[str] = tuple(TOPICS)) -> list[Step]:
    """What has to be looked at for the topics named; all of them unless said otherwise."""
    return [step for name in names for step in STEPS[name](settings, means)]


def outside(domain: str, means: Means, selectors: Sequence[str] = ()) -> list[Step]:
    """What the DNS says to the world of any domain."""
    return [
        *zone.steps(domain, means),
        *mx.steps(domain, means),
        *inbound_tls.steps(domain, means),
        *spf.steps(domain, means),
        *dkim.steps(domain, means, selectors),
        *dmarc.steps(domain, means),
    ]
