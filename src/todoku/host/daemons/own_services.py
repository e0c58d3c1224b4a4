"""What Todoku's own services have in common: how systemd confines them, how they are started, and their code.

Their program is the Python that runs `todoku apply`. Where others than root may not enter the folder of that Python, a
service that is to have no rights starts as root and gives its rights up itself, once all is imported.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import todoku
from todoku.host.facts import Facts
from todoku.host.rendered import RenderedFile
from todoku.host.services import Daemon

PACKAGE = Path(todoku.__file__).parent

# systemd.exec(5). For all of them; each adds where it may write, and what it needs besides.
CONFINED = """\
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM"""
# For those that run Postfix's programs: postqueue(1) and others end at once where they cannot ask for the addresses.
RUNS_POSTFIX = f"{CONFINED}\nRestrictAddressFamilies=AF_NETLINK"
# In the place of User= for what starts as root. With User=root systemd 257 takes CAP_SETUID away before it starts the
# program, and NoNewPrivileges= keeps it away: it could not become anybody else.
AS_ROOT = "# Starts as root (not by User=, which would take CAP_SETUID away), and gives its rights up itself."


def without_rights(
    user: str, group: str, config: Path, *, code_is_open: bool, more: str = "", confined: str = CONFINED
) -> str:
    """The lines of a unit for a service that is `user` and can do nothing else; `more` goes with its identity."""
    needed = (PACKAGE.resolve(), Path(sys.prefix), Path(sys.executable).resolve(), config)
    below_home = any(path.is_relative_to(home) for path in needed for home in ("/root", "/home"))
    lines = [
        *((f"User={user}", f"Group={group}", more) if code_is_open else (AS_ROOT,)),
        f"ProtectHome={'read-only' if below_home else 'yes'}",
        f"CapabilityBoundingSet={'' if code_is_open else 'CAP_SETUID CAP_SETGID'}",
        "AmbientCapabilities=",
        "MemoryDenyWriteExecute=yes",
        "RemoveIPC=yes",
        confined,
        f"SystemCallFilter=~@resources{' @privileged' if code_is_open else ''}",
    ]
    return "\n".join(line for line in lines if line)


def unit_command(words: Sequence[str]) -> str:
    """For ExecStart=. systemd.service(5), "Command lines": a percent sign and a dollar sign count."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word else word


def section(name: str, command: Sequence[str], *, umask: str = "077", more: str = "") -> str:
    """The program as supervisord's configuration has it. It becomes its user itself: supervisord's "user" would
    have to be able to read the code."""
    return f"""\
; Written by Todoku. Changes made here are replaced.
[program:{name}]
command={shlex.join(command).replace("%", "%%")}
directory=/
umask={umask}
autostart=true
autorestart=true
startsecs=2
startretries=1000
stopsignal=TERM
stopwaitsecs=40
redirect_stderr=true
{more}"""


def starter(
    daemon: Daemon, facts: Facts, command: Sequence[str], unit: Callable[[str], str], *, umask: str = "077"
) -> RenderedFile | None:
    """The file by which the service manager starts it: `unit` makes that of systemd from the line of the command; None
    where there is no such manager."""
    if facts.service_manager == "systemd":
        return RenderedFile(f"/etc/systemd/system/{daemon.name}.service", unit(unit_command(command)))
    if facts.service_manager == "supervisord":
        path = f"/etc/supervisor/conf.d/{daemon.name}.conf"
        return RenderedFile(path, section(daemon.name, command, umask=umask))
    return None


def code(rooms: Sequence[str]) -> tuple[str, ...]:
    """The files of these rooms. An update replaces them: then the service starts anew."""
    # os.walk takes no notice of what vanishes meanwhile, as Python's own caches may.
    found = [
        str(Path(folder, name))
        for room in rooms
        for folder, _, names in os.walk(PACKAGE / room)
        for name in names
        if name.endswith(".py")
    ]
    return tuple(sorted(found))
