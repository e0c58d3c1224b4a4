"""IAM through the SDK (oci.identity, API 20160918): the tenancy, policies, and the people of the older IAM.

Where a tenancy has identity domains, this API still works, on the domain Default.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from todoku.cloud import permissions
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.sdk import Sdk
from todoku.cloud.sdk_email import ours
from todoku.cloud.values import (
    GOING,
    TAGS,
    Group,
    IdentityDomain,
    NewCredential,
    Policy,
    Region,
    SmtpCredential,
    User,
)

_MEMBERS = permissions.Right("use", "groups", tenancy_wide=True)


class SdkTenancy:
    """`api.TenancyApi` with the SDK."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk

    def regions(self) -> list[Region]:
        return [
            Region(each.region_name, bool(each.is_home_region)) for each in self._sdk.region_subscriptions()
        ]

    def identity_domains(self) -> list[IdentityDomain]:
        return self.identity_domains_in(self._sdk.tenancy)

    def identity_domains_in(self, compartment: str) -> list[IdentityDomain]:
        """Those that are kept in one compartment; Default is in the root."""
        attempt = self._sdk.attempt("list the identity domains", permissions.READ_IDENTITY_DOMAINS)
        found = self._sdk.all_pages(attempt, self._sdk.identity.list_domains, compartment)
        return [
            IdentityDomain(each.display_name, each.url) for each in found if each.lifecycle_state not in GOING
        ]

    def compartment_name(self) -> str:
        right = permissions.Right("inspect", "compartments", tenancy_wide=True)
        attempt = self._sdk.attempt("read the compartment", right)
        get = self._sdk.identity.get_compartment
        return str(self._sdk.call(attempt, get, self._sdk.access.compartment).name)

    def policies(self, compartment: str) -> list[Policy]:
        attempt = self._sdk.attempt("list the policies", permissions.READ_POLICIES)
        found = self._sdk.all_pages(attempt, self._sdk.identity.list_policies, compartment)
        return [_policy(each) for each in found if each.lifecycle_state not in GOING]

    def create_policy(self, name: str, statements: Sequence[str], token: str) -> Policy:
        attempt = self._sdk.attempt(f"create the policy {name}", permissions.MANAGE_POLICIES)
        details = self._sdk.oci.identity.models.CreatePolicyDetails(
            compartment_id=self._sdk.access.compartment,
            name=name,
            description="made by Todoku: sending through Email Delivery",
            statements=list(statements),
            freeform_tags=dict(TAGS),
        )
        create = self._sdk.identity.create_policy
        return _policy(self._sdk.call(attempt, create, details, opc_retry_token=token))

    def update_policy(self, policy: Policy, statements: Sequence[str]) -> None:
        attempt = self._sdk.attempt(f"update the policy {policy.name}", permissions.MANAGE_POLICIES)
        details = self._sdk.oci.identity.models.UpdatePolicyDetails(statements=list(statements))
        self._sdk.call(attempt, self._sdk.identity.update_policy, policy.id, details)

    def delete_policy(self, policy: Policy) -> None:
        attempt = self._sdk.attempt(f"delete the policy {policy.name}", permissions.MANAGE_POLICIES)
        self._sdk.call(attempt, self._sdk.identity.delete_policy, policy.id)


