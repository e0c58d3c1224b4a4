"""All of the host's certificates as resources, and what renews them: a timer of systemd's, or a program that
supervisord keeps running.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from todoku.host import endpoint, managers
from todoku.host.certificates.acme import AcmeCertificate, StandIn
from todoku.host.certificates.certificate import Named, SelfSigned
from todoku.host.certificates.own_authority import AUTHORITY_ID, OwnAuthority, OwnCertificate
from todoku.host.certificates.served import Served, Shown
from todoku.host.client import Host
from todoku.host.daemons import gate, own_services
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import CERTIFICATES, Service
from todoku.plan.resource import Action, Change, Resource
from todoku.settings import Settings

INTERNAL_ID = "certificate:internal"
STATE = "/var/lib/todoku/certificates"
UNIT = f"/etc/systemd/system/{CERTIFICATES.name}.service"
TIMER = f"/etc/systemd/system/{CERTIFICATES.name}.timer"
SECTION = f"/etc/supervisor/conf.d/{CERTIFICATES.name}.conf"
_FOLDER = frozenset({"folder:/etc/todoku/tls"})
_SERVED_AFTER = frozenset({"service:postfix", "service:dovecot"})
_CODE = ("cli/services/certificate_watch.py",)

_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku: certificates are renewed in time, and those served that are there
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
ExecStart={command}
TimeoutStartSec=30min
UMask=0077
# Reads the settings and the key to whoever publishes DNS records; writes below these folders and nowhere else.
ReadWritePaths=/etc/todoku/tls -/var/lib/todoku -/run/todoku
ProtectHome=read-only
CapabilityBoundingSet=
{confined}
"""
_TIMER = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
Description=Todoku: certificates are renewed in time

[Timer]
# Twice a day, each machine at times of its own: authorities ask for that.
OnCalendar=*-*-* 03,15:00:00
RandomizedDelaySec=3h
Persistent=true

