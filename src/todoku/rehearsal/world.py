"""The world as it stands inside the namespaces: network, names, certificates, the relay and the mail providers,
a service manager, and our own host with the settings that are rehearsed, applied by the production code."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from todoku.cloud import permissions
from todoku.rehearsal import progress, servers
from todoku.rehearsal.cloud import certificate_names
from todoku.rehearsal.cloud.client import ClientConfig, new_tenancy, write_client_config
from todoku.rehearsal.internet import authority, nameserver, network, pki, zones
from todoku.rehearsal.internet import plan as internet_plan
from todoku.rehearsal.internet.plan import STATE, CloudPlan, InternetPlan, RelayCredential, SeededDomain
from todoku.rehearsal.machine import service_manager
from todoku.settings import Settings, parse
from todoku.settings.outside import Cloud as CloudSettings
from todoku.settings.regions import REGIONS

_ROUNDS = 4  # DKIM has to be active before there is a return path, whose record comes after it
_CONFIG = Path("/etc/todoku/todoku.toml")
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class WorldFailed(Exception):
    """The world stands, but the host in it could not be made to work. The message says which step failed."""


@dataclass(frozen=True, slots=True)
class Account:
    """A mailbox in the world; the contract's three keys."""

    address: str
    login: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class World:
    """What the scenario, the tests and people's scripts need to know of the world they are in."""

    settings: Settings
    plan: InternetPlan
    cloud: ClientConfig
    accounts: tuple[Account, ...]
    environment: dict[str, str] = field(repr=False)
    started: float  # time.monotonic() when the building began

    @classmethod
    def build(cls, task: dict[str, Any]) -> World:
        started = time.monotonic()
        settings = parse(task["settings"], task["settings_name"])
        environment = _environment(Path(task["python"]))
        STATE.mkdir(mode=0o755)
        with progress.step("the world: names, certificates, the relay, the mail providers"):
            plan = _internet(settings)
            _own_host(task["settings"], settings, plan)
            cloud = _api_key(settings, plan)
            network.up(dict.fromkeys((*settings.addresses, *settings.listen)))
            asked = settings.tls.kind == "acme"
            _start_everything(plan, environment, is_asked_for_certificates=asked)
        with progress.step("todoku apply") as tell:
            _apply(environment, tell)
        if settings.cloud and settings.dns and settings.dns.publisher == "manual":
            _enter_by_hand(environment)
        with progress.step("todoku account add"):
            accounts = _accounts(settings, environment)
        world = cls(settings, plan, cloud, accounts, environment, started)
        world._describe()
        return world

    @property
    def relay_control(self) -> str:
        return f"http://{internet_plan.RELAY_SMTP}:{internet_plan.SWITCHBOARD_PORT}/"

    @property
    def server(self) -> str:
        """The address of our server: the first one in the settings."""
        return str(self.settings.addresses[0])

    @property
    def server6(self) -> str | None:
        return next((str(a) for a in self.settings.addresses if isinstance(a, IPv6Address)), None)

    def _describe(self) -> None:
        """Write TODOKU_WORLD and the shell that `--keep` tells of."""
        plan = internet_plan
        described = {
            "server": {"hostname": self.settings.hostname, "ip": self.server},
            "accounts": [
                {"address": a.address, "login": a.login, "password": a.password} for a in self.accounts
            ],
            "relay": {
                "hostname": self.plan.relay_hostname,
                "ip": str(plan.RELAY_SMTP),
                "region": self.plan.region,
                "control": self.relay_control,
            },
            "cloud": {name: str(value) for name, value in asdict(self.cloud).items()},
            "receiver": {
                "domain": plan.RECEIVER_DOMAIN,
                "hostname": plan.RECEIVER_HOST,
                "ip": str(plan.RECEIVER),
                "inbox": str(STATE / "inbox"),
            },
            "outside": {
                "domain": plan.OUTSIDE_DOMAIN,
                "hostname": plan.OUTSIDE_HOST,
                "ip": str(plan.OUTSIDE),
            },
            "dns": {"ip": str(plan.DNS)},
            "ca": str(STATE / "pki/ca.pem"),
        }
        _write_secret(Path(self.environment["TODOKU_WORLD"]), json.dumps(described, indent=2))
        exports = "".join(
            f"export {name}='{self.environment[name]}'\n"
            for name in ("PATH", "TODOKU_WORLD", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
        )
        shell = STATE / "shell"
        shell.write_text(f'#!/bin/sh\ncd /\n{exports}[ $# -gt 0 ] || set -- bash\nexec "$@"\n')
        shell.chmod(0o755)


def _environment(python: Path) -> dict[str, str]:
    """What commands in the world see. The certificate authorities are the world's, on every machine alike."""
    keep = {"HOME", "LANG", "LC_ALL", "TERM", "TZ", "COLUMNS", "NO_COLOR", "CI"}
    environment = {
        name: value for name, value in os.environ.items() if name in keep or name.startswith("PYTEST_")
    }
    path = f"{python.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        **environment,
        "PATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "REQUESTS_CA_BUNDLE": str(_CA_BUNDLE),
        "SSL_CERT_FILE": str(_CA_BUNDLE),
        "TODOKU_WORLD": str(STATE / "world.json"),
    }


