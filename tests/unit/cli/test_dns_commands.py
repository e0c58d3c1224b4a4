"""`todoku dns` shows what is, what should be and what the world sees, and what to type into a web console."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from todoku.cli import dns as dns_commands
from todoku.cli.parts.context import Context
from todoku.dns.client import Names
from todoku.dns.lookups import Lookups
from todoku.dns.manual import Manual
from todoku.plan.outputs import Outputs

app = typer.Typer()
app.add_typer(dns_commands.app, name="dns")
ZONE = "hoge.example"
SETTINGS = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[dns]
publisher = "manual"
"""


@app.callback()
def options(ctx: typer.Context, config: Path = Path("/nowhere/todoku.toml")) -> None:
    ctx.obj = Context(config)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "todoku.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], list[str]]:
    """What the domain's name server says: (name, type) -> values in presentation format."""
    records: dict[tuple[str, str], list[str]] = {
        (ZONE, "SOA"): [f"ns.{ZONE}. admin.{ZONE}. 1 2 3 4 5"],
        (ZONE, "NS"): [f"ns.{ZONE}."],
        (f"ns.{ZONE}", "A"): ["192.0.2.53"],
        ("ap.rp.oracleemaildelivery.com", "TXT"): ['"v=spf1 ip4:192.0.2.25 ~all"'],
    }
    lookups = Lookups(("192.0.2.53",), send=_Server(records).send)
    names = Names(Manual(lookups), lookups, Outputs(), (ZONE,))
    monkeypatch.setattr(dns_commands, "_client", lambda _settings, _remark: names)
    return records


class _Server:
    """One name server, which also answers for a resolver."""

    def __init__(self, records: dict[tuple[str, str], list[str]]) -> None:
        self.records = records

    def send(self, query: Any, _address: str, _port: int, _timeout: float) -> Any:
        import dns.flags
        import dns.message
        import dns.rdatatype
        import dns.rrset

        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        name = query.question[0].name.to_text(omit_final_dot=True)
        type_ = dns.rdatatype.to_text(query.question[0].rdtype)
        if values := self.records.get((name, type_)):
            reply.answer.append(dns.rrset.from_text_list(f"{name}.", 60, "IN", type_, values))
        else:
            soa = self.records[ZONE, "SOA"]
            reply.authority.append(dns.rrset.from_text_list(f"{ZONE}.", 60, "IN", "SOA", soa))
        return reply


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def last_line(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def all_right(zone: dict[tuple[str, str], list[str]]) -> None:
    zone |= {
        ("mx.hoge.example", "A"): ["203.0.113.10"],
        ("mx.hoge.example", "TXT"): ['"v=spf1 -all"'],
        (ZONE, "MX"): ["10 mx.hoge.example."],
        (ZONE, "TXT"): ['"v=spf1 include:ap.rp.oracleemaildelivery.com ~all"'],
        (f"_dmarc.{ZONE}", "TXT"): ['"v=DMARC1; p=none"'],
    }


def test_when_all_is_right_check_says_so_with_code_0(
    file: Path, zone: dict[tuple[str, str], list[str]]
) -> None:
    all_right(zone)
    result = run("--config", file, "dns", "check")
    assert result.exit_code == 0, result.output
    assert "All 5 record sets are published" in result.stdout
    assert last_line(run("--config", file, "dns", "check", "--json"))["ok"] is True


def test_what_is_missing_is_shown_in_three_columns_and_check_fails(
    file: Path, zone: dict[tuple[str, str], list[str]]
) -> None:
    all_right(zone)
    del zone[f"_dmarc.{ZONE}", "TXT"]
    zone[ZONE, "TXT"] = ['"v=spf1 mx -all"']
    result = run("--config", file, "dns", "check")
    assert result.exit_code == 1
    for text in ("published", "wanted", "seen", "v=spf1 mx -all", "v=DMARC1; p=none", "missing", "different"):
        assert text in result.stdout
    assert "2 of 5 record sets are not right" in result.stdout
    rows = {
        (row["name"], row["type"]): row
        for row in last_line(run("--config", file, "dns", "show", "--json"))["records"]
    }
    spf = rows[ZONE, "TXT"]
    assert spf["wanted"] == ['"v=spf1 mx include:ap.rp.oracleemaildelivery.com -all"']
    assert spf["published"] == spf["seen"] == ['"v=spf1 mx -all"']


def test_zone_prints_what_to_paste_in_both_forms(file: Path, zone: dict[tuple[str, str], list[str]]) -> None:
    all_right(zone)
    del zone[f"_dmarc.{ZONE}", "TXT"]
    result = run("--config", file, "dns", "zone")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert '_dmarc.hoge.example. 3600 IN TXT "v=DMARC1; p=none"' in lines
    assert "name   _dmarc" in lines
    assert "or, where the console wants the whole name: _dmarc.hoge.example." in lines
    assert "value  v=DMARC1; p=none" in lines
    assert not any("MX" in line for line in lines)  # published already
    assert "10 mx.hoge.example." in run("--config", file, "dns", "zone", "--all").stdout


def test_a_conflict_is_told_with_the_way_out(file: Path, zone: dict[tuple[str, str], list[str]]) -> None:
    all_right(zone)
    zone[ZONE, "MX"] = ["1 aspmx.elsewhere.example."]
    result = run("--config", file, "dns", "show")
    assert result.exit_code == 0
    assert "conflict" in result.stdout and "--force" in result.stdout


def test_check_waits_and_tells_what_for(
    file: Path, zone: dict[tuple[str, str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_right(zone)
    mx = zone.pop((ZONE, "MX"))
    monkeypatch.setattr(dns_commands.time, "sleep", lambda _seconds: zone.update({(ZONE, "MX"): mx}))
    result = run("--config", file, "dns", "check", "--wait", "60")
    assert result.exit_code == 0
    assert "hoge.example MX (missing)" in result.stdout


def test_without_a_dns_table_it_says_what_to_write(file: Path) -> None:
    file.write_text(SETTINGS.partition("[dns]")[0])
    result = run("--config", file, "dns", "show")
    assert result.exit_code == 2
    assert 'publisher = "manual"' in result.stderr
