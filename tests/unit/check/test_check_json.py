# Programs that read the findings read what docs/check.md promises them: no field more, no field less.

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from broken_messages import LETTER, without
from typer.testing import CliRunner

from todoku.check import providers, show
from todoku.check.finding import Finding, Verdict, failed, passed
from todoku.cli.main import app

PAGE = (Path(__file__).parents[3] / "docs/check.md").read_text().partition("### For programs")[2]
FINDINGS = [failed("spf.record", "two records", "Remove one", "hoge.example"), passed("message.from", "one")]
TYPES = {
    "boolean": bool,
    "number": (int, float),
    "object": dict,
    "object or null": (dict, type(None)),
    "list": list,
    "string": str,
    "list of strings": list,
}


def documented() -> dict[str, str]:
    """Field -> its type, as the page has them."""
    return dict(re.findall(r"^\| `([a-z\[\].]+)` \| ([a-z ]+) \|", PAGE.partition("\n### ")[0], re.MULTILINE))


def shape(told: dict[str, object]) -> dict[str, object]:
    """Field -> its value, in the page's way of writing: `findings[].rule`."""
    flat: dict[str, object] = {}
    for name, value in told.items():
        entries = value if isinstance(value, list) else None
        flat[f"{name}[]" if entries is not None else name] = value
        for entry in entries or []:
            assert isinstance(entry, dict)
            flat |= {f"{name}[].{key}": inner for key, inner in entry.items()}
            flat |= {
                f"{name}[].{key}[]": inner for key, inner in entry.items() if f"{name}[].{key}[]" in flat
            }
    return flat


def test_the_page_has_every_field_and_its_type() -> None:
    said = shape(json.loads(json.dumps(show.as_json(FINDINGS, providers.judge(FINDINGS), 0.5))))
    pages = {re.sub(r"(\.\w+)\[\]$", r"\1", name): kind for name, kind in documented().items()}
    assert set(pages) == set(said)
    for name, kind in pages.items():
        assert isinstance(said[name], TYPES[kind]), name


def test_the_page_names_every_verdict_and_outcome() -> None:
    for verdict in Verdict:
        assert f"`{verdict.value}`" in PAGE
    outcomes = {
        providers.judge([finding])[0].outcome
        for finding in (
            passed("message.from", "one"),
            failed("dmarc.record", "none", "Publish one"),
            failed("message.from", "none", "Write one"),
            Finding("dns.exists", Verdict.UNKNOWN, "no answer", "Look again"),
        )
    }
    assert len(outcomes) == 4
    assert all(f"`{outcome}`" in PAGE for outcome in outcomes)


def test_the_command_prints_that_shape_and_only_problems_shortens_findings_alone(tmp_path: Path) -> None:
    file = tmp_path / "letter.eml"
    file.write_bytes(without(b"Message-ID", LETTER))
    whole = CliRunner().invoke(app, ["check", "message", str(file), "--json"])
    short = CliRunner().invoke(app, ["check", "message", str(file), "--json", "--only-problems"])
    assert whole.exit_code == short.exit_code == 1
    everything, problems = json.loads(whole.output), json.loads(short.output)
    assert everything["counts"] == problems["counts"]
    assert everything["providers"] == problems["providers"]
    assert len(everything["findings"]) > len(problems["findings"])
    assert {each["verdict"] for each in problems["findings"]} == {"fail"}


@pytest.mark.parametrize(
    "arguments",
    [["message", "/no-such-file.eml"], ["domain", "not a domain"], ["send", "nobody"], ["send"]],
    ids=lambda arguments: arguments[0],
)
def test_what_could_not_begin_is_an_object_as_well(arguments: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--config", str(tmp_path / "none"), "check", *arguments, "--json"])
    assert done.exit_code == 2
    if arguments != ["send", "nobody"]:  # that one looks into the settings first
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["ok"] is False
        assert told["error"]
