"""The fault switchboard: an HTTP/1.1 server that makes the simulated relay misbehave and tells what it saw.

    GET  /   the current state and what was seen, as JSON
    POST /   a JSON object with any of the keys in `KEYS`; answers as GET does

The cloud adds keys of its own (`cloud/switches.py`). A request is checked as a whole before anything is
changed. What is wrong with it is said in the 400.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from todoku.rehearsal.cloud import Cloud, switches
from todoku.rehearsal.relay.record import STAGES, Injected
from todoku.rehearsal.relay.relay import Relay
from todoku.rehearsal.relay.state import Limits
from todoku.rehearsal.smtp.server import PortTaken
from todoku.rehearsal.smtp.session import Listen, Reply

HEAD, BODY, SECONDS = 16_384, 1_000_000, 30.0
_REASONS = {200: "OK", 400: "Bad Request", 405: "Method Not Allowed", 413: "Content Too Large"}


class BadRequest(Exception):
    """What is wrong with a request, and what to write instead."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def state(relay: Relay, cloud: Cloud | None = None) -> dict[str, Any]:
    """What GET shows. Secrets (the credential's password, private keys) are not part of it."""
    known, faults, seen = relay.state, relay.faults, relay.seen
    return {
        **(switches.state(cloud) if cloud else {}),
        "hostname": relay.plan.relay_hostname,
        "latency_ms": faults.latency_ms,
        "reply": dataclasses.asdict(faults.injected) if faults.injected else None,
        "suppress": sorted(known.suppressions),
        "sender_propagation_s": known.sender_propagation,
        "senders": sorted(known.senders),
        "limits": dataclasses.asdict(known.limits),
        "down": faults.down,
        "suppressions": [dataclasses.asdict(entry) for entry in known.suppressions.values()],
        "waiting": relay.outbox.waiting,
        "bounces": _entries(seen.bounces),
        "seen": {
            "connections": seen.connections,
            "open_connections": sum(seen.open_connections.values()),
            "auths": seen.auths,
            "auth_failures": seen.auth_failures,
            "messages": seen.messages,
            "reply_codes": {str(code): count for code, count in sorted(seen.reply_codes.items())},
            "replies": _entries(seen.replies),
            "submitted": _entries(seen.submitted),
            "relayed": _entries(seen.relayed),
        },
    }


def _entries(entries: Any) -> list[dict[str, Any]]:
    return [dataclasses.asdict(entry) for entry in entries]


# -- the keys of a POST: each reads its value, or raises BadRequest


def _number(value: Any, name: str, whole: bool = False) -> Any:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value < 0:
        raise BadRequest(f"{name} has to be a {'whole ' if whole else ''}number from 0 up, not {value!r}")
    return value


def _addresses(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) and "@" in item for item in value):
        raise BadRequest(f"{name} has to be a list of addresses, not {value!r}")
    return value


def _truth(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"{name} has to be true or false, not {value!r}")
    return value


def _injected(value: Any, name: str) -> Injected | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not {"stage", "text"} <= value.keys() <= {"stage", "text", "count"}:
        raise BadRequest(
            f'{name} has to be {{"stage": ..., "text": ..., "count": ...}} or null, not {value!r}'
        )
    if value["stage"] not in STAGES:
        raise BadRequest(f"{name}.stage has to be one of {', '.join(STAGES)}, not {value['stage']!r}")
    injected = Injected(
        value["stage"], value["text"], _number(value.get("count", 1), f"{name}.count", whole=True)
    )
    try:
        Reply.of(injected.text)
    except (ValueError, AttributeError) as problem:
        raise BadRequest(f"{name}.text has to be a reply such as '421 Try later': {problem}") from problem
    return injected if injected.count else None


def _limits(value: Any, name: str) -> dict[str, int]:
    allowed = [field.name for field in dataclasses.fields(Limits)]
    if not isinstance(value, dict) or not value.keys() <= set(allowed):
        raise BadRequest(f"{name} has to be an object with any of {', '.join(allowed)}, not {value!r}")
    return {key: _number(limit, f"{name}.{key}", whole=True) for key, limit in value.items()}


