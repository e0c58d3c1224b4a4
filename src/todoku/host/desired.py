"""Everything that a host needs, as resources: the same settings in, the same resources out.

Two stages: which syntax Postfix and Dovecot want is known for certain once their packages are installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from todoku.directory.place import HERE
from todoku.directory.resources import EXPORT_ID, DirectoryExport, StoreSchema
from todoku.host import clamav, dovecot, firewall, guessing, managers, packages, postfix, way_out
from todoku.host.backup.ownership import with_owners
from todoku.host.certificates import resources as certificates
from todoku.host.client import Host
from todoku.host.configuration import ConfigSet, Validation
from todoku.host.credential import RelayCredentialFile
from todoku.host.daemons import agent, campaign, daily_check, gate, page, quarantine, relay_watch
from todoku.host.facts import Facts, gather
from todoku.host.files import Directory, File
from todoku.host.packages import Packages
from todoku.host.rendered import RenderedFile
from todoku.host.services import DOVECOT, POSTFIX, Daemon, Service
from todoku.host.users import Group, User
from todoku.host.validation import DovecotValidation, PostfixValidation
from todoku.plan.resource import Item, LookFailed, Resource
from todoku.settings import DEFAULT_PATH, Settings

VMAIL = "vmail"
STATE = "/var/lib/todoku"
MAIL = f"{STATE}/mail"
_PACKAGES = frozenset({"packages"})
_RUN = RenderedFile("/etc/tmpfiles.d/todoku.conf", "d /run/todoku 0755 root root -\n")


def stages(
    settings: Settings,
    host: Host | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    credential_after: frozenset[str] = frozenset(),
    config: Path = DEFAULT_PATH,
    cloud: bool = True,
) -> list[Callable[[], list[Item]]]:
    """What a host with these settings, which are in the file `config`, needs: first the packages, then the rest.

    `credential_after` are the ids of what puts the relay's credential into its file. Without `cloud` nothing here
    talks to the cloud. Calling a stage looks
    at the machine (which versions are there); raises LookFailed.
    """
    machine = host or Host()
    return [
        lambda: _items(machine, [_packages(settings)]),
        lambda: [
            *_items(machine, _rest(settings, machine, environ, credential_after, config, cloud)),
            *_directory(settings),
        ],
    ]


def _rest(
    settings: Settings,
    machine: Host,
    environ: Mapping[str, str],
    credential_after: frozenset[str],
    config: Path,
    cloud: bool,
) -> list[Resource[Host, Any]]:
    program = gate.Program(config, gate.code_is_open(machine))
    wanted = resources(settings, gather(machine), environ, credential_after, program, cloud=cloud)
    return with_owners(wanted, machine)


def resources(
    settings: Settings,
    facts: Facts,
    environ: Mapping[str, str] = os.environ,
    credential_after: frozenset[str] = frozenset(),
    program: gate.Program = gate.Program(),  # noqa: B008 - frozen
    *,
    cloud: bool = True,
) -> list[Resource[Host, Any]]:
    """All of a host but its packages and what the directory contributes. Raises LookFailed."""
    try:
        files = {
            "postfix": tuple(postfix.render(settings, facts)),
            "dovecot": tuple(dovecot.render(settings, facts)),
        }
    except ValueError as error:
        raise LookFailed(str(error)) from error
    return [
        *_folders(settings, facts),
        *_mailbox_owner(settings),
        *certificates.resources(settings, program),
        *certificates.renewal(settings, facts, program),
        RelayCredentialFile(
            reason="the relay takes mail only from those who log in",
            settings=settings,
            environ=environ,
            given_out=bool(credential_after),
            after=_PACKAGES | credential_after,
        ),
        *_postfix(settings, facts, files["postfix"], _listens_on(files["postfix"])),
        *_dovecot(settings, facts, files["dovecot"]),
        *clamav.resources(settings, facts),
        *gate.resources(
            facts,
            program,
            (*page.folders(settings), *campaign.folders(settings), *quarantine.folders(settings)),
            page.read_at_start(settings),
        ),
        *agent.resources(settings, facts, program),
        *way_out.resources(facts),
        *(relay_watch.resources(settings, facts, program) if cloud else ()),
        *daily_check.resources(facts, program),
        *firewall.resources(settings, after=_PACKAGES),
        *page.resources(settings, facts, program),
        *quarantine.resources(settings, facts, program),
        *campaign.resources(settings, facts, program),
    ]


def _packages(settings: Settings) -> Packages:
    return Packages(names=packages.wanted(settings), reason="Postfix and Dovecot do the mail")


def _folders(settings: Settings, facts: Facts) -> list[Resource[Host, Any]]:
    below_etc, below_state = frozenset({"folder:/etc/todoku"}), frozenset({f"folder:{STATE}"})
    wanted: list[Resource[Host, Any]] = [
        Directory(path="/etc/todoku", reason="the settings"),
        Directory(
            path="/etc/todoku/secrets", mode=0o700, reason="what nobody else may read", after=below_etc
        ),
        Directory(path="/etc/todoku/tls", reason="the certificate", after=below_etc),
        Directory(path=STATE, reason="everything that has to survive"),
        Directory(
            path=f"{STATE}/directory", reason="what Postfix and Dovecot know of accounts", after=below_state
        ),
        Directory(path="/run/todoku", reason="sockets"),
    ]
    if facts.service_manager == "systemd":
        wanted.append(File(file=_RUN, reason="/run is empty after a reboot"))
    if settings.accounts.mode == "virtual":
        after = below_state | {f"user:{VMAIL}"}
        reason = "the mail of all accounts"
        mail = Directory(path=MAIL, mode=0o700, owner=VMAIL, group=VMAIL, reason=reason, after=after)
        wanted.append(mail)
    return wanted


def _mailbox_owner(settings: Settings) -> list[Resource[Host, Any]]:
    if settings.accounts.mode == "system":
        return []
    reason = "mail belongs to a user who can do nothing else"
    return [
        Group(name=VMAIL, reason=reason),
        User(name=VMAIL, group=VMAIL, home=MAIL, reason=reason, after=frozenset({f"group:{VMAIL}"})),
    ]


def _postfix(
    settings: Settings,
    facts: Facts,
    files: tuple[RenderedFile, ...],
    addresses: tuple[IPv4Address | IPv6Address, ...],
) -> list[Resource[Host, Any]]:
    after = {*certificates.needed_to_start(settings), "relay-credential"}
    configured, rest = _configured("postfix", "/etc/postfix", files, PostfixValidation(), after)
    credential = f"{configured.folder}/relay_credential"
    service = _service(
        POSTFIX,
        facts,
        configured,
        rest,
        extra={"relay-credential": ()},
        addresses=addresses,
        read_by=((credential, "smtp"),),  # a texthash: table, which smtp(8) opens when it starts
        after=frozenset({gate.SERVICE_ID, way_out.TABLE_ID}),
        reason="takes mail in, and hands it to the relay",
    )
    return [configured, *rest, *service]


def _dovecot(settings: Settings, facts: Facts, files: tuple[RenderedFile, ...]) -> list[Resource[Host, Any]]:
    after = {*certificates.needed_to_start(settings), guessing.ID}
    configured, rest = _configured("dovecot", "/etc/dovecot", files, DovecotValidation(), after)
    service = _service(
        DOVECOT,
        facts,
        configured,
        rest,
        extra={guessing.ID: (guessing.DOVECOT_FILE,)},
        addresses=(),
        reason="keeps mail, hands it out, and checks passwords",
    )
    return [configured, *rest, *service]


def _configured(
    name: str, folder: str, files: tuple[RenderedFile, ...], validation: Validation, after: set[str]
) -> tuple[ConfigSet, list[File]]:
    """The files below the daemon's own folder as one set, the others each on its own."""
    inside = tuple(file for file in files if file.path.startswith(f"{folder}/"))
    rest = [
        File(file=file, reason=f"read by {name}", after=_PACKAGES) for file in files if file not in inside
    ]
    configured = ConfigSet(
        name=name,
        folder=folder,
        files=inside,
        validation=validation,
        reason=f"all that {name} does follows from the settings",
        after=_PACKAGES | after | {file.id for file in rest},
    )
    return configured, rest


