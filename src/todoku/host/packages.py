"""The Debian packages, all as one resource: apt resolves them together.

While apt works, the daemons are kept from starting with a configuration that is not ours yet (policy-rc.d,
see invoke-rc.d(8)). Killed at any point, the next run finishes the job: dpkg is asked to, and what was left
of policy-rc.d is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from todoku.host.certificates import acme
from todoku.host.client import Completed, Host
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed
from todoku.settings import Settings

POLICY = "/usr/sbin/policy-rc.d"
POLICY_CONTENT = b"""#!/bin/sh
# Written by Todoku for as long as it installs packages: no daemon starts half-configured.
exit 101
"""
_APT = (
    "apt-get",
    *("-o", "DPkg::Lock::Timeout=60"),
    *("-o", "Acquire::Retries=2"),
    *("-o", "Acquire::http::Timeout=30"),
    *("-o", "Acquire::https::Timeout=30"),
)
_ENV = {"DEBIAN_FRONTEND": "noninteractive", "APT_LISTCHANGES_FRONTEND": "none", "NEEDRESTART_MODE": "l"}
# What apt says when it cannot begin, and what puts that right.
_REPAIRS = {
    "dpkg was interrupted": ("dpkg", "--configure", "-a"),
    "Unmet dependencies": (*_APT, "install", "-f", "-y"),
    "Unable to locate": (*_APT, "update"),
    "no installation candidate": (*_APT, "update"),
    "Failed to fetch": (*_APT, "update"),  # the lists are older than what the servers still have
}
# Otherwise the package writes a main.cf of its own.
_PRESEED = "postfix postfix/main_mailer_type select No configuration\n"


def wanted(settings: Settings) -> tuple[str, ...]:
    """The Debian packages that a host with these settings needs."""
    scanner = ("clamav-daemon", "clamav-freshclam") if settings.gate.malware == "clamav" else ()
    authority = acme.PACKAGES if settings.tls.kind == "acme" else ()
    return (
        "postfix",
        "postfix-lmdb",
        "libsasl2-modules",  # AUTH PLAIN towards the relay
        "dovecot-core",
        "dovecot-imapd",
        "dovecot-lmtpd",
        "ca-certificates",  # to verify the relay
        *scanner,
        *authority,
    )


@dataclass(frozen=True, slots=True)
class PackagesSeen:
    """What dpkg says."""

    installed: frozenset[str]  # completely, not merely unpacked
    left_over_policy: bool  # our policy-rc.d, from a run that was killed


@dataclass(frozen=True, kw_only=True)
class Packages(HostResource[PackagesSeen]):
    """The packages that have to be installed; their versions are the distribution's business."""

    names: tuple[str, ...]

    @property
    def id(self) -> str:
        return "packages"

    def look(self, client: Host) -> PackagesSeen:
        asked = client.run(_query("${Package}\t${db:Status-Abbrev}", self.names), check=False)
        installed = frozenset(name for name, status in _rows(asked.stdout) if status[1:2] == "i")
        if "postfix" in self.names and "postfix" not in installed:
            _refuse_other_mail_server(client)
        return PackagesSeen(installed, client.read(POLICY) == POLICY_CONTENT)

    def differ(self, seen: PackagesSeen) -> Change | None:
        missing = self._missing(seen)
        if missing:
            return Change(Action.CREATE, f"install {' '.join(missing)}")
        if seen.left_over_policy:
            return Change(Action.UPDATE, f"remove {POLICY}, which an interrupted run left behind")
        return None

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        missing = self._missing(self.look(client))
        with _no_daemon_starts(client):
            if not missing:
                return
            if "postfix" in missing:
                client.run(["debconf-set-selections"], input=_PRESEED, env=_ENV)
            if not all(_is_known(client, name) for name in missing):
                client.run([*_APT, "update"], env=_ENV, timeout=600, check=False)  # install has the last word
            _install(client, missing)

    def _missing(self, seen: PackagesSeen) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in seen.installed)


@contextmanager
def _no_daemon_starts(host: Host) -> Iterator[None]:
    """Somebody else's policy-rc.d stays as it is."""
    found = host.read(POLICY)
    ours = found is None or found == POLICY_CONTENT
    if ours:
        host.replace(POLICY, POLICY_CONTENT, mode=0o755)
    try:
        yield
    finally:
        if ours:
            host.remove(POLICY)


def _refuse_other_mail_server(host: Host) -> None:
    """apt would remove it without asking, and its queue and configuration are somebody's."""
    asked = host.run(
        _query("${Package}\t${db:Status-Abbrev}\t${source:Package}\t${Provides}", ()), check=False
    )
    rows = [row for row in _rows(asked.stdout, 4) if row[1][1:2] == "i"]
    others = {row[2] for row in rows if "mail-transport-agent" in row[3].replace(",", " ").split()}
    names = sorted(row[0] for row in rows if row[2] in others)
    if names:
        raise LookFailed(
            f"another mail server is installed ({', '.join(names)}), and Postfix would take its place: "
            f"remove it first: apt-get remove {' '.join(names)}"
        )


def _is_known(host: Host, name: str) -> bool:
    """Whether apt's lists have the package; they are empty in a fresh container."""
    policy = host.run(["apt-cache", "policy", name], check=False).stdout
    return policy.partition("Candidate:")[2].strip()[:1].isdigit()


def _install(host: Host, names: tuple[str, ...]) -> None:
    """Installs, and repairs once what an interrupted run or old lists leave behind."""
    repaired: set[tuple[str, ...]] = set()
    while True:
        arguments = [*_APT, "install", "-y", "--no-install-recommends", *names]
        done = host.run(arguments, env=_ENV, timeout=1200, check=False)
        if done.code == 0:
            return
        said = done.stdout + done.stderr
        repair = next((repair for symptom, repair in _REPAIRS.items() if symptom in said), None)
        if repair is None or repair in repaired:
            raise _explained(done, f"apt-get install {' '.join(names)}")
        repaired.add(repair)
        repairing = host.run(repair, env=_ENV, timeout=600, check=False)
        if repairing.code:
            raise _explained(repairing, " ".join(repair))


def _explained(done: Completed, what: str) -> ChangeFailed:
    said = done.stdout + done.stderr
    lines = [line for line in said.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    words = "\n".join(list(dict.fromkeys(lines))[-6:]) or done.words
    if "Could not get lock" in said or "Unable to acquire" in said:
        return ChangeFailed(f"another package program runs and did not end within 60 s; try again:\n{words}")
    if any(
        sign in said for sign in ("resolv", "Could not connect", "Failed to fetch", "onnection timed out")
    ):
        return ChangeFailed(
            f"apt could not reach its servers ({what}): check the network, and /etc/apt/sources.list; "
            f"then try again:\n{words}"
        )
    if "Unable to locate" in said or "no installation candidate" in said:
        return ChangeFailed(
            f"apt does not know these packages: check /etc/apt/sources.list (Debian 12 or 13, "
            f"Ubuntu 22.04 or later with universe) and the network; then try again:\n{words}"
        )
    return ChangeFailed(f"`{what}` failed with code {done.code}:\n{words}")


def _query(fields: str, names: tuple[str, ...]) -> list[str]:
    return ["dpkg-query", "-W", "-f", f"{fields}\\n", *names]


def _rows(text: str, columns: int = 2) -> list[list[str]]:
    rows = (line.split("\t") for line in text.splitlines())
    return [row for row in rows if len(row) == columns]