# In the order in which they take effect.
KEYS: Mapping[str, Callable[[Any, str], Any]] = {
    "reset": _truth,
    "latency_ms": _number,
    "reply": _injected,
    "suppress": _addresses,
    "sender_propagation_s": _number,
    "senders": _addresses,
    "limits": _limits,
    "down": _truth,
    "complain": _addresses,
}


async def change(relay: Relay, wanted: Any, cloud: Cloud | None = None) -> None:
    """Apply a POST. Raises `BadRequest` before anything was changed, or `PortTaken` when coming up failed."""
    keys = {**KEYS, **(switches.KEYS if cloud else {})}
    if not isinstance(wanted, dict):
        raise BadRequest(f"a JSON object is needed, with any of {', '.join(keys)}")
    unknown = sorted(wanted.keys() - keys.keys())
    if unknown:
        raise BadRequest(f"unknown key {', '.join(unknown)}; the keys are {', '.join(keys)}")
    try:
        values = {name: read(wanted[name], name) for name, read in keys.items() if name in wanted}
    except ValueError as problem:
        raise BadRequest(str(problem)) from problem
    if values.get("reset"):
        await relay.reset()
        if cloud:
            await cloud.reset()
    if "latency_ms" in values:
        relay.faults.latency_ms = values["latency_ms"]
    if "reply" in values:
        relay.faults.injected = values["reply"]
    if "suppress" in values:
        relay.state.set_suppressions(values["suppress"])
    if "sender_propagation_s" in values:
        relay.state.sender_propagation = values["sender_propagation_s"]
    if "senders" in values:
        relay.state.set_senders(values["senders"])
    if "limits" in values:
        relay.state.limits = dataclasses.replace(relay.state.limits, **values["limits"])
    if "down" in values:
        await relay.set_down(values["down"])
    for address in values.get("complain", ()):
        try:
            relay.outbox.complain(address)
        except ValueError as problem:
            raise BadRequest(str(problem)) from problem
    if cloud:
        await switches.change(cloud, values)


class Switchboard:
    """The HTTP server."""

    def __init__(self, relay: Relay, listen: Listen, cloud: Cloud | None = None) -> None:
        self.relay, self.listen, self.cloud = relay, listen, cloud
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises `PortTaken`."""
        try:
            self._server = await asyncio.start_server(
                self._serve, self.listen.host, self.listen.port, limit=HEAD
            )
        except OSError as problem:
            raise PortTaken(
                f"cannot listen on {self.listen.host} port {self.listen.port} (the fault switchboard): "
                f"{problem.strerror}; stop what listens there, or add the address to an interface"
            ) from problem
        self.listen = Listen(self.listen.host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                status, answer = await self._request(reader)
                body = json.dumps(answer, indent=1).encode() + b"\n"
                head = (
                    f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the caller went away: there is nobody to tell
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
        try:
            method, content = await _read(reader)
            if method == "POST":
                try:
                    wanted = json.loads(content)
                except ValueError as problem:
                    raise BadRequest(f"the body is not JSON: {problem}") from problem
                await change(self.relay, wanted, self.cloud)
            elif method != "GET":
                raise BadRequest(f"{method} is not possible here; use GET or POST", 405)
            return 200, state(self.relay, self.cloud)
        except BadRequest as problem:
            return problem.status, {"error": str(problem)}
        except PortTaken as problem:
            return 500, {"error": str(problem)}


async def _read(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Method and body of one request."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError as problem:
        raise BadRequest("the request head is too long", 400) from problem
    first, *lines = head.split("\r\n")
    words = first.split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("not an HTTP/1.1 request")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or "transfer-encoding" in headers:
        raise BadRequest("send the body with a Content-Length")
    if int(length) > BODY:
        raise BadRequest(f"the body has to be shorter than {BODY} bytes", 413)
    return words[0], await reader.readexactly(int(length))
