"""The machine's firewalls as resources: iptables with its files, firewalld, and nftables.

Each looks whether it is there at all; where none is, there is nothing to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

from todoku.host.client import Host, HostError
from todoku.host.files import keep_previous
from todoku.host.firewall import iptables, nftables
from todoku.host.firewall.iptables import NotUnderstood
from todoku.host.firewall.model import EVERYBODY, Opening
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, NeedsPerson
from todoku.settings import Settings

OTHERS_DELIVER = 25
CLIENTS = (465, 587, 993)
_UFW = "ufw-"  # how ufw's own chains begin


@dataclass(frozen=True, slots=True)
class _Version:
    """The commands and the file of one version of the Internet Protocol."""

    number: int
    save: str
    restore: str
    file: str


_VERSIONS = (
    _Version(4, "iptables-save", "iptables-restore", "/etc/iptables/rules.v4"),
    _Version(6, "ip6tables-save", "ip6tables-restore", "/etc/iptables/rules.v6"),
)


def resources(settings: Settings, *, after: frozenset[str] = frozenset()) -> list[HostResource[object]]:
    """One for each kind of firewall; none where the settings leave firewalls to others."""
    if not settings.firewall.manage:
        return []
    wanted = openings(settings)
    reason = "others deliver to port 25; people in the client networks read and send mail"
    return [
        *(
            IptablesFirewall(
                version=version,
                wanted=tuple(each for each in wanted if each.source.version == version.number),
                reason=reason,
                after=after,
            )
            for version in _VERSIONS
        ),
        Firewalld(wanted=wanted, reason=reason, after=after),
        NftablesFirewall(wanted=wanted, reason=reason, after=after),
    ]


def openings(settings: Settings) -> tuple[Opening, ...]:
    """Who has to be let in where: everybody to port 25, the client networks to their ports. Loopback is let in
    by every firewall anyway, and our own addresses reach us over it."""
    clients = [each for each in settings.clients.networks if not each.is_loopback]
    return (
        *(Opening(source, (OTHERS_DELIVER,)) for source in EVERYBODY.values()),
        *(Opening(source, CLIENTS) for source in clients),
    )


@dataclass(frozen=True, slots=True)
class IptablesSeen:
    """The rules as text: those that are in force, and those of the file; None where there are none."""

    running: str | None = field(repr=False, default=None)
    file: str | None = field(repr=False, default=None)


@dataclass(frozen=True, kw_only=True)
class IptablesFirewall(HostResource[object]):
    """Our rules in the chain INPUT, before its catch-all, in the running rules and in the file for the next boot."""

    version: _Version
    wanted: tuple[Opening, ...]

    @property
    def id(self) -> str:
        return f"firewall:iptables-v{self.version.number}"

    def look(self, client: Host) -> IptablesSeen:
        """Raises NeedsPerson where the rules are not such that they can be changed safely."""
        seen = IptablesSeen(_running(client, self.version), client.text(self.version.file) or None)
        if seen.running is not None and _is_firewalld(client):
            return IptablesSeen()  # its own resource
        try:
            self._changed(seen)
        except NotUnderstood as unusual:
            self._ask_for_it(seen, unusual)
        if seen.running is not None and seen.file is None and not self._lets_in(seen.running):
            raise NeedsPerson(
                f"{self._program} keeps mail out, and its rules come from somewhere else than {self.version.file}, so "
                "they would be back after a reboot: add there, before what rejects the rest:\n"
                + "\n".join(self._lines)
            )
        return seen

    def differ(self, seen: object) -> Change | None:
        assert isinstance(seen, IptablesSeen)  # noqa: S101
        running, file = self._changed(seen)
        where = [
            name
            for name, before, after in (
                ("the running rules", seen.running, running),
                (self.version.file, seen.file, file),
            )
            if before != after
        ]
        if not where:
            return None
        before, after = (seen.running, running) if "the running rules" in where else (seen.file, file)
        return Change(Action.UPDATE, f"let mail in: {' and '.join(where)}", _diff(before or "", after or ""))

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002 - what is there now decides
        seen = self.look(client)
        _, file = self._changed(seen)
        if file is not None and file != seen.file:
            self._check(client, file)
        if seen.running is not None and (told := iptables.commands(seen.running, self.wanted)):
            client.run([self.version.restore, "--noflush"], input=told)
            if not self._lets_in(_running(client, self.version) or ""):
                raise ChangeFailed(
                    f"{self.version.restore} took our rules, but they are not in force: something else changes the "
                    "rules at the same time; look with iptables -S INPUT, then apply again"
                )
        if file is not None and file != seen.file:
            stat = client.stat(self.version.file)
            wanted = RenderedFile(self.version.file, file, mode=stat.mode if stat else 0o640)
            keep_previous(wanted, client)
            owner, group = (stat.owner, stat.group) if stat else ("root", "root")
            client.replace(wanted.path, file.encode(), mode=wanted.mode, owner=owner, group=group)

    def _changed(self, seen: IptablesSeen) -> tuple[str | None, str | None]:
        running, file = (
            None if text is None else iptables.opened(text, self.wanted) for text in (seen.running, seen.file)
        )
        return running, file

    def _lets_in(self, text: str) -> bool:
        try:
            return iptables.is_open(text, self.wanted)
        except NotUnderstood:
            return False

    def _check(self, client: Host, file: str) -> None:
        """Raises ChangeFailed unless the rules of the changed file could be loaded."""
        tried = client.run([self.version.restore, "--test"], input=file, check=False)
        if tried.code:
            raise ChangeFailed(
                f"{self.version.restore} does not accept {self.version.file} with our rules in it, so it was left "
                f"alone; does it accept the file itself ({self.version.restore} --test < {self.version.file})? "
                f"It said: {tried.words}"
            )

    def _ask_for_it(self, seen: IptablesSeen, unusual: NotUnderstood) -> None:
        """Raises NeedsPerson with what to do; returns when all is open as it is."""
        if all(text is None or self._lets_in(text) for text in (seen.running, seen.file)):
            return
        if _UFW in (seen.running or ""):
            raise NeedsPerson("ufw is in force here and keeps mail out. Have it let mail in:\n" + self._ufw)
        raise NeedsPerson(
            f"the rules of {self._program} keep mail out and are not changed from here, as "
            f"{unusual}. Add, before what rejects the rest, in the running rules and in {self.version.file}:\n"
            + "\n".join(self._lines)
        )

    @property
    def _program(self) -> str:
        return self.version.save.removesuffix("-save")

    @property
    def _lines(self) -> list[str]:
        return [iptables.rule_for(each) for each in self.wanted]

    @property
    def _ufw(self) -> str:
        return "\n".join(
            f"ufw allow {','.join(map(str, each.ports))}/tcp"
            if each.source == EVERYBODY[each.source.version]
            else f"ufw allow proto tcp from {each.source} to any port {','.join(map(str, each.ports))}"
            for each in self.wanted
        )


@dataclass(frozen=True, slots=True)
class FirewalldSeen:
    """What is lacking in firewalld's zone: options of firewall-cmd, running and permanent."""

    zone: str = ""
    running: tuple[str, ...] = ()
    permanent: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Firewalld(HostResource[object]):
    """Ports and rich rules in the zones that interfaces are in, by firewall-cmd(1)."""

    wanted: tuple[Opening, ...]

    @property
    def id(self) -> str:
        return "firewall:firewalld"

    def look(self, client: Host) -> tuple[FirewalldSeen, ...]:
        if not _is_firewalld(client):
            return ()
        return tuple(
            FirewalldSeen(
                zone,
                running=tuple(each for each in self._options() if not _has(client, zone, each, ())),
                permanent=tuple(
                    each for each in self._options() if not _has(client, zone, each, ("--permanent",))
                ),
            )
            for zone in _zones(client)
        )

    def differ(self, seen: object) -> Change | None:
        assert isinstance(seen, tuple)  # noqa: S101
        lacking = [zone for zone in seen if zone.running or zone.permanent]
        if not lacking:
            return None
        detail = "\n".join(
            f"+ {zone.zone}: {each}"
            for zone in lacking
            for each in dict.fromkeys((*zone.running, *zone.permanent))
        )
        names = ", ".join(zone.zone for zone in lacking)
        return Change(Action.UPDATE, f"let mail in: firewalld's zone {names}", detail)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002 - what is there now decides
        for zone in self.look(client):
            for option in zone.permanent:
                client.run(["firewall-cmd", "--permanent", f"--zone={zone.zone}", f"--add-{option}"])
            for option in zone.running:
                client.run(["firewall-cmd", f"--zone={zone.zone}", f"--add-{option}"])

    def _options(self) -> tuple[str, ...]:
        """As they come after --query- and --add-."""
        rich = [
            f'rich-rule=rule family="ipv{each.source.version}" source address="{each.source}" '
            f'port port="{port}" protocol="tcp" accept'
            for each in self.wanted
            if each.source != EVERYBODY[each.source.version]
            for port in each.ports
        ]
        return (f"port={OTHERS_DELIVER}/tcp", *rich)


