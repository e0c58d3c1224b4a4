"""The SMTP credential: a user name and password for the relay, straight from the cloud into a file of root's.

Oracle tells the password once, in the answer that makes the credential. It goes into the file and nowhere
else: no screen, no log, no argument, no plan. If the answer is lost, so is the password; then the credential
is deleted and made again. A user has at most two, which is what makes an uninterrupted rotation possible.
Credentials carry no tags: those that Todoku made for this host say so in their description.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from todoku.cloud.client import Cloud
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.probe import Relay
from todoku.cloud.resource import CloudResource
from todoku.cloud.values import NewCredential, SmtpCredential, User
from todoku.plan.resource import Action, Change, ChangeFailed, NotYet
from todoku.settings import CredentialError, RelayCredential

MOST = 2  # SMTP credentials of one user
_TRIES = 3


class Store(Protocol):
    """Where the credential is kept on this host."""

    def username(self) -> str | None:
        """The user name in the file; None when there is no usable file."""
        ...

    def store(self, username: str, password: str) -> None:
        """Replace the file, atomically, readable by root alone. Raises ChangeFailed, OSError."""
        ...


def description_of(hostname: str) -> str:
    """How a credential says that Todoku made it for this host."""
    return f"todoku {hostname}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the cloud and the file say together."""

    stored: str | None  # the user name in the file
    in_use: SmtpCredential | None  # the credential of that name
    ours: tuple[SmtpCredential, ...]  # made for this host; nobody has the password: it is not in the file
    others: tuple[SmtpCredential, ...]  # not for us to judge


def sort(credentials: Sequence[SmtpCredential], stored: str | None, description: str) -> Credentials:
    """Which of the user's credentials is which."""
    in_use = next((each for each in credentials if each.username == stored), None)
    rest = [each for each in credentials if each is not in_use]
    ours = tuple(each for each in rest if each.description == description)
    return Credentials(stored, in_use, ours, tuple(each for each in rest if each not in ours))


@dataclass(frozen=True, kw_only=True)
class SmtpCredentialResource(CloudResource[Credentials]):
    """That the file holds a credential which the cloud knows."""

    user: str
    hostname: str
    keeper: Store = field(repr=False, compare=False, hash=False)

    @property
    def id(self) -> str:
        return f"smtp-credential:{self.user}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"iam-user:{self.user}", f"iam-membership:{self.user}"}

    def look(self, client: Cloud) -> Credentials:
        user = client.user(self.user)
        credentials = client.smtp_credentials(user) if user is not None else []
        return sort(credentials, self.keeper.username(), description_of(self.hostname))

    def differ(self, seen: Credentials) -> Change | None:
        if seen.in_use is not None:
            return None
        found = "the file's user name is not known to the cloud" if seen.stored else "there is no file"
        lines = [found]
        if len(seen.ours) + len(seen.others) >= MOST:
            if not seen.ours:
                lines.append(_both_taken(self.user, seen.others))
            else:
                lines.append(
                    f"to make room, {oldest(seen.ours).username} is deleted: nobody has its password"
                )
        return Change(Action.CREATE, f"create an SMTP credential for {self.user}", "\n".join(lines))

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        user = client.user(self.user)
        if user is None:
            raise ChangeFailed(f"there is no user {self.user}")
        seen = self.look(client)
        if len(seen.ours) + len(seen.others) >= MOST:
            if not seen.ours:
                raise ChangeFailed(_both_taken(self.user, seen.others))
            delete_credential(user, oldest(seen.ours), client)
        made = make_credential(user, description_of(self.hostname), client)
        keep(made, user, self.keeper, client)


@dataclass(frozen=True, kw_only=True)
class UnusedCredentials(CloudResource[tuple[SmtpCredential, ...]]):
    """That no credential of this host is left over from something that was interrupted.

    Postfix may still log in with one of them, so it goes only after the file's has proven to work, and after
    Postfix has read the file: that has to be in `after`.
    """

    user: str
    hostname: str
    keeper: Store = field(repr=False, compare=False, hash=False)
    relay: Relay = field(repr=False, compare=False, hash=False)

    @property
    def id(self) -> str:
        return f"smtp-credentials-unused:{self.user}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"smtp-credential:{self.user}"}

    def look(self, client: Cloud) -> tuple[SmtpCredential, ...]:
        user = client.user(self.user)
        credentials = client.smtp_credentials(user) if user is not None else []
        seen = sort(credentials, self.keeper.username(), description_of(self.hostname))
        return seen.ours if seen.in_use is not None else ()

    def differ(self, seen: tuple[SmtpCredential, ...]) -> Change | None:
        if not seen:
            return None
        names = "\n".join(each.username for each in seen)
        return Change(Action.DELETE, "delete the SMTP credential that nobody uses any more", names)

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        user = client.user(self.user)
        if user is None:
            return
        try:
            login: RelayCredential = self.relay.login()
        except CredentialError as error:
            raise ChangeFailed(str(error)) from error
        answer = self.relay.wait_for_login(login, self.soon)
        if not answer.accepted:
            raise NotYet(f"the new SMTP credential has to work before the old one is deleted: {answer}")
        for credential in self.look(client):
            delete_credential(user, credential, client)


def make_credential(user: User, description: str, client: Cloud) -> NewCredential:
    """A new credential. When an answer is lost, so is its password: that one is deleted, another one made."""

    def known() -> set[str]:
        client.forget("smtp-credential")
        return {each.id for each in client.smtp_credentials(user)}

    before = known()
    for number in range(_TRIES):
        try:
            return client.patience.repeat(
                lambda: client.api.create_smtp_credential(user, description),
                lambda error: error.trouble is Trouble.THROTTLED,
            )
        except CloudError as error:
            if error.trouble is not Trouble.UNSURE or number + 1 == _TRIES:
                raise
            client.patience.sleep(client.patience.first)
            for lost in known() - before:
                credential = next(each for each in client.smtp_credentials(user) if each.id == lost)
                if credential.description == description:
                    delete_credential(user, credential, client)
        finally:
            client.forget("smtp-credential")
    raise AssertionError("the last try returns or raises")


def keep(made: NewCredential, user: User, keeper: Store, client: Cloud) -> None:
    """Store it; if that fails, nobody will ever know the password: then it is deleted again."""
    try:
        keeper.store(made.username, made.password)
    except BaseException:
        with suppress(CloudError):
            credential = SmtpCredential(made.id, made.username, "")
            client.api.delete_smtp_credential(user, credential)
        client.forget("smtp-credential")
        raise


def delete_credential(user: User, credential: SmtpCredential, client: Cloud) -> None:
    """Delete a credential of the user. Raises CloudError."""
    client.delete(
        "smtp-credential",
        lambda: client.api.delete_smtp_credential(user, credential),
        lambda: next((each for each in client.smtp_credentials(user) if each.id == credential.id), None),
    )


def oldest(credentials: Sequence[SmtpCredential]) -> SmtpCredential:
    return min(credentials, key=lambda each: each.created.timestamp() if each.created else 0.0)


def _both_taken(user: str, credentials: Sequence[SmtpCredential]) -> str:
    each = "; ".join(
        f"{one.username} ({one.description or 'no description'}, made {_day(one)})" for one in credentials
    )
    return (
        f"the user {user} has two SMTP credentials, and no more are possible: {each}. Todoku did not make them "
        "for this host: delete one that nobody uses in the console (user, SMTP credentials), or write one whose "
        "password you have into relay.credential_file, then apply again"
    )


def _day(credential: SmtpCredential) -> str:
    return f"{credential.created:%Y-%m-%d}" if credential.created else "at an unknown time"
