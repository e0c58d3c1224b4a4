"""Rotating the SMTP credential while mail flows: a user can have two, and both work in between.

    a new credential, proven by logging in to the relay with it
    into the file, Postfix reads it
    the file proven by logging in with what it holds
    the old one deleted

Each step is derived from what the cloud and the file say now. Killed before the file was replaced, the new
credential is one whose password nobody has: it is deleted, and another one made. Killed afterwards, the rest
is done. Sessions of Postfix that have logged in already are not touched by any of this.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from todoku.cloud.client import Cloud
from todoku.cloud.probe import Answer, Relay
from todoku.cloud.smtp_credential import (
    MOST,
    Credentials,
    Store,
    delete_credential,
    description_of,
    keep,
    make_credential,
    sort,
)
from todoku.cloud.values import NewCredential, SmtpCredential, User
from todoku.plan.resource import ChangeFailed, LookFailed
from todoku.settings import CredentialError, RelayCredential


@dataclass(frozen=True, slots=True)
class Rotated:
    """The user names: which is used now, and which were deleted."""

    username: str
    deleted: tuple[str, ...]
    resumed: bool = False  # a rotation that had been interrupted was completed


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What a rotation needs from the host, and from whoever watches."""

    keeper: Store
    relay: Relay
    reload: Callable[[], None]  # Postfix reads the file; returns when it has
    say: Callable[[str], None]
    patience: float = 120.0  # seconds for a new credential to work
    settle: float = 5.0  # seconds for a delivery that had read the old one to log in with it
    sleep: Callable[[float], None] = field(default=time.sleep)


def rotate(user_name: str, hostname: str, client: Cloud, steps: Steps) -> Rotated:
    """Rotate the credential of this host, or complete a rotation. Raises ChangeFailed, LookFailed."""
    user = client.user(user_name)
    if user is None:
        raise ChangeFailed(f"there is no user {user_name} in the cloud: run `todoku apply` first")
    client.forget("smtp-credential")
    seen = _look_at(user, hostname, client, steps)
    if seen.in_use is None:
        raise ChangeFailed(
            "the file holds no credential that the cloud knows, so there is none to rotate: run `todoku apply`, "
            "which makes one"
        )
    if _interrupted_after_storing(seen):
        steps.say("an earlier rotation has stored its new credential already: completing it")
        return _finish(user, seen, client, steps, resumed=True)
    if seen.ours:
        steps.say("deleting a credential of an interrupted rotation: nobody has its password")
        for lost in seen.ours:
            delete_credential(user, lost, client)
    elif len(seen.others) + 1 >= MOST:
        raise ChangeFailed(_no_room(user_name, seen.others))
    steps.say("making a new credential")
    made = make_credential(user, description_of(hostname), client)
    _prove(made, user, client, steps)
    keep(made, user, steps.keeper, client)
    steps.say("the new credential is stored")
    client.forget("smtp-credential")
    return _finish(user, _with_old(_look_at(user, hostname, client, steps), seen.in_use), client, steps)


def _look_at(user: User, hostname: str, client: Cloud, steps: Steps) -> Credentials:
    return sort(client.smtp_credentials(user), steps.keeper.username(), description_of(hostname))


def _interrupted_after_storing(seen: Credentials) -> bool:
    """The file's credential is newer than another one of this host."""
    made = seen.in_use.created if seen.in_use else None
    return any(made is not None and old.created is not None and old.created < made for old in seen.ours)


def _with_old(seen: Credentials, old: SmtpCredential) -> Credentials:
    """The credential that was in the file until now goes too, whatever its description says."""
    ours = tuple({each.id: each for each in (*seen.ours, old)}.values())
    return Credentials(seen.stored, seen.in_use, ours, seen.others)


def _prove(made: NewCredential, user: User, client: Cloud, steps: Steps) -> None:
    """That the relay knows the new credential, before Postfix is told to use it."""
    login = RelayCredential(made.username, made.password)
    try:
        answer = steps.relay.wait_for_login(login, steps.patience)
    except BaseException:
        _undo(made, user, client)
        raise
    if not answer.accepted:
        _undo(made, user, client)
        raise ChangeFailed(f"the new credential does not work, so the old one stays in use: {answer}")
    steps.say("the relay accepts the new credential")


def _undo(made: NewCredential, user: User, client: Cloud) -> None:
    delete_credential(user, SmtpCredential(made.id, made.username, ""), client)


def _finish(user: User, seen: Credentials, client: Cloud, steps: Steps, *, resumed: bool = False) -> Rotated:
    """Postfix reads the file, the file proves to work, what it replaced is deleted."""
    steps.reload()
    steps.say("Postfix has read it")
    try:
        login = steps.relay.login()
    except CredentialError as error:
        raise LookFailed(str(error)) from error
    answer: Answer = steps.relay.wait_for_login(login, steps.patience)
    if not answer.accepted:
        raise ChangeFailed(
            f"the stored credential does not work, so the one before it stays as well: {answer}. Run "
            "`todoku credential rotate` again when it is clear why"
        )
    steps.sleep(steps.settle)
    for old in seen.ours:
        delete_credential(user, old, client)
    return Rotated(login.username, tuple(old.username for old in seen.ours), resumed)


def _no_room(user: str, others: tuple[SmtpCredential, ...]) -> str:
    named = "; ".join(f"{one.username} ({one.description or 'no description'})" for one in others)
    return (
        f"the user {user} has another SMTP credential, and a third one is not possible: {named}. Todoku did not make "
        "it for this host: delete it in the console if nobody uses it (user, SMTP credentials), then rotate again"
    )
