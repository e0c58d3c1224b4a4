"""The key by which Dovecot and the agent know each other when they talk about wrong passwords.

Two files, each readable by one of them alone, made together: what other programs on this machine say about log-ins is
not believed. Dovecot's has the nonce for its hashes of passwords as well, of which twelve bits leave it.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from todoku.host.client import Host
from todoku.host.resource import HostResource
from todoku.plan.resource import Action, Change
from todoku.settings import ports

DOVECOT_FILE = "/etc/dovecot/guessing.conf"
AGENT_FILE = "/var/lib/todoku/ledger/guessing-key"
URL = f"http://{ports.LOOPBACK}:{ports.GUESSING}/"  # of the agent (todoku.delivery.guessing_server)
ID = "guessing-key"
_HEADER = "X-Todoku-Key"
_KEY = re.compile(rf"(?m)^auth_policy_server_api_header = {_HEADER}: ([0-9a-f]{{64}})$")


@dataclass(frozen=True, slots=True)
class KeySeen:
    """The key in each of the two files; empty when there is none, or others could read it."""

    dovecot: str
    agent: str


@dataclass(frozen=True, kw_only=True)
class GuessingKey(HostResource[KeySeen]):
    """Both files with the same key. `agent` is the agent's user and group."""

    agent: str

    @property
    def id(self) -> str:
        return ID

    def look(self, client: Host) -> KeySeen:
        found = _KEY.search(self._closed(client, DOVECOT_FILE, "root"))
        return KeySeen(found[1] if found else "", self._closed(client, AGENT_FILE, self.agent).strip())

    def differ(self, seen: KeySeen) -> Change | None:
        if seen.dovecot and seen.dovecot == seen.agent:
            return None
        action = Action.UPDATE if seen.dovecot or seen.agent else Action.CREATE
        return Change(action, f"make a new key for {DOVECOT_FILE} and {AGENT_FILE} (secret, not shown)")

    def change(self, change: Change, client: Host) -> None:  # noqa: ARG002
        key = secrets.token_hex(32)
        client.replace(AGENT_FILE, f"{key}\n".encode(), mode=0o600, owner=self.agent, group=self.agent)
        lines = (
            "# Written by Todoku: read by Dovecot alone.\n"
            f"auth_policy_hash_nonce = {secrets.token_hex(16)}\n"
            f"auth_policy_server_api_header = {_HEADER}: {key}\n"
        )
        client.replace(DOVECOT_FILE, lines.encode(), mode=0o600)

    @staticmethod
    def _closed(client: Host, path: str, owner: str) -> str:
        stat = client.stat(path)
        if stat is None or (stat.mode, stat.owner) != (0o600, owner):
            return ""
        return client.text(path)
