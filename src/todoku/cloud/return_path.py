"""The custom return path: bounces come back to a name below our own domain, so that SPF aligns for DMARC.

By default Oracle puts a name of its own into the envelope; SPF then passes for Oracle's domain, which is not
ours. The name's CNAME has to be seen within 72 hours, or the return path becomes FAILED for good and has to
be made again (Oracle, "Managing a Custom Return Path").
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from todoku.cloud.client import Cloud, newest
from todoku.cloud.dkim import look_at
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.resource import CloudResource
from todoku.cloud.values import ACTIVE, FAILED, EmailDomain, ReturnPath
from todoku.plan.resource import Action, Change, ChangeFailed, NeedsPerson, NotYet
from todoku.settings.regions import REGIONS


def wanted_name(domain: str, region: str) -> str | None:
    """ "nrt1.rp.hoge.example", the form of Oracle's example; None where the code is not known: Oracle chooses."""
    known = REGIONS.get(region)
    return f"{known.code}.rp.{domain}" if known is not None and known.code else None


@dataclass(frozen=True, slots=True)
class ReturnPathSeen:
    """The domain, if it exists, its return path, and one that failed."""

    domain: EmailDomain | None
    path: ReturnPath | None
    failed: tuple[ReturnPath, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReturnPathResource(CloudResource[ReturnPathSeen]):
    """That a return path exists and that it is known what to publish for it; it tells that to the DNS."""

    domain: str

    @property
    def id(self) -> str:
        return f"return-path:{self.domain}"

    @property
    def needs(self) -> Set[str]:
        # Oracle: DKIM has to be set up for the domain first.
        return self.after | {f"email-domain:{self.domain}", f"dkim:{self.domain}"}

    def look(self, client: Cloud) -> ReturnPathSeen:
        seen = _look_at(self.domain, client)
        if seen.path is None and any(not path.ours for path in seen.failed):
            raise NeedsPerson(
                f"the return path {seen.failed[0].name} is in the state FAILED, and Todoku did not make it: "
                "delete it in the console, then apply again"
            )
        if seen.path is not None and seen.path.record_name:
            told = {"name": seen.path.record_name, "state": seen.path.state}
            told |= {"cname": seen.path.cname} if seen.path.cname else {}
            client.outputs.tell(self.id, **told)
        return seen

    def differ(self, seen: ReturnPathSeen) -> Change | None:
        if seen.path is not None:
            return None
        if not seen.failed:
            return Change(Action.CREATE, f"create a return path for {self.domain}")
        return Change(
            Action.CREATE,
            f"delete the return path {seen.failed[0].name}, which failed, and create it again",
            "Oracle did not find its CNAME record within 72 hours and does not look again",
        )

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        seen = self.look(client)
        if seen.domain is None:
            raise ChangeFailed(f"there is no email domain {self.domain}")
        for path in seen.failed:
            delete_path(seen.domain, path, client)
        if seen.path is None:
            self._create(seen.domain, [path.id for path in seen.failed], client)
        if not client.wait("return-path", lambda: self._told(client), self.soon):
            raise NotYet(f"Oracle has not said yet what to publish for the return path of {self.domain}")

    def _create(self, domain: EmailDomain, instead_of: list[str], client: Cloud) -> None:
        """Create it; when Oracle refuses before DKIM is active, once more when it is, which may be soon."""
        try:
            self._try(domain, instead_of, client)
        except CloudError as error:
            # Oracle does not say how far "DKIM set up" has to be, nor for how long a deleted name is taken.
            early = not self._dkim_active(client)
            if error.trouble not in (Trouble.CONFLICT, Trouble.WRONG) or not (early or instead_of):
                raise
            if early and client.wait("dkim", lambda: self._dkim_active(client), self.soon, pause=2.0):
                self._try(domain, [*instead_of, "active"], client)
                return
            reason = "DKIM is active" if early else "the one that failed is gone"
            raise NotYet(
                f"Oracle does not make the return path of {self.domain} yet, probably before {reason}: {error}"
            ) from error

    def _try(self, domain: EmailDomain, instead_of: list[str], client: Cloud) -> None:
        name = wanted_name(self.domain, client.api.sending_region)
        token = client.token(self.id, *instead_of)
        client.create(
            "return-path",
            lambda: client.api.create_return_path(domain, name, token),
            lambda: _look_at(self.domain, client).path,
        )

    def _dkim_active(self, client: Cloud) -> bool:
        key = look_at(self.domain, client).keys.current
        return key is not None and key.state == ACTIVE

    def _told(self, client: Cloud) -> bool:
        path = self.look(client).path
        return path is not None and bool(path.record_name and path.cname)


@dataclass(frozen=True, kw_only=True)
class ReturnPathActive(CloudResource[ReturnPath | None]):
    """That the return path is in use. Oracle looks at the DNS in its own time."""

    domain: str

    @property
    def id(self) -> str:
        return f"return-path-active:{self.domain}"

    @property
    def needs(self) -> Set[str]:
        return self.after | {f"return-path:{self.domain}"}

    def look(self, client: Cloud) -> ReturnPath | None:
        return _look_at(self.domain, client).path

    def differ(self, seen: ReturnPath | None) -> Change | None:
        if seen is not None and seen.state == ACTIVE:
            return None
        return Change(Action.RUN, f"wait until Oracle finds the return path's record of {self.domain}")

    def change(self, change: Change, client: Cloud) -> None:  # noqa: ARG002
        def active() -> bool:
            path = self.look(client)
            return path is not None and path.state == ACTIVE

        if client.wait("return-path", active, self.soon, pause=2.0):
            return
        path = self.look(client)
        record = f"{path.record_name} (CNAME {path.cname})" if path else "the CNAME"
        said = f" ({path.state}{f': {path.details}' if path.details else ''})" if path else ""
        raise NotYet(
            f"Oracle has not found the return path's record {record} yet{said}. It has to be there within 72 hours; "
            "until it is found, SPF passes for Oracle's name only, and DKIM alone aligns with the domain"
        )


def delete_path(domain: EmailDomain, path: ReturnPath, client: Cloud) -> None:
    """Delete a return path that Todoku made. Raises ChangeFailed."""
    if not path.ours:
        raise ChangeFailed(f"the return path {path.name} was not made by Todoku: it stays")
    client.delete(
        "return-path",
        lambda: client.api.delete_return_path(path),
        lambda: next((each for each in client.return_paths(domain) if each.id == path.id), None),
    )


def _look_at(name: str, client: Cloud) -> ReturnPathSeen:
    domain = client.email_domain(name)
    paths = client.return_paths(domain) if domain is not None else []
    good = [path for path in paths if path.state != FAILED]
    active = [path for path in good if path.state == ACTIVE]
    path = newest(active or good, lambda each: each.created)
    return ReturnPathSeen(domain, path, tuple(each for each in paths if each.state == FAILED))
