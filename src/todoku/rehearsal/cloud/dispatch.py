"""From an HTTP request to an operation and back: which service and region, injected faults, who signed, retry
tokens, and errors as the cloud words them."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric import rsa

from . import scim
from .api import Call, Principal, Route, read_body
from .clock import Clock
from .errors import ApiError, conflict, not_found, unauthenticated
from .faults import CODES, RestFault, RestSeen
from .http_server import Answer, Cut, Request
from .instance import Instance
from .signatures import verify
from .tenancy import Tenancy

log = logging.getLogger(__name__)

TOKENS_LIVE = 86_400.0  # a retry token is good for 24 hours (SDK)
# SERVICE.REGION.oci.REALM; older clients leave "oci" out.
_HOST = re.compile(r"([a-z0-9.-]+)\.([a-z]{2}(?:-[a-z]+)+-\d+)(?:\.oci)?\.[a-z0-9.]+")

# (base path, region) -> its operations
Services = Mapping[tuple[str, str], Sequence[Route]]


@dataclass(slots=True)
class _Remembered:
    """What a retry token was answered with; `None` while it is being worked on."""

    body: str
    time: float
    answer: Answer | None = None


@dataclass(slots=True)
class Dispatcher:
    """Answers the requests of every service. `settled` is awaited when a call has changed something."""

    services: Services
    tenancy: Tenancy
    instance: Instance
    clock: Clock
    regions: Sequence[str]  # subscribed; the first is where the relay is
    settled: Callable[[], Awaitable[None]]
    latency_ms: Callable[[], float]
    hosts: Mapping[str, Sequence[str]]  # base path -> the names of the service that has it: "ctrl.email"
    fault: RestFault | None = None
    seen: RestSeen = field(default_factory=RestSeen)
    _tokens: dict[tuple[str, str, str], _Remembered] = field(default_factory=dict)

    async def __call__(self, request: Request) -> Answer:
        """One request. Raises `Cut` when the connection is to break."""
        delay = self.latency_ms()
        if delay:
            await asyncio.sleep(delay / 1000)
        operation, principal = "unknown", ""
        try:
            route, call = self._route(request)
            operation = route.operation if route else "get_security_token"
            cut = self._inject(operation, writes=bool(route and route.writes))
            if route is None:
                answer = self.instance.token(request)
            else:
                who = self._authenticate(request)
                principal = who.id
                answer = await self._once(route, replace(call, principal=who, body=read_body(request)))
            if route and route.writes:
                await self.settled()
            if cut:
                raise Cut
        except ApiError as problem:
            scimmed = request.segments[0] == scim.BASE
            plain = Answer(problem.status, {"code": problem.code, "message": problem.message})
            answer = scim.refusal(problem) if scimmed else plain
        except Cut:
            self._note(operation, 0, principal, request)
            raise
        except Exception:
            # A mistake of the simulator: its log has it, the caller sees what a broken service says.
            log.exception("%s", operation)
            answer = Answer(500, {"code": "InternalServerError", "message": "the simulator has a bug"})
        self._note(operation, answer.status, principal, request)
        mine = request.headers.get("opc-request-id", "")[:100].split("/")[0]
        own = f"{mine or secrets.token_hex(16).upper()}/{secrets.token_hex(16).upper()}"
        return replace(answer, headers={**answer.headers, "opc-request-id": own})

    def _note(self, operation: str, status: int, principal: str, request: Request) -> None:
        agent, host = request.headers.get("user-agent", "")[:100], request.host
        self.seen.note(operation, status, principal, agent, host)

    def _route(self, request: Request) -> tuple[Route | None, Call]:
        """The operation; None is the federation service, which has its own signatures."""
        segments = request.segments
        service, region = self._place(request)
        call = Call(request, Principal("", ""), region, query=request.query)
        if segments == ("v1", "x509") and request.method == "POST":
            return None, call
        if service and service not in self.hosts.get(segments[0], ()):
            raise not_found()  # of another service
        for route in self.services.get((segments[0], region), ()):
            values = route.match(request.method, segments[1:])
            if values is not None:
                return route, replace(call, path=values)
        raise not_found()

    def _place(self, request: Request) -> tuple[str, str]:
        """Service and region, by host name; an address instead of one means the relay's region, and any service."""
        found = _HOST.fullmatch(request.host)
        service, region = found.groups() if found else ("", self.regions[0])
        if region not in self.regions:
            raise unauthenticated()  # what a region says that the tenancy is not subscribed to
        return service, region

    def _inject(self, operation: str, *, writes: bool) -> bool:
        """Raise what is to go wrong now; True: cut the connection once it is done."""
        fault = self.fault
        if fault is None or not fault.due(operation, writes=writes):
            return False
        if fault.cut == "before":
            raise Cut
        if fault.cut == "after":
            return True
        code = fault.code or CODES.get(fault.status, "Error")
        raise ApiError(fault.status, code, f"{code}: the rehearsal's switchboard asked for it")

    # -- who

    def _authenticate(self, request: Request) -> Principal:
        key_id = verify(request, self._key, time.time())
        if key_id.startswith("ST$"):
            return self.instance.principal
        user = key_id.split("/")[1]
        known = self.tenancy.users.get(user)
        if known is None or not known.alive() or not known.can("canUseApiKeys"):
            raise unauthenticated()
        return Principal("user", user)

    def _key(self, key_id: str) -> rsa.RSAPublicKey | None:
        if key_id.startswith("ST$"):
            return self.instance.identified.key(key_id[3:])
        known = self.tenancy.api_keys.get(key_id)
        return known.key if known else None

    # -- once

    async def _once(self, route: Route, call: Call) -> Answer:
        """With a retry token, the same answer as the first time."""
        token = call.header("opc-retry-token")
        if not token or not route.writes:
            return await self._handle(route, call)
        key = (route.operation, call.principal.id, token)
        body = hashlib.sha256(call.request.target.encode() + b"\n" + call.request.body).hexdigest()
        now = self.clock.now()
        for old in [k for k, known in self._tokens.items() if now - known.time > TOKENS_LIVE]:
            del self._tokens[old]
        known = self._tokens.get(key)
        if known is not None:
            if known.body != body:
                raise conflict(
                    "the retry token was used with different parameters before", "InvalidatedRetryToken"
                )
            if known.answer is None:
                raise conflict("the first call with this retry token is not finished", "IncorrectState")
            return known.answer
        known = self._tokens[key] = _Remembered(body, now)
        try:
            known.answer = await self._handle(route, call)
        except BaseException:
            del self._tokens[key]
            raise
        return known.answer

    async def _handle(self, route: Route, call: Call) -> Answer:
        result = route.handler(call)
        return await result if inspect.isawaitable(result) else result
