"""Oracle's cloud in the rehearsal's internet: its REST services on one address and the metadata service of an
instance on another, put together; and the bond to the relay, whose SMTP side enforces what is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

from todoku.rehearsal.internet.lookups import LookupFailed, Resolver
from todoku.rehearsal.internet.plan import CloudPlan, InternetPlan
from todoku.rehearsal.relay.signing import Signer
from todoku.rehearsal.relay.state import RelayState
from todoku.rehearsal.smtp.session import Listen
from todoku.settings.regions import REGIONS

from . import dns_service, email_control, identity, limits_service, logging_service, scim
from .api import Call, Principal, Route
from .clock import Clock
from .dispatch import Dispatcher
from .dns_service import DnsService
from .email_control import EmailControl, Locks, sender_variables
from .email_keys import EmailKeys
from .email_senders import EmailSenders
from .email_state import EmailState, Question
from .entries import Timing
from .http_server import Answer, HttpServer
from .identity_credentials import Credentials
from .identity_domains import IdentityDomains
from .identity_read import Reading
from .instance import Instance
from .limits_service import LimitsService
from .logging_service import LoggingService
from .network_control import Network
from .publishing import Publish, Publisher
from .tenancy import Tenancy

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.1  # how often the DNS is asked for what somebody waits for
WATCH_ALL = 10  # and every which time for everything

# Base path -> the service's name in its hosts' names. The network's API has the path of Identity's, not its name.
HOSTS = {
    email_control.BASE: ("ctrl.email",),
    identity.BASE: ("identity", "iaas"),
    dns_service.BASE: ("dns",),
    limits_service.BASE: ("limits",),
    logging_service.MANAGEMENT: ("logging",),
    logging_service.SEARCH: ("logging",),
}


@dataclass(frozen=True, slots=True)
class CloudListens:
    """Where the REST services and the metadata service listen."""

    rest: Listen
    metadata: Listen


def certificate_names(plan: InternetPlan) -> tuple[str, ...]:
    """The names that the REST side's certificate needs; the first one is the file's name (`pki.issue`)."""
    names: list[str] = []
    for region in plan.cloud_regions:
        domain = REGIONS[region].realm_domain
        names += [f"ctrl.email.{region}.oci.{domain}", f"cell0.submit.email.{region}.oci.{domain}"]
        names += [f"{service}.{region}.oci.{domain}" for service in ("identity", "dns", "limits", "logging")]
        # dns-lexicon and older SDKs leave "oci" out.
        names += [f"{service}.{region}.{domain}" for service in ("auth", "identity", "dns", "iaas")]
    return (*names, "*.identity.oraclecloud.com")


class Cloud:
    """Everything of the cloud that is not SMTP."""

    def __init__(
        self,
        plan: InternetPlan,
        cloud: CloudPlan,
        relay: RelayState,
        listens: CloudListens,
        tls: ssl.SSLContext,
        *,
        resolver: Resolver,
        publish: Publish,
        latency_ms: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.plan, self.relay, self.resolver = plan, relay, resolver
        self.clock, self.timing, self.claimed = Clock(), Timing(), set[str]()
        self.tenancy = Tenancy.fresh(cloud, self.clock, self.timing)
        self.instance = Instance(cloud, plan.region)
        self.network = Network(self.tenancy, plan.region, plan.addresses)
        self.publisher = Publisher(plan, publish)
        self.dns = DnsService(self.tenancy, self.timing, self.claimed, self.publisher.changed)
        self.regions = list(dict.fromkeys((plan.region, cloud.home_region)))  # subscribed
        for name in cloud.zones:
            self.dns.hand_over(name, cloud.compartment)
        self.email = {region: EmailState(self.clock, self.timing) for region in plan.cloud_regions}
        self.logging = {
            region: LoggingService(region, state, self.tenancy, self.timing)
            for region, state in self.email.items()
        }
        relay.log = self.logging[plan.region].write
        self.dispatcher = Dispatcher(
            self._services(),
            self.tenancy,
            self.instance,
            self.clock,
            self.regions,
            self.settle,
            latency_ms,
            HOSTS,
        )
        self.rest = HttpServer("the cloud's REST side", listens.rest, tls, self.dispatcher)
        self.metadata = HttpServer(
            "the cloud's metadata service", listens.metadata, None, self.instance.metadata
        )
        self._bond = _Bond(self)
        self._settling = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    def _services(self) -> dict[tuple[str, str], list[Route]]:
        services: dict[tuple[str, str], list[Route]] = {}
        iam = identity.Identity(self.tenancy)
        domains = IdentityDomains(self.tenancy)
        parts = (iam, Credentials(iam), domains, Reading(self.tenancy, self.regions))
        people = scim.Scim(self.tenancy).routes()
        for region in self.plan.cloud_regions:
            relay = self.relay if region == self.plan.region else RelayState({}, {})
            services[identity.BASE, region] = [
                _at_home(route, iam) for part in parts for route in part.routes()
            ]
            if region == self.plan.region:
                services[identity.BASE, region] += self.network.routes()  # under the same path
            services[scim.BASE, region] = people  # not regional: the address tells the domain
            services[dns_service.BASE, region] = self.dns.routes()
            services[email_control.BASE, region] = self._email_routes(region, relay)
            services[logging_service.MANAGEMENT, region] = self.logging[region].management_routes()
            services[logging_service.SEARCH, region] = self.logging[region].search_routes()
            services[limits_service.BASE, region] = LimitsService(self.tenancy, relay).routes()
        return services

    def _email_routes(self, region: str, relay: RelayState) -> list[Route]:
        state = self.email[region]
        control = EmailControl(self.plan, region, state, self.tenancy, self.claimed)
        code = self.plan.region_code if region == self.plan.region else f"{REGIONS[region].key}1"
        keys, senders = EmailKeys(control, code), EmailSenders(control, relay)
        locks = Locks(
            control,
            [
                ("emailDomains", "email_domain", state.domains, "email-domains", control.domain),
                (
                    "emailReturnPaths",
                    "return_path",
                    state.return_paths,
                    "email-return-paths",
                    keys.path,
                ),
                ("senders", "sender", state.senders, "approved-senders", senders.sender),
            ],
        )
        return [*control.routes(), *keys.routes(), *senders.routes(), *locks.routes()]

    # -- running

    async def start(self) -> None:
        """Listen; raises `PortTaken`."""
        await self.settle()
        await self.rest.start()
        await self.metadata.start()
        self._watch = asyncio.create_task(self._watching())

    async def stop(self) -> None:
        """Hang up."""
        if self._watch:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self.rest.stop()
        await self.metadata.stop()

    async def advance(self, seconds: float) -> None:
        """Let time pass at once, for the relay too."""
        self.clock.advance(seconds)
        await self.look()

    async def reset(self) -> None:
        """Switches back to the start. What customers made stays."""
        for name, value in vars_of(Timing()).items():
            setattr(self.timing, name, value)
        self.claimed.clear()
        self.move_home(elsewhere=False)
        self.dispatcher.fault = None
        self.dispatcher.seen.forget()
        self._bond.forget()
        await self.look()

    def move_home(self, *, elsewhere: bool) -> None:
        """Whether the home region is another one than the region in which mail is sent."""
        start = self.plan.cloud.home_region if self.plan.cloud else self.plan.region
        home = self.plan.cloud_regions[-1] if elsewhere else start
        self.tenancy.plan = replace(self.tenancy.plan, home_region=home)
        self.regions[:] = dict.fromkeys((self.plan.region, home))

    async def _watching(self) -> None:
        for number in itertools.count():
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self.look(everything=number % WATCH_ALL == 0)
            except Exception:  # a mistake here must not leave the world without its clock
                log.exception("looking at the DNS")

    async def look(self, *, everything: bool = True) -> None:
        """Ask the DNS, and let everything follow from that and from the time."""
        states = self.email.values()
        asked = list(dict.fromkeys(q for state in states for q in state.questions(everything=everything)))
        found = await asyncio.to_thread(self._ask, asked) if asked else {}
        for state in self.email.values():
            state.settle(found)
        await self.settle()

    def _ask(self, questions: Iterable[Question]) -> dict[Question, tuple[bytes, ...] | None]:
        found: dict[Question, tuple[bytes, ...] | None] = {}
        for question in questions:
            try:
                found[question] = self.resolver(*question)
            except LookupFailed:
                found[question] = None
        return found

    async def settle(self) -> None:
        """Make the relay and the DNS be what the state says."""
        now = self.clock.now()
        for shelf in (self.tenancy.users, self.tenancy.groups, self.tenancy.policies, self.dns.zones):
            shelf.sweep(now)
        async with self._settling:
            self._bond.update()
            dkims = [
                dkim
                for state in self.email.values()
                for dkim in state.dkims.values()
                if dkim.state(now) != "DELETED"
            ]
            zones = [zone for zone in self.dns.zones.values() if zone.alive()]
            await self.publisher.flush(dkims, zones)


def vars_of(timing: Timing) -> dict[str, float]:
    """The fields of a `Timing`, which has no __dict__."""
    return {name: getattr(timing, name) for name in Timing.__dataclass_fields__}


def _at_home(route: Route, iam: identity.Identity) -> Route:
    """IAM is written in the home region only."""
    if not route.writes:
        return route
    handler = route.handler

    def checked(call: Call) -> Answer | Awaitable[Answer]:
        iam.check_home(call.region)
        return handler(call)

    return replace(route, handler=checked)


class _Bond:
    """Tells the relay what was made, changed and deleted since last time; what others told it stays."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.credentials: dict[str, str] = {}
        self.senders: set[str] = set()
        self.signers: dict[str, str] = {}  # domain -> OCID of its key
        self.return_paths: dict[str, str] = {}
        cloud.relay.clock = cloud.clock.monotonic
        cloud.relay.permits = self.permits

    def forget(self) -> None:
        """The relay has forgotten; tell it everything again."""
        self.credentials, self.senders, self.signers, self.return_paths = {}, set(), {}, {}

    def update(self) -> None:
        """Only the differences."""
        relay = self.cloud.relay
        self._keep(relay.credentials, self.credentials, self.cloud.tenancy.usable_credentials())
        state, now = self.cloud.email[self.cloud.plan.region], self.cloud.clock.now()
        senders = {s.name: s for s in state.senders.values() if s.state(now) == "ACTIVE"}
        for address in self.senders - senders.keys():
            relay.withdraw(address)
        for address in senders.keys() - self.senders:
            relay.approve(address, now - senders[address].ready)
        self.senders = set(senders)
        signing = {d.name: k for d in state.domains.alive() if (k := state.active_dkim(d.id))}
        for domain in self.signers.keys() - signing.keys():
            relay.signers.pop(domain, None)
        for domain, dkim in signing.items():
            if self.signers.get(domain) != dkim.id:
                relay.signers[domain] = Signer(domain, dkim.name, dkim.private_key)
        self.signers = {domain: dkim.id for domain, dkim in signing.items()}
        paths = {
            state.domains[path.domain].name: path.name
            for path in state.return_paths.values()
            if path.state(now) == "ACTIVE" and path.domain in state.domains
        }
        self._keep(relay.return_paths, self.return_paths, paths)

    def _keep(self, there: dict[str, str], mine: dict[str, str], wanted: dict[str, str]) -> None:
        for name in mine.keys() - wanted.keys():
            there.pop(name, None)
        there |= wanted
        mine.clear()
        mine |= wanted

    def permits(self, user: str, address: str) -> bool:
        """SmtpSend needs "use approved-senders" where the sender is (Email Delivery's policy page).

        A sender or a user that the cloud does not know was put there by the switchboard: nobody forbids it.
        """
        state = self.cloud.email[self.cloud.plan.region]
        sender = state.senders.named(address)
        if sender is None or user not in self.cloud.tenancy.users:
            return True
        principal = Principal("user", user)
        return self.cloud.tenancy.may(
            principal, "use", "approved-senders", sender.compartment, sender_variables(sender.name)
        )
