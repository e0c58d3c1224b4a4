"""Passwords: which are taken, how a strong one is made, and the hash that Dovecot verifies.

Argon2id with 19 MiB, 2 passes and 1 lane is what OWASP recommends as the minimum; more lanes than one
cannot be verified by Dovecot, whose libsodium computes Argon2 with p=1 only.
"""

from __future__ import annotations

import secrets
import unicodedata

from todoku.directory.errors import PasswordRefusedError

SHORTEST = 10  # characters
LONGEST = 1024  # bytes in UTF-8
MEMORY_KIB, PASSES, LANES = 19456, 2, 1

# Without the letters and digits that are mistaken for each other when read aloud or from paper (0 o, 1 l i).
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 4, 5  # 20 of 31 letters: 99 bits


def generate() -> str:
    """A new password with 99 bits of randomness: four groups of five, as "k7wq2-hm4xt-..."."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))


def check(password: str) -> None:
    """Raises `PasswordRefusedError` for a password that nobody should have; never repeats it."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in password):
        raise PasswordRefusedError(
            "the password holds a control character (a line break, a tab, ...), which mail programs cannot "
            "send: use one on a single line"
        )
    if len(password) < SHORTEST:
        raise PasswordRefusedError(
            f"the password has {len(password)} characters, and needs at least {SHORTEST}: use a longer one, "
            "or --generate"
        )
    size = len(password.encode())
    if size > LONGEST:
        raise PasswordRefusedError(
            f"the password has {size} bytes, and can have {LONGEST}: use a shorter one"
        )


def hashed(password: str) -> str:
    """The Argon2id hash of `password` (PHC format, new salt each time). Raises `PasswordRefusedError`."""
    from argon2 import PasswordHasher

    check(password)
    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES).hash(password)
