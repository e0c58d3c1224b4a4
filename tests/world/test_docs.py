# What a page says one can type, one can: the blocks that are marked as run are run here, others in the test that is
# named beside them (tests/unit/test_docs_commands.py sees to it that each has one).

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import documented
import pytest
from conftest import World

CHECKOUT = Path(__file__).resolve().parents[2]
RUNS = re.compile(r"^<!-- runs in the world -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES = [
    (page, line)
    for page in sorted(CHECKOUT.glob("docs/*.md"))
    for block in RUNS.findall(page.read_text())
    for line in block.splitlines()
]
RELAY = Path("/etc/todoku/secrets/relay")


@pytest.mark.parametrize(("page", "line"), LINES, ids=[line for _, line in LINES])
def test_a_command_of_the_documentation_works(world: World, page: Path, line: str, tmp_path: Path) -> None:
    assert documented.run([line], tmp_path).strip(), page.name


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Somebody at an editor, who writes two lines. The relay's credential is put back afterwards."""
    before = RELAY.read_bytes()
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "editor").write_text('#!/bin/sh\nprintf "one\\ntwo\\n" >>"$1"\n')
    (folder / "editor").chmod(0o755)
    yield {"PATH": f"{folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    RELAY.write_bytes(before)


@pytest.mark.parametrize(
    ("page", "first", "files"),
    [
        ("by-hand.md", "install -d -m 700 /etc", [RELAY]),
        ("cloud.md", "install -d", [Path(".oci/api_key.pem"), Path(".oci/config")]),
        ("dns.md", "install -m 600 /dev/null /etc/todoku/secrets/tsig", [Path("/etc/todoku/secrets/tsig")]),
        ("dns.md", "install -m 600 /dev/null /etc/todoku/secrets/dns", [Path("/etc/todoku/secrets/dns")]),
    ],
)
def test_a_secret_is_for_root_alone_before_the_first_letter_of_it_is_written(
    page: str, first: str, files: list[Path], tmp_path: Path, editor: dict[str, str]
) -> None:
    documented.run(documented.block(page, first), tmp_path, HOME=str(tmp_path), **editor)
    for file in (tmp_path / file for file in files):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() == "one\ntwo\n"
        if file != RELAY:
            file.unlink()


@pytest.mark.slow  # the whole judge, and what it sees of the world
def test_where_troubleshooting_begins(world: World, tmp_path: Path) -> None:
    world.submit(world.alice, world.carol, "to be traced")
    world.wait_for("to be traced")
    example = {"alice@hoge.example": world.alice.address}
    said = documented.run(
        documented.block("troubleshooting.md", "todoku check", example), tmp_path, codes=(0, 1)
    )
    assert world.carol in said
    documented.run(documented.block("by-hand.md", "todoku check"), tmp_path, codes=(0, 1))


@pytest.mark.slow  # password hashes are slow on purpose
def test_accounts_move_in_from_a_table_and_from_a_passwd_file(world: World, tmp_path: Path) -> None:
    page = (documented.DOCS / "moving.md").read_text()
    table = page.partition("```text\n")[2].partition("```")[0]
    strong = "{SHA512-CRYPT}$6$saltsalt$" + "a" * 86
    (tmp_path / "accounts.csv").write_text(
        table.replace("$6$...", strong) + "fay@hoge.example,a pass phrase,,,\n"
    )
    passwd = tmp_path / "passwd"
    passwd.write_text(f"gus:{strong}:1000:1000::/home/gus::\n")
    lines = documented.block("moving.md", "todoku import accounts", {"/root/old/passwd": str(passwd)})
    dry, *others = lines
    documented.run([dry], tmp_path)
    assert "fay@hoge.example" not in world.todoku("account", "list").stdout
    try:
        documented.run(others, tmp_path)
        listed = world.todoku("account", "list").stdout
        assert "fay@hoge.example" in listed
        assert "gus@hoge.example" in listed
    finally:
        for name in ("fay", "gus"):
            world.todoku("account", "remove", f"{name}@hoge.example", "--yes")