class SdkPeople:
    """`api.PeopleApi` with the SDK, in the older IAM or the domain Default."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk

    def user(self, name: str) -> User | None:
        attempt = self._sdk.attempt(f"look for the user {name}", permissions.READ_USERS)
        found = self._sdk.all_pages(attempt, self._sdk.identity.list_users, self._sdk.tenancy, name=name)
        return next((_user(each) for each in found if each.lifecycle_state not in GOING), None)

    def create_user(self, name: str, email: str, token: str) -> User:
        attempt = self._sdk.attempt(f"create the user {name}", permissions.MANAGE_USERS)
        details = self._sdk.oci.identity.models.CreateUserDetails(
            compartment_id=self._sdk.tenancy,
            name=name,
            description="made by Todoku: logs in to the relay, and nothing else",
            email=email,
            freeform_tags=dict(TAGS),
        )
        create = self._sdk.identity.create_user
        return _user(self._sdk.call(attempt, create, details, opc_retry_token=token))

    def allow_smtp(self, user: User) -> None:
        attempt = self._sdk.attempt(f"let {user.name} have SMTP credentials", permissions.MANAGE_USERS)
        details = self._sdk.oci.identity.models.UpdateUserCapabilitiesDetails(can_use_smtp_credentials=True)
        self._sdk.call(attempt, self._sdk.identity.update_user_capabilities, user.id, details)

    def delete_user(self, user: User) -> None:
        attempt = self._sdk.attempt(f"delete the user {user.name}", permissions.MANAGE_USERS)
        self._sdk.call(attempt, self._sdk.identity.delete_user, user.id)

    def group(self, name: str) -> Group | None:
        attempt = self._sdk.attempt(f"look for the group {name}", permissions.READ_GROUPS)
        found = self._sdk.all_pages(attempt, self._sdk.identity.list_groups, self._sdk.tenancy, name=name)
        return next((_group(each) for each in found if each.lifecycle_state not in GOING), None)

    def create_group(self, name: str, token: str) -> Group:
        attempt = self._sdk.attempt(f"create the group {name}", permissions.MANAGE_GROUPS)
        details = self._sdk.oci.identity.models.CreateGroupDetails(
            compartment_id=self._sdk.tenancy,
            name=name,
            description="made by Todoku: who may send through Email Delivery",
            freeform_tags=dict(TAGS),
        )
        create = self._sdk.identity.create_group
        return _group(self._sdk.call(attempt, create, details, opc_retry_token=token))

    def delete_group(self, group: Group) -> None:
        attempt = self._sdk.attempt(f"delete the group {group.name}", permissions.MANAGE_GROUPS)
        self._sdk.call(attempt, self._sdk.identity.delete_group, group.id)

    def is_member(self, user: User, group: Group) -> bool:
        return self._membership(user, group) is not None

    def members(self, group: Group) -> Set[str]:
        return {each.user_id for each in self._memberships(group)}

    def join(self, user: User, group: Group, token: str) -> None:
        attempt = self._sdk.attempt(f"add {user.name} to the group {group.name}", _MEMBERS)
        details = self._sdk.oci.identity.models.AddUserToGroupDetails(user_id=user.id, group_id=group.id)
        self._sdk.call(attempt, self._sdk.identity.add_user_to_group, details, opc_retry_token=token)

    def leave(self, user: User, group: Group) -> None:
        attempt = self._sdk.attempt(f"remove {user.name} from the group {group.name}", _MEMBERS)
        membership = self._membership(user, group)
        if membership is not None:
            self._sdk.call(attempt, self._sdk.identity.remove_user_from_group, membership)

    def _membership(self, user: User, group: Group) -> str | None:
        return next((each.id for each in self._memberships(group, user_id=user.id)), None)

    def _memberships(self, group: Group, **only: str) -> list[Any]:
        attempt = self._sdk.attempt(f"look who is in the group {group.name}", permissions.READ_GROUPS)
        ask = self._sdk.identity.list_user_group_memberships
        found = self._sdk.all_pages(attempt, ask, self._sdk.tenancy, group_id=group.id, **only)
        return [each for each in found if each.lifecycle_state not in GOING]

    def smtp_credentials(self, user: User) -> list[SmtpCredential]:
        attempt = self._sdk.attempt(
            f"list the SMTP credentials of {user.name}", permissions.MANAGE_CREDENTIALS
        )
        found = self._sdk.call(attempt, self._sdk.identity.list_smtp_credentials, user.id)
        return [_credential(each) for each in found if each.lifecycle_state not in GOING]

    def create_smtp_credential(self, user: User, description: str) -> NewCredential:
        attempt = self._sdk.attempt(
            f"create an SMTP credential for {user.name}", permissions.MANAGE_CREDENTIALS
        )
        details = self._sdk.oci.identity.models.CreateSmtpCredentialDetails(description=description)
        # No retry token: a lost answer has lost the password, whatever a token would bring back.
        made = self._sdk.call(attempt, self._sdk.identity.create_smtp_credential, details, user.id)
        return new_credential(user, made.id, made.username, made.password)

    def delete_smtp_credential(self, user: User, credential: SmtpCredential) -> None:
        attempt = self._sdk.attempt(
            f"delete the SMTP credential {credential.username}", permissions.MANAGE_CREDENTIALS
        )
        delete = self._sdk.identity.delete_smtp_credential
        self._sdk.call(attempt, delete, user.id, credential.id)


def new_credential(user: User, identifier: str, username: str, password: str | None) -> NewCredential:
    """What Oracle has just made. Raises CloudError without the password, which it tells only now."""
    if not password:
        raise CloudError(
            f"Oracle made an SMTP credential for {user.name}, but its answer has no password: delete "
            f"{username} in the console, then try again",
            Trouble.WRONG,
        )
    return NewCredential(identifier, username, password)


def _user(model: Any) -> User:
    capabilities = model.capabilities
    allowed = True if capabilities is None else capabilities.can_use_smtp_credentials is not False
    return User(
        id=model.id,
        name=model.name,
        ours=ours(model.freeform_tags),
        active=model.lifecycle_state != "INACTIVE",
        may_use_smtp=allowed,
    )


def _group(model: Any) -> Group:
    return Group(model.id, model.name, ours(model.freeform_tags))


def _policy(model: Any) -> Policy:
    statements = tuple(model.statements or ())
    return Policy(model.id, model.name, model.compartment_id, statements, ours(model.freeform_tags))


def _credential(model: Any) -> SmtpCredential:
    return SmtpCredential(model.id, model.username, model.description or "", model.time_created)
