"""Users, groups and SMTP credentials as SCIM resources (RFC 7643), with Oracle's extensions for tags and capabilities;
the shapes are those of the models in the SDK's identity_domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .api import Call
from .tenancy import Group, IdentityDomain, InDomain, Membership, SmtpCredential, Tenancy, User

_CORE = "urn:ietf:params:scim:schemas:core:2.0"
_ORACLE = "urn:ietf:params:scim:schemas:oracle:idcs"
USER, GROUP, CREDENTIAL = f"{_CORE}:User", f"{_CORE}:Group", f"{_ORACLE}:smtpCredential"
TAGS = f"{_ORACLE}:extension:OCITags"
CAPABILITIES = f"{_ORACLE}:extension:capabilities:User"

_ON_REQUEST = frozenset(("members", "groups"))  # `returned: request` in the SDK's models
_SWITCHES = ("canUseConsolePassword", "canUseApiKeys", "canUseAuthTokens", "canUseSmtpCredentials")


class Shapes:
    """How the entries of the tenancy are shown."""

    def __init__(self, tenancy: Tenancy) -> None:
        self.tenancy, self.clock = tenancy, tenancy.clock

    def memberships(self, group: Group) -> list[Membership]:
        """Who is in it."""
        return [member for member in self.tenancy.memberships.alive() if member.group == group.id]

    def shown(self, call: Call, entry: Any, domain: IdentityDomain) -> dict[str, Any]:
        """With what is only given on request if it was requested."""
        asked = {name.lower() for name in call.query.get("attributes", "").split(",")}
        everything = call.query.get("attributeSets", "").lower() in ("all", "request")
        whole = self.whole(entry, domain)
        hidden = frozenset() if everything else {name for name in _ON_REQUEST if name not in asked}
        return {key: value for key, value in whole.items() if key not in hidden}

    def whole(self, entry: Any, domain: IdentityDomain) -> dict[str, Any]:
        """Everything, as filters see it."""
        match entry:
            case User():
                return self._about(entry, domain, "Users", (USER, CAPABILITIES, TAGS)) | self._user(entry)
            case Group():
                about = self._about(entry, domain, "Groups", (GROUP, TAGS))
                users = [self.tenancy.users[member.user] for member in self.memberships(entry)]
                return about | {"displayName": entry.name, "members": [_named(user) for user in users]}
            case SmtpCredential():
                about = self._about(entry, domain, "SmtpCredentials", (CREDENTIAL,))
                user = self.tenancy.users[entry.user]
                mine = {"value": user.scim_id, "ocid": user.id, "name": user.name}
                return about | {"userName": entry.name, "status": "ACTIVE", "user": mine}
        raise TypeError(entry)

    def _user(self, user: User) -> dict[str, Any]:
        groups = [self.tenancy.groups[m.group] for m in self.tenancy.memberships.alive() if m.user == user.id]
        return {
            "userName": user.name,
            "displayName": user.family_name or user.name,
            "active": True,
            "name": {"familyName": user.family_name or user.name},
            "emails": [{"value": user.email, "type": "work", "primary": True, "verified": False}],
            "groups": [
                {"value": g.scim_id, "ocid": g.id, "display": g.name, "type": "direct"} for g in groups
            ],
            CAPABILITIES: {name: user.can(name) for name in _SWITCHES},
        }

    def _about(
        self, entry: InDomain, domain: IdentityDomain, path: str, schemas: Sequence[str]
    ) -> dict[str, Any]:
        tags = [{"key": key, "value": value} for key, value in entry.freeform_tags.items()]
        tagged = {TAGS: {"freeformTags": tags}} if tags else {}
        return {
            "schemas": [name for name in schemas if name != TAGS or tags],
            "id": entry.scim_id,
            "ocid": entry.id,
            "description": entry.description,
            "domainOcid": domain.id,
            "compartmentOcid": domain.compartment,
            "tenancyOcid": self.tenancy.plan.tenancy,
            "meta": {
                "resourceType": path.removesuffix("s"),
                "created": self.clock.text(entry.created),
                "lastModified": self.clock.text(entry.updated or entry.created),
                "version": entry.etag,
                "location": f"https://{domain.host}/admin/v1/{path}/{entry.scim_id}",
            },
            **tagged,
        }


def _named(user: User) -> dict[str, Any]:
    return {"value": user.scim_id, "ocid": user.id, "display": user.name, "name": user.name, "type": "User"}