@dataclass(frozen=True, kw_only=True)
class NftablesFirewall(HostResource[object]):
    """Rules of nftables that somebody wrote. They are only looked at: where they keep mail out, a person is told
    what to add."""

    wanted: tuple[Opening, ...]

    @property
    def id(self) -> str:
        return "firewall:nftables"

    def look(self, client: Host) -> None:
        """Raises NeedsPerson with the lines that are lacking."""
        if not client.has("nft") or _is_firewalld(client):
            return
        listing = client.run(["nft", "-j", "list", "ruleset"], check=False)
        if listing.code:
            return  # a container without the right to its host's packet filter
        of_iptables = [("ip", "filter"), ("ip6", "filter")] if client.has("iptables-save") else []
        try:
            found = nftables.closed(listing.stdout, self.wanted, of_iptables)
        except ValueError as error:
            raise LookFailed(f"`nft -j list ruleset` cannot be read: {error}") from error
        if found:
            raise NeedsPerson("\n".join(_instruction(each) for each in found))

    def differ(self, seen: object) -> Change | None:  # noqa: ARG002
        return None

    def change(self, change: Change, client: Host) -> None:
        """Never needed: `differ` says so."""


def _instruction(closed: nftables.Closed) -> str:
    lines = "\n".join(closed.instruction())
    return (
        f"the chain {closed.chain} of nftables' table {closed.family} {closed.table} keeps mail out. In the file that "
        "it comes from (mostly /etc/nftables.conf), add before what drops or rejects the rest, then load the file:\n"
        + lines
    )


