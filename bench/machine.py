"""The machine on which something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    system: str
    postfix: str
    dovecot: str
    python: str
    uvloop: str
    load_before: float  # the load average of the last minute: near 0 when nothing else runs

    @classmethod
    def here(cls) -> Machine:
        return cls(
            cpu=_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 1024**2, 1),
            kernel=platform.release(),
            system=platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
            postfix=_said("postconf", "-h", "mail_version"),
            dovecot=_said("dovecot", "--version").split()[0],
            python=platform.python_version(),
            uvloop=_uvloop(),
            load_before=round(os.getloadavg()[0], 2),
        )

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib} GiB, Linux {self.kernel}, {self.system}; "
            f"Postfix {self.postfix}, Dovecot {self.dovecot}, Python {self.python}, uvloop {self.uvloop}; "
            f"load average before: {self.load_before}"
        )

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _uvloop() -> str:
    try:
        return version("uvloop")
    except PackageNotFoundError:
        return "none"
