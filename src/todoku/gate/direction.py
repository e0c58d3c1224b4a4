"""Where a message comes from, and therefore which rules it meets.

Outbound is what our own people and machines send, whoever it is for; inbound is what others deliver on port 25.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_address, ip_network

from todoku.gate.message import MessageSoFar
from todoku.settings import Settings

# milter_macro_daemon_name of submission and of mail made on the host (master.cf).
ORIGINATING = "ORIGINATING"
_LOOPBACK = ("", "127.0.0.1", "::1")


class Direction(Enum):
    OUTBOUND = "outbound"
    INBOUND = "inbound"


class Origin(Enum):
    LOGIN = "someone who logged in"
    DEVICE = "a device of the settings, known by its address"
    HOST = "this machine itself: cron, web applications, notices"
    WORLD = "anybody else"


def direction(message: MessageSoFar) -> Direction:
    return Direction.INBOUND if origin(message) is Origin.WORLD else Direction.OUTBOUND


def outbound(message: MessageSoFar) -> bool:
    return origin(message) is not Origin.WORLD


def origin(message: MessageSoFar) -> Origin:
    """Who the message comes from. Nothing in the message itself is believed."""
    if message.login:
        return Origin.LOGIN
    if message.macros.get("daemon_name") == ORIGINATING or _made_here(message):
        return Origin.HOST
    settings = message.context.settings
    if settings is not None and _is_device(message.client.address, settings):
        return Origin.DEVICE
    return Origin.WORLD


def outside(message: MessageSoFar) -> list[str]:
    """Whom the relay delivers to, each once: outside our domains, or where an alias of ours leads outside.

    A recipient without a domain is ours.
    """
    settings, aliases = message.context.site, message.context.aliases
    found: dict[str, None] = {}
    for given in message.recipients:
        recipient = settings.postmaster if _is_here(given, settings) else given
        if "@" in recipient and not settings.is_own(recipient):
            found[recipient] = None
        elif alias := aliases.find(recipient, settings):
            found.update((target, None) for target in alias[1] if not settings.is_own(target))
    return list(found)


def _is_here(recipient: str, settings: Settings) -> bool:
    """The host's own name is no mail domain: mail to it is the postmaster's (host_local_recipient.regexp)."""
    return recipient.rpartition("@")[2].lower() in (settings.hostname, "localhost", "localhost.localdomain")


def is_own_notice(message: MessageSoFar) -> bool:
    """Whether Postfix itself wrote it, a bounce or a notice of delay; others on this machine come by sendmail(1)."""
    return (
        not message.sender_given
        and message.login is None
        and message.macros.get("daemon_name") != ORIGINATING
        and _made_here(message)
    )


def _made_here(message: MessageSoFar) -> bool:
    """Postfix presents mail that no SMTP client sent as from localhost, port 0 (cleanup_milter.c)."""
    return message.client.port == 0 and message.client.address in _LOOPBACK


def _is_device(client: str, settings: Settings) -> bool:
    if not settings.devices:
        return False
    try:
        address = ip_address(client)
    except ValueError:
        return False
    return any(address in ip_network(device.address, strict=False) for device in settings.devices)
