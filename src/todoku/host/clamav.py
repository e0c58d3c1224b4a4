"""ClamAV for the gate, where `gate.malware` asks for it: clamd's configuration, and what starts clamd and freshclam.

Debian's packages, paths and units, so that its AppArmor profiles fit: /etc/clamav/clamd.conf, the socket
/run/clamav/clamd.ctl, the signatures in /var/lib/clamav. Only the gate may use the socket, as clamd does what it is
told there, SHUTDOWN included. The socket gets the gate's group from its folder (set-group-id), because clamd may not
give it away itself. freshclam.conf stays as the package made it.
"""

from __future__ import annotations

import re
from typing import Any

from todoku.host import managers
from todoku.host.client import Host
from todoku.host.daemons.gate import GROUP
from todoku.host.facts import Facts
from todoku.host.files import Directory, File
from todoku.host.rendered import RenderedFile
from todoku.host.resource import HostResource
from todoku.host.services import Daemon, Service
from todoku.host.stopped import Stopped
from todoku.plan.resource import Change, NotYet, Resource
from todoku.settings import Settings

CONFIGURATION = "/etc/clamav/clamd.conf"
SIGNATURES = "/var/lib/clamav"
_SIGNATURE_FILE = re.compile(r".+\.[a-z]*[db]")  # .cvd, .cld, .ndb, .hsb and the like; not .dat
_RUN = "/run/clamav"
_FOLDER = f"/usr/bin/install -d -o clamav -g {GROUP} -m 2750 {_RUN}"

CLAMD = Daemon(
    name="clamav-daemon",
    process="clamd",
    pid_file=f"{_RUN}/clamd.pid",
    stop=("start-stop-daemon", "--stop", "--quiet", "--pidfile", f"{_RUN}/clamd.pid", "--retry", "30"),
    ports=(),
    log="",
)
FRESHCLAM = Daemon(
    name="clamav-freshclam",
    process="freshclam",
    pid_file=f"{_RUN}/freshclam.pid",
    stop=("start-stop-daemon", "--stop", "--quiet", "--pidfile", f"{_RUN}/freshclam.pid", "--retry", "30"),
    ports=(),
    log="",
)

# clamd.conf(5). Times in milliseconds. The gate waits 20 s, and clamd gives up before: what nobody waits for any more
# would only keep it from the next.
_CLAMD_CONF = """\
# clamd for Todoku's gate, written by Todoku. Changes made here are replaced.
LocalSocket {run}/clamd.ctl
LocalSocketMode 660
FixStaleSocket yes
PidFile {pid_file}
User clamav
DatabaseDirectory {signatures}
TemporaryDirectory /tmp
# While new signatures are loaded, scans wait. The other way needs twice the memory.
ConcurrentDatabaseReload no
# A message, and what is packed in it. What is not looked through to the end is said, not passed over; but of a
# compressed file in a ZIP clamd looks at the first MaxFileSize, and does not say so.
StreamMaxLength {stream}
MaxFileSize {size}
MaxScanSize {looked_through}
MaxScanTime 18000
AlertExceedsMax yes
MaxThreads 10
ReadTimeout 30
# To standard error: the journal, or supervisord's file.
LogTime no
LogSyslog no
LogClean no
"""
_LARGEST = 2_000_000_000  # bytes: what clamd can count

_CLAMD_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Unit]
# Without signatures clamd ends, and is started again until freshclam has fetched some.
ConditionPathExistsGlob=
StartLimitIntervalSec=0

