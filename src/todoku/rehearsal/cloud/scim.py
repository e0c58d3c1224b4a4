"""What is in an identity domain, over SCIM 2 (RFC 7643, 7644) at the domain's own address, below /admin/v1: users,
groups with their members, SMTP credentials, as the SDK's IdentityDomainsClient calls it.

People of the domain Default are the same here and in the older IAM (identity.py), which sees no others. Shapes are
those of the SDK's models and of Oracle's page "GET, POST, PUT, PATCH Request and Response Examples"; that a user
needs a primary e-mail address, and how that is refused, was seen in reports of users of Terraform.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .api import Call, Principal, Route
from .entries import Entry, Shelf, if_match, ocid
from .errors import ApiError, conflict, invalid, not_found
from .http_server import Answer
from .scim_filter import matcher
from .scim_shapes import CAPABILITIES, CREDENTIAL, GROUP, TAGS, USER, Shapes
from .tenancy import Group, IdentityDomain, Membership, Tenancy, User

BASE = "admin"
_PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
_ORACLE_ERROR = "urn:ietf:params:scim:api:oracle:idcs:extension:messages:Error"

_PAGE, _LONGEST_PAGE = 50, 1000
_MEMBER = re.compile(r'members\[value eq "([^"]+)"\]')


def refusal(problem: ApiError) -> Answer:
    """An error as SCIM words it (RFC 7644 3.12): there is neither "code" nor "message"."""
    body = {
        "schemas": [_ERROR, _ORACLE_ERROR],
        "detail": problem.message,
        "status": str(problem.status),
        _ORACLE_ERROR: {"messageId": f"error.identity.{problem.code}"},
    }
    return Answer(problem.status, body)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is served below one path."""

    path: str
    name: str  # in the SDK's names of methods
    plural: str
    type: str  # in policies
    shelf: Shelf[Any]
    create: Callable[[Call], Answer]


