"""todoku.toml as one typed, frozen value; every error names file, line, key and what to write instead.

`load` and `parse` are what most callers need; `settings.credential` reads the relay's secret, which is
never part of the settings themselves.
"""

from todoku.settings.credential import CredentialError, RelayCredential
from todoku.settings.models import (
    Accounts,
    Clients,
    Device,
    Dmarc,
    Domain,
    Gate,
    Limits,
    Relay,
    RelayPlan,
    Settings,
    Tls,
)
from todoku.settings.problems import Problem, SettingsError
from todoku.settings.reading import DEFAULT_PATH, load, parse

__all__ = [
    "DEFAULT_PATH",
    "Accounts",
    "Clients",
    "CredentialError",
    "Device",
    "Dmarc",
    "Domain",
    "Gate",
    "Limits",
    "Problem",
    "Relay",
    "RelayCredential",
    "RelayPlan",
    "Settings",
    "SettingsError",
    "Tls",
    "load",
    "parse",
]
