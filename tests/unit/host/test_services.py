# Promise: a service is restarted when its configuration is newer than it, and only then.

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host import managers, services
from todoku.host.processes import Listener, Process, listeners, main_process
from todoku.host.services import DOVECOT, Service, ServiceSeen, taken
from todoku.plan.resource import Action, Change, ChangeFailed, LookFailed

CONFIGURATION = "/etc/dovecot/dovecot.conf"
ANY = "00000000"


@dataclass(frozen=True)
class Manager:
    """Remembers what it was asked; `restarts` is what happens on the machine."""

    asked: list[str] = field(default_factory=list)
    restarts: Callable[[], None] = lambda: None

    def enabled(self, *_: object, **__: object) -> bool:
        return True

    def runs(self, *_: object, **__: object) -> bool:
        return True

    def enable(self, *_: object, **__: object) -> None:
        self.asked.append("enable")

    def restart(self, *_: object, **__: object) -> None:
        self.asked.append("restart")
        self.restarts()

    def said(self, *_: object, **__: object) -> str:
        return "Fatal: something is wrong"


def service(manager: Manager | None = None) -> Service:
    return Service(
        daemon=DOVECOT, manager=manager or Manager(), configuration=(CONFIGURATION,), reason="a test"
    )


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    made = FakeMachine(tmp_path)
    for path in (CONFIGURATION, DOVECOT.pid_file):
        made.real(path).parent.mkdir(parents=True, exist_ok=True)
    made.real(CONFIGURATION).write_text("x")
    return made


def runs(machine: FakeMachine, started: float, pid: int = 77, name: str = "dovecot") -> None:
    machine.process(pid, name, started, 5000 + pid)
    machine.real(DOVECOT.pid_file).write_text(f"{pid}\n")


def test_what_started_after_its_configuration_is_left_alone(machine: FakeMachine) -> None:
    runs(machine, time.time() + 0.3)
    assert service().differ(service().look(machine)) is None


def test_what_started_before_its_configuration_changed_is_restarted(machine: FakeMachine) -> None:
    runs(machine, time.time() - 60)
    change = service().differ(service().look(machine))
    assert change is not None
    assert change.summary == f"restart dovecot: {CONFIGURATION} changed after it was started"


def test_what_only_workers_read_asks_for_a_restart_until_they_are_new(machine: FakeMachine) -> None:
    table = "/etc/dovecot/table"
    runs(machine, time.time() + 0.3)
    made = replace(service(), read_by=((table, "worker"),))
    machine.real(table).write_text("x")
    assert made.look(machine).newer == ""  # nobody has read it
    machine.process(78, "worker", time.time() - 60, parent=1)
    assert made.look(machine).newer == ""  # somebody else's
    machine.process(79, "worker", time.time() + 0.3, parent=77)
    assert made.look(machine).newer == ""  # it started afterwards
    machine.process(80, "worker", time.time() - 60, parent=77)
    assert made.look(machine).newer == table


def test_a_file_with_an_old_time_of_modification_counts_from_when_it_was_put_in_place(
    machine: FakeMachine,
) -> None:
    os.utime(machine.real(CONFIGURATION), (1, 1))  # as of a file unpacked from an archive
    runs(machine, time.time() - 60)
    assert service().look(machine).newer == CONFIGURATION


def test_a_pid_file_that_names_another_program_does_not_count(machine: FakeMachine) -> None:
    runs(machine, time.time(), name="some (odd) name")
    assert service().look(machine).process is None
    assert main_process(machine, DOVECOT.pid_file, "some (odd) name") is not None


def test_postfix_pads_its_pid_file_with_spaces(machine: FakeMachine) -> None:
    runs(machine, time.time())
    machine.real(DOVECOT.pid_file).write_text("              77\n")
    assert service().look(machine).process is not None


def test_each_state_has_its_change() -> None:
    process = Process(77, "dovecot", 0.0)
    assert service().differ(ServiceSeen(process)) is None
    expected = {
        ServiceSeen(None): (Action.RUN, "start dovecot"),
        ServiceSeen(process, managed=False): (Action.RUN, "not started by the service manager"),
        ServiceSeen(process, enabled=False): (Action.UPDATE, "started at boot"),
    }
    for seen, (action, words) in expected.items():
        change = service().differ(seen)
        assert change is not None
        assert change.action is action
        assert words in change.summary


def test_without_a_service_manager_it_is_said_what_to_do(machine: FakeMachine) -> None:
    nobody = Service(daemon=DOVECOT, manager=None, configuration=(), reason="a test")
    with pytest.raises(LookFailed, match=r"neither systemd nor supervisord(.|\n)*start supervisord first"):
        nobody.look(machine)


def test_a_port_that_is_taken_is_told_with_the_program_and_nothing_is_restarted(machine: FakeMachine) -> None:
    machine.listeners((ANY, 993, 4711))
    machine.process(99, "courier", time.time() - 60, 4711)
    manager = Manager()
    with pytest.raises(ChangeFailed, match=r"port 993 is held by courier \(process 99\)"):
        service(manager).change(Change(Action.RUN, "start"), machine)
    assert manager.asked == []


def test_its_own_port_is_not_taken(machine: FakeMachine) -> None:
    runs(machine, time.time() - 60, pid=77)
    machine.listeners((ANY, 993, 5077))

    def restarted() -> None:
        runs(machine, time.time(), pid=78)
        machine.listeners((ANY, 993, 5078))

    manager = Manager(restarts=restarted)
    service(manager).change(Change(Action.RUN, "restart"), machine)
    assert manager.asked == ["restart"]


def test_what_does_not_come_up_is_told_with_the_log(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_PATIENCE", 0.1)
    machine.listeners()
    with pytest.raises(ChangeFailed, match=r"does not run(.|\n)*Fatal: something is wrong"):
        service().change(Change(Action.RUN, "start"), machine)


def test_the_plan_says_why_a_restart_follows() -> None:
    assert service().triggered({"configuration:dovecot"}).summary == (
        "restart dovecot: configuration:dovecot changes"
    )


def test_only_what_leaves_no_room_is_taken() -> None:
    here, there, any4, any6 = (
        IPv4Address("203.0.113.10"),
        IPv4Address("198.51.100.25"),
        IPv4Address("0.0.0.0"),
        IPv6Address("::"),
    )
    sockets = [Listener(address, 25, 1) for address in (here, there, any4, any6)] + [Listener(here, 80, 2)]
    assert [found.address for found in taken(sockets, (25,), (here,))] == [here, any4, any6]
    assert len(taken(sockets, (25,), ())) == 4


def test_addresses_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.listeners(("0100007F", 25, 7), ("B80D0120000000000000000001000000", 993, 8))
    assert listeners(machine) == (
        Listener(IPv4Address("127.0.0.1"), 25, 7),
        Listener(IPv6Address("2001:db8::1"), 993, 8),
    )


def test_supervisord_gets_the_process_itself_so_that_a_stop_stops_it() -> None:
    # Under `postfix start-fg` the signal ends a shell and leaves master(8) behind.
    assert "exec /usr/lib/postfix/sbin/master -d" in managers.program("postfix").content
    assert "start-fg" not in managers.program("postfix").content
