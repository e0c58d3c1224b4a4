"""The one who may send: a user of its own in a group of its own, with a policy that allows nothing else.

Which policy statements exist may not be visible, and may not be ours to change. Then they are printed, with
the reason, and everything else goes on: in the end the relay's own answer tells whether they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from todoku.cloud import permissions
from todoku.cloud.client import Cloud
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.resource import CloudResource
from todoku.cloud.values import Group, Policy, User
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, NeedsPerson, NotYet

_DEFAULT = "Default"


@dataclass(frozen=True, kw_only=True)
class GroupResource(CloudResource[Group | None]):
    """The group that may send. One that is there already is used as it is."""

    name: str

    @property
    def id(self) -> str:
        return f"iam-group:{self.name}"

    def look(self, client: Cloud) -> Group | None:
        return client.group(self.name)

    def differ(self, seen: Group | None) -> Change | None:
        return Change(Action.CREATE, f"create the group {self.name}") if seen is None else None

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        token = client.token(self.id)
        client.create(
            "group", lambda: client.api.create_group(self.name, token), lambda: client.group(self.name)
        )
        _until_visible("group", lambda: client.group(self.name), self, client)


@dataclass(frozen=True, kw_only=True)
class UserResource(CloudResource[User | None]):
    """The user who logs in to the relay. One that is there already is used, never changed."""

    name: str
    email: str

    @property
    def id(self) -> str:
        return f"iam-user:{self.name}"

    def look(self, client: Cloud) -> User | None:
        user = client.user(self.name)
        if user is not None and not user.active:
            raise LookFailed(
                f"the user {self.name} is not active: activate it in the console, or name another one in cloud.user"
            )
        if user is not None and not user.may_use_smtp and not user.ours:
            raise LookFailed(
                f"the user {self.name} may not use SMTP credentials, and Todoku did not make it: switch that "
                "capability on in the console (user, edit user capabilities), or name another one in cloud.user"
            )
        return user

    def differ(self, seen: User | None) -> Change | None:
        if seen is None:
            return Change(Action.CREATE, f"create the user {self.name} ({self.email})")
        if not seen.may_use_smtp:
            return Change(Action.UPDATE, f"let the user {self.name} have SMTP credentials")
        return None

    def change(self, change: Change, client: Cloud) -> None:
        seen = self.look(client)
        if change.action is Action.CREATE and seen is None:
            token = client.token(self.id)
            client.create(
                "user",
                lambda: client.api.create_user(self.name, self.email, token),
                lambda: client.user(self.name),
            )
            _until_visible("user", lambda: client.user(self.name), self, client)
        user = client.user(self.name)
        if user is not None and not user.may_use_smtp:
            client.update("user", lambda: client.api.allow_smtp(user))


@dataclass(frozen=True, kw_only=True)
class MembershipResource(CloudResource[bool]):
    """That the user is in the group."""

    user: str
    group: str

    @property
    def id(self) -> str:
        return f"iam-membership:{self.user}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"iam-user:{self.user}", f"iam-group:{self.group}"}

    def look(self, client: Cloud) -> bool:
        user, group = client.user(self.user), client.group(self.group)
        return user is not None and group is not None and client.is_member(user, group)

    def differ(self, seen: bool) -> Change | None:
        return None if seen else Change(Action.CREATE, f"add {self.user} to the group {self.group}")

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        user, group = client.user(self.user), client.group(self.group)
        if user is None or group is None:
            raise ChangeFailed(f"the user {self.user} or the group {self.group} is not there")
        token = client.token(self.id)
        client.create(
            "member",
            lambda: client.api.join(user, group, token),
            lambda: client.is_member(user, group) or None,
        )
        _until_visible("member", lambda: client.is_member(user, group) or None, self, client)


@dataclass(frozen=True, slots=True)
class PolicySeen:
    """The policy of our name, if there is one, the statements that no policy has, and those of our own policy that
    let a group send which is no longer ours."""

    policy: Policy | None
    missing: tuple[str, ...]
    outlived: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PolicyResource(CloudResource[PolicySeen]):
    """That the group may send as the approved senders of the compartment."""

    name: str
    group: str
    compartment: str
    identity_domain: str | None = None

    @property
    def id(self) -> str:
        return f"iam-policy:{self.name}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"iam-group:{self.group}"}

    def look(self, client: Cloud) -> PolicySeen:
        wanted = self.statements(client)
        try:
            policies = client.policies(self.compartment)
        except CloudError as error:
            if error.trouble is not Trouble.DENIED:
                raise
            raise NeedsPerson(_to_do_by_hand(wanted, "the policies there may not be read", error)) from error
        elsewhere = self._of_the_tenancy(client)
        statements = [statement for policy in (*policies, *elsewhere) for statement in policy.statements]
        name = client.compartment_name()
        missing = permissions.missing(wanted, statements, self.compartment, name)
        policy = next((each for each in policies if each.name == self.name), None)
        outlived = permissions.outlived(wanted, policy.statements) if policy and policy.ours else ()
        return PolicySeen(policy, missing, outlived)

    def differ(self, seen: PolicySeen) -> Change | None:
        if not seen.missing and not seen.outlived:
            return None
        if seen.policy is None:
            return Change(Action.CREATE, f"create the policy {self.name}", "\n".join(seen.missing))
        if not seen.outlived:
            return Change(Action.UPDATE, f"add to the policy {self.name}", "\n".join(seen.missing))
        lines = [*(f"- {each}" for each in seen.outlived), *(f"+ {each}" for each in seen.missing)]
        return Change(Action.UPDATE, f"change the policy {self.name}", "\n".join(lines))

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        seen = self.look(client)
        try:
            if seen.policy is None:
                self._create(seen.missing, client)
            elif seen.policy.ours:
                policy = seen.policy
                kept = [each for each in policy.statements if each not in seen.outlived]
                statements = (*kept, *seen.missing)
                client.update("policy", lambda: client.api.update_policy(policy, statements))
            else:
                reason = f"the policy {self.name} exists and was not made by Todoku"
                raise NeedsPerson(_to_do_by_hand(seen.missing, reason))
        except CloudError as error:
            if error.trouble is not Trouble.DENIED:
                raise
            if not seen.missing:
                lines = "\n  ".join(seen.outlived)
                raise NeedsPerson(
                    f"policies may not be changed; ask an administrator to remove from {self.name}:\n  {lines}\n{error}"
                ) from error
            raise NeedsPerson(_to_do_by_hand(seen.missing, "policies may not be made", error)) from error
        client.wait("policy", lambda: self.differ(self.look(client)) is None, self.soon)

    def statements(self, client: Cloud) -> tuple[str, ...]:
        """What is wanted, in the form that fits: with the identity domain where the tenancy has such."""
        domain = self.identity_domain
        if domain is None and client.identity_domains():
            domain = _DEFAULT
        return permissions.sending(self.group, self.compartment, domain)

    def _create(self, statements: tuple[str, ...], client: Cloud) -> None:
        token = client.token(self.id)
        client.create(
            "policy",
            lambda: client.api.create_policy(self.name, statements, token),
            lambda: next((p for p in client.policies(self.compartment) if p.name == self.name), None),
        )

    def _of_the_tenancy(self, client: Cloud) -> list[Policy]:
        """Policies at the top, where administrators often write everything; none if we may not see them."""
        if client.api.tenancy == self.compartment:
            return []
        try:
            return client.policies(client.api.tenancy)
        except CloudError as error:
            if error.trouble is Trouble.DENIED:
                return []
            raise


def _to_do_by_hand(statements: tuple[str, ...], reason: str, error: CloudError | None = None) -> str:
    lines = "\n  ".join(statements)
    said = f"\n{error}" if error is not None else ""
    return (
        f"{reason}; ask an administrator of the tenancy to add this statement to a policy (in the console: Identity "
        f"& Security, Policies), without which the relay refuses all mail:\n  {lines}{said}"
    )


def _until_visible(
    kind: str, look: Callable[[], object | None], resource: CloudResource[Any], client: Cloud
) -> None:
    """What IAM has made may take a moment to be seen."""
    if not client.wait(kind, lambda: look() is not None, resource.soon):
        raise NotYet(f"{resource.id} was made, but Oracle does not show it yet")