def _service(
    daemon: Daemon,
    facts: Facts,
    configured: ConfigSet,
    rest: list[File],
    *,
    extra: Mapping[str, tuple[str, ...]],
    addresses: tuple[IPv4Address | IPv6Address, ...],
    reason: str,
    read_by: tuple[tuple[str, str], ...] = (),
    after: frozenset[str] = frozenset(),
) -> list[Resource[Host, Any]]:
    """The service, restarted when one of its files changes; under supervisord also the file that names it."""
    files = [*rest]
    if facts.service_manager == "supervisord":
        files.append(
            File(file=managers.program(daemon.name), reason=f"supervisord keeps {daemon.name} running")
        )
    paths = [file.path for file in configured.files] + [file.file.path for file in files]
    service = Service(
        daemon=daemon,
        manager=managers.manager(facts.service_manager),
        configuration=tuple(dict.fromkeys([*paths, *(path for some in extra.values() for path in some)])),
        addresses=addresses,
        read_by=read_by,
        reason=reason,
        after=_PACKAGES | {EXPORT_ID, "folder:/run/todoku"} | after,
        follows=frozenset({configured.id, *(file.id for file in files), *extra}),
    )
    return [*files[len(rest) :], service]


def _listens_on(files: tuple[RenderedFile, ...]) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses that main.cf names; none when it says "all"."""
    main = next((file.content for file in files if file.path.endswith("/main.cf")), "")
    named = re.findall(r"(?m)^inet_interfaces\s*=\s*(.*)$", main)
    words = re.split(r"[,\s]+", named[-1].strip()) if named else []
    try:
        return tuple(ip_address(word.strip("[]")) for word in words if word)
    except ValueError:  # "all", "loopback-only"
        return ()


def _directory(settings: Settings) -> list[Item]:
    """The store, and what is exported from it. postmap needs Postfix and its main.cf."""
    after = {f"folder:{STATE}", f"folder:{STATE}/directory", "configuration:postfix"}
    if settings.accounts.mode == "virtual":
        after.add(f"user:{VMAIL}")
    return [
        Item(StoreSchema(requires=frozenset({f"folder:{STATE}"})), HERE),
        Item(DirectoryExport(settings, requires=_PACKAGES | after), HERE),
    ]


def _items(host: Host, wanted: Iterable[Resource[Host, Any]]) -> list[Item]:
    return [Item(resource, host) for resource in wanted]
