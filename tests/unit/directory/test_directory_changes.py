# Every change of accounts and aliases is checked, stored and exported; what is refused changes nothing.

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import argon2
import pytest
from directory_place import SettingsFor

from todoku.directory import Directory, Place
from todoku.directory.errors import (
    AddressRefusedError,
    AddressTakenError,
    AliasLoopError,
    DirectoryError,
    NoSuchAccountError,
    NoSuchAliasError,
    NoSuchGrantError,
    NoSuchTargetError,
    NoSuchUserError,
    PasswordRefusedError,
    StillReferencedError,
    UnknownDomainError,
    WrongModeError,
)
from todoku.directory.people import Alias, Grant, OsUser, os_user

PASSWORD = "correct horse"


def texts(place: Place) -> dict[str, str]:
    folder = place.exporter.folder
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".lmdb"}


@pytest.fixture
def alice(directory: Directory) -> str:
    return directory.add_account("alice@hoge.example", PASSWORD, ["a.smith@hoge.example"], 5_000_000).login


def in_force(directory: Directory) -> bool:
    return not directory.export_differences()[1]


def test_a_new_account_is_stored_and_exported(directory: Directory, place: Place) -> None:
    made = directory.add_account("Alice@HOGE.example", PASSWORD, ["A.Smith@hoge.example"], 5_000_000)
    assert (made.login, made.more, made.quota) == ("alice@hoge.example", ("a.smith@hoge.example",), 5_000_000)
    assert made.password is not None
    assert argon2.PasswordHasher().verify(made.password, PASSWORD)
    assert made.password not in repr(made)
    assert directory.accounts() == (made,)
    assert "alice@hoge.example\talice@hoge.example\n" in texts(place)["virtual_mailbox"]
    assert "*:bytes=5000000" in texts(place)["dovecot.userdb"]
    assert in_force(directory)


def test_the_password_itself_is_written_nowhere(directory: Directory, tmp_path: Path) -> None:
    directory.add_account("alice@hoge.example", PASSWORD)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_an_internationalised_domain_is_kept_as_a_labels(directory: Directory, place: Place) -> None:
    made = directory.add_account("taro@日本.example", PASSWORD)
    assert made.login == "taro@xn--wgv71a.example"
    assert directory.account("taro@日本.example") == made
    assert f"{place.exporter.mail}/xn--wgv71a.example/taro:" in texts(place)["dovecot.userdb"]


def test_a_password_change_ends_the_old_password(directory: Directory, place: Place, alice: str) -> None:
    before = texts(place)["dovecot.passwd"]
    directory.set_password("a.smith@hoge.example", "another secret")
    after = texts(place)["dovecot.passwd"]
    assert before != after
    hashed = directory.account(alice).password
    assert hashed is not None
    assert hashed in after
    assert argon2.PasswordHasher().verify(hashed, "another secret")


def test_a_removed_account_keeps_its_mail_and_says_where(
    directory: Directory, place: Place, alice: str
) -> None:
    mail = place.exporter.mail / "hoge.example" / "alice"
    mail.mkdir(parents=True)
    (mail / "letter").write_text("kept")
    gone = directory.remove_account("alice")
    assert (gone.account.login, gone.mail) == (alice, mail)
    assert (mail / "letter").read_text() == "kept"
    assert directory.accounts() == ()
    assert "alice" not in "".join(texts(place).values())


@pytest.mark.parametrize("address", ["alice@hoge.example", "A.SMITH@hoge.example", "info@hoge.example"])
def test_an_address_that_somebody_has_is_not_given_twice(
    directory: Directory, place: Place, alice: str, address: str
) -> None:
    directory.add_alias("info@hoge.example", ["alice@hoge.example"])
    before = directory.people().held, texts(place)
    for attempt in (
        lambda: directory.add_account(address, PASSWORD),
        lambda: directory.add_account("bob@hoge.example", PASSWORD, [address]),
        lambda: directory.add_address(alice, address),
    ):
        with pytest.raises(AddressTakenError, match="already"):
            attempt()
    assert (directory.people().held, texts(place)) == before


def test_an_address_of_an_account_is_no_alias(directory: Directory, alice: str) -> None:
    with pytest.raises(AddressTakenError, match="is an address of alice"):
        directory.add_alias("a.smith@hoge.example", ["carol@mailbox.example"])


