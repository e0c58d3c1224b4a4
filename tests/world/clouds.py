"""What the tests of the cloud and the DNS are written with: Oracle's own SDK as the witness, mail that does not
stop, and commands that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import oci
from conftest import CONFIG, Arrived, World, wait


class Tenancy:
    """The tenancy as Oracle's SDK shows it."""

    def __init__(self, world: World) -> None:
        self.world = world
        described = world.described["cloud"]
        self.compartment: str = described["compartment"]
        self.config: dict[str, Any] = oci.config.from_file(described["config_file"], described["profile"])

    @cached_property
    def email(self) -> Any:
        return oci.email.EmailClient(self.config)

    @cached_property
    def identity(self) -> Any:
        return oci.identity.IdentityClient(self.config)

    @cached_property
    def dns(self) -> Any:
        return oci.dns.DnsClient(self.config)

    @property
    def domains(self) -> list[Any]:
        return _alive(self.email.list_email_domains(self.compartment).data.items)

    @property
    def domain(self) -> Any:
        (found,) = [each for each in self.domains if each.name == self.world.domain]
        return found

    @property
    def keys(self) -> list[Any]:
        """Oldest first."""
        listed = _alive(self.email.list_dkims(self.domain.id).data.items)
        return sorted(listed, key=lambda key: key.time_created)

    @property
    def senders(self) -> list[Any]:
        return _alive(self.email.list_senders(self.compartment).data)

    @property
    def return_paths(self) -> list[Any]:
        return _alive(self.email.list_email_return_paths(compartment_id=self.compartment).data.items)

    @property
    def users(self) -> list[Any]:
        return _alive(self.identity.list_users(self.config["tenancy"]).data)

    @property
    def relay_user(self) -> Any:
        (found,) = [each for each in self.users if each.name == "todoku-relay"]
        return found

    @property
    def credentials(self) -> list[Any]:
        return _alive(self.identity.list_smtp_credentials(self.relay_user.id).data)

    @property
    def groups(self) -> list[Any]:
        return _alive(self.identity.list_groups(self.config["tenancy"]).data)

    @property
    def policies(self) -> list[Any]:
        return _alive(self.identity.list_policies(self.compartment).data)

    def inventory(self) -> dict[str, list[str]]:
        """Everything there is, by name: what is there twice is listed twice."""
        return {
            "domains": sorted(each.name for each in self.domains),
            "keys": sorted(each.name for each in self.keys) if self.domains else [],
            "senders": sorted(each.email_address for each in self.senders),
            "return paths": sorted(each.name for each in self.return_paths),
            "users": sorted(each.name for each in self.users),
            "groups": sorted(each.name for each in self.groups),
            "policies": sorted(each.name for each in self.policies),
            "records": sorted(f"{r.domain} {r.rtype} {r.rdata}" for r in self.records() if r.rtype != "SOA"),
        }

    # --- the zone, as somebody edits it in the console ---

    def records(self) -> list[Any]:
        listed: list[Any] = self.dns.get_zone_records(self.world.domain).data.items
        return listed

    def values(self, name: str, type_: str) -> list[str]:
        return sorted(r.rdata for r in self.records() if (r.domain, r.rtype) == (name, type_))

    def put(self, name: str, type_: str, *values: str, ttl: int = 300) -> None:
        """Make these the values of a record set; without values there is none."""
        details = oci.dns.models.RecordDetails
        items = [details(domain=name, rtype=type_, rdata=value, ttl=ttl) for value in values]
        if not items:
            self.dns.delete_rr_set(self.world.domain, name, type_)
        else:
            update = oci.dns.models.UpdateRRSetDetails(items=items)
            self.dns.update_rr_set(self.world.domain, name, type_, update)

    @contextlib.contextmanager
    def changed(self, name: str, type_: str, *values: str) -> Iterator[None]:
        """These values for a while; afterwards those from before."""
        before = self.values(name, type_)
        self.put(name, type_, *values)
        try:
            yield
        finally:
            self.put(name, type_, *before)


@contextlib.contextmanager
def configured(**cloud: str) -> Iterator[None]:
    """Other values in [cloud] of the settings, in their place, for a while."""
    before = CONFIG.read_text()
    lines = "".join(f'{key} = "{value}"\n' for key, value in cloud.items())
    CONFIG.write_text(before.replace("\n[cloud]\n", f"\n[cloud]\n{lines}"))
    try:
        yield
    finally:
        CONFIG.write_text(before)