[Install]
WantedBy=timers.target
"""


def resources(settings: Settings, program: gate.Program) -> list[HostResource[Any]]:
    """The certificates, and that they are served."""
    served = Served(
        wanted=shown(settings),
        reason="a new certificate is of no use until it is shown to who connects",
        after=_SERVED_AFTER,
        follows=needed_to_start(settings),
    )
    return [*_main(settings, program, served), *_own(settings), served]


def shown(settings: Settings) -> tuple[Shown, ...]:
    """The names by which the server is asked, each with its certificate."""
    main = Shown(settings.hostname, endpoint.certificate(settings))
    internal = settings.tls.internal_name
    return (main,) if internal is None else (main, Shown(internal, endpoint.INTERNAL))


def needed_to_start(settings: Settings) -> frozenset[str]:
    """The ids of what has to be in place before Postfix and Dovecot start."""
    return frozenset({"certificate", INTERNAL_ID} if settings.tls.internal_name else {"certificate"})


def _main(settings: Settings, program: gate.Program, served: Served) -> list[HostResource[Any]]:
    """The certificate for the host name."""
    match settings.tls.kind:
        case "files":
            return [
                Named(
                    hostname=settings.hostname,
                    certificate=endpoint.certificate(settings),
                    key=endpoint.key(settings),
                    reason="the settings name it; a wrong one would stop both daemons",
                )
            ]
        case "acme":
            return [
                StandIn(
                    hostname=settings.hostname,
                    reason="TLS is offered from the first minute on, also before the authority answers",
                    after=_FOLDER,
                ),
                AcmeCertificate(
                    hostname=settings.hostname,
                    directory=settings.tls.acme_directory,
                    contact=settings.postmaster,
                    by_hand=settings.dns is None or settings.dns.publisher == "manual",
                    config=program.config,
                    served=served,
                    reason="everybody trusts it, and no port of the web has to be open for it",
                    after=_SERVED_AFTER | {"packages", "certificate"},
                ),
            ]
        case "own-ca":
            return [
                OwnCertificate(
                    called="certificate",
                    name=settings.hostname,
                    path=endpoint.MANAGED,
                    reason="who has installed the root of our authority trusts it",
                    after=_FOLDER,
                    follows=frozenset({AUTHORITY_ID}),
                )
            ]
        case _:
            return [
                SelfSigned(
                    hostname=settings.hostname,
                    reason="TLS is offered from the first minute on; a real certificate can follow",
                    after=_FOLDER,
                )
            ]


def _own(settings: Settings) -> list[HostResource[Any]]:
    """Our own authority, and its certificate for the internal name."""
    if not settings.tls.is_own_authority_needed:
        return []
    internal = settings.tls.internal_name
    names = (settings.hostname,) if settings.tls.kind == "own-ca" else ()
    authority = OwnAuthority(
        names=(*names, *((internal,) if internal else ())),
        reason="no public authority certifies an internal name" if internal else "the settings want one",
        after=frozenset({"folder:/var/lib/todoku"}),
    )
    if internal is None:
        return [authority]
    leaf = OwnCertificate(
        called=INTERNAL_ID,
        name=internal,
        path=endpoint.INTERNAL,
        reason="mail programs in the client networks may use this name",
        after=_FOLDER,
        follows=frozenset({AUTHORITY_ID}),
    )
    return [authority, leaf]


def renewal(settings: Settings, facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    """What renews them unattended. A self-signed certificate is renewed by any later `todoku apply`."""
    if settings.tls.kind == "self-signed" and not settings.tls.is_own_authority_needed:
        return []
    if facts.service_manager == "systemd":
        return _by_timer(program)
    return _by_program(facts, program)


def renew_command(program: gate.Program) -> list[str]:
    """`todoku certificate renew`, by the Python that runs this."""
    return [
        *(sys.executable, "-I", "-m", "todoku.cli.main"),
        *("--config", str(program.config), "certificate", "renew", "--quiet"),
    ]


def _by_timer(program: gate.Program) -> list[Resource[Host, Any]]:
    command = own_services.unit_command(renew_command(program))
    files = (
        RenderedFile(UNIT, _UNIT.format(command=command, confined=own_services.CONFINED)),
        RenderedFile(TIMER, _TIMER),
    )
    reason = "what renews the certificates"
    return [
        *(File(file=file, reason=reason) for file in files),
        Timer(
            name=f"{CERTIFICATES.name}.timer",
            reason="a certificate that nobody renews stops mail within months",
            follows=frozenset(f"file:{file.path}" for file in files),
        ),
    ]


def _by_program(facts: Facts, program: gate.Program) -> list[Resource[Host, Any]]:
    command = [
        sys.executable,
        "-I",
        "-m",
        "todoku.cli.services.certificate_watch",
        "--config",
        str(program.config),
    ]
    command += ["--pid-file", CERTIFICATES.pid_file]
    folder = Directory(
        path=STATE,
        mode=0o700,
        reason="what renews the certificates",
        after=frozenset({"folder:/var/lib/todoku"}),
    )
    wanted: list[Resource[Host, Any]] = [folder]
    files = []
    if facts.service_manager == "supervisord":
        section = RenderedFile(SECTION, own_services.section(CERTIFICATES.name, command))
        files.append(section.path)
        wanted.append(File(file=section, reason="supervisord keeps it running"))
    service = Service(
        daemon=CERTIFICATES,
        manager=managers.manager(facts.service_manager),
        configuration=(*files, *(str(own_services.PACKAGE / name) for name in _CODE)),
        reason="a certificate that nobody renews stops mail within months",
        after=frozenset({folder.id}),
        follows=frozenset(f"file:{path}" for path in files),
    )
    return [*wanted, service]


@dataclass(frozen=True, kw_only=True)
class Timer(HostResource[bool]):
    """A timer of systemd's (or what waits for a file to change) that runs, and will after a reboot."""

    name: str

    @property
    def id(self) -> str:
        return f"timer:{self.name}"

    def look(self, client: Host) -> bool:
        asked = (
            client.run(["systemctl", word, "--quiet", self.name], check=False)
            for word in ("is-enabled", "is-active")
        )
        return all(each.code == 0 for each in asked)

    def differ(self, seen: bool) -> Change | None:
        return None if seen else Change(Action.RUN, f"start {self.name}, and have it started at boot")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        client.run(["systemctl", "daemon-reload"])
        client.run(["systemctl", "enable", self.name])
        client.run(["systemctl", "restart", self.name])
