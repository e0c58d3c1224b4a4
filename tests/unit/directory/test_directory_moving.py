# "I have four hundred accounts in a file": what is wrong with it is told line by line, before anything is made, and
# nobody needs a new password whose old one was kept well.

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.directory import Directory, Place, moving
from todoku.directory.moving import Mistake, Wanted, read_csv, read_passwd_file

SHA512 = "$6$saltsalt$" + "a" * 86
BCRYPT = "$2y$10$" + "b" * 53
YESCRYPT = "$y$j9T$salt$" + "c" * 43
ARGON2 = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaA"


def test_a_csv_names_its_columns_and_may_come_from_a_spreadsheet() -> None:
    text = (
        "\ufeffAddress;password;quota;more\r\n"
        'alice@hoge.example;"a pass; phrase";5 GB;info@hoge.example sales@hoge.example\r\n'
        "bob@hoge.example;;;\r\n\r\n"
    )
    assert read_csv(text) == (
        (
            Wanted(2, "alice@hoge.example", "a pass; phrase", None, 5_000_000_000,
                   ("info@hoge.example", "sales@hoge.example")),
            Wanted(3, "bob@hoge.example"),
        ),
        (),
    )  # fmt: skip


def test_every_line_with_a_mistake_is_named_with_what_is_wrong() -> None:
    text = f"address,password,hash,quota\na@hoge.example,short,,\nb@hoge.example,a pass phrase,{SHA512},\n"
    text += ",a pass phrase,,\nd@hoge.example,,{MD5}x,\ne@hoge.example,,,much\nf@hoge.example\nA@hoge.example,,,\n"
    wanted, mistakes = read_csv(text)
    told = {mistake.line: mistake.words for mistake in mistakes}
    assert sorted(told) == [2, 3, 4, 5, 6, 7]
    assert "at least 10" in told[2]
    assert "a password and a hash" in told[3]
    assert "no address" in told[4]
    assert "MD5" in told[5]
    assert "no size" in told[6]
    assert "1 fields" in told[7]
    assert [each.line for each in wanted] == [8]
    assert "short" not in str(mistakes[0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,password\n", 'no column "name"'),
        ("password\n", "one of them address"),
        ("address,address\n", "once"),
        ('address\n"open\n', "no CSV"),
        ("", "address"),
        ("address\na@hoge.example\nA@HOGE.example\n", "in line 2 already"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(text: str, words: str) -> None:
    _, mistakes = read_csv(text)
    assert words in str(mistakes[0])


def test_a_passwd_file_of_dovecot_keeps_its_hashes_and_quotas() -> None:
    text = (
        "# the old server\n"
        f"alice:{{SHA512-CRYPT}}{SHA512}:5000:5000::/home/alice::userdb_quota_rule=*:storage=2G\n"
        f"bob@hoge.example:{BCRYPT}:::::: userdb_quota_rule=*:bytes=1000\n"
        f"carol:{{CRYPT}}{YESCRYPT}\n"
        f"dora:{ARGON2}:::\n"
    )
    wanted, mistakes = read_passwd_file(text, "hoge.example")
    assert mistakes == ()
    assert [(each.address, each.hashed, each.quota) for each in wanted] == [
        ("alice@hoge.example", f"{{SHA512-CRYPT}}{SHA512}", 2 * 1024**3),
        ("bob@hoge.example", f"{{BLF-CRYPT}}{BCRYPT}", 1000),
        ("carol@hoge.example", f"{{CRYPT}}{YESCRYPT}", None),
        ("dora@hoge.example", f"{{ARGON2ID}}{ARGON2}", None),
    ]
    assert SHA512 not in repr(wanted)


@pytest.mark.parametrize(
    ("hashed", "words"),
    [
        ("{PLAIN}secret word", "PLAIN"),
        ("{CRAM-MD5}abcdef", "CRAM-MD5"),
        ("{SSHA}abcdef", "SSHA"),
        ("$1$salt$abcdefghijklmnopqrstuv", "old kind"),
        ("abCdeFGhijKLm", "old kind"),
        (f"{{BLF-CRYPT}}{SHA512}", "is SHA512-CRYPT"),
        ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA", "old kind"),  # Dovecot verifies one lane only
    ],
)
def test_a_hash_that_is_weak_or_not_verified_by_dovecot_is_refused_and_not_repeated(
    hashed: str, words: str
) -> None:
    _, (mistake,) = read_passwd_file(f"alice:{hashed}\n", "hoge.example")
    assert words in str(mistake)
    assert "--generate" in str(mistake)
    assert hashed.rpartition("}")[2] not in str(mistake)


def test_who_needs_no_password_there_does_not_get_in_here() -> None:
    _, mistakes = read_passwd_file("alice:::::::nopassword\n", "hoge.example")
    assert "nopassword" in str(mistakes[0])


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    for wanted, mistakes in (
        read_csv(text),
        read_csv(f"address,hash\n{text}"),
        read_passwd_file(text, "h.example"),
    ):
        assert all(isinstance(each, Mistake) for each in mistakes)
        for each in wanted:
            assert "\n" not in each.address
            assert each.hashed is None or (
                ":" not in each.hashed and not any(c.isspace() for c in each.hashed)
            )


# --- into the directory -------------------------------------------------------------------------------------------


def test_all_are_made_or_none(directory: Directory) -> None:
    good, bad = (
        Wanted(2, "alice@hoge.example", "a pass phrase"),
        Wanted(3, "bob@elsewhere.example", "a pass phrase"),
    )
    came = directory.import_accounts([good, bad])
    assert [mistake.line for mistake in came.mistakes] == [3]
    assert directory.accounts() == ()
    assert list(directory.import_accounts([good], dry_run=True).made) == [2]
    assert directory.accounts() == ()
    assert list(directory.import_accounts([good]).made) == [2]


def test_who_is_here_already_keeps_everything(directory: Directory) -> None:
    directory.add_account("alice@hoge.example", "the old pass phrase", [], 5)
    before = directory.account("alice@hoge.example")
    came = directory.import_accounts([Wanted(2, "Alice@hoge.example", hashed=f"{{BLF-CRYPT}}{BCRYPT}")])
    assert came.present == ("alice@hoge.example",)
    assert directory.account("alice@hoge.example") == before


def test_an_address_that_somebody_else_has_is_a_mistake_of_its_line(directory: Directory) -> None:
    directory.add_account("alice@hoge.example", "the old pass phrase", ["info@hoge.example"])
    came = directory.import_accounts(
        [Wanted(2, "bob@hoge.example", "a pass phrase", more=("info@hoge.example",))]
    )
    assert "info@hoge.example" in came.mistakes[0].words


def test_dovecot_reads_the_hash_with_its_scheme(directory: Directory, place: Place) -> None:
    directory.import_accounts([Wanted(2, "bob@hoge.example", hashed=f"{{BLF-CRYPT}}{BCRYPT}")])
    assert (
        f"bob@hoge.example:{{BLF-CRYPT}}{BCRYPT}::" in (place.exporter.folder / "dovecot.passwd").read_text()
    )
    directory.set_password("bob@hoge.example", "a new pass phrase")
    assert "bob@hoge.example:{ARGON2ID}$argon2id$" in (place.exporter.folder / "dovecot.passwd").read_text()
    assert moving.ACCEPTED[0] == "ARGON2ID"