def _alive(things: Any) -> list[Any]:
    return [each for each in things if each.lifecycle_state not in ("DELETING", "DELETED")]


def writes(world: World) -> dict[str, int]:
    """How often each operation that changes something was asked for since the switchboard was reset."""
    operations: dict[str, int] = world.relay()["rest_seen"]["operations"]
    # Logs are searched by POST, by the agent, whenever its minute has come; "unknown" was refused before it was read.
    reads = ("get_", "list_", "search_", "unknown")
    return {name: count for name, count in operations.items() if not name.startswith(reads)}


def plan(world: World, *more: str) -> dict[str, Any]:
    """The plan as JSON, whether it can be carried out or not."""
    done = world.todoku("plan", "--json", "--all", *more)
    planned: dict[str, Any] = json.loads(done.stdout)
    return planned


def problems(planned: dict[str, Any]) -> str:
    return "\n".join(step["problem"] for step in planned["steps"] if step["problem"])


def waits(planned: dict[str, Any]) -> dict[str, str]:
    return {step["id"]: step["waits"] for step in planned["steps"] if step["waits"]}


def require_nothing_to_do(world: World) -> None:
    """The plan is empty, and says so by its exit code."""
    done = world.todoku("plan", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def settle(world: World) -> None:
    """Apply until nothing is waited for and nothing differs any more."""

    def settled() -> bool:
        world.apply()
        return world.todoku("plan", "--check").returncode == 0

    wait(settled, "a plan that is empty", 150)


def fully_aligned(world: World, arrived: Arrived) -> list[str]:
    """What is wrong with a message's judgement; nothing when SPF and DKIM pass and are aligned, and DMARC passes."""
    judged = arrived.judged
    wrong = []
    if judged["spf"]["result"] != "pass" or not judged["spf"]["aligned"]:
        wrong.append(f"SPF: {judged['spf']}")
    if not any(
        s["domain"] == world.domain and s["result"] == "pass" and s["aligned"] for s in judged["dkim"]
    ):
        wrong.append(f"DKIM: {judged['dkim']}")
    if judged["dmarc"]["result"] != "pass":
        wrong.append(f"DMARC: {judged['dmarc']}")
    return wrong


@dataclass
class Stream:
    """Mail that is submitted several times a second, until `stop`."""

    world: World
    name: str
    per_second: float = 5.0
    accepted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Stream:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait(lambda: len(self.accepted) >= 2, "the first messages of the stream")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._end.wait(1 / self.per_second):
            number += 1
            subject = f"{self.name} {number}"
            try:
                self.world.submit(self.world.alice, self.world.carol, subject)
            except (OSError, AssertionError) as error:
                self.refused.append(f"{subject}: {error!r}")
            else:
                self.accepted.append(subject)

    def all_arrived(self, seconds: float = 60) -> list[Arrived]:
        """The messages, each of which has arrived exactly once. For after the stream has ended."""
        assert not self.refused, self.refused

        def mine() -> list[Arrived]:
            # Not by the beginning: another stream in the same world may be called "killed credential".
            subjects = [(str(a.message["Subject"]).rpartition(" ")[0], a) for a in self.world.arrived()]
            return [arrived for name, arrived in subjects if name == self.name]

        wait(lambda: len(mine()) >= len(self.accepted), "the whole stream at the provider", seconds)
        arrived = mine()
        assert sorted(str(a.message["Subject"]) for a in arrived) == sorted(self.accepted)
        return arrived


def kill_at(arguments: list[str], words: str, seconds: float = 60) -> bool:
    """Run a command and kill it (SIGKILL) as soon as a line with `words` appears; False: it had ended before."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            print(line, end="")  # shown when the test fails
            if words in line:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True
        process.wait()
        return False
    finally:
        timer.cancel()
        process.stdout.close()


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Run a command and kill it (SIGKILL) after so many seconds; False: it had ended before."""
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def holders_of(secret: str, roots: tuple[str, ...]) -> set[str]:
    """The files below `roots` in which `secret` is."""
    found = set()
    for root in roots:
        for path in Path(root).rglob("*"):
            if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
                found.add(str(path))
    return found
