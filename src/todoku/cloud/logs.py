"""The relay's own log, switched on: a log group, and for each email domain the logs of what was accepted and relayed.

Without it nobody learns whether the recipient's own server took a message. What is sent before it is switched on is not
in it. Where Todoku may not do it, that is told, with the statement that is missing, and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from todoku.cloud.client import Cloud
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.resource import CloudResource
from todoku.cloud.values import ACTIVE, EmailDomain, Log, LogGroup
from todoku.plan.resource import Action, Change, NeedsPerson, NotYet

GROUP = "todoku"
CATEGORIES = ("outboundaccepted", "outboundrelayed")
TYPE = "com.oraclecloud.emaildelivery.emaildomain."  # and the category: the type of a record


@dataclass(frozen=True, kw_only=True)
class LogGroupResource(CloudResource[LogGroup | None]):
    """The group that the logs are in. One that is there already is used as it is."""

    name: str = GROUP

    @property
    def id(self) -> str:
        return f"log-group:{self.name}"

    def look(self, client: Cloud) -> LogGroup | None:
        try:
            return client.log_group(self.name)
        except CloudError as error:
            raise _without(error) from error

    def differ(self, seen: LogGroup | None) -> Change | None:
        return Change(Action.CREATE, f"create the log group {self.name}") if seen is None else None

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        token = client.token(self.id)
        try:
            client.create(
                "log-group",
                lambda: client.api.create_log_group(self.name, token),
                lambda: client.log_group(self.name),
            )
        except CloudError as error:
            raise _without(error) from error
        if not client.wait("log-group", lambda: _is_active(client.log_group(self.name)), self.soon):
            raise NotYet(f"Oracle is still creating the log group {self.name}")


@dataclass(frozen=True, slots=True)
class LogSeen:
    """The log of that category, in whatever group; None when it is not switched on."""

    domain: EmailDomain | None
    log: Log | None


@dataclass(frozen=True, kw_only=True)
class LogResource(CloudResource[LogSeen]):
    """That one category of an email domain is logged. A log that somebody made in the console will do."""

    domain: str
    category: str
    group: str = GROUP

    @property
    def id(self) -> str:
        return f"log:{self.domain}:{self.category}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"email-domain:{self.domain}", f"log-group:{self.group}"}

    def look(self, client: Cloud) -> LogSeen:
        domain = client.email_domain(self.domain)
        try:
            logs = client.logs() if domain is not None else []
        except CloudError as error:
            raise _without(error) from error
        mine = [log for log in logs if domain and (log.resource, log.category) == (domain.id, self.category)]
        return LogSeen(domain, next(iter(mine), None))

    def differ(self, seen: LogSeen) -> Change | None:
        if seen.log is None:
            return Change(Action.CREATE, f"switch on the log {self.category} of {self.domain}")
        if not seen.log.enabled and seen.log.ours:
            return Change(Action.UPDATE, f"switch the log {seen.log.name} on again")
        return None

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        seen = self.look(client)
        try:
            if seen.log is None:
                self._create(client)
            else:
                log = seen.log
                client.update("log", lambda: client.api.enable_log(log))
        except CloudError as error:
            raise _without(error) from error
        if not client.wait("log", lambda: _is_active(self.look(client).log), self.soon):
            raise NotYet(f"Oracle is still switching on the log {self.category} of {self.domain}")

    def _create(self, client: Cloud) -> None:
        domain, group = client.email_domain(self.domain), client.log_group(self.group)
        if domain is None or group is None:
            raise NotYet(f"the email domain {self.domain} or the log group {self.group} is not there yet")
        name = f"{self.domain}_{self.category}"
        client.create(
            "log",
            lambda: client.api.create_log(group, name, domain, self.category),
            lambda: self.look(client).log,
        )


def query(compartment: str) -> str:
    """What a search for all records of Email Delivery in the compartment says."""
    types = " or ".join(f"type='{TYPE}{category}'" for category in CATEGORIES)
    return f'search "{compartment}" | {types} | sort by datetime asc'


def _is_active(thing: LogGroup | Log | None) -> bool:
    return thing is not None and thing.state == ACTIVE


def _without(error: CloudError) -> Exception:
    """It goes without: then the ledger ends at what the relay accepted."""
    if error.trouble is not Trouble.DENIED:
        return error
    return NeedsPerson(
        "without the relay's own log it is not known whether a recipient's server took a message; switch it on in the "
        f"console (Email Delivery, Email Domains, Logs), set cloud.logs = false, or allow it:\n{error}"
    )
