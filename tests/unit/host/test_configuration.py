# Promise: an invalid rendering never replaces a working one; what a killed run began, the next one ends.

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from todoku.host.client import Completed, Host
from todoku.host.configuration import ConfigSet
from todoku.host.rendered import RenderedFile
from todoku.host.validation import DovecotValidation, PostfixValidation
from todoku.plan.resource import ChangeFailed

ME = pwd.getpwuid(os.geteuid()).pw_name
MINE = grp.getgrgid(os.getegid()).gr_name


@dataclass(frozen=True)
class Judge:
    """A validation that calls `judge` with the folder in which the files lie."""

    judge: Callable[[Path], list[str]]

    def problems(
        self,
        host: Host,
        stage: str,
        folder: str,
        files: tuple[RenderedFile, ...],
    ) -> list[str]:
        return self.judge(host.real(stage))


def valid(stage: Path) -> list[str]:
    return []


def configuration(judge: Callable[[Path], list[str]], **contents: str) -> ConfigSet:
    rendered = [RenderedFile(f"/etc/d/{name}", text, owner=ME, group=MINE) for name, text in contents.items()]
    return ConfigSet(
        name="d", folder="/etc/d", files=tuple(rendered), validation=Judge(judge), reason="a test"
    )


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    folder = tmp_path / "etc/d"
    folder.mkdir(parents=True)
    for name in ("main", "table"):
        (folder / name).write_text(f"old {name}")
        (folder / name).chmod(0o644)
    make = Host.make_directory
    monkeypatch.setattr(
        Host, "make_directory", lambda self, path, mode=0o755: make(self, path, mode, ME, MINE)
    )
    return Host(tmp_path)


def apply(wanted: ConfigSet, host: Host) -> None:
    change = wanted.differ(wanted.look(host))
    assert change is not None
    wanted.change(change, host)


def present(tmp_path: Path) -> dict[str, str]:
    return {entry.name: entry.read_text() for entry in (tmp_path / "etc/d").iterdir()}


def test_all_files_are_in_the_stage_when_they_are_judged_and_none_is_in_place_yet(
    host: Host, tmp_path: Path
) -> None:
    def judge(stage: Path) -> list[str]:
        assert {file.name: file.read_text() for file in stage.iterdir()} == {"main": "new", "table": "T"}
        assert (tmp_path / "etc/d/main").read_text() == "old main"
        return []

    apply(configuration(judge, main="new", table="T"), host)
    assert present(tmp_path) == {"main": "new", "table": "T"}


def test_an_invalid_set_replaces_nothing_and_says_why(host: Host, tmp_path: Path) -> None:
    wanted = configuration(lambda stage: [f"{stage}/main: line 1: nonsense"], main="new", table="T")
    with pytest.raises(ChangeFailed, match=r"nothing was replaced(.|\n)*/etc/d/main: line 1: nonsense"):
        apply(wanted, host)
    assert present(tmp_path) == {"main": "old main", "table": "old table"}


def test_a_run_killed_between_two_files_is_finished_by_the_next(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = configuration(valid, main="new", table="T")
    rename = Host.rename

    def dies_at_the_second(self: Host, source: str, target: str) -> None:
        if target.endswith("table"):
            raise KeyboardInterrupt
        rename(self, source, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Host, "rename", dies_at_the_second)
        apply(wanted, host)
    (tmp_path / "etc/d/.todoku-stage").mkdir()  # a real kill leaves it
    (tmp_path / "etc/d/.todoku-stage/junk").write_text("x")
    change = wanted.differ(wanted.look(host))
    assert change is not None
    assert "table" in change.summary
    wanted.change(change, host)
    assert present(tmp_path) == {"main": "new", "table": "T"}


def test_only_files_that_differ_are_replaced(host: Host, tmp_path: Path) -> None:
    before = (tmp_path / "etc/d/table").stat().st_ino
    apply(configuration(valid, main="new", table="old table"), host)
    assert present(tmp_path) == {"main": "new", "table": "old table"}
    assert (tmp_path / "etc/d/table").stat().st_ino == before


class Postfix(Host):
    """Answers as Postfix's tools do; `complaint`: what the program of that name prints as an error."""

    __slots__ = ("asked", "complaint")

    def __init__(self, root: Path, **complaint: str) -> None:
        super().__init__(root)
        object.__setattr__(self, "complaint", complaint)
        object.__setattr__(self, "asked", [])

    def run(self, args: Sequence[str], **_: object) -> Completed:  # type: ignore[override]
        self.asked.append(list(args))
        return Completed(tuple(args), 0, "", self.complaint.get(args[0], ""))


def judged(host: Postfix, **contents: str) -> list[str]:
    files = tuple(
        RenderedFile(f"/etc/postfix/{name.replace('_', '.')}", text) for name, text in contents.items()
    )
    return PostfixValidation().problems(host, "/stage", "/etc/postfix", files)


def test_a_warning_of_postconf_counts(tmp_path: Path) -> None:
    said = "postconf: warning: /stage/main.cf: unused parameter: foo=1"
    assert judged(Postfix(tmp_path, postconf=said), main_cf="") == [said]


def test_every_text_table_of_the_set_is_opened_in_the_stage(tmp_path: Path) -> None:
    host = Postfix(tmp_path)
    main = "a = cidr:/etc/postfix/a.cidr, lmdb:/var/lib/x\n# b = cidr:/etc/postfix/none.cidr\n"
    assert judged(host, main_cf=main, a_cidr="") == []
    assert ["postmap", "-c", "/stage", "-q", "todoku", "cidr:/stage/a.cidr"] in host.asked
    assert not any("none" in word or "/var/lib/x" in word for args in host.asked for word in args)


def test_a_table_that_nobody_writes_is_found_before_mail_arrives(tmp_path: Path) -> None:
    found = judged(Postfix(tmp_path), main_cf="a = texthash:/etc/postfix/b\nc = lmdb:/etc/postfix/d")
    assert found == [
        "lmdb:/etc/postfix/d is used, but there is no /etc/postfix/d.lmdb",
        "texthash:/etc/postfix/b is used, but there is no /etc/postfix/b",
    ]


def test_a_warning_of_doveconf_does_not_count_but_an_error_does(tmp_path: Path) -> None:
    validation = DovecotValidation()
    note = "doveconf: Warning: NOTE: You can get a new clean config file with: doveconf -Pn"
    fatal = "doveconf: Fatal: Error in configuration file /stage/dovecot.conf line 3: Unknown setting: foo"
    assert validation.problems(Postfix(tmp_path, doveconf=note), "/stage", "/etc/dovecot", ()) == []
    assert validation.problems(Postfix(tmp_path, doveconf=fatal), "/stage", "/etc/dovecot", ()) == [fatal]
