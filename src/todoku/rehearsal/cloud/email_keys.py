"""DKIM keys and custom return paths over REST: made here, published by the customer, active when the DNS says
so (`email_state`). The service generates RSA-2048 keys (not published; the harshest that all receivers take).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from todoku.rehearsal.internet import pki
from todoku.rehearsal.internet.zones import DELIVERY_ZONE

from .api import Call, Route, answer, paged, select
from .email_control import FILTERS, SORT, EmailControl, u_label
from .email_state import DKIM_LEAVES, Dkim, EmailDomain, Published, ReturnPath
from .errors import conflict, invalid, limit_exceeded, not_found
from .http_server import Answer

DKIMS = 2  # at most, per email domain (DKIM page); one that is DELETING counts (not published)
# The console's rule; the SDK allows dots, and IDNA2008 for other letters.
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


class EmailKeys:
    """The operations on /dkims and /emailReturnPaths."""

    def __init__(self, control: EmailControl, code: str) -> None:
        self.control, self.code = control, code  # "nrt1"
        self.state, self.tenancy, self.clock = control.state, control.tenancy, control.clock

    def routes(self) -> list[Route]:
        """Every operation of this module."""
        dkims, paths = "/dkims", "/emailReturnPaths"
        return [
            Route("GET", dkims, "list_dkims", self.list_dkims),
            Route("POST", dkims, "create_dkim", self.create_dkim, writes=True),
            Route("GET", dkims + "/{id}", "get_dkim", self.get_dkim),
            Route("PUT", dkims + "/{id}", "update_dkim", self.update_dkim, writes=True),
            Route("DELETE", dkims + "/{id}", "delete_dkim", self.delete_dkim, writes=True),
            Route("GET", paths, "list_email_return_paths", self.list_paths),
            Route("POST", paths, "create_email_return_path", self.create_path, writes=True),
            Route("GET", paths + "/{id}", "get_email_return_path", self.get_path),
            Route("PUT", paths + "/{id}", "update_email_return_path", self.update_path, writes=True),
            Route("DELETE", paths + "/{id}", "delete_email_return_path", self.delete_path, writes=True),
        ]

    def _parent(self, call: Call, name: str, kind: str) -> EmailDomain:
        domain = self.state.domains.find(call.text(name))
        self.tenancy.require(
            call.principal,
            "manage",
            kind,
            domain.compartment,
            {"target.dkim.email-domain": u_label(domain.name)},
        )
        if not domain.alive():
            raise not_found()
        if domain.state(self.clock.now()) != "ACTIVE":
            raise conflict(f"email domain {domain.name} is not ACTIVE yet", "IncorrectState")
        return domain

    # -- DKIM

    def list_dkims(self, call: Call) -> Answer:
        """Of one email domain; the summary has no record values."""
        domain = self.state.domains.find(call.parameter("emailDomainId"))
        self.tenancy.require(call.principal, "inspect", "dkims", domain.compartment)
        found = [self.dkim(dkim) for dkim in self.state.dkims.values() if dkim.domain == domain.id]
        for item in found:
            for name in ("lifecycleDetails", "dnsSubdomainName", "cnameRecordValue", "txtRecordValue"):
                item.pop(name)
        return paged(call, select(call, found, FILTERS, SORT, "TIMECREATED"), bare=False)

    async def create_dkim(self, call: Call) -> Answer:
        """Making a key takes a moment; the rules are checked once it is there."""
        imported = call.text("privateKey", required=False, longest=20_000)
        private = imported or await asyncio.to_thread(pki.generate_dkim_key)
        bits = _bits(private)
        domain = self._parent(call, "emailDomainId", "dkims")
        existing = self.state.dkims_of(domain.id)
        selector = call.text("name", required=False, longest=63) or self._selector(domain, existing)
        if not _SELECTOR.fullmatch(selector):
            raise invalid(f"name: {selector!r} is not a selector of lower-case letters, digits and dashes")
        if any(dkim.name == selector for dkim in existing):
            raise conflict(f"a DKIM with name {selector} already exists for {domain.name}")
        if len(existing) >= DKIMS:
            raise limit_exceeded(f"an email domain has at most {DKIMS} DKIMs")
        dkim = Dkim(
            **self.control.common(call, "emaildkim", selector, domain.compartment),
            domain=domain.id,
            dns_name=f"{selector}._domainkey.{domain.name}",
            cname=f"{selector}.{domain.name}.dkim.{self.code}.{DELIVERY_ZONE}",
            txt=pki.dkim_txt(private),
            private_key=private,
            imported=bool(imported),
            key_length=bits,
        )
        self.state.dkims.put(dkim)
        return answer(dkim, self.dkim(dkim), 202, **self.control.begin("CREATE", "dkim", dkim))

    def _selector(self, domain: EmailDomain, existing: list[Dkim]) -> str:
        # The SDK suggests "mydomain-phx-20210228": domain, region, date.
        date = self.clock.text(self.clock.now())[:10].replace("-", "")
        base = f"{domain.name.partition('.')[0][:40]}-{self.code.rstrip('0123456789')}-{date}"
        taken = {dkim.name for dkim in existing}
        return next(name for name in (base, f"{base}-2", f"{base}-3") if name not in taken)

    def get_dkim(self, call: Call) -> Answer:
        """With the record to publish."""
        dkim = self.control.find(call, self.state.dkims, "read", "dkims")
        return answer(dkim, self.dkim(dkim))

    def update_dkim(self, call: Call) -> Answer:
        """Description and tags."""
        return self.control.update(
            call, self.control.to_change(call, self.state.dkims, "use", "dkims"), "dkim"
        )

    def delete_dkim(self, call: Call) -> Answer:
        """Stops signing at once; the public key stays resolvable for a day."""
        dkim = self.control.to_change(call, self.state.dkims, "manage", "dkims")
        dkim.leave(self.clock.now(), DKIM_LEAVES)
        return Answer(202, None, self.control.begin("DELETE", "dkim", dkim))

    def dkim(self, dkim: Dkim) -> dict[str, Any]:
        """As the API shows it."""
        return self._published(dkim) | {
            "emailDomainId": dkim.domain,
            "txtRecordValue": dkim.txt,
            "isImported": dkim.imported,
            "keyLength": dkim.key_length,
        }

    def _published(self, entry: Published) -> dict[str, Any]:
        return entry.shown(self.clock) | {
            "lifecycleDetails": entry.details,
            "dnsSubdomainName": entry.dns_name,
            "cnameRecordValue": entry.cname,
        }

    # -- return paths

    def list_paths(self, call: Call) -> Answer:
        """Of a compartment, of an email domain, or both."""
        where, parent = call.query.get("compartmentId"), call.query.get("parentResourceId")
        if where is None and parent is None:
            raise invalid("compartmentId or parentResourceId is required")
        compartment = where or self.state.domains.find(parent or "").compartment
        self.tenancy.require(call.principal, "inspect", "email-return-paths", compartment)
        found = [self.path(path) for path in self.state.return_paths.values()]
        found = [item for item in found if item["compartmentId"] == compartment]
        filters = FILTERS | {"parentResourceId": "parentResourceId"}
        return paged(call, select(call, found, filters, SORT, "TIMECREATED"), bare=False)

    def create_path(self, call: Call) -> Answer:
        """A name below the email domain, whose DKIM has to be set up first (return path page)."""
        domain = self._parent(call, "parentResourceId", "email-return-paths")
        name = (call.text("name", required=False, longest=253) or f"{self.code}.rp.{domain.name}").lower()
        if not name.endswith(f".{domain.name}"):
            raise invalid(f"name: {name} is not a subdomain of {domain.name}")
        if any(path.domain == domain.id or path.name == name for path in self.state.return_paths.alive()):
            raise conflict(f"there is already a return path for {domain.name}, or one called {name}")
        if self.state.active_dkim(domain.id) is None:
            raise invalid(f"set up DKIM for {domain.name} first: none of its keys is ACTIVE")
        path = ReturnPath(
            **self.control.common(call, "emailreturnpath", name, domain.compartment),
            domain=domain.id,
            dns_name=name,
            cname=f"{self.code}.rp.{DELIVERY_ZONE}",
        )
        self.state.return_paths.put(path)
        headers = self.control.begin("CREATE", "email-return-path", path)
        return answer(path, self.path(path), 202, **headers)

    def get_path(self, call: Call) -> Answer:
        """With the record to publish."""
        path = self.control.find(call, self.state.return_paths, "read", "email-return-paths")
        return answer(path, self.path(path))

    def update_path(self, call: Call) -> Answer:
        """Description and tags."""
        path = self.control.to_change(call, self.state.return_paths, "use", "email-return-paths")
        return self.control.update(call, path, "email-return-path")

    def delete_path(self, call: Call) -> Answer:
        """FAILED ones have to be deleted to be made again."""
        path = self.control.to_change(call, self.state.return_paths, "manage", "email-return-paths")
        path.leave(self.clock.now(), self.control.timing.deleting_s)
        return Answer(202, None, self.control.begin("DELETE", "email-return-path", path))

    def path(self, path: ReturnPath) -> dict[str, Any]:
        """As the API shows it."""
        return self._published(path) | {"parentResourceId": path.domain, "locks": path.locks}


def _bits(private_key: str) -> int:
    try:
        key = serialization.load_pem_private_key(
            private_key.encode(), password=None, unsafe_skip_rsa_key_validation=True
        )
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 1024:
        raise invalid(
            "privateKey has to be an RSA private key of at least 1024 bits in PEM, without password"
        )
    return key.key_size
