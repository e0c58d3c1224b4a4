# Promise: no daemon starts half-configured while packages are installed; every failure says what to do.

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_machine import Answer, FakeMachine

from todoku.host import packages
from todoku.host.packages import POLICY, POLICY_CONTENT, Packages, PackagesSeen
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed

WANTED = Packages(names=("postfix", "dovecot-core"), reason="a test")
INSTALL = Change(Action.CREATE, "install")
APT = " ".join(packages._APT)
NOTHING = [(1, "", "dpkg-query: no packages found matching postfix")]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what is written belongs to root")


@pytest.fixture(autouse=True)
def sbin(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)


def installing(tmp_path: Path, *answers: Answer) -> FakeMachine:
    return FakeMachine(
        tmp_path,
        {
            f"{APT} install -y": list(answers),
            "dpkg-query": NOTHING,
            "apt-cache": [(0, "  Candidate: 3.7\n", "")],
        },
    )


def test_only_what_is_missing_is_listed() -> None:
    change = WANTED.differ(PackagesSeen(frozenset({"postfix"}), left_over_policy=False))
    assert change is not None
    assert change.summary == "install dovecot-core"
    assert WANTED.differ(PackagesSeen(frozenset(WANTED.names), left_over_policy=False)) is None


def test_a_package_that_is_only_unpacked_is_not_installed(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, {"dpkg-query": [(0, "postfix\tiU \ndovecot-core\tii \n", "")]})
    assert WANTED.look(machine).installed == {"dovecot-core"}


def test_no_daemon_may_start_while_apt_works_and_afterwards_everything_is_as_before(tmp_path: Path) -> None:
    machine = installing(tmp_path, (0, "", ""))
    during: list[bytes | None] = []
    answer = FakeMachine.run

    class Watched(FakeMachine):
        def run(self, args, **options):  # type: ignore[no-untyped-def]
            during.append(self.read(POLICY))
            return answer(self, args, **options)

    watched = Watched(tmp_path, machine.answers)
    WANTED.change(INSTALL, watched)
    assert during[-1] == POLICY_CONTENT
    assert watched.read(POLICY) is None
    assert (tmp_path / "usr/sbin").is_dir()


def test_postfix_is_told_to_write_no_configuration_of_its_own(tmp_path: Path) -> None:
    machine = installing(tmp_path, (0, "", ""))
    WANTED.change(INSTALL, machine)
    assert "debconf-set-selections" in machine.asked


def test_the_policy_of_somebody_else_is_respected(tmp_path: Path) -> None:
    theirs = b"#!/bin/sh\nexit 101\n"
    machine = installing(tmp_path, (0, "", ""))
    machine.real(POLICY).write_bytes(theirs)
    WANTED.change(INSTALL, machine)
    assert machine.read(POLICY) == theirs
    assert not WANTED.look(machine).left_over_policy


def test_after_a_failure_the_policy_is_gone_as_well(tmp_path: Path) -> None:
    machine = installing(tmp_path, (100, "", "E: broken"))
    with pytest.raises(ChangeFailed, match="E: broken"):
        WANTED.change(INSTALL, machine)
    assert machine.read(POLICY) is None


def test_what_a_killed_run_left_is_removed_even_when_nothing_is_missing(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path, {"dpkg-query": [(0, "postfix\tii \ndovecot-core\tii \n", "")]})
    machine.real(POLICY).write_bytes(POLICY_CONTENT)
    change = WANTED.differ(WANTED.look(machine))
    assert change is not None
    WANTED.change(change, machine)
    assert WANTED.differ(WANTED.look(machine)) is None


def test_an_interrupted_dpkg_is_finished_first(tmp_path: Path) -> None:
    interrupted = (
        "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem."
    )
    machine = installing(tmp_path, (100, "", interrupted), (0, "", ""))
    WANTED.change(INSTALL, machine)
    assert [line.split()[0] for line in machine.asked[-3:]] == ["apt-get", "dpkg", "apt-get"]


def test_lists_are_fetched_only_when_they_lack_something(tmp_path: Path) -> None:
    machine = installing(tmp_path, (0, "", ""))
    WANTED.change(INSTALL, machine)
    assert not any(line.endswith("update") for line in machine.asked)
    empty = installing(tmp_path, (0, "", ""))
    empty.answers["apt-cache"] = [(0, "  Candidate: (none)\n", "")]
    WANTED.change(INSTALL, empty)
    assert any(line.endswith("update") for line in empty.asked)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("E: Failed to fetch http://x  Temporary failure resolving 'x'", "could not reach its servers"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend", "another package program runs"),
        ("E: Unable to locate package postfix", "does not know these packages"),
    ],
)
def test_each_failure_says_what_it_is_and_quotes_apt(tmp_path: Path, said: str, words: str) -> None:
    machine = installing(tmp_path, (100, "", said))
    with pytest.raises(ChangeFailed, match=words) as failure:
        WANTED.change(INSTALL, machine)
    assert said in str(failure.value)
    assert len(machine.asked) < 10  # bounded


def test_another_mail_server_is_named_not_removed(tmp_path: Path) -> None:
    every = (
        "exim4-base\tii \texim4\t\n"
        "exim4-daemon-light\tii \texim4\tmail-transport-agent, default-mta\n"
        "ssmtp\trc \tssmtp\tmail-transport-agent\n"
    )
    machine = FakeMachine(
        tmp_path,
        {
            "dpkg-query -W -f ${Package}\t${db:Status-Abbrev}\t${source": [(0, every, "")],
            "dpkg-query": NOTHING,
        },
    )
    with pytest.raises(LookFailed, match=r"apt-get remove exim4-base exim4-daemon-light$"):
        WANTED.look(machine)


def test_what_is_wanted_is_there_for_the_rehearsal_to_fetch_beforehand() -> None:
    from todoku.settings import parse

    text = (
        'hostname = "mx.hoge.example"\naddresses = "203.0.113.10"\npostmaster = "alice@hoge.example"\n'
        '[[domains]]\nname = "hoge.example"\n[relay]\nregion = "ap-tokyo-1"\n'
    )
    names = packages.wanted(parse(text, "todoku.toml"))
    assert {"postfix", "postfix-lmdb", "dovecot-imapd", "dovecot-lmtpd", "libsasl2-modules"} <= set(names)
