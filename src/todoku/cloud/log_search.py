"""What the relay has logged, read through the search of the Logging service, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from todoku.cloud.logs import query
from todoku.cloud.retry import Patience
from todoku.cloud.sdk import Sdk
from todoku.cloud.sdk_api import access_of
from todoku.cloud.sdk_logging import SdkLogging
from todoku.settings import Settings

LONGEST = 14 * 86_400.0  # seconds that one search may cover, says Oracle's page on the search's limits


class LogSearch:
    """Raises CloudError, also when no more than a moment's patience was needed."""

    def __init__(self, sdk: Sdk, patience: Patience | None = None) -> None:
        self._api, self._query = SdkLogging(sdk), query(sdk.access.compartment)
        self._patience = patience or Patience(total=30.0)

    @classmethod
    def of(cls, settings: Settings) -> LogSearch:
        """That of the settings' compartment, in the region of the relay."""
        return cls(Sdk(access_of(settings)))

    def records(self, start: float, end: float) -> Iterator[list[Any]]:
        """What was logged between two moments (seconds since 1970), by its own time: pages of JSON values."""
        span = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        page: str | None = None
        while True:
            at = page
            found, page = self._patience.repeat(lambda: self._api.search(self._query, *span, at))  # noqa: B023
            yield found
            if page is None or page == at:
                return