def test_unknown_domains_and_short_passwords_change_nothing(directory: Directory, place: Place) -> None:
    with pytest.raises(UnknownDomainError, match=r"hoge\.example"):
        directory.add_account("alice@elsewhere.example", PASSWORD)
    with pytest.raises(PasswordRefusedError, match="at least 10"):
        directory.add_account("alice@hoge.example", "short")
    with pytest.raises(WrongModeError, match="--generate"):
        directory.add_account("alice@hoge.example", None)
    assert directory.accounts() == ()
    assert not list(place.exporter.folder.glob("*.new"))


def test_an_account_is_found_by_login_address_or_unambiguous_name(directory: Directory, alice: str) -> None:
    for name in ("alice@hoge.example", "ALICE@Hoge.example", "a.smith@hoge.example", "alice", "Alice"):
        assert directory.account(name).login == alice
    directory.add_account("alice@日本.example", PASSWORD)
    with pytest.raises(NoSuchAccountError, match=r"alice@hoge\.example or alice@xn--wgv71a\.example"):
        directory.account("alice")
    with pytest.raises(NoSuchAccountError, match="todoku account list"):
        directory.account("nobody@hoge.example")
    with pytest.raises(NoSuchAccountError, match="an alias for alice"):
        directory.account("postmaster@hoge.example")


def test_addresses_come_and_go_but_not_the_primary_one(
    directory: Directory, place: Place, alice: str
) -> None:
    directory.add_address(alice, "al@日本.example")
    assert "al@xn--wgv71a.example\talice@hoge.example" in texts(place)["virtual_alias"]
    assert directory.remove_address(alice, "al@日本.example").more == ("a.smith@hoge.example",)
    assert "al@" not in texts(place)["virtual_alias"]
    with pytest.raises(DirectoryError, match="primary address"):
        directory.remove_address(alice, "alice@hoge.example")
    with pytest.raises(NoSuchAccountError, match=r"which has a\.smith"):
        directory.remove_address(alice, "other@hoge.example")


def test_aliases_lead_to_accounts_and_to_the_world(directory: Directory, place: Place, alice: str) -> None:
    alias, new = directory.add_alias("Info@hoge.example", ["a.smith@hoge.example", "Carol@Mailbox.example"])
    assert alias == Alias("info@hoge.example", ("Carol@mailbox.example", "a.smith@hoge.example"))
    assert set(new) == set(alias.targets)
    assert "info@hoge.example\tCarol@mailbox.example,alice@hoge.example\n" in texts(place)["virtual_alias"]
    assert in_force(directory)


def test_the_same_target_again_is_nothing_to_do(directory: Directory, alice: str) -> None:
    directory.add_alias("info@hoge.example", [alice])
    assert directory.add_alias("info@hoge.example", [alice, alice]) == (
        Alias("info@hoge.example", (alice,)),
        (),
    )


def test_loops_are_refused_with_the_way_they_go(directory: Directory, alice: str) -> None:
    directory.add_alias("c@hoge.example", [alice])
    directory.add_alias("b@hoge.example", ["c@hoge.example"])
    directory.add_alias("a@hoge.example", ["b@hoge.example"])
    with pytest.raises(AliasLoopError, match=r"c@hoge.example -> a@hoge.example -> b@hoge.example -> c@hoge"):
        directory.add_alias("c@hoge.example", ["a@hoge.example"])
    with pytest.raises(AliasLoopError, match=r"s@hoge.example -> s@hoge.example"):
        directory.add_alias("s@hoge.example", ["S@hoge.example"])
    assert directory.people().held.targets["c@hoge.example"] == (alice,)


def test_an_alias_to_an_address_of_ours_that_nobody_has_is_refused(directory: Directory) -> None:
    with pytest.raises(
        NoSuchTargetError, match=r"nobody gets mail at bob@hoge.example.*account add bob@hoge"
    ):
        directory.add_alias("info@hoge.example", ["carol@mailbox.example", "bob@hoge.example"])
    assert directory.aliases() == ()


