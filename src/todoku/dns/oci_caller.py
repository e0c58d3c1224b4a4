"""Who asks Oracle's DNS service, for the policy statement that would allow it.

Oracle grants rights to groups and does not say in a refusal whom it has refused, so the user's groups are asked
for, once, when there is something to tell.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Caller:
    """A user by API key (`config` is the SDK's), or, without one, this instance."""

    sdk: Any = field(repr=False)
    config: dict[str, Any] | None = field(default=None, repr=False)
    timeout: tuple[float, float] = (5.0, 10.0)  # seconds to connect, to wait for an answer

    def statement(self, compartment: str) -> str:
        """ "Allow it: Allow group mail-admins to manage dns in ...", and where a name that is not known is found."""
        place = "tenancy" if compartment.startswith("ocid1.tenancy.") else f"compartment id {compartment}"
        rule = f"to manage dns in {place}"
        if self.config is None:
            return (
                f"Allow it: Allow dynamic-group NAME {rule}, where NAME is a dynamic group whose rule matches this "
                "instance (console: Identity & Security, Domains, Dynamic groups)"
            )
        names = self._groups(self.config)
        if names:
            others = f" (or another group of this user: {', '.join(names[1:])})" if names[1:] else ""
            return f"Allow it: Allow group {names[0]} {rule}{others}"
        return (
            f"Allow it: Allow group NAME {rule}, where NAME is a group that the user {self.config.get('user')} is "
            "in (console: Identity & Security, Domains, Users, Groups)"
        )

    def _groups(self, config: dict[str, Any]) -> list[str]:
        """The names of the user's groups; none when they may not be read."""
        errors = self.sdk.exceptions
        try:
            client = importlib.import_module("oci.identity").IdentityClient(config, timeout=self.timeout)
            listed = client.list_user_group_memberships(config["tenancy"], user_id=config["user"]).data
            groups = [client.get_group(member.group_id).data for member in listed]
        except (
            errors.ServiceError,
            errors.RequestException,
            errors.ConnectTimeout,
            errors.ClientError,
            OSError,
        ):
            return []  # asked only for a friendlier message about another error
        return sorted(str(group.name) for group in groups)
