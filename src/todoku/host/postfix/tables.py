"""The small lookup tables beside main.cf, from the settings (cidr_table(5), regexp_table(5)).

What changes with every account (addresses, aliases, who may send as whom) is not here: the directory exports
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_network

from todoku.host.endpoint import client_networks
from todoku.settings import RelayCredential, Settings
from todoku.settings.telling import TELLING

_LOCAL_PART = "[A-Za-z0-9._+-]+"  # as the settings and the directory allow it
_WORDS = "[A-Za-z0-9!#$%&'*+/=?^_.[:space:]-]*"  # of a display name, encoded words (RFC 2047) among them


def clients(settings: Settings) -> str:
    """cidr: who may use submission. The others are told why before they can try a password."""
    refusal = "554 5.7.1 Mail is submitted here from the organisation's own networks only"
    lines = ["# Who may use 587 and 465 (clients.networks in todoku.toml)."]
    lines += [f"{network}  DUNNO" for network in client_networks(settings)]
    lines += [f"0.0.0.0/0  {refusal}", f"::/0  {refusal}"]
    return _text(lines)


def device_classes(settings: Settings) -> tuple[tuple[str, str], ...]:
    """A restriction class for each device: its name in main.cf, and the only sender that it lets pass."""
    return tuple((f"device_{n}", device.sender) for n, device in enumerate(settings.devices, 1))


def devices(settings: Settings) -> str:
    """cidr: which restriction class (main.cf) is in charge of a device, by its address."""
    lines = [
        "# Devices that cannot authenticate (devices in todoku.toml): address, restriction class in main.cf."
    ]
    for (name, _), device in zip(device_classes(settings), settings.devices, strict=True):
        lines.append(f"{ip_network(device.address, strict=False)}  {name}")
    return _text(lines)


def way_out_who(settings: Settings) -> str:
    """regexp: mail to whom leaves through the relay, for `way_out` in main.cf."""
    ours = [
        *(domain.name for domain in settings.domains),
        settings.hostname,
        "localhost",
        "localhost.localdomain",
    ]
    here = "|".join(re.escape(name) for name in ours)
    return _text(["# Who is here, and who is not.", f"/@({here})$/  here", "/@/  outside"])


def way_out() -> str:
    """regexp: the words with which mail waits for the relay's plan; what the agent may say, and nothing else.

    Until when is in the agent's table, and `todoku queue` shows it: Postfix lets no such table take over (as $1) what
    another one says.
    """
    return _text(
        [
            "# The agent (todoku.delivery.way_out) says: the plan's window, its emails, and when there is room.",
            *(
                f"/^{window} /  retry:4.7.1 the relay's plan of the {window} is used up"
                for window in ("day", "month")
            ),
        ]
    )


def relay_reply() -> str:
    """regexp: where the relay's reply means something else than its code says.

    It answers 254, a success code, when the recipient is on its suppression list.

    Oracle's page "Troubleshooting Email Delivery" has `254 4.7.1 Suppression for user ... to ...`. Taken as
    success the message would be gone without a trace. Matched loosely: the text is theirs to change.

    And it answers 535, which Postfix takes for good, to three things:

    - `Authorization failed: Envelope From address ... not authorized` at MAIL. Of a sender that was approved some
      minutes ago that is not true for long (page "Managing Approved Senders": try again). The message waits, as long as
      any other (maximal_queue_lifetime), and the postmaster is told.
    - `Authorization failed: address ... not authorized` after the message: an address in its From header. Its envelope
      sender was accepted, so it is no matter of minutes: it goes back, and says why.
    - `Authentication required`: our log-in is not known any more. It waits for the right password, as when the password
      itself is refused (smtp_sasl_auth_soft_bounce).
    """
    return _text(
        [
            "# 254 means suppressed, nothing is delivered: a failure, of which the sender has to know.",
            r"/^254([ -])[245](\.[0-9]{1,3}\.[0-9]{1,3}.*)$/  554${1}5${2}",
            r"/^254(.*)$/  554${1}",
            "# An envelope sender that the relay does not accept: a new one is accepted some minutes later.",
            r"/^535([ -].*envelope from.*not authorized.*)$/  450 4.7.1${1}",
            "# An author that it does not accept stays one.",
            r"/^535([ -].*not authorized.*)$/  550 5.7.1${1}",
            "# Not logged in.",
            r"/^535([ -]authentication required.*)$/  450 4.7.0${1}",
        ]
    )


def host_sender(settings: Settings) -> str:
    """regexp: the envelope sender of mail made on this machine, when it is not in one of the domains."""
    return _text(
        [
            "# Envelope sender of mail made on this machine: the relay takes senders in our domains only.",
            f"!/@({_domains(settings)})$/  {settings.host_sender}",
        ]
    )


def host_header_from(settings: Settings) -> str:
    """regexp: the header From of mail made on this machine. Only a plain address in our domains stays.

    Every form that is not surely one of ours (lists, groups, comments, routes) is replaced: the relay judges
    each address in it. The name of the writer is kept where it is made of harmless characters.
    """
    start, end, space = "^From[[:space:]]*:[[:space:]]*", "[[:space:]]*$", "[[:space:]]"
    ours = f"{_LOCAL_PART}@({_domains(settings)})"
    named = f'REPLACE From: "${{1}}" <{settings.host_sender}>'
    return _text(
        [
            "# header From of mail made on this machine (cron, web applications): the relay takes only ours.",
            f"~{start}{ours}{end}~  DUNNO",
            f"~{start}{_WORDS}<{ours}>{end}~  DUNNO",
            rf'~{start}"[^"\\]*"{space}*<{ours}>{end}~  DUNNO',
            "# root (Cron Daemon)",
            rf'~{start}[^[:space:]()<>,;:"]+{space}+\(([A-Za-z0-9 ._-]+)\){end}~  {named}',
            "# Name <address>",
            rf'~{start}"?([A-Za-z0-9._-]+( [A-Za-z0-9._-]+)*)"?{space}*<[^<>,;"]*>{end}~  {named}',
            "# anything else",
            f"/^From[[:space:]]*:/  REPLACE From: {settings.host_sender}",
        ]
    )


def submission_received(settings: Settings) -> str:
    """regexp: where somebody sat when they wrote is nobody's business outside.

    Of all of our own line "Received: from LAPTOP (NAME [ADDRESS]) (using ...) by US (Postfix) with ESMTPSA ..." what
    stays begins at "by", as in the line that Postfix writes for mail made on the host. Lines of other servers,
    and ours of port 25, are left as they are. And the headers of programs go: the gate would see to that as well, but
    each change that a milter wants makes cleanup(8) go through its queue file once more.
    """
    programs = "|".join(re.escape(name) for name in TELLING)
    ours = rf"by {_literally(settings.hostname)} \(Postfix\) with ESMTPS?A? id "
    return _text(
        [
            "# Our own trace line of mail that our people submit, without the client's name and address.",
            rf"/^Received: from .*\[[^]]*\]\)[[:space:]].*({ours}.*)$/  REPLACE Received: ${{1}}",
            "# Which program wrote it, and from where.",
            f"/^({programs})[[:space:]]*:/  IGNORE",
        ]
    )


def host_recipient(settings: Settings) -> str:
    """regexp: the host's own name is no mail domain, but its postmaster can be reached (RFC 5321 4.5.1)."""
    return _text(
        [
            "# postmaster@ and abuse@ the host's own name; from outside nobody else is there.",
            f"/^(postmaster|abuse)@{_literally(settings.hostname)}$/  {settings.postmaster}",
        ]
    )


def host_local_recipient(settings: Settings) -> str:
    """regexp: mail made on this machine for its own users (root, www-data) is read by the postmaster."""
    return _text(
        [
            "# Mail made on this machine for root, www-data and the like.",
            rf"/@({_literally(settings.hostname)}|localhost(\.localdomain)?)$/  {settings.postmaster}",
        ]
    )


def relay_credential(destination: str, credential: RelayCredential) -> str:
    """texthash: `destination` must be written just as relayhost is, or Postfix sends without a password."""
    if ":" in credential.username:
        raise ValueError("the relay's user name contains a colon, which Postfix takes for the end of it")
    return f"{destination} {credential.username}:{credential.password}\n"


def _domains(settings: Settings) -> str:
    return "|".join(_literally(domain.name) for domain in settings.domains)


def _literally(name: str) -> str:
    return name.replace(".", r"\.")


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
