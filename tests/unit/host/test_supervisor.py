# In a container nobody but supervisord keeps the daemons running: what we ask of it is asked of a real one here.

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from todoku.host.client import Host
from todoku.host.facts import _service_manager
from todoku.host.managers import Supervisord, program
from todoku.host.supervisor import Supervisor, SupervisorError

_CONFIGURATION = """\
[unix_http_server]
file={folder}/run/supervisor.sock
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={folder}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = {folder}/conf.d/*.conf
"""
_PROGRAM = """\
[program:todoku-postfix]
command=/bin/sh -c "echo started {word}; exec sleep 300"
startsecs=2
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A machine whose supervisord is real, and that has no program yet."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "run").mkdir()
    configuration = tmp_path / "supervisord.conf"
    configuration.write_text(_CONFIGURATION.format(folder=tmp_path))
    process = subprocess.Popen([Path(sys.executable).parent / "supervisord", "-c", configuration])
    try:
        _wait(lambda: Supervisor(tmp_path / "run/supervisor.sock").answers())
        yield Host(tmp_path)
    finally:
        process.terminate()
        process.wait()


def _wait(done: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _write(host: Host, word: str) -> None:
    host.real("/conf.d/postfix.conf").write_text(_PROGRAM.format(word=word))


def _pid(host: Host) -> int | None:
    return Supervisor(host.real("/run/supervisor.sock")).pid("todoku-postfix")


def test_it_is_found(host: Host) -> None:
    assert _service_manager(host) == "supervisord"


def test_a_program_that_it_does_not_know_is_not_enabled(host: Host) -> None:
    assert not Supervisord().enabled(host, "postfix")


@pytest.mark.parametrize("name", ["postfix", "dovecot"])
def test_one_that_dies_again_and_again_is_started_again_and_again(host: Host, name: str) -> None:
    starts = host.real(f"/{name}-starts")
    section = program(name).content
    command = re.sub("(?m)^command=.*$", f'command=/bin/sh -c "echo once more >>{starts}"', section)
    host.real(f"/conf.d/{name}.conf").write_text(command)
    Supervisord().restart(host, name)
    _wait(
        lambda: starts.exists() and len(starts.read_text().splitlines()) >= 5, 60
    )  # it would give up after four


def test_a_new_section_is_taken_in_and_started_without_waiting_for_startsecs(host: Host) -> None:
    _write(host, "once")
    Supervisord().restart(host, "postfix")
    _wait(lambda: _pid(host))
    assert Supervisord().enabled(host, "postfix")
    _wait(lambda: "started once" in Supervisord().said(host, "postfix"))


def test_the_same_section_means_a_restart(host: Host) -> None:
    _write(host, "once")
    Supervisord().restart(host, "postfix")
    _wait(lambda: _pid(host))
    before = _pid(host)
    Supervisord().restart(host, "postfix")
    _wait(lambda: _pid(host) not in (0, before))


def test_a_changed_section_is_what_runs_afterwards(host: Host) -> None:
    _write(host, "once")
    Supervisord().restart(host, "postfix")
    _wait(lambda: _pid(host))
    _write(host, "twice")
    Supervisord().restart(host, "postfix")
    _wait(lambda: "started twice" in Supervisord().said(host, "postfix"))


def test_a_stopped_program_is_started(host: Host) -> None:
    _write(host, "once")
    Supervisord().restart(host, "postfix")
    _wait(lambda: _pid(host))
    control = [
        Path(sys.executable).parent / "supervisorctl",
        "-s",
        f"unix://{host.real('/run/supervisor.sock')}",
    ]
    subprocess.run([*control, "stop", "todoku-postfix"], check=True, capture_output=True)
    assert _pid(host) == 0
    Supervisord().restart(host, "postfix")
    _wait(lambda: _pid(host))


def test_a_program_that_cannot_be_known_is_refused_in_words(host: Host) -> None:
    with pytest.raises(SupervisorError, match=r"(start|stop)Process todoku-postfix"):
        Supervisord().restart(host, "postfix")


def test_without_supervisord_the_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(SupervisorError, match=r"does not answer at .*supervisor\.sock"):
        Supervisord().enabled(Host(tmp_path), "postfix")


def test_a_program_that_is_stopped_is_forgotten_and_may_come_back(host: Host, tmp_path: Path) -> None:
    section = tmp_path / "etc/supervisor/conf.d/todoku-postfix.conf"
    section.parent.mkdir(parents=True)
    section.symlink_to(tmp_path / "conf.d/todoku-postfix.conf")
    (tmp_path / "conf.d/todoku-postfix.conf").write_text(_PROGRAM.format(word="first"))
    manager = Supervisord()
    manager.restart(host, "postfix")
    assert manager.kept(host, "postfix")
    manager.stop(host, "postfix")
    assert not section.is_symlink()
    assert not manager.kept(host, "postfix")
    manager.stop(host, "postfix")  # what is not there is no trouble
    section.symlink_to(tmp_path / "conf.d/todoku-postfix.conf")
    manager.restart(host, "postfix")
    assert manager.kept(host, "postfix")
