"""What can go wrong in the directory: one class for each thing that a caller can act on."""

from __future__ import annotations


class DirectoryError(Exception):
    """A change or question was refused. The message says what was tried, what was found, and what to do."""

    wrong_usage = False  # whether the request itself was wrong, whatever the directory holds


class AddressRefusedError(DirectoryError):
    """The text is not a mail address, or not one that can be used here."""

    wrong_usage = True


class UnknownDomainError(DirectoryError):
    """The address is in a domain that the settings don't list."""

    wrong_usage = True


class PasswordRefusedError(DirectoryError):
    """The password is too short, too long, or holds what cannot be typed again."""

    wrong_usage = True


class WrongModeError(DirectoryError):
    """The request makes no sense in this mode of accounts (virtual or system)."""

    wrong_usage = True


class AddressTakenError(DirectoryError):
    """The address belongs to an account or is an alias already."""


class NoSuchAccountError(DirectoryError):
    """No account has that login or address."""


class NoSuchUserError(DirectoryError):
    """The operating system has no such user (system mode)."""


class NoSuchAliasError(DirectoryError):
    """There is no such alias, or it has no such target."""


class NoSuchTargetError(DirectoryError):
    """An alias would lead to an address of our own that nobody has."""


class NoSuchGrantError(DirectoryError):
    """The account was not granted to send as that."""


class AliasLoopError(DirectoryError):
    """An alias would lead back to itself."""


class StillReferencedError(DirectoryError):
    """Aliases still lead to what would be removed; `aliases` are their addresses."""

    def __init__(self, message: str, aliases: tuple[str, ...]) -> None:
        super().__init__(message)
        self.aliases = aliases


class BusyError(DirectoryError):
    """Another command has been changing the directory for too long."""


class ExportFailedError(DirectoryError):
    """The files for Postfix and Dovecot could not be written, and therefore nothing was changed."""


class NotInForceError(DirectoryError):
    """The change is stored, but the files that Postfix and Dovecot read could not be replaced."""
