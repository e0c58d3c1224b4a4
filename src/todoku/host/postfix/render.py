"""The files of Postfix, whole, from the settings: nothing is edited in place, a difference shows everything.

Written for Postfix 3.6 to 3.10 after postconf(5), master(5) and SASL_README, SMTPD_POLICY_README, TLS_README
at postfix.org. The why of each setting is a comment in the templates beside this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from todoku.host import endpoint, way_out
from todoku.host.facts import Facts
from todoku.host.postfix import pace, parameters, tables
from todoku.host.rendered import RenderedFile
from todoku.settings import Settings, credential, ports

QUEUE_DIRECTORY = "/var/spool/postfix"
_ETC = "/etc/postfix"
# What Postfix adds before the message goes to the relay: Received and, where missing, Date, Message-ID.
_ROOM_FOR_TRACE = 2048  # bytes


def render(settings: Settings, facts: Facts) -> tuple[RenderedFile, ...]:
    """Every file of Postfix but the relay's credential; raises ValueError when no Postfix can be found."""
    known = parameters.known(facts)
    relayed = settings.relay.plan.message_size - _ROOM_FOR_TRACE
    values = {
        "settings": settings,
        "known": known,
        "listen": ", ".join(_bracketed(a) for a in endpoint.listen(settings)) or "all",
        "relay_destination": relay_destination(settings),
        # Key first: the order that smtpd_tls_chain_files wants.
        "certificate_chain": tuple(dict.fromkeys((endpoint.key(settings), endpoint.certificate(settings)))),
        "internal_certificate": endpoint.INTERNAL,
        "relay_size": relayed,
        "pace": pace.pace(settings.relay.plan),
        "way_out": way_out.TABLE,
        "ports": ports,
        # cleanup(8) holds every message to this one, smtpd(8) to that of its service.
        "largest_size": max(settings.limits.message_size, relayed),
        "device_classes": tables.device_classes(settings),
        "log_to_file": facts.service_manager != "systemd",
    }
    contents = {
        "main.cf": _template("main.cf.j2").render(values),
        "master.cf": _template("master.cf.j2").render(values),
        "clients.cidr": tables.clients(settings),
        "devices.cidr": tables.devices(settings),
        "relay_reply.regexp": tables.relay_reply(),
        "way_out_who.regexp": tables.way_out_who(settings),
        "way_out.regexp": tables.way_out(),
        "host_sender.regexp": tables.host_sender(settings),
        "host_header_from.regexp": tables.host_header_from(settings),
        "host_recipient.regexp": tables.host_recipient(settings),
        "host_local_recipient.regexp": tables.host_local_recipient(settings),
    }
    if settings.gate.hide_client:
        contents["submission_received.regexp"] = tables.submission_received(settings)
    return tuple(RenderedFile(f"{_ETC}/{name}", content) for name, content in contents.items())


def render_credential(settings: Settings, environ: Mapping[str, str]) -> RenderedFile:
    """The relay's user name and password as Postfix reads them; raises `CredentialError`, ValueError."""
    secret = credential.read(settings.relay, environ)
    content = tables.relay_credential(relay_destination(settings), secret)
    return RenderedFile(f"{_ETC}/relay_credential", content, mode=0o600, secret=True)


def relay_destination(settings: Settings) -> str:
    """How Postfix is told where the relay is: in brackets, no MX is looked up."""
    return f"[{settings.relay.hostname}]:{settings.relay.port}"


def _bracketed(address: IPv4Address | IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


@cache
def _environment() -> Environment:
    # Configuration files, not HTML: nothing is escaped.
    return Environment(
        loader=PackageLoader("todoku.host.postfix", ""),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _template(name: str) -> Template:
    return _environment().get_template(name)
