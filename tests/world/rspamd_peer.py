"""rspamd, as a second opinion: what it makes of a message and of the zones that its sender has.

It is unpacked into the throw-away copy (`script/peers` has fetched it), asks the world's resolver, and is spoken to
over HTTP (rspamd.com/doc/developers/protocol.html: /checkv2).
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import unpack

URL = "http://127.0.0.1:11333"
_CONFIG = """\
options {
    filters = "dkim,regexp";
    pidfile = "%(folder)s/pid";
    tempdir = "%(folder)s";
    control_socket = "%(folder)s/control";
    cache_file = "%(folder)s/symbols";
    dns { nameserver = ["127.0.0.1"]; timeout = 2s; retransmits = 2; }
    local_addrs = [];
    disable_hyperscan = true;
    url_tld = "%(folder)s/suffixes";  # the real list takes half a minute to compile
    task_timeout = 20s;
}
logging { type = "file"; filename = "%(folder)s/log"; level = "info"; }
worker "normal" { bind_socket = "127.0.0.1:11333"; count = 1; mime = true; task_timeout = 20s; }
lua = "$RULESDIR/rspamd.lua"
.include "$CONFDIR/metrics.conf"
.include "$CONFDIR/actions.conf"
.include "$CONFDIR/groups.conf"
modules { path = "${PLUGINSDIR}"; }
dkim { dkim_cache_size = 1; trusted_only = false; }
spf { spf_cache_size = 1; disable_ipv6 = false; }
dmarc { }
mid { source = { url = [], name = "none" }; }
"""


@contextmanager
def rspamd(folder: Path) -> Iterator[None]:
    """Running, until the end of the block."""
    unpack("rspamd", folder)
    (folder / "suffixes").write_text("com\nexample\n")
    config = folder / "rspamd.conf"
    config.write_text(_CONFIG % {"folder": folder})
    output = (folder / "output").open("wb")
    command = ["rspamd", "-f", "-i", "-u", "root", "-g", "root", "-c", str(config)]
    with output, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as daemon:
        try:
            _wait(folder, daemon)
            yield
        finally:
            daemon.terminate()


def symbols(message: bytes, *, ip: str, sender: str, helo: str, to: str) -> set[str]:
    """What rspamd says of a message that came from `ip` with that envelope."""
    head = {"IP": ip, "From": sender, "Helo": helo, "Hostname": helo, "Rcpt": to}
    request = urllib.request.Request(f"{URL}/checkv2", data=message, headers=head)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return set(json.load(answer)["symbols"])


def _wait(folder: Path, daemon: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and daemon.poll() is None:
        try:
            with urllib.request.urlopen(f"{URL}/ping", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    words = "".join(
        (folder / name).read_text(errors="replace")[-3000:]
        for name in ("output", "log")
        if (folder / name).exists()
    )
    pytest.fail(f"rspamd does not run:\n{words}")