def _internet(settings: Settings) -> InternetPlan:
    """An empty tenancy and empty zones. Without [cloud] in the settings, the world does what people would have
    done: the relay then knows domains, keys, senders and a credential."""
    seeded = () if settings.cloud else settings.domains
    with ThreadPoolExecutor() as pool:
        keys = list(pool.map(lambda _: pki.generate_dkim_key(), range(len(seeded) + 2)))
    region = REGIONS[settings.relay.region]
    names = tuple(domain.name for domain in settings.domains)
    selector = f"todoku-{region.key}-202611"
    return InternetPlan(
        hostname=settings.hostname,
        addresses=settings.addresses,
        domains=tuple(
            SeededDomain(domain.name, selector, key, f"v=DMARC1; p={domain.dmarc.policy}")
            for domain, key in zip(seeded, keys, strict=False)
        ),
        empty_zones=names if settings.cloud else (),
        cloud=_tenancy(settings, names),
        region=settings.relay.region,
        region_code=region.code or f"{region.key}1",
        relay_hostname=settings.relay.hostname,
        credential=None if settings.cloud and settings.cloud.manage_iam else _credential(),
        approved_senders=tuple(f"@{domain.name}" for domain in seeded),
        outside_selector="mail",
        outside_dkim_private_key=keys[-2],
        regional_selector=f"prod-{region.key}-20240101",
        regional_dkim_private_key=keys[-1],
    )


def _tenancy(settings: Settings, names: tuple[str, ...]) -> CloudPlan:
    """A new tenancy; the settings' compartment is the one in it."""
    tenancy = new_tenancy(settings.relay.region)
    if settings.cloud is None:
        return tenancy
    zones = names if settings.dns and settings.dns.publisher == "oci" else ()
    named = settings.cloud.identity_domain
    return replace(
        tenancy,
        compartment=settings.cloud.compartment,
        instance=settings.cloud.instance or tenancy.instance,
        zones=zones,
        identity_domains=(named,) if named and named.casefold() != "default" else (),
        instance_may=_instance_may(settings.cloud) if settings.cloud.auth == "instance_principal" else (),
    )


def _instance_may(cloud: CloudSettings) -> tuple[str, ...]:
    """What docs/cloud.md has people write into a policy for an instance, so that it can do all that is asked of it."""
    rights = (
        *permissions.ADMINISTRATOR,
        permissions.READ_IDENTITY_DOMAINS,
        permissions.Right("manage", "dns"),
        *permissions.INSTANCE,
    )
    who = f"dynamic-group {internet_plan.INSTANCES}"
    return tuple(right.statement(who, cloud.compartment) for right in rights)


def _credential() -> RelayCredential:
    """In the shape of the relay's own (long, with "@"), and with every character that a file could mangle."""

    def ocid(kind: str) -> str:
        return f"ocid1.{kind}.oc1..aaaaaaaa" + secrets.token_hex(26)

    letters = [*string.punctuation, *(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))]
    secrets.SystemRandom().shuffle(letters)
    return RelayCredential(f"{ocid('user')}@{ocid('tenancy')}.x9.com", "".join(letters))


