"""What kind of machine this is: the few facts that decide which templates are rendered and how services are
started. Gathered once, before the desired state is computed; everything after that is a function of values.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

from todoku.host.client import Host
from todoku.host.supervisor import SOCKET, Supervisor
from todoku.plan.resource import LookFailed

ServiceManager = Literal["systemd", "supervisord"]

# Debian: [epoch:]upstream[-revision]; only the leading numbers of upstream matter to us.
_VERSION = re.compile(r"(?:\d+:)?(\d+)(?:\.(\d+))?(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """The upstream version of a package, comparable."""

    major: int
    minor: int = 0
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Version:
        """Reads a Debian package version such as "1:2.3.19.1+dfsg1-2.1"; raises ValueError."""
        found = _VERSION.match(text.strip())
        if found is None:
            raise ValueError(f"not a package version: {text!r}")
        return cls(*(int(number or 0) for number in found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What `gather` found. Versions are those installed, else those that apt would install, else those that
    the release came with, else None."""

    os_id: str  # "debian", "ubuntu"
    os_version: str  # "12", "24.04"; empty on a testing release
    codename: str  # "bookworm"
    postfix: Version | None
    dovecot: Version | None
    postfix_parameters: frozenset[str] | None  # the names this Postfix knows; None before it is installed
    service_manager: ServiceManager | None


# What the releases came with: enough to show a plan where apt has no lists yet, as in a fresh container.
_CAME_WITH = {
    "bookworm": (Version(3, 7, 11), Version(2, 3, 19)),
    "trixie": (Version(3, 10, 5), Version(2, 4, 1)),
    "jammy": (Version(3, 6, 4), Version(2, 3, 16)),
    "noble": (Version(3, 8, 6), Version(2, 3, 21)),
    "resolute": (Version(3, 10, 0), Version(2, 4, 0)),  # at least: what apt knows counts before this
}


def gather(host: Host) -> Facts:
    """The facts about `host`. Raises LookFailed on a machine that has no apt."""
    release = _os_release(host.text("/etc/os-release"))
    if not host.has("dpkg-query") or not host.has("apt-get"):
        found = release.get("PRETTY_NAME", "this machine")
        raise LookFailed(f"Debian or Ubuntu is needed (dpkg and apt-get), but this is {found}")
    codename = release.get("VERSION_CODENAME", "")
    postfix, dovecot = _CAME_WITH.get(codename, (None, None))
    return Facts(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        codename=codename,
        postfix=_version(host, "postfix") or postfix,
        dovecot=_version(host, "dovecot-core") or dovecot,
        postfix_parameters=_postfix_parameters(host),
        service_manager=_service_manager(host),
    )


def system(host: Host) -> tuple[str, bool]:
    """What this machine calls its system, and whether it is a release that Todoku is made for."""
    release = _os_release(host.text("/etc/os-release"))
    return release.get("PRETTY_NAME", "a system without a name"), release.get(
        "VERSION_CODENAME"
    ) in _CAME_WITH


def _os_release(text: str) -> dict[str, str]:
    """os-release(5): assignments as a shell would read them."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): "".join(shlex.split(value)) for key, _, value in pairs}


def _version(host: Host, package: str) -> Version | None:
    """Of the package installed, else of the one that apt would install."""
    installed = host.run(["dpkg-query", "-W", "-f", "${Version}", package], check=False)
    if installed.code == 0 and installed.stdout.strip():
        return Version.parse(installed.stdout)
    policy = host.run(["apt-cache", "policy", package], check=False).stdout
    candidate = policy.partition("Candidate:")[2].strip().partition("\n")[0]
    return Version.parse(candidate) if candidate[:1].isdigit() else None


def _postfix_parameters(host: Host) -> frozenset[str] | None:
    if not host.has("postconf"):
        return None
    defaults = host.run(["postconf", "-d"], check=False).stdout
    names = frozenset(line.partition(" =")[0] for line in defaults.splitlines() if " =" in line)
    return names or None


def _service_manager(host: Host) -> ServiceManager | None:
    if host.stat("/run/systemd/system") is not None:
        return "systemd"
    # The socket alone says little: it may be of a supervisord that has ended.
    return "supervisord" if Supervisor(host.real(SOCKET)).answers() else None
