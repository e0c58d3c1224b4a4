"""Email Delivery's control plane through the SDK (oci.email, API 20170907)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from todoku.cloud import permissions
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.sdk import Sdk
from todoku.cloud.values import GOING, TAGS, Dkim, EmailDomain, ReturnPath, Sender


class SdkEmail:
    """`api.EmailApi` with the SDK."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk
        self._compartment = sdk.access.compartment

    def email_domains(self) -> list[EmailDomain]:
        attempt = self._sdk.attempt("list the email domains", permissions.READ_DOMAINS)
        found = self._sdk.all_pages(attempt, self._sdk.email.list_email_domains, self._compartment)
        return [_domain(each) for each in found]

    def create_email_domain(self, name: str, token: str) -> EmailDomain:
        attempt = self._sdk.attempt(f"create the email domain {name}", permissions.MANAGE_DOMAINS)
        details = self._model(
            "CreateEmailDomainDetails",
            name=name,
            compartment_id=self._compartment,
            description="made by Todoku",
        )
        create = self._sdk.email.create_email_domain
        return _domain(self._sdk.call(attempt, create, details, opc_retry_token=token))

    def delete_email_domain(self, domain: EmailDomain) -> None:
        attempt = self._sdk.attempt(f"delete the email domain {domain.name}", permissions.MANAGE_DOMAINS)
        self._sdk.call(attempt, self._sdk.email.delete_email_domain, domain.id)

    def dkims(self, domain: EmailDomain) -> list[Dkim]:
        attempt = self._sdk.attempt(f"list the DKIM keys of {domain.name}", permissions.READ_DKIMS)
        found = self._sdk.all_pages(attempt, self._sdk.email.list_dkims, domain.id)
        # The list lacks what has to be published; keys that are going need nothing published.
        return [_dkim(each) if each.lifecycle_state in GOING else self._whole_dkim(each) for each in found]

    def create_dkim(self, domain: EmailDomain, selector: str, token: str) -> Dkim:
        attempt = self._sdk.attempt(f"create a DKIM key for {domain.name}", permissions.MANAGE_DKIMS)
        details = self._model(
            "CreateDkimDetails", name=selector, email_domain_id=domain.id, description="made by Todoku"
        )
        return _dkim(self._sdk.call(attempt, self._sdk.email.create_dkim, details, opc_retry_token=token))

    def delete_dkim(self, dkim: Dkim) -> None:
        attempt = self._sdk.attempt(f"delete the DKIM key {dkim.selector}", permissions.MANAGE_DKIMS)
        self._sdk.call(attempt, self._sdk.email.delete_dkim, dkim.id)

    def senders(self) -> list[Sender]:
        attempt = self._sdk.attempt("list the approved senders", permissions.READ_SENDERS)
        found = self._sdk.all_pages(attempt, self._sdk.email.list_senders, self._compartment)
        return [_sender(each) for each in found]

    def create_sender(self, address: str) -> Sender:
        attempt = self._sdk.attempt(f"create the approved sender {address}", permissions.MANAGE_SENDERS)
        details = self._model("CreateSenderDetails", compartment_id=self._compartment, email_address=address)
        return _sender(self._sdk.call(attempt, self._sdk.email.create_sender, details))

    def delete_sender(self, sender: Sender) -> None:
        attempt = self._sdk.attempt(
            f"delete the approved sender {sender.address}", permissions.MANAGE_SENDERS
        )
        self._sdk.call(attempt, self._sdk.email.delete_sender, sender.id)

    def return_paths(self) -> list[ReturnPath]:
        attempt = self._sdk.attempt("list the return paths", permissions.READ_RETURN_PATHS)
        found = self._sdk.all_pages(
            attempt, self._sdk.email.list_email_return_paths, compartment_id=self._compartment
        )
        return [_path(each) if each.lifecycle_state in GOING else self._whole_path(each) for each in found]

    def create_return_path(self, domain: EmailDomain, name: str | None, token: str) -> ReturnPath:
        attempt = self._sdk.attempt(
            f"create a return path for {domain.name}", permissions.MANAGE_RETURN_PATHS
        )
        named = {} if name is None else {"name": name}
        details = self._model(
            "CreateEmailReturnPathDetails",
            parent_resource_id=domain.id,
            description="made by Todoku",
            **named,
        )
        create = self._sdk.email.create_email_return_path
        return _path(self._sdk.call(attempt, create, details, opc_retry_token=token))

    def delete_return_path(self, path: ReturnPath) -> None:
        attempt = self._sdk.attempt(f"delete the return path {path.name}", permissions.MANAGE_RETURN_PATHS)
        self._sdk.call(attempt, self._sdk.email.delete_email_return_path, path.id)

    def smtp_host(self) -> str:
        right = permissions.Right("read", "email-family", tenancy_wide=True)
        attempt = self._sdk.attempt("read the configuration of Email Delivery", right)
        get = self._sdk.email.get_email_configuration
        return str(self._sdk.call(attempt, get, self._sdk.tenancy).smtp_submit_endpoint or "")

    def _whole_dkim(self, summary: Any) -> Dkim:
        attempt = self._sdk.attempt(f"read the DKIM key {summary.name}", permissions.READ_DKIMS)
        try:
            return _dkim(self._sdk.call(attempt, self._sdk.email.get_dkim, summary.id))
        except CloudError as error:
            if error.trouble is Trouble.DENIED:  # it went away in between
                return _dkim(summary)
            raise

    def _whole_path(self, summary: Any) -> ReturnPath:
        attempt = self._sdk.attempt(f"read the return path {summary.name}", permissions.READ_RETURN_PATHS)
        try:
            return _path(self._sdk.call(attempt, self._sdk.email.get_email_return_path, summary.id))
        except CloudError as error:
            if error.trouble is Trouble.DENIED:
                return _path(summary)
            raise

    def _model(self, model: str, **values: Any) -> Any:
        return getattr(self._sdk.oci.email.models, model)(freeform_tags=dict(TAGS), **values)


