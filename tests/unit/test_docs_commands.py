# A command in the documentation that its own program would refuse is worse than none. Every line of every block that is
# a `todoku` command is given to the command line's parser, arguments and all; those marked as run are run in the world.

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer.main

from todoku.cli.main import app

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = sorted([*CHECKOUT.glob("README*.md"), *CHECKOUT.glob("docs/*.md"), *CHECKOUT.glob("docs/ja/*.md")])
BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUNS = re.compile(r"^<!-- runs in the world -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JAPANESE = ("commands", "concepts", "first-hour", "moving", "settings", "troubleshooting", "uninstalling")


def lines(text: str) -> Iterator[str]:
    for body in BLOCK.findall(text):
        yield from (line for line in body.replace("\\\n", " ").splitlines() if line.strip())


def todoku_lines(page: Path) -> Iterator[list[str]]:
    for line in lines(page.read_text()):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # what a command said, not a command
            assert not line.startswith("todoku"), line
            continue
        if words[:1] == ["todoku"]:
            yield list(takewhile(lambda word: word not in ("|", ">"), words[1:]))


def parse(words: list[str]) -> None:
    """Raises what the command line raises for a wrong command, option, argument or value. Runs nothing."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("todoku", list(words))
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        if not rest and command.invoke_without_command:
            return
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_the_parser_takes_every_command_of_every_block(page: Path) -> None:
    for words in todoku_lines(page):
        try:
            parse(words)
        except Exception as error:
            pytest.fail(
                f"{page.name}: todoku {shlex.join(words)}: {getattr(error, 'message', '') or error!r}"
            )


@pytest.mark.parametrize(
    "words",
    [
        ["acount", "list"],
        ["plan", "--chek"],
        ["account", "add"],
        ["import", "mail", "a@b"],
        ["import", "accounts", "f", "--format", "xml"],
    ],
)
def test_a_wrong_command_would_be_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r".*"):
        parse(words)


def test_what_a_japanese_page_shows_as_commands_the_english_one_shows_too() -> None:
    for name in JAPANESE:
        english, japanese = (CHECKOUT / folder / f"{name}.md" for folder in ("docs", "docs/ja"))
        assert english.exists(), name
        named = set(re.findall(r"`(todoku [a-z]+(?: [a-z]+)?)", japanese.read_text()))
        known = english.read_text() + (CHECKOUT / "README.md").read_text()
        assert {each for each in named if each not in known} == set(), name


# How a machine is set up, and kept: every block on these pages is run.
RUN = (
    *("backup", "by-hand", "certificates", "cloud", "commands", "concepts", "container", "dns", "firewalls"),
    *("first-hour", "moving", "settings", "troubleshooting", "uninstalling"),
)
MARKED = re.compile(r"^ *(?:<!-- (runs in the world|run by (\S+)) -->)?\n *```sh\n", re.MULTILINE)


@pytest.mark.parametrize("name", RUN)
def test_every_block_of_commands_is_run_by_a_test(name: str) -> None:
    text = (CHECKOUT / f"docs/{name}.md").read_text()
    marks = MARKED.findall(text)
    assert len(marks) == len(re.findall(r"(?m)^ *```sh$", text))
    for mark, test in marks:
        assert mark, f"docs/{name}.md: a block is not run by any test"
        if test:
            assert f'"{name}.md"' in (CHECKOUT / test).read_text(), f"{test} does not run docs/{name}.md"


def test_what_is_typed_on_a_japanese_page_is_what_is_run_on_the_english_one() -> None:
    readme = set(lines((CHECKOUT / "README.md").read_text()))
    for name in JAPANESE:
        english = set(lines((CHECKOUT / f"docs/{name}.md").read_text())) | readme
        commands = {line.partition("  #")[0].rstrip() for line in english}
        for line in lines((CHECKOUT / f"docs/ja/{name}.md").read_text()):
            assert line.partition("  #")[0].rstrip() in commands, f"docs/ja/{name}.md: {line}"


def test_some_blocks_are_run_in_the_world() -> None:
    assert sum(len(RUNS.findall(page.read_text())) for page in PAGES) >= 2


def test_the_page_of_the_commands_is_what_the_commands_say() -> None:
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    loader = SourceFileLoader("docs_script", str(CHECKOUT / "script/docs"))
    spec = spec_from_loader("docs_script", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    assert (CHECKOUT / "docs/commands.md").read_text() == module.commands_page(), "run script/docs"
    japanese = module.commands_page(module.japanese())
    assert (CHECKOUT / "docs/ja/commands.md").read_text() == japanese, "run script/docs"