def test_targets_are_removed_one_by_one_or_all(directory: Directory, alice: str) -> None:
    directory.add_alias("info@hoge.example", [alice, "carol@mailbox.example"])
    with pytest.raises(NoSuchAliasError, match=r"does not go to dave@mailbox.example"):
        directory.remove_alias("info@hoge.example", ["dave@mailbox.example"])
    assert directory.remove_alias("info@hoge.example", ["carol@mailbox.example"]).targets == (alice,)
    assert directory.remove_alias("info@hoge.example").targets == ()
    with pytest.raises(NoSuchAliasError, match="todoku alias list"):
        directory.remove_alias("info@hoge.example")
    with pytest.raises(NoSuchAliasError, match="every domain must have it"):
        directory.remove_alias("abuse@hoge.example")


def test_what_aliases_lead_to_is_not_removed(directory: Directory, alice: str) -> None:
    directory.add_alias("info@hoge.example", ["a.smith@hoge.example"])
    directory.add_alias("all@hoge.example", ["info@hoge.example", "carol@mailbox.example"])
    for attempt in (
        lambda: directory.remove_account(alice),
        lambda: directory.remove_address(alice, "a.smith@hoge.example"),
    ):
        with pytest.raises(StillReferencedError, match=r"todoku alias remove info@hoge.example") as refused:
            attempt()
    with pytest.raises(StillReferencedError, match=r"all@hoge.example") as refused:
        directory.remove_alias("info@hoge.example")
    assert refused.value.aliases == ("all@hoge.example",)
    assert len(directory.aliases()) == 2


def test_an_account_can_take_its_references_along(directory: Directory, alice: str) -> None:
    directory.add_alias("info@hoge.example", ["a.smith@hoge.example"])
    directory.add_alias("all@hoge.example", ["info@hoge.example", "carol@mailbox.example"])
    gone = directory.remove_account(alice, with_references=True)
    assert gone.references == (
        Alias("all@hoge.example", ("info@hoge.example",)),  # since info@ is left without targets
        Alias("info@hoge.example", ("a.smith@hoge.example",)),
    )
    assert directory.aliases() == (Alias("all@hoge.example", ("carol@mailbox.example",)),)
    assert in_force(directory)


def test_accounts_of_a_removed_domain_are_kept_and_named(place: Place, settings_for: SettingsFor) -> None:
    place.open(settings_for()).add_account("taro@日本.example", PASSWORD)
    smaller = place.open(settings_for("hoge.example"))
    assert [account.login for account in smaller.orphans()] == ["taro@xn--wgv71a.example"]
    smaller.export()
    assert "taro" not in "".join(texts(place).values())
    again = place.open(settings_for())
    again.export()
    assert again.orphans() == ()
    assert "taro@xn--wgv71a.example:{ARGON2ID}" in texts(place)["dovecot.passwd"]


# System mode


@pytest.fixture
def system(place: Place, settings_for: SettingsFor) -> Directory:
    def find(name: str) -> OsUser:
        if name == "taro":
            return OsUser("taro", 1000, 1001, Path("/home/taro"))
        return os_user(name)

    return replace(place, find_user=find).open(settings_for(mode="system", postmaster="taro@hoge.example"))


def test_in_system_mode_a_user_of_the_machine_gets_an_account(system: Directory, place: Place) -> None:
    made = system.add_account("taro", None, ["yamada@hoge.example"])
    assert (made.login, made.address, made.password) == ("taro", "taro@hoge.example", None)
    assert "taro@hoge.example::1000:1001::/home/taro::userdb_user=taro " in texts(place)["dovecot.userdb"]
    assert system.mail_folder(made) == Path("/home/taro/Maildir")
    with pytest.raises(AddressTakenError, match="has an account already"):
        system.add_account("taro@日本.example", None)


def test_in_system_mode_users_must_exist_and_be_people(system: Directory) -> None:
    with pytest.raises(NoSuchUserError, match="adduser nosuchuser"):
        system.add_account("nosuchuser", None)
    with pytest.raises(NoSuchUserError, match="todoku alias add"):
        system.add_account("root", None)


def test_in_system_mode_passwords_are_left_to_the_machine(system: Directory) -> None:
    with pytest.raises(WrongModeError, match="passwd"):
        system.add_account("taro", PASSWORD)
    system.add_account("taro", None)
    with pytest.raises(WrongModeError, match="`passwd taro`"):
        system.set_password("taro", PASSWORD)


def test_an_account_whose_user_was_deleted_is_kept_but_not_exported(
    system: Directory, place: Place, settings_for: SettingsFor
) -> None:
    system.add_account("taro", None)
    later = place.open(settings_for(mode="system", postmaster="taro@hoge.example"))  # without that user
    later.export()
    assert "taro" not in "".join(texts(place).values())
    assert "no such user" in later.people().problem(later.account("taro"))
    assert later.remove_account("taro").account.login == "taro"


