"""The relay of the rehearsal: Oracle's Email Delivery as seen from SMTP, put together.

Ports 25 and 587 with STARTTLS and 465 with TLS from the start, as its troubleshooting page lists them. TLS
1.2 exactly, with ciphers from the published list of approved ones: whether submission speaks TLS 1.3 is not
published.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from todoku.rehearsal.internet.plan import InternetPlan
from todoku.rehearsal.relay.delivery import BACKOFF, Outbox
from todoku.rehearsal.relay.message import Handling
from todoku.rehearsal.relay.record import Faults, Seen
from todoku.rehearsal.relay.session import BOUNDS, RelaySession
from todoku.rehearsal.relay.signing import Signer
from todoku.rehearsal.relay.state import RelayState
from todoku.rehearsal.smtp.client import Courier
from todoku.rehearsal.smtp.server import Server
from todoku.rehearsal.smtp.session import Bounds, Listen

CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256"
    ":ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES256-SHA256"
)


class Relay:
    """The service: its state, its faults, what it has seen, its listeners and its queue."""

    def __init__(
        self,
        plan: InternetPlan,
        listens: Sequence[Listen],
        tls: ssl.SSLContext,
        courier: Courier,
        *,
        backoff: tuple[float, ...] = BACKOFF,
        bounds: Bounds = BOUNDS,
    ) -> None:
        self.plan = plan
        self.state = RelayState.seeded(plan)
        self.faults, self.seen = Faults(), Seen()
        tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
        tls.set_ciphers(CIPHERS)
        regional = Signer(plan.return_path_domain, plan.regional_selector, plan.regional_dkim_private_key)
        self.handling = Handling(plan.region, plan.region_code.rstrip("0123456789"), regional)
        self.outbox = Outbox(courier, self.handling, plan.return_path_domain, self.state, self.seen, backoff)
        self.server = Server("the relay", listens, self._session, tls=tls, bounds=bounds)

    def _session(self) -> RelaySession:
        return RelaySession(
            self.plan.relay_hostname, self.state, self.faults, self.seen, self.handling, self.outbox.put
        )

    async def start(self) -> None:
        """Listen; raises `PortTaken`."""
        await self.server.start()

    async def stop(self) -> None:
        """Hang up and drop the queue."""
        await self.server.stop()
        await self.outbox.stop()

    async def set_down(self, down: bool) -> None:
        """Refuse connections and reset the open ones, or listen again. Delivery of accepted mail goes on."""
        if down and not self.faults.down:
            await self.server.stop()
        elif not down and self.faults.down:
            await self.server.start()
        self.faults.down = down

    async def reset(self) -> None:
        """Back to the start: faults, counters, senders, limits, suppressions. Mail under way stays so."""
        await self.set_down(False)
        fresh = RelayState.seeded(self.plan)
        for name in ("senders", "limits", "sender_propagation", "suppressions", "credentials", "signers"):
            setattr(self.state, name, getattr(fresh, name))
        self.state.return_paths.clear()
        self.state.forget_traffic()
        self.faults.latency_ms, self.faults.injected = 0.0, None
        self.seen.forget()
