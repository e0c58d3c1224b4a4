"""Passwords of the relay contain $, [, #, quotes and more, and shells and configuration files mangle them:
here the password comes out byte for byte, and from a file that nobody else can read."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.settings import CredentialError, Relay, credential

USERNAME = "ocid1.user.oc1..aaaa@ocid1.tenancy.oc1..aaaa.x9.com"
EVERYTHING = string.punctuation + "aZ09"


def relay(path: Path) -> Relay:
    return Relay(region="ap-tokyo-1", credential_file=path)


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_a_password_of_every_punctuation_comes_out_byte_for_byte(tmp_path: Path, end: str) -> None:
    middle = end or "\n"
    path = write(tmp_path / "relay", f"{USERNAME}{middle}{EVERYTHING}{end}".encode())
    found = credential.read(relay(path), {})
    assert (found.username, found.password) == (USERNAME, EVERYTHING)


@given(password=st.text(alphabet=[chr(code) for code in range(33, 127)], min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_printable_password_comes_out_of_the_file_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, password: str
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "relay", f"{USERNAME}\n{password}\n".encode())
    assert credential.read(relay(path), {}).password == password


def test_the_environment_can_hold_the_credential() -> None:
    from_environment = Relay(region="ap-tokyo-1", credential_env="MY_RELAY")
    environ = {"MY_RELAY_USERNAME": USERNAME, "MY_RELAY_PASSWORD": EVERYTHING}
    found = credential.read(from_environment, environ)
    assert (found.username, found.password) == (USERNAME, EVERYTHING)
    with pytest.raises(CredentialError, match=r"MY_RELAY_PASSWORD.* is not set"):
        credential.read(from_environment, {"MY_RELAY_USERNAME": USERNAME})
    with pytest.raises(CredentialError, match=r"MY_RELAY_USERNAME.* is empty"):
        credential.read(from_environment, {"MY_RELAY_USERNAME": "", "MY_RELAY_PASSWORD": "x"})


def test_the_password_is_in_no_representation_and_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "relay", f"{USERNAME}\nsecretpassword\n".encode())
    found = credential.read(relay(path), {})
    assert found.password == "secretpassword"
    assert "secret" not in f"{found} {found!r}"
    write(path, "user\nsecretpässword\n".encode())
    with pytest.raises(CredentialError) as caught:
        credential.read(relay(path), {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o601])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "relay", b"user\npassword\n", mode)
    with pytest.raises(CredentialError, match=f"mode {mode:04o}.*chmod 600"):
        credential.read(relay(path), {})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "relay", b"user\npassword\n")
    os.chown(path, 65534, 65534)
    with pytest.raises(CredentialError, match=r"belongs to another user \(id 65534\)"):
        credential.read(relay(path), {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has 0 lines, not 2"),
        (b"user:password\n", "has 1 lines, not 2"),
        (b"user\npassword\nmore\n", "has 3 lines, not 2"),
        (b"user\npassword\n\n", "has 3 lines, not 2"),
        (b"\npassword\n", "the line of the user name is empty"),
        (b"user\n\n", "the line of the password is empty"),
        (b"user\n\r\n", "the line of the password is empty"),
        (b"user\npass\tword\n", "character 5 of the password is not printable"),
        (b"user\npass\0word\n", "character 5 of the password is not printable"),
        (b"user\npassword \n", "the password begins or ends with a space"),
        (b"us\xc3\xa9r\npassword\n", "byte 3 is not ASCII"),
        (b"\xef\xbb\xbfuser\npassword\n", "byte 1 is not ASCII"),
        (b"user\n" + b"p" * 5000, "larger than 4096 bytes"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(CredentialError) as caught:
        credential.read(relay(write(tmp_path / "relay", content)), {})
    assert words in str(caught.value)
    assert str(tmp_path / "relay") in str(caught.value)


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="does not exist: write the user name on the first line"):
        credential.read(relay(tmp_path / "none"), {})
    with pytest.raises(CredentialError, match="is not a file"):
        credential.read(relay(tmp_path), {})
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CredentialError, match="is not a file"):
        credential.read(relay(tmp_path / "fifo"), {})
