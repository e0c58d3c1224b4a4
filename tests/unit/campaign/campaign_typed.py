# What people type about campaigns, on a machine that has nothing but settings and two templates.

from __future__ import annotations

from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from todoku.cli.main import app

SETTINGS = """\
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "https://news.hoge.example"
"""
TEXT = "{{ name }}様\n<b>no tag</b>\n{{ unsubscribe }}\n"
HTML = (
    "<p onclick='alert(1)'>{{ name }}様</p><script>alert(2)</script><img src='https://elsewhere.example/a.png'>"
    "<a href='{{ unsubscribe }}'>配信停止</a>"
)


class Commands:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "todoku.toml").write_text(SETTINGS)
        (folder / "t.txt").write_text(TEXT)
        (folder / "t.html").write_text(HTML)

    def __call__(self, line: str, *more: str, typed: str = "") -> Result:
        arguments = ["--config", str(self.folder / "todoku.toml"), "campaign", *line.split(), *more]
        return CliRunner().invoke(app, arguments, input=typed)

    def done(self, line: str, *more: str, typed: str = "") -> str:
        result = self(line, *more, typed=typed)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refused(self, line: str, code: int, *more: str, typed: str = "") -> str:
        result = self(line, *more, typed=typed)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.stderr

    def create(self, *more: str, name: str = "spring") -> str:
        files = ("--text", str(self.folder / "t.txt"), "--html", str(self.folder / "t.html"))
        return self.done(f"create {name} --list news --subject Alpha", *files, *more)
