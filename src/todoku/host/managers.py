"""Who starts services, at boot and after a crash: systemd on a host, supervisord in a container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from todoku.host.client import Host
from todoku.host.facts import ServiceManager
from todoku.host.processes import Process
from todoku.host.rendered import RenderedFile
from todoku.host.supervisor import SOCKET, Supervisor

_PATIENCE = 90.0  # seconds for a daemon to stop and start


class Manager(Protocol):
    """What `Service` asks of a service manager. `name` is "postfix", "dovecot" or "todoku-gate"."""

    def enabled(self, host: Host, name: str) -> bool:
        """Whether the service will be started at boot."""
        ...

    def runs(self, host: Host, name: str, process: Process) -> bool:
        """Whether `process` was started by this manager, not by hand."""
        ...

    def enable(self, host: Host, name: str) -> None:
        """Have the service started at boot. Raises HostError."""
        ...

    def restart(self, host: Host, name: str) -> None:
        """Stop the service if it runs, start it. Whether it then runs, `Service` sees. Raises HostError."""
        ...

    def said(self, host: Host, name: str) -> str:
        """What the service said last, as far as the manager has it."""
        ...

    def kept(self, host: Host, name: str) -> bool:
        """Whether the manager runs the service, or will at boot."""
        ...

    def stop(self, host: Host, name: str) -> None:
        """Stop the service, and have it not started again. Raises HostError."""
        ...


@dataclass(frozen=True, slots=True)
class Systemd:
    """systemctl(1). Debian 12 splits Postfix into postfix.service and the instance postfix@-.service."""

    def enabled(self, host: Host, name: str) -> bool:
        return host.run(["systemctl", "is-enabled", "--quiet", name], check=False).code == 0

    def runs(self, host: Host, name: str, process: Process) -> bool:
        groups = host.text(f"/proc/{process.pid}/cgroup")
        return f"/{name}.service" in groups or f"/{name}@-.service" in groups

    def enable(self, host: Host, name: str) -> None:
        host.run(["systemctl", "enable", name])

    def restart(self, host: Host, name: str) -> None:
        # A generator makes Debian 12's instance out of main.cf, which may be new.
        host.run(["systemctl", "daemon-reload"])
        host.run(["systemctl", "reset-failed", name, f"{name}@-"], check=False)
        host.run(["systemctl", "enable", name])
        host.run(["systemctl", "restart", name], timeout=_PATIENCE)

    def said(self, host: Host, name: str) -> str:
        units = ["-u", name, "-u", f"{name}@-"]
        return host.run(["journalctl", *units, "-n", "15", "-o", "cat", "--no-pager"], check=False).words

    def kept(self, host: Host, name: str) -> bool:
        active = host.run(["systemctl", "is-active", "--quiet", name], check=False).code == 0
        return active or self.enabled(host, name)

    def stop(self, host: Host, name: str) -> None:
        host.run(["systemctl", "disable", "--now", name], timeout=_PATIENCE)


# supervisord ends a program by a signal to the process that it started. `postfix start-fg` is a shell that
# dies of it and leaves master(8) behind, so master is started itself, after the checks; -d keeps it in the
# foreground. A fatal error takes Postfix a second to tell: only then it counts as started. It is never given up, as
# supervisord would after dying four times in a row: each time it is waited a second longer.
_PROGRAMS = {
    "postfix": '/bin/sh -c "/usr/sbin/postfix check && exec /usr/lib/postfix/sbin/master -d"',
    "dovecot": "/usr/sbin/dovecot -F",
}
_PROGRAM = """\
; Written by Todoku. Changes made here are replaced.
[program:todoku-{name}]
command={command}
directory=/
autostart=true
autorestart=true
startsecs=2
startretries=1000
stopsignal=TERM
stopwaitsecs=30
redirect_stderr=true
"""


@dataclass(frozen=True, slots=True)
class Supervisord:
    """supervisord. Its programs are files, which are resources of their own."""

    def enabled(self, host: Host, name: str) -> bool:
        return _ask(host).pid(_program(name)) is not None

    def runs(self, host: Host, name: str, process: Process) -> bool:
        return _ask(host).pid(_program(name)) == process.pid

    def enable(self, host: Host, name: str) -> None:
        self.restart(host, name)

    def restart(self, host: Host, name: str) -> None:
        _ask(host).restart(_program(name))

    def said(self, host: Host, name: str) -> str:
        return _ask(host).said(_program(name))

    def kept(self, host: Host, name: str) -> bool:
        return host.stat(_section(name)) is not None or self.enabled(host, name)

    def stop(self, host: Host, name: str) -> None:
        host.remove(_section(name))
        _ask(host).remove(_program(name))


def _section(name: str) -> str:
    return f"/etc/supervisor/conf.d/{_program(name)}.conf"


def _ask(host: Host) -> Supervisor:
    return Supervisor(host.real(SOCKET))


def _program(name: str) -> str:
    return name if name.startswith("todoku-") else f"todoku-{name}"


def manager(kind: ServiceManager | None) -> Manager | None:
    """The service manager of that kind."""
    managers: dict[ServiceManager | None, Manager] = {"systemd": Systemd(), "supervisord": Supervisord()}
    return managers.get(kind)


def program(name: str) -> RenderedFile:
    """The section of supervisord's configuration for a service."""
    content = _PROGRAM.format(name=name, command=_PROGRAMS[name])
    return RenderedFile(_section(name), content)
