# A page that names a command which does not exist, or settings of the last version, costs a reader an evening. What can
# be proven about the documentation is proven here.

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from todoku.cli.main import app
from todoku.cloud import permissions
from todoku.rehearsal.cloud import switches
from todoku.rehearsal.relay.state import Limits
from todoku.rehearsal.switchboard import KEYS

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("docs/ja/*.md")],
    key=lambda page: str(page.relative_to(CHECKOUT)),
)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))


def _script(name: str) -> ModuleType:
    loader = SourceFileLoader(name, str(CHECKOUT / "script" / name))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_page_of_the_settings_is_what_the_settings_say() -> None:
    docs = _script("docs")
    assert (CHECKOUT / "docs/settings.md").read_text() == docs.page(), "run script/docs"
    assert (CHECKOUT / "docs/ja/settings.md").read_text() == docs.page(docs.japanese()), "run script/docs"


def test_settings_and_commands_are_explained_in_japanese_too() -> None:
    docs = _script("docs")
    # A few may wait for somebody who speaks it; until then they stand there in English.
    assert len(docs.untranslated()) <= 10, "put the translations into docs/ja/words.txt: " + "\n".join(
        docs.untranslated()
    )
    assert "必須" in docs.page(docs.japanese())


# The pages that there have to be, in both languages.
BOTH = {
    *("concepts", "first-hour", "commands", "settings", "troubleshooting", "moving", "uninstalling"),
}


@pytest.mark.parametrize("name", sorted(BOTH))
def test_a_page_for_users_is_there_in_english_and_in_japanese(name: str) -> None:
    english, japanese = (CHECKOUT / folder / f"{name}.md" for folder in ("docs", "docs/ja"))
    assert len(english.read_text()) > 700
    assert len(re.findall("[ぁ-んァ-ヶ一-龠]", japanese.read_text())) > 200
    assert f"../{name}.md" in japanese.read_text()
    assert f"docs/ja/{name}.md" in (CHECKOUT / "README.ja.md").read_text()


# --- the two READMEs ---------------------------------------------------------------------------------------------


def _headings(text: str) -> list[int]:
    return [len(mark) for mark, _ in HEADING.findall(FENCE.sub("", text))]


def _code(text: str) -> list[tuple[str, list[str]]]:
    """Each block of code without its comments, which are translated."""
    return [
        (language, [re.sub(r"\s+#.*$", "", line) for line in body.splitlines()])
        for _, language, body in FENCE.findall(text)
    ]


def _commands_in_tables(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize("part", [_headings, _code, _commands_in_tables])
def test_both_readmes_have_the_same_sections_commands_and_code(part: Any) -> None:
    english, japanese = ((CHECKOUT / name).read_text() for name in ("README.md", "README.ja.md"))
    assert part(japanese) == part(english)


# --- commands ----------------------------------------------------------------------------------------------------


def _quoted(text: str) -> Iterator[str]:
    """Everything that is shown as code: the lines of the blocks, and what stands in backticks."""
    for _, language, body in FENCE.findall(text):
        if language not in ("toml", "python"):
            yield from body.splitlines()
    yield from INLINE.findall(FENCE.sub("", text))
    yield from re.findall(r"^    (\S.*)$", FENCE.sub("", text), re.MULTILINE)


def _words(code: str) -> list[str] | None:
    """The arguments of the `todoku` command that this line is, if it is one."""
    line = re.sub(r"^(# |\$ )", "", code.strip()).partition("  ")[0]
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return None
    return words[1:] if words and words[0] in ("todoku", "script/rehearse") and len(words) > 1 else None


def _unknown(words: list[str]) -> str:
    """The first of the words that the command line does not have, or nothing."""
    command = typer.main.get_command(app)
    options = set(_options(command))
    waiting = list(words)
    while waiting and waiting[0] != "--":
        word = waiting.pop(0)
        if word in ("...", "[OPTIONS]", "[--"):
            return ""
        if word.startswith("-"):
            if word not in options:
                return word
            if word in ("--config", "-c"):
                waiting = waiting[1:]  # its value
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return word
            command = command.commands[word]
            options |= set(_options(command))
    return ""


def _options(command: Any) -> Iterator[str]:
    yield "--help"
    for parameter in command.params:
        yield from (name for name in parameter.opts if name.startswith("-"))


@pages
def test_every_command_that_is_named_exists(page: Path) -> None:
    for code in _quoted(page.read_text()):
        if words := _words(code):
            called = words if code.lstrip("#$ ").startswith("todoku") else ["rehearse", *words]
            assert not _unknown(called), f"{page.name}: {code}: there is no {_unknown(called)}"


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert _unknown(["acount", "list"]) == "acount"
    assert _unknown(["account", "lst"]) == "lst"
    assert _unknown(["plan", "--chek"]) == "--chek"
    assert not _unknown(["account", "address", "add", "dora", "info@hoge.example"])
    assert list(filter(None, map(_words, _quoted("Run `todoku plan` now.\n\n    todoku apply --yes\n")))) == [
        ["plan"],
        ["apply", "--yes"],
    ]


def test_every_script_is_named_in_contributing() -> None:
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    for script in (CHECKOUT / "script").iterdir():
        assert f"script/{script.name}" in text, script.name


# --- links, and the switchboard ----------------------------------------------------------------------------------


def _anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pages
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            headings = HEADING.findall(FENCE.sub("", there.read_text()))
            assert anchor in {_anchor(text) for _, text in headings}, f"{page.name}: {target}"


def test_every_key_of_the_fault_switchboard_is_explained() -> None:
    page = (CHECKOUT / "docs/rehearsal.md").read_text()
    for key in (*KEYS, *switches.KEYS, *(f"limits.{field.name}" for field in fields(Limits))):
        assert f"| `{key}` |" in page, key


# --- the cloud ---------------------------------------------------------------------------------------------------


def test_the_rights_on_the_page_are_those_that_are_needed() -> None:
    page = (CHECKOUT / "docs/cloud.md").read_text()
    compartment = "ocid1.compartment.oc1..aaaaaaaaexample"
    needed = [right.statement("group todoku-admins", compartment) for right in permissions.ADMINISTRATOR]
    assert "```text\n" + "\n".join(needed) + "\n```" in page
    for statement in permissions.sending("todoku-senders", compartment, "Default"):
        assert f"```text\n{statement}\n```" in page
