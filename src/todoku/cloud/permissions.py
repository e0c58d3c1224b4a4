"""IAM policy statements: those that the relay's user needs, and those that whoever runs Todoku needs.

Oracle's pages "Details for the Email Delivery Service" (policy reference) and "Creating User Permissions"
(Email Delivery): sending by SMTP is APPROVED_SENDER_USE, which `use email-family` gives; `email-family` does
not list the permissions for DKIM keys, so `dkims` has to be granted by itself; SMTP credentials are
`credentials ... where target.credential.type = 'smtp'`.

The statement for the sending user is the documented one and is not narrowed by
`where target.approved-sender.email-domain`: no page of Oracle says that the variable is set when mail comes
in by SMTP, and a condition that is not met would stop all mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Verb = Literal["inspect", "read", "use", "manage"]

_RANK = {"inspect": 0, "read": 1, "use": 2, "manage": 3}
_SENDS = frozenset({"email-family", "approved-senders", "all-resources"})
_STATEMENT = re.compile(
    r"allow\s+group\s+(?P<group>.+?)\s+to\s+(?P<verb>\w+)\s+(?P<resource>[\w-]+)\s+in\s+"
    r"(?:(?P<tenancy>tenancy)|compartment\s+(?P<by_id>id\s+)?(?P<compartment>\S+))\s*$",
    re.IGNORECASE,
)
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that a caller has to be allowed: a verb on a resource type, in a place."""

    verb: Verb
    resource: str
    tenancy_wide: bool = False
    condition: str = ""

    def statement(self, who: str, compartment: str) -> str:
        """The policy statement that grants it; `who` is "group NAME" or "dynamic-group NAME"."""
        where = f" where {self.condition}" if self.condition else ""
        place = "tenancy" if self.tenancy_wide else place_of(compartment)
        return f"Allow {who} to {self.verb} {self.resource} in {place}{where}"


READ_DOMAINS = Right("read", "email-domains")
MANAGE_DOMAINS = Right("manage", "email-domains")
READ_DKIMS = Right("read", "dkims")
MANAGE_DKIMS = Right("manage", "dkims")
READ_SENDERS = Right("read", "approved-senders")
MANAGE_SENDERS = Right("manage", "approved-senders")
# The reference lists return paths below the family, and names no type of their own for certain.
READ_RETURN_PATHS = Right("read", "email-family")
MANAGE_RETURN_PATHS = Right("manage", "email-family")
READ_TENANCY = Right("inspect", "tenancies", tenancy_wide=True)
READ_IDENTITY_DOMAINS = Right("inspect", "domains", tenancy_wide=True)
READ_USERS = Right("inspect", "users", tenancy_wide=True)
MANAGE_USERS = Right("manage", "users", tenancy_wide=True)
READ_GROUPS = Right("inspect", "groups", tenancy_wide=True)
MANAGE_GROUPS = Right("manage", "groups", tenancy_wide=True)
READ_POLICIES = Right("inspect", "policies")
MANAGE_POLICIES = Right("manage", "policies")
READ_LOGS = Right("inspect", "log-groups")
MANAGE_LOGS = Right("manage", "log-groups")
READ_LOG_CONTENT = Right("read", "log-content")
MANAGE_CREDENTIALS = Right(
    "manage", "credentials", tenancy_wide=True, condition="target.credential.type = 'smtp'"
)

# The network before an instance (policy reference, Core Services): one permission at a time where a verb gives more.
READ_INSTANCE = Right("read", "instance-family")
READ_NETWORK = Right("read", "virtual-network-family")
READ_GROUP_RULES = Right("use", "network-security-groups")
CHANGE_GROUP_RULES = Right(
    "manage",
    "network-security-groups",
    condition="request.permission = 'NETWORK_SECURITY_GROUP_UPDATE_SECURITY_RULES'",
)
CHANGE_LIST = Right("manage", "security-lists", condition="request.permission = 'SECURITY_LIST_UPDATE'")

INSTANCE: tuple[Right, ...] = (
    READ_INSTANCE,
    READ_NETWORK,
    READ_GROUP_RULES,
    CHANGE_GROUP_RULES,
    CHANGE_LIST,
)
ADMINISTRATOR: tuple[Right, ...] = (
    Right("manage", "email-family"),
    MANAGE_DKIMS,
    MANAGE_LOGS,
    READ_LOG_CONTENT,
    READ_TENANCY,
    MANAGE_USERS,
    MANAGE_GROUPS,
    MANAGE_POLICIES,
    MANAGE_CREDENTIALS,
)


def place_of(compartment: str) -> str:
    """How a statement names the compartment; the root compartment is the tenancy itself."""
    is_root = compartment.startswith("ocid1.tenancy.")
    return "tenancy" if is_root else f"compartment id {compartment}"


def group_name(group: str, identity_domain: str | None) -> str:
    """The group as a statement names it: with its identity domain, if the tenancy has such."""
    return f"'{identity_domain}'/'{group}'" if identity_domain else group


def sending(group: str, compartment: str, identity_domain: str | None) -> tuple[str, ...]:
    """What the sending user's group needs, and nothing else: to send as the approved senders."""
    who = f"group {group_name(group, identity_domain)}"
    return (Right("use", "email-family").statement(who, compartment),)


def missing(
    wanted: Sequence[str], present: Iterable[str], compartment: str, compartment_name: str = ""
) -> tuple[str, ...]:
    """Those of `wanted` that no statement of `present` grants, literally or by granting more."""
    known = list(present)
    names = {compartment.casefold(), compartment_name.casefold()} - {""}
    return tuple(each for each in wanted if not any(_grants(one, each, names) for one in known))


def outlived(wanted: Sequence[str], present: Iterable[str]) -> tuple[str, ...]:
    """Those of `present` that let our group of another identity domain send: an earlier setting's."""
    named = [has for each in wanted if (has := _STATEMENT.match(each.strip()))]
    ours = {_group(has["group"])[1] for has in named}
    domains = {_group(has["group"])[0] for has in named}
    found = []
    for statement in present:
        has = _STATEMENT.match(statement.strip())
        if has is None or (has["verb"].lower(), has["resource"].lower()) != ("use", "email-family"):
            continue
        domain, group = _group(has["group"])
        if group in ours and domain not in domains:
            found.append(statement)
    return tuple(found)


def _grants(statement: str, wanted: str, compartment: set[str]) -> bool:
    if _same_spelling(statement) == _same_spelling(wanted):
        return True
    has, wants = _STATEMENT.match(statement.strip()), _STATEMENT.match(wanted.strip())
    if has is None or wants is None:  # a condition, a list of groups: too clever to be judged here
        return False
    return (
        _group(has["group"]) == _group(wants["group"])
        and has["resource"].lower() in _SENDS
        and _RANK.get(has["verb"].lower(), -1) >= _RANK[wants["verb"].lower()]
        and (bool(has["tenancy"]) or has["compartment"].casefold() in compartment)
    )


def _same_spelling(statement: str) -> str:
    """Without differences that mean nothing: case, spaces, and the domain Default, which is implied."""
    text = " ".join(statement.split()).casefold()
    return text.replace(f"'{_DEFAULT}'/", "").replace("'", "")


def _group(text: str) -> tuple[str, str]:
    domain, _, name = text.replace("'", "").casefold().rpartition("/")
    return domain or _DEFAULT, name
