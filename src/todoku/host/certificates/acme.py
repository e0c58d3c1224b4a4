"""A certificate of a public authority, by ACME's DNS challenge (RFC 8555 8.4), with certbot.

certbot speaks with the authority; its hooks are Todoku's own (`cli.acme_challenge`), which publish the challenge the
way that the settings say and wait until the zone's servers show it. certbot is Debian's, kept safe by its security
team, with a folder of its own here, so that a certbot that somebody uses on this machine anyway is another one. Only
the account in that folder is kept: what certbot remembers of a certificate goes before each run, so no half-done run is
in the way. Until there is a certificate a self-signed one is served, and the old one until there is a new one.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from todoku.host import endpoint
from todoku.host.certificates.certificate import CertificateError, CertificateSeen, inspect, self_signed
from todoku.host.certificates.served import Served
from todoku.host.client import Completed, Host
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change, ChangeFailed, NeedsPerson

FOLDER = "/var/lib/todoku/acme"
PACKAGES = ("certbot",)
_LINEAGE = "todoku"
_PATIENCE = 900.0  # seconds: the hook waits for name servers, and the authority for its own look-ups
_LAST_LINES = 12
# What certbot says when it stumbled before the authority has judged anything, over a lost answer or a refused nonce:
# tried again once. A challenge that failed is not: authorities count those.
_UNEXPECTED = "An unexpected error occurred"


@dataclass(frozen=True, kw_only=True)
class StandIn(HostResource[str]):
    """Something to be served until the authority has given out a certificate: Postfix and Dovecot start with it."""

    hostname: str

    @property
    def id(self) -> str:
        return "certificate"

    def look(self, client: Host) -> str:
        """Why what is there cannot be served; empty when it can."""
        content = client.read(endpoint.MANAGED)
        if content is None:
            return "there is none yet"
        try:
            inspect(content, content)
        except CertificateError as fault:
            return str(fault)
        return ""

    def differ(self, seen: str) -> Change | None:
        if not seen:
            return None
        summary = f"make a self-signed certificate for {self.hostname} until there is a real one ({seen})"
        return Change(Action.CREATE, summary)

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        certificate, key = self_signed(self.hostname, datetime.now(UTC))
        client.replace(endpoint.MANAGED, key + certificate, mode=0o600)


@dataclass(frozen=True, slots=True)
class AcmeSeen:
    """The certificate that is served. `seen` is None where there is none that can be read."""

    seen: CertificateSeen | None = None
    is_self_signed: bool = False


@dataclass(frozen=True, kw_only=True)
class AcmeCertificate(HostResource[AcmeSeen]):
    """A certificate of the authority, renewed when a third of its life is left."""

    hostname: str
    directory: str
    contact: str
    by_hand: bool  # a person publishes the records: nobody can answer a challenge unattended
    config: Path
    served: Served

    @property
    def id(self) -> str:
        return "acme-certificate"

    def look(self, client: Host) -> AcmeSeen:
        if self.by_hand:
            raise NeedsPerson(
                "tls.mode is acme, but dns.publisher is manual: every two months a record has to be published at once, "
                "and gone again. Choose a publisher that Todoku can use by itself (oci, rfc2136, lexicon), or tls.mode "
                '= "files". Until then a self-signed certificate is served'
            )
        content = client.read(endpoint.MANAGED)
        try:
            seen = inspect(content or b"", content or b"")
        except CertificateError:
            return AcmeSeen()
        return AcmeSeen(seen, seen.is_self_signed)

    def differ(self, seen: AcmeSeen) -> Change | None:
        found = seen.seen
        if found is None or seen.is_self_signed:
            return Change(Action.CREATE, f"get a certificate for {self.hostname} from {self._authority}")
        if not found.covers(self.hostname):
            was = ", ".join(found.names) or "no name"
            summary = f"get a certificate for {self.hostname} from {self._authority} (it was for {was})"
            return Change(Action.UPDATE, summary)
        if found.is_due:
            summary = f"renew the certificate for {self.hostname} ({found.left.days} days left)"
            return Change(Action.UPDATE, summary)
        return None

    def change(self, change: Change, client: Host) -> None:
        """Get one, put it in place, whole, and have it served. On any failure the one before goes on being served."""
        for folder in ("live", "archive", "renewal"):
            client.remove(f"{FOLDER}/config/{folder}")
        client.make_directory(FOLDER, 0o700)
        done = client.run(self.command(), timeout=_PATIENCE, check=False)
        if done.code and _UNEXPECTED in done.stdout + done.stderr:
            done = client.run(self.command(), timeout=_PATIENCE, check=False)
        if done.code:
            raise ChangeFailed(self._why_not(done))
        live = f"{FOLDER}/config/live/{_LINEAGE}"
        chain, key = client.read(f"{live}/fullchain.pem") or b"", client.read(f"{live}/privkey.pem") or b""
        try:
            got = inspect(chain, key)
        except CertificateError as fault:
            raise ChangeFailed(
                f"{self._authority} gave out a certificate that cannot be used: {fault}"
            ) from fault
        if not got.covers(self.hostname) or got.is_over:
            raise ChangeFailed(
                f"{self._authority} gave out a certificate for {', '.join(got.names) or 'no name'} that is good for "
                f"{got.left}: it is not used"
            )
        client.replace(endpoint.MANAGED, key + chain, mode=0o600)
        self.served.change(change, client)

    def command(self) -> list[str]:
        """What certbot is asked."""
        return [
            *(
                "certbot",
                "certonly",
                "--non-interactive",
                "--agree-tos",
                "--no-eff-email",
                "-m",
                self.contact,
            ),
            *("--server", self.directory, "--cert-name", _LINEAGE, "-d", self.hostname),
            *("--config-dir", f"{FOLDER}/config", "--work-dir", f"{FOLDER}/work"),
            *("--logs-dir", f"{FOLDER}/logs", "--max-log-backups", "10"),
            *("--manual", "--preferred-challenges", "dns", "--key-type", "ecdsa"),
            *("--manual-auth-hook", self._hook("publish"), "--manual-cleanup-hook", self._hook("remove")),
        ]

    def _hook(self, action: str) -> str:
        """For the shell that certbot starts it with."""
        words = [
            sys.executable,
            "-I",
            "-m",
            "todoku.cli.services.acme_challenge",
            "--config",
            str(self.config),
            action,
        ]
        return shlex.join(words)

    @property
    def _authority(self) -> str:
        return self.directory.split("/")[2]

    def _why_not(self, done: Completed) -> str:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        words = "\n".join(_telling(said)[-_LAST_LINES:])
        return (
            f"{self._authority} gave out no certificate for {self.hostname}; what was served before goes on being "
            f"served. It is tried again twice a day, or with `todoku certificate renew`. certbot said:\n{words}"
        )


def _telling(lines: Sequence[str]) -> list[str]:
    """Without what certbot says each time."""
    noise = ("Saving debug log", "Ask for help", "See the logfile", "- - - -", "Some challenges have failed")
    return [line for line in dict.fromkeys(lines) if not line.startswith(noise)]
