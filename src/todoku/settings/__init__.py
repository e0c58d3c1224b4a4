"""todoku.toml as one typed, frozen value; every error names file, line, key and what to write instead.

`load` and `parse` are what most callers need; `settings.credential` reads the relay's secret, which is
never part of the settings themselves.
"""

from todoku.settings.credential import CredentialError, RelayCredential, StoreCredential, read_store
from todoku.settings.models import (
    Accounts,
    Clients,
    Device,
    Dmarc,
    Domain,
    Gate,
    Limits,
    Settings,
)
from todoku.settings.object_store import ObjectStore
from todoku.settings.outside import Cloud, Dns, Relay, RelayPlan
from todoku.settings.problems import Problem, SettingsError
from todoku.settings.protect import Protect, ProtectRule
from todoku.settings.reading import DEFAULT_PATH, load, parse
from todoku.settings.tls import Tls

__all__ = [
    "DEFAULT_PATH",
    "Accounts",
    "Clients",
    "Cloud",
    "CredentialError",
    "Device",
    "Dmarc",
    "Dns",
    "Domain",
    "Gate",
    "Limits",
    "ObjectStore",
    "Problem",
    "Protect",
    "ProtectRule",
    "Relay",
    "RelayCredential",
    "RelayPlan",
    "Settings",
    "SettingsError",
    "StoreCredential",
    "Tls",
    "load",
    "parse",
    "read_store",
]
