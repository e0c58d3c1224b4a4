"""The email domain: that we send from a domain, made known to Email Delivery in one region."""

from __future__ import annotations

from dataclasses import dataclass

from todoku.cloud.client import Cloud
from todoku.cloud.errors import CloudError, Trouble, claimed_elsewhere
from todoku.cloud.permissions import MANAGE_DOMAINS
from todoku.cloud.resource import CloudResource
from todoku.cloud.values import ACTIVE, FAILED, EmailDomain
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed, NotYet


@dataclass(frozen=True, kw_only=True)
class EmailDomainResource(CloudResource[EmailDomain | None]):
    """One email domain, by its name in A-labels."""

    name: str

    @property
    def id(self) -> str:
        return f"email-domain:{self.name}"

    def look(self, client: Cloud) -> EmailDomain | None:
        domain = client.email_domain(self.name)
        if domain is not None and domain.state == FAILED and not domain.ours:
            raise LookFailed(
                f"the email domain {self.name} is in the state FAILED, and Todoku did not make it: delete it "
                "in the console, then apply again"
            )
        return domain

    def differ(self, seen: EmailDomain | None) -> Change | None:
        if seen is None:
            return Change(Action.CREATE, f"create the email domain {self.name}")
        if seen.state == FAILED:
            return Change(Action.CREATE, f"delete the email domain {self.name}, which failed, and create it")
        return None

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        failed = self.look(client)
        if failed is not None and failed.state != FAILED:
            return
        if failed is not None:
            remove = client.api.delete_email_domain
            client.delete("email-domain", lambda: remove(failed), lambda: _same(failed, client))
        token = client.token(self.id, failed.id if failed else "")
        create = client.api.create_email_domain
        try:
            client.create(
                "email-domain", lambda: create(self.name, token), lambda: client.email_domain(self.name)
            )
        except CloudError as error:
            raise self._explained(error, client) from error
        if not client.wait("email-domain", lambda: self._settled(client), self.soon):
            raise NotYet(f"Oracle is still creating the email domain {self.name}")

    def _settled(self, client: Cloud) -> bool:
        domain = client.email_domain(self.name)
        if domain is not None and domain.state == FAILED:
            raise ChangeFailed(f"Oracle could not create the email domain {self.name}: apply again later")
        return domain is not None and domain.state == ACTIVE

    def _explained(self, error: CloudError, client: Cloud) -> CloudError:
        if error.trouble is Trouble.CONFLICT:
            attempt = client.api.attempt(f"create the email domain {self.name}", MANAGE_DOMAINS)
            return claimed_elsewhere(attempt, f"the email domain {self.name}", error)
        return error


def _same(domain: EmailDomain, client: Cloud) -> EmailDomain | None:
    return next((each for each in client.email_domains() if each.id == domain.id), None)
