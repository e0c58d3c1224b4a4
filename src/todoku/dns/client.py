"""Everything that a record set needs to look and to publish, made once from the settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from todoku.dns.lookups import Lookups, NotFound, Zone
from todoku.dns.publisher import Publisher, PublisherFailed
from todoku.plan.outputs import Outputs
from todoku.settings import Settings

PATIENCE = 20.0  # seconds until a change has to be seen at the authoritative servers, or we go on without


@dataclass(frozen=True)
class Names:
    """A publisher, look-ups, and what other resources have told."""

    publisher: Publisher
    lookups: Lookups
    outputs: Outputs
    domains: tuple[str, ...] = ()  # the mail domains, for zones that are not delegated yet
    patience: float = PATIENCE
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    @staticmethod
    def of(settings: Settings, outputs: Outputs) -> Names:
        """As the settings say. Raises PublisherFailed."""
        assert settings.dns is not None, "only called with a [dns] table"  # noqa: S101
        try:
            lookups = Lookups.of_system(settings.dns.resolver)
        except NotFound as error:
            raise PublisherFailed(str(error)) from None
        publisher = _publisher(settings, lookups)
        return Names(publisher, lookups, outputs, tuple(domain.name for domain in settings.domains))

    def zone(self, name: str) -> str:
        """The zone in which `name` is published. Raises PublisherFailed."""
        if (known := self.publisher.zone_of(name)) is not None:
            return known
        try:
            found = self.lookups.apex_of(name)
        except NotFound as error:
            raise PublisherFailed(str(error)) from None
        if "." in found:
            return found
        # Only a top-level domain answers: the domain is not delegated yet. Its zone is the mail domain then.
        holding = [domain for domain in self.domains if name == domain or name.endswith(f".{domain}")]
        if not holding:
            raise PublisherFailed(
                f"{name} is in no zone but {found or 'the root'}: is the domain registered?"
            )
        return min(holding, key=len)

    def delegated(self, name: str) -> Zone | None:
        """The zone as the world finds it; None when it does not."""
        try:
            return self.lookups.zone_of(name) if "." in self.lookups.apex_of(name) else None
        except NotFound:
            return None


def _publisher(settings: Settings, lookups: Lookups) -> Publisher:
    dns = settings.dns
    assert dns is not None  # noqa: S101
    match dns.publisher:
        case "rfc2136":
            from todoku.dns.rfc2136 import Rfc2136

            return Rfc2136.of(dns, lookups)
        case "lexicon":
            from todoku.dns.lexicon_account import Account
            from todoku.dns.lexicon_publisher import LexiconPublisher

            return LexiconPublisher(Account.of(dns), dns.ttl, lookups)
        case "oci":
            from todoku.dns.oci_publisher import OciPublisher

            return OciPublisher.of(settings)
        case _:
            from todoku.dns.manual import Manual

            return Manual(lookups)
