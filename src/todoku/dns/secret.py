"""Files that hold a secret: read only when nobody else can read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_LARGEST = 65536  # bytes; a private key with comments is far smaller


class SecretError(Exception):
    """The file is not there, or others can read it. The message says what to do."""


def private_text(path: Path) -> str:
    """The content of a regular file that is root's or ours alone. Raises SecretError."""
    try:
        # Opened first, asked afterwards: what is checked is what is read. A FIFO must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretError(f"cannot read {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretError(f"{path} is not a file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretError(f"{path} can be used by others: run `chmod 600 {path}`")
        if status.st_uid not in (0, os.geteuid()):
            raise SecretError(f"{path} belongs to another user: run `chown root:root {path}`")
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise SecretError(f"{path} is larger than {_LARGEST} bytes, which no credential is")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not text") from None