def _running(host: Host, version: _Version) -> str | None:
    """The running filter table; None without iptables, or where it is not ours to ask."""
    if not host.has(version.save):
        return None
    asked = host.run([version.save, "-t", "filter"], check=False)
    return asked.stdout if asked.code == 0 else None


def _is_firewalld(host: Host) -> bool:
    return host.has("firewall-cmd") and host.run(["firewall-cmd", "--state"], check=False).code == 0


def _zones(host: Host) -> tuple[str, ...]:
    """The default zone, and those that interfaces are in."""
    default = host.run(["firewall-cmd", "--get-default-zone"]).stdout.strip()
    # "public\n  interfaces: eth0\ntrusted\n  sources: 10.0.0.0/8"
    zones, zone = [default], ""
    for line in host.run(["firewall-cmd", "--get-active-zones"]).stdout.splitlines():
        if line and not line[0].isspace():
            zone = line.split()[0]
        elif line.strip().startswith("interfaces:"):
            zones.append(zone)
    return tuple(dict.fromkeys(each for each in zones if each))


def _has(host: Host, zone: str, option: str, more: Sequence[str]) -> bool:
    """firewall-cmd says no with code 1, and everything else with other codes."""
    asked = host.run(["firewall-cmd", *more, f"--zone={zone}", f"--query-{option}"], check=False)
    if asked.code not in (0, 1):
        raise HostError(f"firewall-cmd cannot be asked about the zone {zone}: {asked.words}")
    return asked.code == 0


def _diff(before: str, after: str) -> str:
    # The counters of iptables-save differ from call to call, but here both texts are of one call.
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[2:])