[Service]
ExecStartPre=+{folder}
# A socket that systemd made before gets the same owner.
ExecStartPre=-+/bin/chgrp {group} {run}/clamd.ctl
ExecStartPre=-+/bin/chmod 0660 {run}/clamd.ctl
Restart=always
RestartSec=15
ProtectSystem=full
ProtectHome=read-only
PrivateDevices=yes
"""
# $$ is the shell's own number, which exec passes on; systemd wants each dollar sign twice.
_FRESHCLAM_UNIT = """\
# Written by Todoku. Changes made here are replaced.
[Service]
ExecStartPre=+{folder}
ExecStart=
ExecStart=/bin/sh -c 'echo $$$$ > {pid_file} && exec /usr/bin/freshclam -d --foreground=true'
Restart=always
RestartSec=60
"""
_SECTION = """\
; Written by Todoku. Changes made here are replaced.
[program:todoku-{name}]
command=/bin/sh -c "{command}"
directory=/
autostart=true
autorestart=true
priority=400
startsecs=2
startretries=1000
stopsignal=TERM
stopwaitsecs=30
redirect_stderr=true
"""
_COMMANDS = {
    CLAMD.name: f"{_FOLDER} && until find {SIGNATURES} -name '*.*[db]' | grep -q .; do sleep 5; done; "
    f"exec /usr/sbin/clamd --foreground --config-file={CONFIGURATION}",
    FRESHCLAM.name: f"{_FOLDER} && echo $$ > {FRESHCLAM.pid_file} && exec /usr/bin/freshclam -d --foreground",
}


class Scanner(Service):
    """clamd. Until there are signatures it cannot run, and starts by itself once there are."""

    def change(self, change: Change, client: Host) -> None:
        if has_signatures(client):
            super().change(change, client)
            return
        self._manager().restart(client, self.daemon.name)
        raise NotYet(
            f"there are no signatures in {SIGNATURES} yet. freshclam fetches them, which takes some minutes; clamd "
            "then starts by itself. Until then the gate holds mail back (451), or passes it, as "
            "gate.malware_failure says"
        )


def has_signatures(host: Host) -> bool:
    return any(_SIGNATURE_FILE.fullmatch(name) for name in host.entries(SIGNATURES))


def resources(settings: Settings, facts: Facts) -> list[Resource[Host, Any]]:
    """What the settings want of ClamAV: nothing, unless the gate uses it."""
    if settings.gate.malware != "clamav":
        return []
    packages = frozenset({"packages"})
    configuration = File(
        file=RenderedFile(CONFIGURATION, clamd_conf(settings)),
        reason="how clamd scans for the gate",
        after=packages,
    )
    manager = managers.manager(facts.service_manager)
    updates = [FRESHCLAM] if settings.gate.malware_updates else []
    starters = {daemon.name: _starter(daemon, facts) for daemon in (*updates, CLAMD)}
    wanted: list[HostResource[Any]] = [configuration]
    for name, file in starters.items():
        if file is not None:
            folder = file.path.rpartition("/")[0]
            reason, after = f"{facts.service_manager} keeps {name} running", packages
            if facts.service_manager == "systemd":
                wanted.append(Directory(path=folder, reason=reason, after=packages))
                after |= {f"folder:{folder}"}
            wanted.append(File(file=file, reason=reason, after=after))
    wanted += [
        _service(Service, daemon, facts, starters[daemon.name], (), "fetches the signatures of new malware")
        for daemon in updates
    ]
    if not updates and manager is not None:
        reason = "something else puts signatures into /var/lib/clamav (gate.malware_updates)"
        wanted.append(Stopped(name=FRESHCLAM.name, manager=manager, reason=reason, follows=packages))
    what = "scans every message for malware"
    wanted.append(_service(Scanner, CLAMD, facts, starters[CLAMD.name], (CONFIGURATION,), what))
    return list(wanted)


def clamd_conf(settings: Settings) -> str:
    size = settings.gate.malware_size
    return _CLAMD_CONF.format(
        run=_RUN,
        pid_file=CLAMD.pid_file,
        signatures=SIGNATURES,
        stream=min(size + 1_000_000, _LARGEST),  # the gate's own limit comes first
        size=size,
        looked_through=min(4 * size, _LARGEST),
    )


def _service(
    kind: type[Service],
    daemon: Daemon,
    facts: Facts,
    starter: RenderedFile | None,
    configuration: tuple[str, ...],
    reason: str,
) -> Service:
    files = (*configuration, *([starter.path] if starter else []))
    return kind(
        daemon=daemon,
        manager=managers.manager(facts.service_manager),
        configuration=files,
        reason=reason,
        after=frozenset({"packages"}),
        follows=frozenset(f"file:{path}" for path in files),
    )


def _starter(daemon: Daemon, facts: Facts) -> RenderedFile | None:
    if facts.service_manager == "systemd":
        unit = _CLAMD_UNIT if daemon is CLAMD else _FRESHCLAM_UNIT
        content = unit.format(folder=_FOLDER, group=GROUP, run=_RUN, pid_file=daemon.pid_file)
        return RenderedFile(f"/etc/systemd/system/{daemon.name}.service.d/todoku.conf", content)
    if facts.service_manager == "supervisord":
        content = _SECTION.format(name=daemon.name, command=_COMMANDS[daemon.name])
        return RenderedFile(f"/etc/supervisor/conf.d/todoku-{daemon.name}.conf", content)
    return None
