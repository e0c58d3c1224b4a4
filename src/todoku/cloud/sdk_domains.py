"""Users, groups and SMTP credentials in an identity domain other than Default (oci.identity_domains, SCIM 2).

The older IAM API sees only the domain Default. Here every resource is asked for through the address of its
own domain; tags are an extension of the schema, and membership is a list within the group.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Set
from datetime import datetime
from typing import Any

from todoku.cloud import permissions
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.sdk import Sdk
from todoku.cloud.sdk_identity import new_credential
from todoku.cloud.values import TAGS, Group, IdentityDomain, NewCredential, SmtpCredential, User

_CORE = "urn:ietf:params:scim:schemas:core:2.0"
_ORACLE = "urn:ietf:params:scim:schemas:oracle:idcs"
_USER, _GROUP = f"{_CORE}:User", f"{_CORE}:Group"
_TAGS_SCHEMA = f"{_ORACLE}:extension:OCITags"
_CAPABILITIES = f"{_ORACLE}:extension:capabilities:User"
_CREDENTIAL = f"{_ORACLE}:smtpCredential"
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_TAGS_FIELD = "urn_ietf_params_scim_schemas_oracle_idcs_extension_oci_tags"
_CAPABILITIES_FIELD = "urn_ietf_params_scim_schemas_oracle_idcs_extension_capabilities_user"


class SdkDomainPeople:
    """`api.PeopleApi` with the SDK, in the identity domain `name`."""

    def __init__(self, sdk: Sdk, name: str, domains: Callable[[], Iterable[IdentityDomain]]) -> None:
        self._sdk = sdk
        self._name = name
        self._domains = domains  # those of the tenancy, asked for one by one
        self._lock = threading.Lock()
        self._url = ""

    @property
    def _client(self) -> Any:
        with self._lock:
            if not self._url:
                self._url = self._address(self._domains())
        return self._sdk.identity_domain(self._url)

    def _address(self, domains: Iterable[IdentityDomain]) -> str:
        seen = []
        for domain in domains:
            if domain.name.casefold() == self._name.casefold():
                return domain.url
            seen.append(domain.name)
        known = ", ".join(sorted(seen)) or "none at all"
        raise CloudError(
            f"the tenancy has no identity domain {self._name} (cloud.identity_domain); it has: {known}",
            Trouble.LOCAL,
        )

    def user(self, name: str) -> User | None:
        attempt = self._sdk.attempt(f"look for the user {name}", permissions.READ_USERS)
        found = self._all(attempt, self._client.list_users, f'userName eq "{_quoted(name)}"')
        return next((_user(each) for each in found), None)

    def create_user(self, name: str, email: str, token: str) -> User:
        attempt = self._sdk.attempt(f"create the user {name}", permissions.MANAGE_USERS)
        models = self._sdk.oci.identity_domains.models
        user = models.User(
            schemas=[_USER, _TAGS_SCHEMA],
            user_name=name,
            description="made by Todoku: logs in to the relay, and nothing else",
            name=models.UserName(family_name=name),
            emails=[models.UserEmails(value=email, type="work", primary=True)],
            **{_TAGS_FIELD: self._tags()},
        )
        return _user(self._sdk.call(attempt, self._client.create_user, user=user, opc_retry_token=token))

    def allow_smtp(self, user: User) -> None:
        attempt = self._sdk.attempt(f"let {user.name} have SMTP credentials", permissions.MANAGE_USERS)
        change = self._patch("replace", f"{_CAPABILITIES}:canUseSmtpCredentials", value=True)
        self._sdk.call(attempt, self._client.patch_user, user.id, patch_op=change)

    def delete_user(self, user: User) -> None:
        attempt = self._sdk.attempt(f"delete the user {user.name}", permissions.MANAGE_USERS)
        self._sdk.call(attempt, self._client.delete_user, user.id)

    def group(self, name: str) -> Group | None:
        attempt = self._sdk.attempt(f"look for the group {name}", permissions.READ_GROUPS)
        found = self._all(attempt, self._client.list_groups, f'displayName eq "{_quoted(name)}"')
        return next((_group(each) for each in found), None)

    def create_group(self, name: str, token: str) -> Group:
        attempt = self._sdk.attempt(f"create the group {name}", permissions.MANAGE_GROUPS)
        group = self._sdk.oci.identity_domains.models.Group(
            schemas=[_GROUP, _TAGS_SCHEMA], display_name=name, **{_TAGS_FIELD: self._tags()}
        )
        return _group(self._sdk.call(attempt, self._client.create_group, group=group, opc_retry_token=token))

    def delete_group(self, group: Group) -> None:
        attempt = self._sdk.attempt(f"delete the group {group.name}", permissions.MANAGE_GROUPS)
        self._sdk.call(attempt, self._client.delete_group, group.id)

    def is_member(self, user: User, group: Group) -> bool:
        attempt = self._sdk.attempt(f"look who is in the group {group.name}", permissions.READ_GROUPS)
        wanted = f'id eq "{_quoted(group.id)}" and members.value eq "{_quoted(user.id)}"'
        return bool(self._all(attempt, self._client.list_groups, wanted))

    def members(self, group: Group) -> Set[str]:
        attempt = self._sdk.attempt(f"look who is in the group {group.name}", permissions.READ_GROUPS)
        found = self._sdk.call(attempt, self._client.get_group, group.id, attributes="members")
        return {each.value for each in found.members or []}

    def join(self, user: User, group: Group, token: str) -> None:
        attempt = self._sdk.attempt(f"add {user.name} to the group {group.name}", permissions.MANAGE_GROUPS)
        change = self._patch("add", "members", value=[{"value": user.id, "type": "User"}])
        patch = self._client.patch_group
        self._sdk.call(attempt, patch, group.id, patch_op=change, opc_retry_token=token)

    def leave(self, user: User, group: Group) -> None:
        attempt = self._sdk.attempt(
            f"remove {user.name} from the group {group.name}", permissions.MANAGE_GROUPS
        )
        change = self._patch("remove", f'members[value eq "{_quoted(user.id)}"]')
        self._sdk.call(attempt, self._client.patch_group, group.id, patch_op=change)

    def smtp_credentials(self, user: User) -> list[SmtpCredential]:
        attempt = self._sdk.attempt(
            f"list the SMTP credentials of {user.name}", permissions.MANAGE_CREDENTIALS
        )
        mine = f'user.value eq "{_quoted(user.id)}"'
        return [_credential(each) for each in self._all(attempt, self._client.list_smtp_credentials, mine)]

    def create_smtp_credential(self, user: User, description: str) -> NewCredential:
        attempt = self._sdk.attempt(
            f"create an SMTP credential for {user.name}", permissions.MANAGE_CREDENTIALS
        )
        models = self._sdk.oci.identity_domains.models
        credential = models.SmtpCredential(
            schemas=[_CREDENTIAL], description=description, user=models.SmtpCredentialUser(value=user.id)
        )
        made = self._sdk.call(attempt, self._client.create_smtp_credential, smtp_credential=credential)
        return new_credential(user, made.id, made.user_name, made.password)

    def delete_smtp_credential(self, user: User, credential: SmtpCredential) -> None:  # noqa: ARG002
        attempt = self._sdk.attempt(
            f"delete the SMTP credential {credential.username}", permissions.MANAGE_CREDENTIALS
        )
        self._sdk.call(attempt, self._client.delete_smtp_credential, credential.id)

    def _all(self, attempt: Any, method: Any, wanted: str) -> list[Any]:
        """What a list has, page by page: SCIM counts from 1 and tells how many there are."""
        found: list[Any] = []
        while True:
            page = self._sdk.call(
                attempt,
                method,
                filter=wanted,
                attribute_sets=["all"],
                start_index=len(found) + 1,
                count=100,
            )
            resources = page.resources or []
            found += resources
            if not resources or len(found) >= (page.total_results or 0):
                return found

    def _tags(self) -> Any:
        models = self._sdk.oci.identity_domains.models
        return models.ExtensionOCITags(
            freeform_tags=[models.FreeformTags(key=key, value=value) for key, value in TAGS.items()]
        )

    def _patch(self, operation: str, path: str, **value: Any) -> Any:
        models = self._sdk.oci.identity_domains.models
        return models.PatchOp(
            schemas=[_PATCH], operations=[models.Operations(op=operation.upper(), path=path, **value)]
        )


def _quoted(text: str) -> str:
    """`text` within a SCIM filter's quotes (RFC 7644 3.4.2.2: JSON string)."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _ours(model: Any) -> bool:
    tags = getattr(getattr(model, _TAGS_FIELD, None), "freeform_tags", None) or []
    return TAGS.items() <= {tag.key: tag.value for tag in tags}.items()


def _user(model: Any) -> User:
    capabilities = getattr(model, _CAPABILITIES_FIELD, None)
    allowed = getattr(capabilities, "can_use_smtp_credentials", None) is not False
    return User(model.id, model.user_name, _ours(model), model.active is not False, allowed)


def _group(model: Any) -> Group:
    return Group(model.id, model.display_name, _ours(model))


def _credential(model: Any) -> SmtpCredential:
    created = getattr(model.meta, "created", None)
    try:
        when = datetime.fromisoformat(created) if isinstance(created, str) else None
    except ValueError:
        when = None
    return SmtpCredential(model.id, model.user_name, model.description or "", when)