def test_the_files_belong_to_root_and_the_service_that_reads_them(directory: Directory, place: Place) -> None:
    old = os.umask(0o077)
    try:
        directory.add_account("alice@hoge.example", PASSWORD)
    finally:
        os.umask(old)
    files = [path for path in place.exporter.folder.iterdir() if not path.name.startswith(".")]
    assert len(files) == 8
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}
    assert place.exporter.folder.stat().st_mode & 0o777 == 0o755  # Postfix and Dovecot have to get in


# --- whom else an account may send as ---


@pytest.fixture
def bob(directory: Directory) -> str:
    return directory.add_account("bob@hoge.example", PASSWORD).login


def test_a_grant_is_in_force_until_it_is_revoked(
    directory: Directory, place: Place, alice: str, bob: str
) -> None:
    assert directory.grant("Bob@hoge.example", "A.Smith@HOGE.example")[1]
    assert directory.grant(bob, "@日本.example") == (directory.account(bob), True)
    assert directory.grant(bob, "@日本.example") == (directory.account(bob), False)
    assert directory.people().held.granted(bob) == ("@xn--wgv71a.example", "a.smith@hoge.example")
    assert f"a.smith@hoge.example\t{alice},{bob}\n" in texts(place)["sender_login"]
    assert f"@xn--wgv71a.example\t{bob}\n" in texts(place)["sender_login"]
    assert in_force(directory)
    directory.revoke(bob, "@日本.example")
    directory.revoke(bob, "a.smith@hoge.example")
    assert f"a.smith@hoge.example\t{alice}\n" in texts(place)["sender_login"]
    assert "xn--wgv71a" not in texts(place)["sender_login"].replace("@xn--wgv71a.example\talice", "")
    assert in_force(directory)


@pytest.mark.parametrize(
    ("sender", "error", "words"),
    [
        ("carol@mailbox.example", UnknownDomainError, "mailbox.example is not in the settings"),
        ("@mailbox.example", UnknownDomainError, "mailbox.example is not in the settings"),
        ("@", AddressRefusedError, "the domain"),
        ("hoge.example", AddressRefusedError, "not a whole mail address"),
        (
            "nobody@hoge.example",
            NoSuchTargetError,
            "answers to what bob@hoge.example sends as it would be lost",
        ),
        ("bob@hoge.example", DirectoryError, "may send as it without a grant"),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused_and_changes_nothing(
    directory: Directory, alice: str, bob: str, sender: str, error: type[DirectoryError], words: str
) -> None:
    with pytest.raises(error, match=words):
        directory.grant(bob, sender)
    assert directory.people().held.grants == ()


def test_what_was_not_granted_cannot_be_revoked(directory: Directory, alice: str, bob: str) -> None:
    directory.grant(bob, alice)
    with pytest.raises(
        NoSuchGrantError, match=f"any address of hoge.example was not granted to {bob}, but {alice}"
    ):
        directory.revoke(bob, "@hoge.example")
    with pytest.raises(NoSuchGrantError, match=f"{bob} was not granted to {alice}, but nothing"):
        directory.revoke(alice, bob)


def test_whoever_gets_an_address_later_is_not_sent_for_by_those_who_might_for_the_one_before(
    directory: Directory, alice: str, bob: str
) -> None:
    directory.add_alias("info@hoge.example", ["carol@mailbox.example"])
    directory.add_alias("shared@hoge.example", [alice])
    for sender in ("a.smith@hoge.example", "info@hoge.example", "shared@hoge.example", alice):
        directory.grant(bob, sender)
    directory.remove_address(alice, "a.smith@hoge.example")
    directory.remove_alias("info@hoge.example")
    assert directory.people().held.granted(bob) == (alice, "shared@hoge.example")
    gone = directory.remove_account(alice, with_references=True)
    assert gone.grants == (Grant(bob, alice), Grant(bob, "shared@hoge.example"))
    assert directory.people().held.grants == ()


def test_the_grants_of_an_account_go_with_it(directory: Directory, alice: str, bob: str) -> None:
    directory.grant(bob, alice)
    assert directory.remove_account(bob).grants == ()
    directory.add_account(bob, PASSWORD)
    assert directory.people().held.grants == ()
