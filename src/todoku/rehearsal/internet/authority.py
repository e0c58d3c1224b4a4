"""A public certificate authority in the rehearsal's internet: Pebble, which Let's Encrypt made to test ACME clients.

It checks as strictly as it can, and looks challenges up in the world's DNS. Its root is new at each start, and the
world trusts it as machines trust real ones.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from . import plan as world

PACKAGES = ("pebble",)  # Debian and Ubuntu
DIRECTORY = f"https://{world.AUTHORITY_HOST}/dir"
_ROOT = f"https://{world.AUTHORITY_HOST}:15000/roots/0"
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_SECONDS = 10.0


class AuthorityFailed(RuntimeError):
    """Pebble did not start; the message has the end of its log."""


def start(state: Path) -> subprocess.Popen[bytes]:
    """Start it, and have the world trust its root, which is also written to `state`/authority/root.pem."""
    folder = state / "authority"
    folder.mkdir(exist_ok=True)
    pki = state / "pki"
    configuration = {
        "listenAddress": f"{world.AUTHORITY}:443",
        "managementListenAddress": f"{world.AUTHORITY}:15000",
        "certificate": str(pki / f"{world.AUTHORITY_HOST}.pem"),
        "privateKey": str(pki / f"{world.AUTHORITY_HOST}.key"),
        "httpPort": 80,
        "tlsPort": 443,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "certificateValidityPeriod": 90 * 86_400,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    log = folder / "pebble.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["pebble", "-strict", "-config", str(folder / "pebble.json"), "-dnsserver", "127.0.0.1:53"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            # Nothing by chance: it would wait before each look-up, refuse good nonces, and reuse authorizations.
            env={
                "PATH": os.environ["PATH"],
                "PEBBLE_VA_NOSLEEP": "1",
                "PEBBLE_WFE_NONCEREJECT": "0",
                "PEBBLE_AUTHZREUSE": "0",
            },
        )
    trust = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            with urllib.request.urlopen(_ROOT, timeout=2, context=trust) as answer:
                root = answer.read()
            break
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                words = log.read_text(errors="replace")[-1500:]
                raise AuthorityFailed(f"Pebble does not answer ({error}):\n{words}") from error
            time.sleep(0.05)
    (folder / "root.pem").write_bytes(root)
    with _BUNDLE.open("ab") as bundle:
        bundle.write(root)
    return process
