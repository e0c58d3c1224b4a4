"""Machines that are network namespaces of their own, and cables between them, which a test can pull.

Without names in /run/netns: a namespace ends with the process that keeps it, whatever happens to the test.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Machine:
    """Has the loopback, and what is plugged in. `pid` is of the process that keeps the namespace."""

    pid: int

    @property
    def network(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")

    @property
    def inside(self) -> tuple[str, ...]:
        """Before a command: it runs there, as a process of its own number."""
        return ("nsenter", f"--net={self.network}")

    def ip(self, *commands: str) -> None:
        subprocess.run([*self.inside, "ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def listen(self, address: str) -> socket.socket:
        """A socket of this process that listens there."""

        def there() -> socket.socket:
            libc = ctypes.CDLL(None, use_errno=True)
            with self.network.open() as network:
                if libc.setns(network.fileno(), _CLONE_NEWNET):  # of this thread alone
                    raise OSError(ctypes.get_errno(), "setns")
            return socket.create_server((address, 0), backlog=100)

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(there).result()


@dataclass(frozen=True)
class Cable:
    """From the hub's interface of that name."""

    hub: Machine
    name: str

    def pull(self) -> None:
        """What is on its way is lost, and nobody is told: no packet says that the other side is gone."""
        self.hub.ip(f"link set {self.name} down")

    def plug_in(self) -> None:
        self.hub.ip(f"link set {self.name} up")


@contextmanager
def machine() -> Iterator[Machine]:
    keeper = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    try:
        made = Machine(keeper.pid)
        ours, deadline = Path("/proc/self/ns/net").stat(), time.monotonic() + 30
        while os.path.samestat(made.network.stat(), ours):
            assert time.monotonic() < deadline, "unshare makes no namespace"
            time.sleep(0.01)
        made.ip("link set lo up")
        yield made
    finally:
        keeper.kill()
        keeper.communicate()


def connect(hub: Machine, there: Machine, name: str, network: str) -> Cable:
    """`network`: "10.0.1": the hub is .1 there, the other one .2."""
    hub.ip(
        f"link add {name} type veth peer name {name} netns {there.pid}",
        f"addr add {network}.1/24 dev {name}",
        f"link set {name} up",
    )
    there.ip(f"addr add {network}.2/24 dev {name}", f"link set {name} up")
    return Cable(hub, name)
