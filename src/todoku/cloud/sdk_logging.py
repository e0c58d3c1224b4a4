"""The Logging service through the SDK: log groups and service logs (oci.logging, API 20200531), and the search in what
was logged (oci.loggingsearch, API 20190909)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from todoku.cloud.permissions import MANAGE_LOGS, READ_LOG_CONTENT, READ_LOGS
from todoku.cloud.sdk import Sdk
from todoku.cloud.sdk_email import ours
from todoku.cloud.values import TAGS, EmailDomain, Log, LogGroup

SERVICE = "emaildelivery"
MOST = 1000  # records on one page of a search


class SdkLogging:
    """`api.LoggingApi` with the SDK."""

    def __init__(self, sdk: Sdk) -> None:
        self._sdk = sdk
        self._compartment = sdk.access.compartment

    def log_groups(self) -> list[LogGroup]:
        attempt = self._sdk.attempt("list the log groups", READ_LOGS)
        found = self._sdk.all_pages(attempt, self._sdk.logging.list_log_groups, self._compartment)
        return [
            LogGroup(each.id, each.display_name, _state(each), ours(each.freeform_tags)) for each in found
        ]

    def create_log_group(self, name: str, token: str) -> None:
        attempt = self._sdk.attempt(f"create the log group {name}", MANAGE_LOGS)
        details = self._tagged(
            "CreateLogGroupDetails",
            compartment_id=self._compartment,
            display_name=name,
            description="made by Todoku",
        )
        self._sdk.call(attempt, self._sdk.logging.create_log_group, details, opc_retry_token=token)

    def delete_log_group(self, group: LogGroup) -> None:
        attempt = self._sdk.attempt(f"delete the log group {group.name}", MANAGE_LOGS)
        self._sdk.call(attempt, self._sdk.logging.delete_log_group, group.id)

    def logs(self, group: LogGroup) -> list[Log]:
        attempt = self._sdk.attempt(f"list the logs in {group.name}", READ_LOGS)
        found = self._sdk.all_pages(attempt, self._sdk.logging.list_logs, group.id)
        return [_log(each, group) for each in found if _source(each, "service") == SERVICE]

    def create_log(self, group: LogGroup, name: str, domain: EmailDomain, category: str) -> None:
        attempt = self._sdk.attempt(f"switch on the log {name}", MANAGE_LOGS)
        models = self._sdk.oci.logging.models
        source = models.OciService(service=SERVICE, resource=domain.id, category=category)
        details = self._tagged(
            "CreateLogDetails",
            display_name=name,
            log_type="SERVICE",
            is_enabled=True,
            configuration=models.Configuration(compartment_id=self._compartment, source=source),
        )
        self._sdk.call(attempt, self._sdk.logging.create_log, group.id, details)

    def enable_log(self, log: Log) -> None:
        attempt = self._sdk.attempt(f"switch on the log {log.name}", MANAGE_LOGS)
        details = self._sdk.oci.logging.models.UpdateLogDetails(is_enabled=True)
        self._sdk.call(attempt, self._sdk.logging.update_log, log.group_id, log.id, details)

    def delete_log(self, log: Log) -> None:
        attempt = self._sdk.attempt(f"delete the log {log.name}", MANAGE_LOGS)
        self._sdk.call(attempt, self._sdk.logging.delete_log, log.group_id, log.id)

    def search(
        self, query: str, start: datetime, end: datetime, page: str | None = None
    ) -> tuple[list[Any], str | None]:
        """One page of what was logged between two moments, as JSON, and the next page; at most 14 days. CloudError."""
        attempt = self._sdk.attempt("search the relay's log", READ_LOG_CONTENT)
        client = self._sdk.search
        details = self._sdk.oci.loggingsearch.models.SearchLogsDetails(
            time_start=start, time_end=end, search_query=query, is_return_field_info=False
        )
        more = {"page": page} if page else {}
        response = self._sdk.respond(attempt, client.search_logs, details, limit=MOST, **more)
        results = response.data.results or []
        return [each.data for each in results], response.next_page or None

    def _tagged(self, model: str, **values: Any) -> Any:
        return getattr(self._sdk.oci.logging.models, model)(freeform_tags=dict(TAGS), **values)


def _state(model: Any) -> str:
    return str(model.lifecycle_state or "")


def _log(model: Any, group: LogGroup) -> Log:
    return Log(
        model.id,
        group.id,
        model.display_name,
        _state(model),
        ours(model.freeform_tags),
        bool(model.is_enabled),
        _source(model, "resource"),
        _source(model, "category"),
    )


def _source(model: Any, name: str) -> str:
    source = getattr(model.configuration, "source", None)
    return str(getattr(source, name, None) or "")