class Scim:
    """The service of every identity domain of the tenancy."""

    def __init__(self, tenancy: Tenancy) -> None:
        self.tenancy, self.clock, self._shapes = tenancy, tenancy.clock, Shapes(tenancy)

    def routes(self) -> list[Route]:
        """Every operation."""
        tenancy = self.tenancy
        kinds = [
            _Kind("Users", "user", "users", "users", tenancy.users, self.create_user),
            _Kind("Groups", "group", "groups", "groups", tenancy.groups, self.create_group),
            _Kind(
                "SmtpCredentials",
                "smtp_credential",
                "smtp_credentials",
                "credentials",
                tenancy.credentials,
                self.create_credential,
            ),
        ]
        routes = []
        for kind in kinds:
            one = f"/v1/{kind.path}/{{id}}"
            routes += [
                Route("GET", f"/v1/{kind.path}", f"list_{kind.plural}", self._lister(kind)),
                Route("POST", f"/v1/{kind.path}", f"create_{kind.name}", kind.create, writes=True),
                Route("GET", one, f"get_{kind.name}", self._getter(kind)),
                Route("DELETE", one, f"delete_{kind.name}", self._remover(kind), writes=True),
                Route("PATCH", one, f"patch_{kind.name}", self._patcher(kind), writes=True),
            ]
        return routes

    # -- what users, groups and credentials have in common

    def _domain(self, call: Call) -> IdentityDomain:
        return self.tenancy.domain_at(call.request.host)

    def _require(self, principal: Principal, verb: str, kind: str, domain: IdentityDomain) -> None:
        target = {"target.credential.type": "smtp"} if kind == "credentials" else {}
        self.tenancy.require(principal, verb, kind, domain.compartment, target)

    def _lister(self, kind: _Kind) -> Callable[[Call], Answer]:
        def handle(call: Call) -> Answer:
            domain = self._domain(call)
            self._require(call.principal, "inspect", kind.type, domain)
            wanted = matcher(call.query["filter"]) if call.query.get("filter") else lambda _thing: True
            mine = [entry for entry in kind.shelf.alive() if entry.domain == domain.name]
            found = [entry for entry in mine if wanted(self._shapes.whole(entry, domain))]
            start, count = _number(call, "startIndex", 1), _number(call, "count", _PAGE)
            if count > _LONGEST_PAGE:
                raise invalid(f"count has to be at most {_LONGEST_PAGE}")
            page = found[max(start, 1) - 1 :][:count]
            listed = {
                "schemas": [_LIST],
                "totalResults": len(found),
                "Resources": [self._shapes.shown(call, entry, domain) for entry in page],
                "startIndex": max(start, 1),
                "itemsPerPage": count,
            }
            return Answer(200, listed)

        return handle

    def _find(self, call: Call, verb: str, kind: _Kind) -> tuple[Any, IdentityDomain]:
        domain = self._domain(call)
        self._require(call.principal, verb, kind.type, domain)
        return self._by_id(kind.shelf, call.path["id"], domain), domain

    def _by_id(self, shelf: Shelf[Any], identifier: str, domain: IdentityDomain) -> Any:
        for entry in shelf.alive():
            if entry.domain == domain.name and identifier in (entry.scim_id, entry.id):
                return entry
        raise not_found()

    def _getter(self, kind: _Kind) -> Callable[[Call], Answer]:
        def handle(call: Call) -> Answer:
            entry, domain = self._find(call, "inspect", kind)
            return Answer(200, self._shapes.shown(call, entry, domain), {"etag": entry.etag})

        return handle

    def _remover(self, kind: _Kind) -> Callable[[Call], Answer]:
        def handle(call: Call) -> Answer:
            entry, _ = self._find(call, "manage", kind)
            if_match(entry, call.header("if-match"))
            for member in self.tenancy.memberships.alive():
                if entry.id in (member.user, member.group):
                    member.leave(self.clock.now(), 0.0)
            entry.leave(self.clock.now(), 0.0)
            return Answer(204)

        return handle

    def _patcher(self, kind: _Kind) -> Callable[[Call], Answer]:
        def handle(call: Call) -> Answer:
            entry, domain = self._find(call, "use", kind)
            if_match(entry, call.header("if-match"))
            _need_schema(call, _PATCH)
            operations = call.body.get("Operations")
            if not isinstance(operations, list) or not operations:
                raise invalid("Operations has to be a list of at least one operation")
            for operation in operations:
                if not isinstance(operation, dict):
                    raise invalid("an operation has to be an object")
                self._patch(call, entry, domain, operation)
            entry.touch(self.clock.now())
            return Answer(200, self._shapes.shown(call, entry, domain), {"etag": entry.etag})

        return handle

    # -- making them

    def create_user(self, call: Call) -> Answer:
        """Somebody new, with a name and a primary address."""
        domain = self._domain(call)
        self._require(call.principal, "manage", "users", domain)
        _need_schema(call, USER)
        name = call.text("userName", longest=100)
        emails = call.body.get("emails")
        known = emails if isinstance(emails, list) else []
        primary = [e for e in known if isinstance(e, dict) and e.get("primary") is True]
        if not primary or "@" not in str(primary[0].get("value")):
            raise ApiError(400, "user.primaryEmailNotSpecified", "The primary email must be specified.")
        name_parts = call.body.get("name")
        family = name_parts.get("familyName") if isinstance(name_parts, dict) else None
        if not isinstance(family, str) or not family:
            raise invalid("Missing required attribute(s): name.familyName")
        self._must_be_new(self.tenancy.users, "User", name, domain)
        user = User(**self._common(call, name, "user", domain), email=primary[0]["value"], family_name=family)
        return self._made(call, self.tenancy.users.put(user), domain)

    def create_group(self, call: Call) -> Answer:
        """A group, with the members that it may have from the start."""
        domain = self._domain(call)
        self._require(call.principal, "manage", "groups", domain)
        _need_schema(call, GROUP)
        name = call.text("displayName", longest=100)
        self._must_be_new(self.tenancy.groups, "Group", name, domain)
        members = self._users(call.body.get("members") or [], domain)
        group = self.tenancy.groups.put(Group(**self._common(call, name, "group", domain)))
        self._add_members(group, members)
        return self._made(call, group, domain)

    def create_credential(self, call: Call) -> Answer:
        """The only answer that has the password."""
        domain = self._domain(call)
        self._require(call.principal, "manage", "credentials", domain)
        _need_schema(call, CREDENTIAL)
        owner = call.body.get("user")
        if not isinstance(owner, dict):
            raise invalid("Missing required attribute(s): user")
        user = self._by_id(self.tenancy.users, str(owner.get("value") or owner.get("ocid")), domain)
        about = call.text("description", required=False, longest=400)
        credential = self.tenancy.add_credential(user, about)
        shown = self._shapes.shown(call, credential, domain) | {"password": credential.password}
        return Answer(201, shown, {"etag": credential.etag})

    def _common(self, call: Call, name: str, kind: str, domain: IdentityDomain) -> dict[str, Any]:
        now = self.clock.now()
        tagged = call.body.get(TAGS)
        tags = tagged.get("freeformTags") if isinstance(tagged, dict) else None
        return {
            "id": ocid(kind),
            "compartment": self.tenancy.plan.tenancy,
            "name": name,
            "description": call.text("description", required=False, longest=400),
            "created": now,
            "ready": now,
            "freeform_tags": _tags(tags or []),
            "domain": domain.name,
        }

    def _must_be_new(self, shelf: Shelf[Any], word: str, name: str, domain: IdentityDomain) -> None:
        for entry in shelf.alive():
            if entry.domain == domain.name and entry.name.lower() == name.lower():
                raise conflict(f"The value of {word} {name} is not unique.", "uniqueness")

    def _made(self, call: Call, entry: Entry, domain: IdentityDomain) -> Answer:
        return Answer(201, self._shapes.shown(call, entry, domain), {"etag": entry.etag})

    # -- changing them

    def _patch(self, call: Call, entry: Any, domain: IdentityDomain, operation: dict[str, Any]) -> None:
        word, path, value = (operation.get(name) for name in ("op", "path", "value"))
        word, path = str(word).lower(), str(path or "")
        if path == f"{CAPABILITIES}:canUseSmtpCredentials" and isinstance(entry, User):
            self._require(call.principal, "manage", "users", domain)
            entry.capabilities["canUseSmtpCredentials"] = value in (True, "true")
        elif path == "members" and word == "add" and isinstance(entry, Group):
            self._require(call.principal, "use", "users", domain)
            self._add_members(entry, self._users(value, domain))
        elif (found := _MEMBER.fullmatch(path)) and word == "remove" and isinstance(entry, Group):
            self._require(call.principal, "use", "users", domain)
            self._remove_member(entry, self._by_id(self.tenancy.users, found[1], domain))
        elif path == "description" and word == "replace" and isinstance(value, str):
            entry.description = value
        else:
            raise invalid(f"cannot {word} {path!r}")

    def _users(self, members: Any, domain: IdentityDomain) -> list[User]:
        """Those that a list of members means."""
        if not isinstance(members, list) or not all(isinstance(each, dict) for each in members):
            raise invalid("members has to be a list of objects")
        if not all(each.get("type") == "User" for each in members):
            raise invalid("members.type has to be User")
        return [self._by_id(self.tenancy.users, str(each.get("value")), domain) for each in members]

    def _add_members(self, group: Group, users: Iterable[User]) -> None:
        for user in users:
            if user.id not in (member.user for member in self._shapes.memberships(group)):
                now = self.clock.now()
                member = Membership(
                    id=ocid("groupmembership"),
                    compartment=group.compartment,
                    name="",
                    created=now,
                    ready=now,
                    user=user.id,
                    group=group.id,
                )
                self.tenancy.memberships.put(member)

    def _remove_member(self, group: Group, user: User) -> None:
        for member in self._shapes.memberships(group):
            if member.user == user.id:
                member.leave(self.clock.now(), 0.0)


def _need_schema(call: Call, schema: str) -> None:
    schemas = call.body.get("schemas")
    if not isinstance(schemas, list) or schema not in schemas:
        raise invalid(f"Missing required attribute(s): schemas, with {schema}")


def _tags(tags: Any) -> dict[str, str]:
    try:
        return {str(tag["key"]): str(tag["value"]) for tag in tags}
    except (TypeError, KeyError):
        raise invalid("freeformTags has to be a list of objects with key and value") from None


def _number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise invalid(f"{name} has to be a number, not {text}")
    return int(text)
