"""The directory: who has mail here, kept in the store and exported to what Postfix and Dovecot read."""

from todoku.directory.directory import Directory, Removed
from todoku.directory.errors import DirectoryError
from todoku.directory.export import Exporter, Owners
from todoku.directory.people import Account, Alias
from todoku.directory.place import HERE, Place
from todoku.directory.resources import DirectoryExport, StoreSchema

__all__ = [
    "HERE",
    "Account",
    "Alias",
    "Directory",
    "DirectoryError",
    "DirectoryExport",
    "Exporter",
    "Owners",
    "Place",
    "Removed",
    "StoreSchema",
]