def ours(tags: Mapping[str, str] | None) -> bool:
    """Whether a thing with these freeform tags was made by Todoku."""
    return TAGS.items() <= (tags or {}).items()


def _domain(model: Any) -> EmailDomain:
    return EmailDomain(
        id=model.id,
        name=model.name.lower(),
        state=model.lifecycle_state,
        ours=ours(model.freeform_tags),
        active_dkim_id=model.active_dkim_id or None,
        created=model.time_created,
    )


def _dkim(model: Any) -> Dkim:
    """From a Dkim, or from a DkimSummary, which lacks some of it."""
    return Dkim(
        id=model.id,
        domain_id=model.email_domain_id,
        selector=model.name,
        state=model.lifecycle_state,
        ours=ours(model.freeform_tags),
        record_name=_dns_name(getattr(model, "dns_subdomain_name", None)),
        cname=_dns_name(getattr(model, "cname_record_value", None)),
        txt=getattr(model, "txt_record_value", None) or "",
        details=getattr(model, "lifecycle_details", None) or "",
        created=model.time_created,
        updated=model.time_updated,
    )


def _sender(model: Any) -> Sender:
    return Sender(
        id=model.id,
        address=model.email_address.lower(),
        state=model.lifecycle_state,
        ours=ours(model.freeform_tags),
        created=model.time_created,
    )


def _path(model: Any) -> ReturnPath:
    """From an EmailReturnPath, or from its summary."""
    return ReturnPath(
        id=model.id,
        domain_id=model.parent_resource_id,
        name=model.name,
        state=model.lifecycle_state,
        ours=ours(model.freeform_tags),
        record_name=_dns_name(getattr(model, "dns_subdomain_name", None)),
        cname=_dns_name(getattr(model, "cname_record_value", None)),
        details=getattr(model, "lifecycle_details", None) or "",
        created=model.time_created,
        updated=model.time_updated,
    )


def _dns_name(text: str | None) -> str:
    return (text or "").rstrip(".").lower()
