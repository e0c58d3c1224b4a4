"""A daemon that runs, with the configuration that is on the disk, and again after a reboot.

Nothing is remembered from run to run: a daemon that was started before one of its files last changed needs a
restart, however long ago that was and whoever changed it. So a run that was killed between file and restart
is made good by the next one, and one that changes nothing restarts nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from todoku.host import processes
from todoku.host.client import Host, HostError
from todoku.host.managers import Manager
from todoku.host.processes import Listener, Process
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, ChangeFailed, Impossible

_PATIENCE = 60.0  # seconds until it listens: the smallest instances have an eighth of a processor
_SLACK = 0.1  # seconds: the kernel notes process starts in ticks of 10 ms
_LOG_LINES = 8


@dataclass(frozen=True, slots=True)
class Daemon:
    """How a program can be recognised and stopped, whoever started it."""

    name: str  # "postfix": the unit's name
    process: str  # "master": what its main process is called
    pid_file: str
    stop: tuple[str, ...]
    ports: tuple[int, ...]  # TCP ports that it has to listen on
    log: str
    # On HUP it takes in what `Service.read_again` names, and writes its pid file anew.
    reloads: bool = False


POSTFIX = Daemon(
    name="postfix",
    process="master",
    pid_file="/var/spool/postfix/pid/master.pid",
    stop=("postfix", "stop"),
    ports=(25, 465, 587),
    log="/var/log/mail.log",
)
DOVECOT = Daemon(
    name="dovecot",
    process="dovecot",
    pid_file="/run/dovecot/master.pid",
    stop=("doveadm", "stop"),
    ports=(993,),
    log="/var/log/dovecot.log",
)


def _own(
    name: str, pid_file: str, *, process: str = "", ends_within: int = 30, reloads: bool = False
) -> Daemon:
    """One of Todoku's own: it writes its pid file once it works. `ends_within` is in seconds."""
    process = process or name
    stop = (
        *("start-stop-daemon", "--stop", "--quiet", "--pidfile", pid_file),
        *("--name", process, "--retry", str(ends_within)),
    )
    return Daemon(name=name, process=process, pid_file=pid_file, stop=stop, ports=(), log="", reloads=reloads)


GATE = _own("todoku-gate", "/var/lib/todoku/gate/pid", reloads=True)
AGENT = _own("todoku-agent", "/var/lib/todoku/ledger/pid")
RELAY_WATCH = _own("todoku-relay", "/var/lib/todoku/relay/pid")
DAILY_CHECK = _own("todoku-check", "/var/lib/todoku/check/pid")
CERTIFICATES = _own("todoku-certificates", "/var/lib/todoku/certificates/pid", process="todoku-renew")
PAGE = _own("todoku-web", "/var/lib/todoku/protect/web.pid")
QUARANTINE = _own("todoku-quarantine", "/var/lib/todoku/quarantine/pid", process="todoku-held")
CAMPAIGN = _own("todoku-campaign", "/run/todoku/campaign.pid", ends_within=60)
PAGES = _own("todoku-pages", "/run/todoku/pages.pid")


@dataclass(frozen=True, slots=True)
class ServiceSeen:
    """A service as it is."""

    process: Process | None
    managed: bool = True  # by the service manager; not started by hand
    enabled: bool = True  # at boot
    newer: str = ""  # a configuration file that changed after the process started
    unread: str = ""  # one that it takes in without a restart, and has not yet


