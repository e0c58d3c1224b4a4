"""What can be wrong with what is asked of bulk mail. The message says what was found and what to do."""

from __future__ import annotations


class CampaignError(Exception):
    """It cannot be done; nothing was changed."""


class NotKnownError(CampaignError):
    """There is no list, subscriber or campaign of that name."""


class NotSoError(CampaignError):
    """It is there, but what is asked for does not fit it."""
