"""A real S3 server on this machine: rclone's, which checks signatures and keeps parts until they are put together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from todoku.host.certificates.certificate import self_signed
from todoku.settings import Settings, parse

RCLONE = Path(sys.executable).with_name("rclone")
ACCESS, SECRET = "AKTESTAKTESTAKTEST", "a secret that nobody guesses"
BUCKET = "attachments"
_PATIENCE = 60.0


@dataclass
class S3Server:
    """`folder`: its buckets are folders below it. `port` stays the same over `stop` and `start`."""

    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        (self.folder / "buckets" / BUCKET).mkdir(parents=True)
        certificate, key = self_signed("localhost", datetime.now(UTC))
        (self.folder / "tls.pem").write_bytes(certificate)
        (self.folder / "tls.key").write_bytes(key)

    @property
    def authorities(self) -> Path:
        return self.folder / "tls.pem"

    @property
    def bucket(self) -> Path:
        return self.folder / "buckets" / BUCKET

    @property
    def endpoint(self) -> str:
        return f"https://localhost:{self.port}"

    def start(self) -> None:
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        environment = {**os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_AUTH_KEY": f'"{ACCESS},{SECRET}"'}
        command = [str(RCLONE), "serve", "s3", "--addr", f"127.0.0.1:{self.port}"]
        command += ["--cert", str(self.authorities), "--key", str(self.folder / "tls.key")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, str(self.folder / "buckets")], env=environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def settings(
        self, *, bucket: str = BUCKET, credential: Path = Path("/nowhere"), more: str = ""
    ) -> Settings:
        return parse(
            f"""
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[protect]
on = true
{more}
[protect.store]
endpoint = "{self.endpoint}"
region = "ap-tokyo-1"
bucket = "{bucket}"
credential_file = "{credential}"
""",
            "todoku.toml",
        )
