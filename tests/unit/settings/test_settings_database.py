# The settings are no place for secrets: wherever somebody writes a database's password into them, it is refused with
# the place where it belongs, and what is said about it does not repeat it.

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from todoku.settings import CredentialError, Settings, SettingsError, parse
from todoku.settings.credential import read_password
from todoku.settings.literals import literal

TOP = """\
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
CAMPAIGN = """\
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "https://news.hoge.example"
"""
TABLES = {"ledger": f"{TOP}[ledger]\n", "campaign": f"{TOP}{CAMPAIGN}"}
SECRET = "hunter2-Xyzzy"


def read(table: str, *lines: str) -> Settings:
    return parse(TABLES[table] + "\n".join(lines), "todoku.toml")


def refusal(table: str, *lines: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(table, *lines)
    return str(caught.value)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "address",
    [
        "postgresql:///todoku",
        "postgresql://todoku-agent@db.hoge.example/todoku",
        "postgresql://todoku-agent@db.hoge.example:5433/todoku?sslrootcert=/etc/ssl/db.pem",
        "postgresql://writer@[2001:db8::1]/todoku",
        "postgresql://writer@/todoku?host=/run/other",
    ],
)
def test_an_address_and_a_file_for_its_password_are_taken(table: str, address: str) -> None:
    found = read(table, f'database = "{address}"', 'database_password_file = "/etc/todoku/secrets/database"')
    there = found.ledger if table == "ledger" else found.campaign
    assert there is not None
    assert (there.database, there.database_password_file) == (address, Path("/etc/todoku/secrets/database"))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "line",
    [
        f'database = "postgresql://me:{SECRET}@db.hoge.example/todoku"',
        f'database = "postgres://me:{SECRET}@db.hoge.example/todoku"',
        f'database = "postgresql://:{SECRET}@/todoku"',
        f'database = "postgresql://me:{SECRET}/x@db.hoge.example/todoku"',
        f'database = "postgresql://me:x@{SECRET}@db.hoge.example/todoku"',
        f'database = "postgresql://me@db.hoge.example/todoku?password={SECRET}"',
        f'database = "postgresql://me@db.hoge.example/todoku?sslmode=require&sslpassword={SECRET}"',
        f'database_password = "{SECRET}"',
        f'password = "{SECRET}"',
    ],
)
def test_a_password_in_the_settings_is_refused_with_the_place_for_it(table: str, line: str) -> None:
    said = refusal(table, line)
    assert "no place for secrets" in said
    assert "database_password_file" in said
    assert f"{table}." in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([f'database_password_file = "{SECRET}"'], "is not the whole path of a file"),
        ([f'database = "mysql://me:{SECRET}@db.hoge.example/todoku"'], "is not the address of a database"),
        ([f"database = postgresql://me:{SECRET}@db.hoge.example/todoku"], "not valid toml"),
        (['database = "postgresql://db.hoge.example:many/todoku"'], "is no address that can be understood"),
        (['database = "postgresql://db.hoge.example"'], "does not say which database"),
        (['database_password_file = "/etc/todoku/secrets/database"'], "is given without database"),
    ],
)
@pytest.mark.parametrize("table", TABLES)
def test_what_is_wrong_is_said_without_repeating_it(table: str, lines: list[str], words: str) -> None:
    said = refusal(table, *lines)
    assert words in said
    assert SECRET not in said


def test_the_ledger_and_bulk_mail_have_a_database_each() -> None:
    def both(first: str, second: str) -> Settings:
        lines = f'[ledger]\ndatabase = "postgresql://{first}"\n{CAMPAIGN}database = "postgresql://{second}"\n'
        return parse(TOP + lines, "todoku.toml")

    both("/ledger", "/campaign")
    both("a@db.hoge.example/todoku", "b@other.hoge.example/todoku")
    with pytest.raises(SettingsError, match="is the ledger's as well"):
        both("a@db.hoge.example/todoku", "b@DB.hoge.example/todoku")


@given(
    password=st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=40).map(
        lambda text: f"{SECRET}{text}"
    ),
    quoted=st.booleans(),
    table=st.sampled_from(sorted(TABLES)),
)
@settings(max_examples=150, deadline=None)
def test_no_password_in_an_address_gets_through_or_into_what_is_said(
    password: str, quoted: bool, table: str
) -> None:
    written = quote(password, safe="") if quoted else password
    said = refusal(table, f"database = {literal(f'postgresql://me:{written}@db.hoge.example/todoku')}")
    assert SECRET not in said


def test_a_file_with_a_password_alone(tmp_path: Path) -> None:
    file = tmp_path / "database"
    file.touch(mode=0o600)
    file.write_text(f"{SECRET} \"'$%\\\n")
    assert read_password(file, "the password") == f"{SECRET} \"'$%\\"
    file.write_text(f"{SECRET}\nmore\n")
    with pytest.raises(CredentialError, match="has 2 lines, not 1: write the password alone") as refused:
        read_password(file, "the password")
    assert SECRET not in str(refused.value)