@dataclass(frozen=True, kw_only=True)
class Service(HostResource[ServiceSeen]):
    """A running daemon. `addresses` are those that it listens on; none means all."""

    daemon: Daemon
    manager: Manager | None
    configuration: tuple[str, ...]
    read_again: tuple[str, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    # Files that only short-lived processes of the daemon read, each when it starts, with the process' name: after
    # a reload, which renews those processes, nothing has to be restarted.
    read_by: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        return f"service:{self.daemon.name}"

    def look(self, client: Host) -> ServiceSeen:
        manager = self._manager()
        process = processes.main_process(client, self.daemon.pid_file, self.daemon.process)
        enabled = manager.enabled(client, self.daemon.name)
        if process is None:
            return ServiceSeen(None, enabled=enabled)
        return ServiceSeen(
            process=process,
            managed=manager.runs(client, self.daemon.name, process),
            enabled=enabled,
            newer=_newer(client, self.configuration, process.started) or self._renewed_since(client, process),
            unread=self._unread(client),
        )

    def _renewed_since(self, host: Host, process: Process) -> str:
        """A file that changed after a process started that reads it only then."""
        for path, name in self.read_by:
            started = min((one.started for one in processes.workers(host, process.pid, name)), default=None)
            if started is not None and (newer := _newer(host, (path,), started)):
                return newer
        return ""

    def differ(self, seen: ServiceSeen) -> Change | None:
        name = self.daemon.name
        if seen.process is None:
            return Change(Action.RUN, f"start {name}")
        if not seen.managed:
            return Change(Action.RUN, f"restart {name}: it was not started by the service manager")
        if seen.newer:
            return Change(Action.RUN, f"restart {name}: {seen.newer} changed after it was started")
        if seen.unread:
            return Change(Action.RUN, f"reload {name}: {seen.unread} changed after it was read")
        if not seen.enabled:
            return Change(Action.UPDATE, f"have {name} started at boot")
        return None

    def triggered(self, by: Set[str]) -> Change:
        return Change(Action.RUN, f"restart {self.daemon.name}: {', '.join(sorted(by))} changes")

    def change(self, change: Change, client: Host) -> None:
        manager = self._manager()
        if change.action is Action.UPDATE:
            manager.enable(client, self.daemon.name)
            return
        began = time.time()
        seen = self.look(client)
        if seen.process is not None and seen.managed and not seen.newer and seen.unread:
            self._reload(client, manager, seen.process)
            return
        if seen.process is not None and not seen.managed:
            client.run(self.daemon.stop)
            _wait(lambda: self._process(client) is None)
        _refuse_taken_ports(client, self.daemon, self._process(client), self.addresses)
        try:
            manager.restart(client, self.daemon.name)
        except HostError as error:
            raise ChangeFailed(f"{error}\n{self._log(client, manager)}".rstrip()) from error
        if not _wait(lambda: self._serves(client, began)):
            raise ChangeFailed(self._why_not(client, manager))

    def _reload(self, client: Host, manager: Manager, process: Process) -> None:
        client.send_signal(process.pid, signal.SIGHUP)
        if not _wait(lambda: not self._unread(client)):
            name, waited = self.daemon.name, f"waited {_PATIENCE:g} s"
            raise ChangeFailed(
                f"{name} did not take in the new settings ({waited}). It said last:\n{self._log(client, manager)}"
            )

    def _unread(self, host: Host) -> str:
        pid_file = host.stat(self.daemon.pid_file) if self.daemon.reloads else None
        return _newer(host, self.read_again, pid_file.changed) if pid_file is not None else ""

    def _manager(self) -> Manager:
        if self.manager is None:
            raise Impossible(
                f"neither systemd nor supervisord runs here, so nobody would keep {self.daemon.name} "
                "running; in a container start supervisord first: "
                "supervisord -c /etc/supervisor/supervisord.conf"
            )
        return self.manager

    def _process(self, host: Host) -> Process | None:
        return processes.main_process(host, self.daemon.pid_file, self.daemon.process)

    def _serves(self, host: Host, since: float) -> bool:
        process = self._process(host)
        if process is None or process.started < since - _SLACK:
            return False
        return not self._silent(host, process)

    def _silent(self, host: Host, process: Process) -> tuple[int, ...]:
        """The ports on which it has to listen and does not."""
        own = processes.sockets(host, process.pid)
        open_ports = {
            listener.port for listener in processes.listeners(host) if own is None or listener.inode in own
        }
        return tuple(port for port in self.daemon.ports if port not in open_ports)

    def _why_not(self, host: Host, manager: Manager) -> str:
        process = self._process(host)
        name = self.daemon.name
        if process is None:
            found = f"{name} was started, but does not run"
        elif silent := self._silent(host, process):
            found = f"{name} runs, but does not listen on port {', '.join(map(str, silent))}"
        else:
            found = f"{name} runs, but was not restarted"
        return f"{found} (waited {_PATIENCE:g} s). It said last:\n{self._log(host, manager)}"

    def _log(self, host: Host, manager: Manager) -> str:
        log = host.text(self.daemon.log) if self.daemon.log else ""
        lines = [*manager.said(host, self.daemon.name).splitlines(), *_tail(log)]
        return "\n".join(dict.fromkeys(lines)) or "nothing"


def taken(
    listeners: Sequence[Listener], ports: Sequence[int], addresses: Sequence[IPv4Address | IPv6Address]
) -> tuple[Listener, ...]:
    """Those of `listeners` that leave no room for another one on `ports` at `addresses` (none: all)."""
    return tuple(
        listener
        for listener in listeners
        if listener.port in ports
        and (not addresses or listener.address.is_unspecified or listener.address in addresses)
    )


def _refuse_taken_ports(
    host: Host, daemon: Daemon, own: Process | None, addresses: Sequence[IPv4Address | IPv6Address]
) -> None:
    """Raises ChangeFailed, naming who holds a port that the daemon needs."""
    ours = processes.sockets(host, own.pid) if own is not None else frozenset()
    if ours is None:
        return  # whose sockets they are cannot be known; the daemon itself will say
    others = [
        listener
        for listener in taken(processes.listeners(host), daemon.ports, addresses)
        if listener.inode not in ours
    ]
    holders = []
    for listener in others:
        holder = processes.holder(host, listener.inode)
        who = f"{holder.name} (process {holder.pid})" if holder else "a process that is not visible from here"
        holders.append(f"port {listener.port} is held by {who}")
    if holders:
        raise ChangeFailed(
            f"{daemon.name} cannot start: {'; '.join(dict.fromkeys(holders))}. Stop it, then apply again"
        )


def _newer(host: Host, files: Sequence[str], started: float) -> str:
    """A file that changed after `started`; one from the future (the clock was set back) tells nothing."""
    now = time.time()
    for path in files:
        stat = host.stat(path)
        if stat is not None and started + _SLACK < stat.changed < now + _SLACK:
            return path
    return ""


def _tail(text: str) -> list[str]:
    return text.splitlines()[-_LOG_LINES:]


def _wait(done: Callable[[], bool]) -> bool:
    """Whether `done` came true in time."""
    end = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
