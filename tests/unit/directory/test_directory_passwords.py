# A password is kept as a hash that Dovecot can verify, and never appears in anything that is shown.

import argon2
import pytest

from todoku.directory import passwords
from todoku.directory.errors import PasswordRefusedError


def test_the_hash_is_argon2id_with_one_lane_and_verifies() -> None:
    hashed = passwords.hashed('pässwörd 秘密 !"$%&:,')
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")  # libsodium, and so Dovecot, has p=1 only
    assert argon2.PasswordHasher().verify(hashed, 'pässwörd 秘密 !"$%&:,')
    assert not set(hashed) & set(": \n")  # it stands in a file with colons between the fields


def test_the_same_password_has_another_hash_each_time() -> None:
    assert passwords.hashed("correct horse") != passwords.hashed("correct horse")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("ninechars", "9 characters.*at least 10"),
        ("", "at least 10"),
        ("secret-line\nanother", "control character"),
        ("secret-tab\t-secret", "control character"),
        ("secret-nul\0-secret", "control character"),
        ("秘密" * 200, "1200 bytes.*1024"),
    ],
)
def test_a_bad_password_is_refused_without_being_repeated(password: str, reason: str) -> None:
    with pytest.raises(PasswordRefusedError, match=reason) as refused:
        passwords.hashed(password)
    assert not password or password not in str(refused.value)


def test_the_longest_and_the_shortest_password_are_taken() -> None:
    passwords.check("x" * 1024)
    passwords.check("秘" * 10)


def test_generated_passwords_are_strong_different_and_typeable() -> None:
    made = {passwords.generate() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        passwords.check(password)
        assert len(password) == 23
        assert not set(password) & set("01ilo")
