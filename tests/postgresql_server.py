"""A real PostgreSQL server, from Debian's package (`script/setup --dev` installs it), started for the tests alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Server:
    """A PostgreSQL in a folder of its own, with its socket there."""

    folder: Path
    programs: Path
    durable: bool
    inside: tuple[str, ...] = ()  # "ip netns exec NAME": where it is started
    listens: str = ""  # addresses, besides the socket
    port: int = 5432
    process: subprocess.Popen[bytes] | None = None

    @property
    def _as_postgres(self) -> list[str]:
        return (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        )

    def make(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        subprocess.run(
            [*self._as_postgres, self.programs / "initdb", "-D", self.folder / "cluster", "-U", "postgres", "-A",
             "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip

    def take(self, certificate: Path, key: Path) -> None:
        """For TLS, from the next start on."""
        cluster = self.folder / "cluster"
        for made, wanted in ((certificate, cluster / "server.crt"), (key, cluster / "server.key")):
            shutil.copyfile(made, wanted)
            wanted.chmod(0o600)
            shutil.chown(wanted, cluster.owner())
        with (cluster / "postgresql.conf").open("a") as file:
            file.write("ssl = on\n")

    def start(self) -> None:
        fsync = "on" if self.durable else "off"
        self.process = subprocess.Popen(
            [*self.inside, *self._as_postgres, self.programs / "postgres", "-D", self.folder / "cluster", "-k",
             self.folder, "-h", self.listens, "-p", str(self.port), "-c", f"fsync={fsync}"],
            stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("ab"), cwd="/",
        )  # fmt: skip
        deadline = time.monotonic() + 30
        ready = [self.programs / "pg_isready", "-q", "-h", self.folder, "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut would; its children notice that it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(
                signal.SIGINT
            )  # a "fast" shutdown: SIGTERM would wait for the last connection
            self.process.wait(30)

    def database(self, name: str) -> str:
        """A new one, as the settings name it."""
        self.run("createdb", name)
        return f"postgresql://postgres@/{name}?host={self.folder}"

    def run(self, program: str, *arguments: str) -> None:
        command = [
            self.programs / program,
            "-h",
            self.folder,
            "-p",
            str(self.port),
            "-U",
            "postgres",
            *arguments,
        ]
        subprocess.run(command, check=True)


@contextmanager
def start_postgresql(
    folder: Path,
    *,
    durable: bool = False,
    inside: tuple[str, ...] = (),
    listens: str = "",
    port: int = 5432,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[Server]:
    """Runs in `folder`, which is removed afterwards. Who is in the network of an address it `listens` to is trusted.

    `certificate` (and its key): with TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert found, "there is no PostgreSQL: script/setup --dev installs it"
    server = Server(folder, found[-1].parent, durable, inside, listens, port)
    try:
        server.make()
        if listens:
            with (folder / "cluster/pg_hba.conf").open("a") as file:
                file.write("host all all samenet trust\n")
        if certificate is not None:
            server.take(*certificate)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
