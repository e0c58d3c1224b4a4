"""What the cloud answers when it does not do what was asked: status, code and message (Oracle's SDK reads the
body `{"code", "message"}`; the codes are those of Oracle's "API errors" page and of the troubleshooting page)."""

from __future__ import annotations


class ApiError(Exception):
    """One refusal."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def not_found() -> ApiError:
    """Not there, or not for this caller: the cloud does not say which."""
    return ApiError(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")


def invalid(message: str) -> ApiError:
    """A value that cannot be."""
    return ApiError(400, "InvalidParameter", message)


def missing(name: str) -> ApiError:
    """A value that is not there."""
    return ApiError(400, "MissingParameter", f"{name} is required")


def conflict(message: str, code: str = "Conflict") -> ApiError:
    """Two that cannot be at once."""
    return ApiError(409, code, message)


def limit_exceeded(message: str) -> ApiError:
    """More than there may be."""
    return ApiError(400, "LimitExceeded", message)


def unauthenticated(message: str = "") -> ApiError:
    """Wrong key, wrong signature, wrong clock."""
    default = "The required information to complete authentication was not provided or was incorrect."
    return ApiError(401, "NotAuthenticated", message or default)
