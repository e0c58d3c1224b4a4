"""Identity and Access Management over REST (base path /20160918), as the SDK's IdentityClient calls it: users,
groups, memberships, dynamic groups, policies. Credentials are in identity_credentials.py, what is only read in
identity_read.py.

Writes go to the tenancy's home region; elsewhere they are refused in the words of the real service.
"""

from __future__ import annotations

import re
from typing import Any

from todoku.settings.regions import REGIONS

from .api import Call, Handler, Route, answer, paged, select
from .entries import Entry, Shelf, if_match, ocid
from .errors import ApiError, conflict, invalid, not_found
from .http_server import Answer
from .policies import Statement, condition, parse
from .tenancy import ADMINISTRATORS, DynamicGroup, Group, Membership, Policy, Tenancy, User

BASE = "20160918"
_NAME = re.compile(r"[\w.+@-]{1,100}", re.ASCII)
_SORT = {"TIMECREATED": "timeCreated", "NAME": "name"}
_FILTERS = {"name": "name", "lifecycleState": "lifecycleState"}


class Identity:
    """The service; its state is the tenancy."""

    def __init__(self, tenancy: Tenancy) -> None:
        self.tenancy, self.clock = tenancy, tenancy.clock

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        one: list[tuple[str, str, str, Shelf[Any], Handler]] = [
            ("users", "user", "users", self.tenancy.users, self.create_user),
            ("groups", "group", "groups", self.tenancy.groups, self.create_group),
            ("policies", "policy", "policies", self.tenancy.policies, self.create_policy),
            (
                "dynamicGroups",
                "dynamic_group",
                "dynamic-groups",
                self.tenancy.dynamic_groups,
                self.create_dynamic_group,
            ),
        ]
        plural = {"user": "users", "group": "groups", "policy": "policies", "dynamic_group": "dynamic_groups"}
        routes = []
        for path, name, kind, shelf, create in one:
            routes += [
                Route("GET", f"/{path}", f"list_{plural[name]}", self._lister(kind, shelf)),
                Route("GET", f"/{path}/{{id}}", f"get_{name}", self._getter(kind, shelf)),
                Route("POST", f"/{path}", f"create_{name}", create, writes=True),
                Route("PUT", f"/{path}/{{id}}", f"update_{name}", self._updater(kind, shelf), writes=True),
                Route("DELETE", f"/{path}/{{id}}", f"delete_{name}", self._remover(kind, shelf), writes=True),
            ]
        return [
            *routes,
            Route("GET", "/userGroupMemberships", "list_user_group_memberships", self.list_memberships),
            Route("GET", "/userGroupMemberships/{id}", "get_user_group_membership", self.get_membership),
            Route("POST", "/userGroupMemberships", "add_user_to_group", self.add_member, writes=True),
            Route(
                "DELETE",
                "/userGroupMemberships/{id}",
                "remove_user_from_group",
                self.remove_member,
                writes=True,
            ),
        ]

    def check_home(self, region: str) -> None:
        """Raises `ApiError` 403 when `region` is not the home region."""
        home = self.tenancy.plan.home_region
        if region != home:
            raise ApiError(
                403,
                "NotAllowed",
                f"Please go to your home region {REGIONS[home].key.upper()} to execute CREATE, UPDATE and DELETE "
                "operations.",
            )

    # -- what users, groups, policies and dynamic groups have in common

    def _lister(self, kind: str, shelf: Shelf[Any]) -> Handler:
        def handle(call: Call) -> Answer:
            where = call.parameter("compartmentId")
            self.tenancy.require(call.principal, "inspect", kind, where)
            found = [self.shown(e) for e in shelf.values() if e.compartment == where and self._there(e)]
            return paged(call, select(call, found, _FILTERS, _SORT, "TIMECREATED"))

        return handle

    def _there(self, entry: Entry) -> bool:
        """What was deleted in IAM is not listed any more, and what is in another identity domain never was."""
        return entry.state(self.clock.now()) != "DELETED" and getattr(entry, "classic", True)

    def _find(self, call: Call, verb: str, kind: str, shelf: Shelf[Any], **target: str) -> Any:
        entry = shelf.find(call.path["id"])
        self.tenancy.require(call.principal, verb, kind, entry.compartment, target)
        if not self._there(entry):
            raise not_found()
        return entry

    def _getter(self, kind: str, shelf: Shelf[Any]) -> Handler:
        def handle(call: Call) -> Answer:
            entry = self._find(call, "inspect", kind, shelf)
            return answer(entry, self.shown(entry))

        return handle

    def _updater(self, kind: str, shelf: Shelf[Any]) -> Handler:
        def handle(call: Call) -> Answer:
            entry = self._find(call, "manage" if kind == "policies" else "use", kind, shelf)
            if_match(entry, call.header("if-match"))
            if isinstance(entry, Policy) and "statements" in call.body:
                statements, parsed = self._statements(call.body["statements"], entry.compartment)
                entry.statements, entry.parsed = statements, parsed
                entry.effective = self.clock.now() + self.tenancy.timing.policy_propagation_s
            if isinstance(entry, DynamicGroup) and "matchingRule" in call.body:
                entry.rule, entry.condition = _rule(call)
            if isinstance(entry, User) and "email" in call.body:
                entry.email = call.text("email", required=False)
            entry.description = call.text("description", required=False, longest=400) or entry.description
            entry.set_tags(call.body)
            entry.touch(self.clock.now())
            return answer(entry, self.shown(entry))

        return handle

    def _remover(self, kind: str, shelf: Shelf[Any]) -> Handler:
        def handle(call: Call) -> Answer:
            entry = self._find(call, "manage", kind, shelf)
            if_match(entry, call.header("if-match"))
            members = self.tenancy.memberships.alive()
            # The SDK's delete_user and delete_group: not in any group; empty.
            if any(entry.id in (member.user, member.group) for member in members):
                raise conflict(f"{entry.name} is still part of a group membership; remove that first")
            if entry.name == ADMINISTRATORS:
                raise conflict("the group Administrators cannot be deleted")
            entry.leave(self.clock.now(), 0.0)
            return Answer(204)

        return handle

    # -- making them

    def create_user(self, call: Call) -> Answer:
        """In an identity domain a user needs an e-mail address."""
        common = self._common(call, "users", "User", self.tenancy.users)
        email = call.text("email")
        if "@" not in email:
            raise invalid(f"email has to be an address, not {email}")
        return self._made(self.tenancy.users.put(User(**common, id=ocid("user"), email=email)))

    def create_group(self, call: Call) -> Answer:
        """An empty group."""
        common = self._common(call, "groups", "Group", self.tenancy.groups)
        return self._made(self.tenancy.groups.put(Group(**common, id=ocid("group"))))

    def create_dynamic_group(self, call: Call) -> Answer:
        """Instances by rule."""
        common = self._common(call, "dynamic-groups", "DynamicGroup", self.tenancy.dynamic_groups)
        rule, parsed = _rule(call)
        group = DynamicGroup(**common, id=ocid("dynamicgroup"), rule=rule, condition=parsed)
        return self._made(self.tenancy.dynamic_groups.put(group))

    def create_policy(self, call: Call) -> Answer:
        """Statements are checked as a whole."""
        common = self._common(call, "policies", "Policy", self.tenancy.policies, root_only=False)
        statements, parsed = self._statements(call.body.get("statements"), common["compartment"])
        policy = Policy(**common, id=ocid("policy"), statements=statements, parsed=parsed)
        policy.effective = policy.created + self.tenancy.timing.policy_propagation_s
        return self._made(self.tenancy.policies.put(policy))

    def _common(
        self, call: Call, kind: str, word: str, shelf: Shelf[Any], *, root_only: bool = True
    ) -> dict[str, Any]:
        where = call.text("compartmentId")
        if where not in self.tenancy.compartments:
            raise not_found()
        self.tenancy.require(call.principal, "manage", kind, where)
        if root_only and where != self.tenancy.plan.tenancy:
            raise invalid("compartmentId has to be the tenancy's OCID")
        name = call.text("name", longest=100)
        if not _NAME.fullmatch(name):
            raise invalid(f"name {name!r} has characters that are not allowed")
        there = [entry for entry in shelf.alive() if entry.compartment == where and self._there(entry)]
        if any(entry.name.lower() == name.lower() for entry in there):
            raise conflict(f"{word} with name {name} already exists", f"{word}AlreadyExists")
        now = self.clock.now()
        return {
            "compartment": where,
            "name": name,
            "description": call.text("description", longest=400),
            "created": now,
            "ready": now,
            "freeform_tags": call.body.get("freeformTags") or {},
            "defined_tags": call.body.get("definedTags") or {},
        }

    def _statements(self, texts: Any, attached: str) -> tuple[tuple[str, ...], tuple[Statement, ...]]:
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise invalid("statements has to be a list of at least one statement")
        try:
            parsed = tuple(parse(text) for text in texts)
        except ValueError as problem:
            raise invalid(f"{problem}") from None
        for statement in parsed:
            self._check_place(statement, attached)
            self._check_subjects(statement)
        return tuple(texts), parsed

    def _check_place(self, statement: Statement, attached: str) -> None:
        if statement.compartment is None:
            if attached != self.tenancy.plan.tenancy:
                raise invalid("a statement about the tenancy belongs into a policy of the root compartment")
            return
        wanted = statement.compartment.lower()
        for entry in self.tenancy.compartments.alive():
            if wanted in (entry.id, entry.name.lower(), self.tenancy.path(entry).lower()) and attached in [
                around.id for around in self.tenancy.upwards(entry.id)
            ]:
                return
        raise invalid(
            f"Compartment {{{statement.compartment}}} does not exist or is not part of the policy compartment "
            "subtree"
        )

    def _check_subjects(self, statement: Statement) -> None:
        dynamic = self.tenancy.dynamic_groups
        for name in statement.names:
            is_group = statement.subject == "group"
            there = self.tenancy.group_called(name) if is_group else dynamic.get(name) or dynamic.named(name)
            if there is None:
                raise invalid(f"{statement.subject} {name} does not exist")

    def _made(self, entry: Entry) -> Answer:
        return answer(entry, self.shown(entry))

    def shown(self, entry: Entry) -> dict[str, Any]:
        """As the API shows it."""
        shown = entry.shown(self.clock)
        if isinstance(entry, User):
            names = ("canUseConsolePassword", "canUseApiKeys", "canUseAuthTokens", "canUseSmtpCredentials")
            capabilities = {name: entry.can(name) for name in names}
            shown |= {"email": entry.email, "emailVerified": False, "capabilities": capabilities}
            shown |= {"isMfaActivated": False}
        elif isinstance(entry, Policy):
            shown |= {"statements": list(entry.statements), "versionDate": None}
        elif isinstance(entry, DynamicGroup):
            shown |= {"matchingRule": entry.rule}
        elif isinstance(entry, Membership):
            shown |= {"userId": entry.user, "groupId": entry.group}
        return shown

    # -- memberships

    def list_memberships(self, call: Call) -> Answer:
        """By user, by group, or both."""
        self.tenancy.require(call.principal, "inspect", "groups", call.parameter("compartmentId"))
        here = [m for m in self.tenancy.memberships.alive() if self._there(self.tenancy.groups[m.group])]
        found = [self.shown(member) for member in here]
        chosen = select(call, found, {"userId": "userId", "groupId": "groupId"}, _SORT, "TIMECREATED")
        return paged(call, chosen)

    def get_membership(self, call: Call) -> Answer:
        """One."""
        entry = self._find(call, "inspect", "groups", self.tenancy.memberships)
        return answer(entry, self.shown(entry))

    def add_member(self, call: Call) -> Answer:
        """A user into a group."""
        user = self.tenancy.users.find(call.text("userId"))
        group = self.tenancy.groups.find(call.text("groupId"))
        for kind in ("groups", "users"):
            self.tenancy.require(call.principal, "use", kind, group.compartment)
        if not (user.alive() and group.alive() and self._there(user) and self._there(group)):
            raise not_found()
        for member in self.tenancy.memberships.alive():
            if (member.user, member.group) == (user.id, group.id):
                raise conflict(
                    f"User {user.name} is already in group {group.name}", "MembershipAlreadyExists"
                )
        now = self.clock.now()
        entry = Membership(
            id=ocid("groupmembership"),
            compartment=group.compartment,
            name="",
            created=now,
            ready=now,
            user=user.id,
            group=group.id,
        )
        return self._made(self.tenancy.memberships.put(entry))

    def remove_member(self, call: Call) -> Answer:
        """A user out of a group."""
        entry = self._find(call, "use", "groups", self.tenancy.memberships)
        if_match(entry, call.header("if-match"))
        entry.leave(self.clock.now(), 0.0)
        return Answer(204)


def _rule(call: Call) -> tuple[str, Any]:
    rule = call.text("matchingRule")
    try:
        return rule, condition(rule)
    except ValueError as problem:
        raise invalid(f"matchingRule: {problem}") from None