def _own_host(text: str, settings: Settings, plan: InternetPlan) -> None:
    """Our host before Todoku comes: the settings file, the relay's credential, names, trusted authorities."""
    _CONFIG.parent.mkdir(parents=True, exist_ok=True)
    _CONFIG.write_text(text)
    secret = settings.relay.credential_file or _CONFIG.parent / "secrets/relay"
    secret.unlink(missing_ok=True)
    if plan.credential is not None:
        secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_secret(secret, f"{plan.credential.username}\n{plan.credential.password}\n")
    short = settings.hostname.partition(".")[0]
    Path("/etc/hostname").write_text(settings.hostname + "\n")
    Path("/etc/hosts").write_text(
        f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{settings.addresses[0]} {settings.hostname} {short}\n"
    )
    resolv = Path("/etc/resolv.conf")
    resolv.unlink(missing_ok=True)
    resolv.write_text("nameserver 127.0.0.1\n")
    # Mail that waits on the real machine has no business in the rehearsal.
    for queue in (
        "active",
        "bounce",
        "corrupt",
        "defer",
        "deferred",
        "hold",
        "incoming",
        "maildrop",
        "saved",
    ):
        for entry in Path("/var/spool/postfix", queue).glob("*"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    authority = pki.Authority.create(STATE / "pki")
    with _CA_BUNDLE.open("a") as bundle:
        bundle.write((STATE / "pki/ca.pem").read_text())
    for name in (
        plan.relay_hostname,
        internet_plan.RECEIVER_HOST,
        internet_plan.OUTSIDE_HOST,
        internet_plan.AUTHORITY_HOST,
    ):
        authority.issue([name], STATE / "pki")
    authority.issue(certificate_names(plan), STATE / "pki")


def _api_key(settings: Settings, plan: InternetPlan) -> ClientConfig:
    """The administrator's API key, where Oracle's own tools and the settings look for it."""
    assert plan.cloud is not None  # noqa: S101  (a world always has a tenancy)
    config = write_client_config(STATE, plan.cloud, plan.region)
    if settings.cloud is None or settings.cloud.auth != "config":
        return config
    text = config.config_file.read_text().replace(f"[{config.profile}]", f"[{settings.cloud.profile}]")
    settings.cloud.config_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_secret(settings.cloud.config_file, text)
    return replace(config, config_file=settings.cloud.config_file, profile=settings.cloud.profile)


def _start_everything(
    plan: InternetPlan, environment: dict[str, str], *, is_asked_for_certificates: bool
) -> None:
    _write_secret(STATE / "internet.json", servers.dump(plan))
    nameserver.write(plan, STATE / "dns")
    for number, command in enumerate(nameserver.commands(STATE / "dns")):
        _start(command, f"dns-{number}", environment)
    mail = _start(
        [
            sys.executable,
            "-m",
            "todoku.rehearsal.servers",
            "--plan",
            str(STATE / "internet.json"),
            "--state",
            str(STATE),
        ],
        "internet",
        environment,
    )
    manager = _start(service_manager.COMMAND, "supervisord", environment)
    nameserver.wait_until_answers(10)
    if is_asked_for_certificates:
        authority.start(STATE)
    _wait_for(lambda: "READY" in (STATE / "internet.log").read_text(), "the mail providers", mail)
    _wait_for(service_manager.SOCKET.exists, "supervisord", manager)


def _start(command: Sequence[str], name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    with (STATE / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)


def _wait_for(ready: Any, what: str, process: subprocess.Popen[bytes], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise WorldFailed(f"{what} did not start; see the words of its log:\n{_logs()}")
        time.sleep(0.02)


def _logs() -> str:
    return "\n".join(
        f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(STATE.glob("*.log"))
    )


def _apply(environment: dict[str, str], tell: progress.Tell) -> None:
    """The production command, as a user would type it."""
    log = STATE / "apply.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            ["todoku", "apply", "--yes"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        assert process.stdout is not None  # noqa: S101  (opened as a pipe above)
        for line in process.stdout:
            file.write(line)
            if line.startswith("["):
                tell(line.strip())
    if process.wait() != 0:
        raise WorldFailed(f"todoku apply ended with {process.returncode}:\n{log.read_text()}")


def _enter_by_hand(environment: dict[str, str]) -> None:
    """Take the place of whoever edits the zones: enter what `todoku dns zone` asks for, until nothing is missing."""
    for _ in range(_ROUNDS):
        asked = subprocess.run(
            ["todoku", "dns", "zone", "--all", "--json"],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if asked.returncode != 0:
            raise WorldFailed(
                f"todoku dns zone ended with {asked.returncode}: {asked.stderr or asked.stdout}"
            )
        told = json.loads(asked.stdout)
        with progress.step(f"entering {len(told['records'])} DNS records by hand, then todoku apply") as tell:
            for serial, (zone, text) in enumerate(told["zones"].items(), start=int(time.time())):
                entered = zones.render(zone, (), serial) + text
                nameserver.replace_zone(STATE / "dns", zone, entered)
            _apply(environment, tell)
        left = subprocess.run(
            ["todoku", "plan", "--json"], capture_output=True, text=True, env=environment, check=False
        )
        summary = json.loads(left.stdout)["summary"]
        if not summary["waiting"] and not summary["create"] and not summary["run"]:
            return


def _accounts(settings: Settings, environment: dict[str, str]) -> tuple[Account, ...]:
    domain = settings.domains[0].name
    names = dict.fromkeys((f"alice@{domain}", f"bob@{domain}", settings.postmaster))
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(lambda address: _account(address, settings, environment), names))


def _account(address: str, settings: Settings, environment: dict[str, str]) -> Account:
    password = secrets.token_urlsafe(15)
    name = address.partition("@")[0]
    command = ["todoku", "account", "add", address]
    if settings.accounts.mode == "system":
        subprocess.run(["useradd", "--create-home", name], check=False, capture_output=True)
        subprocess.run(["chpasswd"], input=f"{name}:{password}\n".encode(), check=True)
    else:
        command.append("--password-stdin")
    done = subprocess.run(
        command, input=password + "\n", capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        raise WorldFailed(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return Account(address, name if settings.accounts.mode == "system" else address, password)


def _write_secret(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
