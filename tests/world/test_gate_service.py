# Promise: every message passes the gate, or waits; whatever happens to the gate, nothing is lost and nothing doubled.

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import World, wait

from todoku.rehearsal.internet.plan import STATE
from todoku.rehearsal.internet.plan_file import read
from todoku.rehearsal.outside import Letter, compose
from todoku.rehearsal.smtp.dialogue import Dialogue

PID_FILE = Path("/var/lib/todoku/gate/pid")
LOG = Path("/var/log/supervisor")
PROGRAM = "todoku-gate"
PLAN = STATE / "internet.json"


def parent() -> int:
    return int(PID_FILE.read_text())


def workers() -> list[int]:
    listed = Path(f"/proc/{parent()}/task/{parent()}/children").read_text()
    return [int(pid) for pid in listed.split()]


def supervisorctl(*arguments: str) -> str:
    done = subprocess.run(["supervisorctl", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def gate_log() -> str:
    return "".join(path.read_text(errors="replace") for path in sorted(LOG.glob(f"{PROGRAM}-stdout*.log")))


def stopped() -> bool:
    return not Path("/var/spool/postfix/todoku/gate").exists()


def wait_until_served(world: World) -> None:
    wait(lambda: Path("/var/spool/postfix/todoku/gate").exists() and len(workers()) > 1, "the gate's socket")


@pytest.fixture
def no_gate(world: World) -> Iterator[None]:
    """The gate is stopped for as long as the test takes."""
    supervisorctl("stop", PROGRAM)
    wait(stopped, "the end of the gate")
    yield
    supervisorctl("start", PROGRAM)
    wait_until_served(world)


class Load:
    """Bob gets mail from Alice over four connections, until it is enough; each refused message is tried again, as a
    mail server would."""

    def __init__(self, world: World, subject: str, each: int) -> None:
        self._world, self._subject, self._each = world, subject, each
        self.accepted: list[str] = []
        self.held_back: list[str] = []
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        for count in range(self._each):
            subject = f"{self._subject} {number} {count}"
            until = time.monotonic() + 60
            while not self._send(subject) and time.monotonic() < until:
                time.sleep(0.1)

    def _send(self, subject: str) -> bool:
        """True when there is no need to try again."""
        world, alice = self._world, self._world.alice
        try:
            with world.submission(alice) as smtp:
                for command in (f"MAIL FROM:<{alice.address}>", f"RCPT TO:<{world.bob.address}>"):
                    reply = smtp.say(command)
                    if reply.code != 250:
                        return self._note(subject, reply.code, str(reply))
                reply = smtp.message(f"From: {alice.address}\nSubject: {subject}\n\n{'x' * 70}\n")
                return self._note(subject, reply.code, str(reply))
        except (OSError, AssertionError) as error:
            return self._note(subject, 421, repr(error))

    def _note(self, subject: str, code: int, words: str) -> bool:
        if code == 250:
            self.accepted.append(subject)
            return True
        (self.held_back if code // 100 == 4 else self.wrong).append(f"{subject}: {words}")
        return code // 100 == 5


class ForwardedLoad(Load):
    """The same from Dave, who is outside, to an alias that leads to Carol, who is as well."""

    def __init__(self, world: World, subject: str, each: int, alias: str) -> None:
        super().__init__(world, subject, each)
        self._alias = alias

    def _send(self, subject: str) -> bool:
        world = self._world
        # The same message each time, as a mail server sends it again.
        message = (
            f"From: {world.dave}\nSubject: {subject}\nMessage-ID: <{subject.replace(' ', '.')}@x>\n\ntext\n"
        )
        try:
            with world.port_25() as smtp:
                for command in (f"MAIL FROM:<{world.dave}>", f"RCPT TO:<{self._alias}>"):
                    reply = smtp.say(command)
                    if reply.code != 250:
                        return self._note(subject, reply.code, str(reply))
                reply = smtp.message(message)
                return self._note(subject, reply.code, str(reply))
        except (OSError, AssertionError) as error:
            return self._note(subject, 421, repr(error))


def everything_arrived_once(world: World, load: Load, subject: str, wanted: int) -> None:
    assert load.wrong == []
    assert len(load.accepted) == wanted
    wait(lambda: world.count(world.bob, subject) >= wanted and not world.queue(), "all of the messages", 40)
    with world.imap(world.bob) as imap:
        imap.select("INBOX", readonly=True)
        numbers = imap.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
        fetched = imap.fetch(b",".join(numbers).decode(), "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    subjects = [part[1].decode().strip() for part in fetched if isinstance(part, tuple)]
    assert sorted(subjects) == sorted(f"Subject: {accepted}" for accepted in load.accepted)


def test_the_gate_runs_without_rights(world: World) -> None:
    for pid in (parent(), *workers()):
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert "0" not in status["Uid"].split()
        assert "0" not in status["Gid"].split()
        assert status["Groups"].split() == []
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Name"] == "todoku-gate"


def test_a_dead_gate_is_a_4xx_in_both_directions_and_mail_made_here_waits(
    world: World, no_gate: None
) -> None:
    for port, source, command, answer in (
        (587, None, "STARTTLS", "454 4.3.0 Try again later"),
        (
            25,
            world.outside_ip,
            f"MAIL FROM:<{world.dave}>",
            "451 4.7.1 Service unavailable - try again later",
        ),
    ):
        with Dialogue(world.ip, port, source=source, hostname=world.hostname) as smtp:
            smtp.say("EHLO mail.outside.example")
            assert str(smtp.say(command)) == answer
    subprocess.run(
        ["mailx", "-s", "made while the gate is away", world.carol], input="x\n", text=True, check=True
    )
    time.sleep(1)
    assert all(arrived.message["Subject"] != "made while the gate is away" for arrived in world.arrived())
    assert list(Path("/var/spool/postfix/maildrop").iterdir())


def test_what_waited_for_the_gate_leaves_once_it_is_back(world: World) -> None:
    # pickup(8) looks when something new is there, else once a minute.
    subprocess.run(["mailx", "-s", "another", world.carol], input="x\n", text=True, check=True)
    world.wait_for("made while the gate is away")


def test_a_killed_worker_under_load_loses_and_doubles_nothing(world: World) -> None:
    with Load(world, "worker", 15) as load:
        for _ in range(3):
            time.sleep(0.4)
            os.kill(workers()[0], signal.SIGKILL)
            wait(lambda: len(workers()) > 1, "another worker")
    everything_arrived_once(world, load, "worker", 60)


def test_a_killed_gate_under_load_loses_and_doubles_nothing(world: World) -> None:
    with Load(world, "whole gate", 15) as load:
        time.sleep(0.4)
        before = parent()
        for pid in (before, *workers()):
            os.kill(pid, signal.SIGKILL)
        wait(lambda: parent() != before and len(workers()) > 1, "another gate")
    everything_arrived_once(world, load, "whole gate", 60)


def test_a_killed_gate_loses_and_doubles_nothing_of_what_it_passes_on(world: World) -> None:
    # A copy is handed to Postfix before the writer's server hears "250": killed in between, it used to be sent twice.
    alias = f"shop@{world.domain}"
    assert world.todoku("alias", "add", alias, world.carol).returncode == 0
    try:
        time.sleep(1.1)
        with ForwardedLoad(world, "passed on", 20, alias) as load:
            for _ in range(3):
                time.sleep(0.35)
                os.kill(workers()[0], signal.SIGKILL)
                wait_until_served(world)
            time.sleep(0.35)
            before = parent()
            for pid in (before, *workers()):
                os.kill(pid, signal.SIGKILL)
            wait(lambda: parent() != before and len(workers()) > 1, "another gate")
        assert load.wrong == []
        assert len(load.accepted) == 80
        assert load.held_back  # or nothing was killed in the middle

        def subjects() -> list[str]:
            found = (str(arrived.message["Subject"]) for arrived in world.arrived())
            return sorted(subject for subject in found if subject.startswith("passed on "))

        wait(lambda: len(subjects()) >= 80 and not world.queue(), "all of the messages", 40)
        assert subjects() == sorted(load.accepted)
    finally:
        world.todoku("alias", "remove", alias)


def test_a_reload_during_a_message_does_not_disturb_it(world: World) -> None:
    before, said = parent(), gate_log().count("settings reloaded")
    with world.submission(world.alice) as smtp:
        smtp.say(f"MAIL FROM:<{world.alice.address}>")
        smtp.say(f"RCPT TO:<{world.bob.address}>")
        os.kill(before, signal.SIGHUP)
        wait(lambda: gate_log().count("settings reloaded") >= said + len(workers()), "the reload")
        reply = smtp.message(f"From: {world.alice.address}\nSubject: during a reload\n\ntext\n")
        assert reply.code == 250, reply
    assert world.read(world.bob, "during a reload")
    assert parent() == before


def test_a_second_apply_restarts_nothing_and_changed_settings_only_reload(
    world: World, settings_file: Path
) -> None:
    before = (parent(), workers(), PID_FILE.stat().st_mtime_ns)
    world.apply()
    assert (parent(), workers(), PID_FILE.stat().st_mtime_ns) == before
    settings_file.write_text(settings_file.read_text() + "\n# a comment\n")
    changed = world.apply()["changed"]
    watching = ["service:todoku-relay"] if "\n[cloud]\n" in settings_file.read_text() else []
    assert sorted(changed) == ["service:todoku-agent", "service:todoku-gate", *watching]
    assert (parent(), workers()) == before[:2]
    assert PID_FILE.stat().st_mtime_ns > before[2]


def test_the_client_is_hidden_in_what_our_people_send_and_only_there(world: World) -> None:
    # The relay removes these lines by itself; so it is looked at in a mailbox here.
    world.submit(world.alice, world.bob.address, "where from")
    lines = [" ".join(line.split()) for line in world.read(world.bob, "where from").get_all("Received", [])]
    ours = next(line for line in lines if "with ESMTPSA" in line)
    assert ours.startswith(f"by {world.hostname} (Postfix) with ESMTPSA id ")
    assert not any("laptop" in line for line in lines)
    assert world.outside_sends(world.bob.address, "from outside").returncode == 0
    lines = world.read(world.bob, "from outside").get_all("Received", [])
    assert any(world.outside_ip in line for line in lines)


def test_an_apply_takes_notice_of_a_gate_that_is_down(world: World) -> None:
    supervisorctl("stop", PROGRAM)
    wait(stopped, "the end of the gate")
    changed = world.apply()["changed"]
    assert "service:todoku-gate" in changed
    wait_until_served(world)


def memory(pid: int) -> int:
    """Proportional set size in bytes: what processes share counts once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def test_twenty_large_signed_messages_at_once_stay_under_300_mib_in_all_workers_together(
    world: World,
) -> None:
    content = compose(
        Letter(world.dave, (world.bob.address,), "ten MiB", ("x" * 76 + "\n") * 136_170), read(PLAN)
    )
    assert len(content) > 10 * 1024 * 1024
    replies: list[str] = []

    def deliver() -> None:
        with world.port_25() as smtp:
            smtp.be_patient(120)
            reply = None
            for _ in range(3):  # on a machine that is too slow to check all of them in time: 451
                smtp.say(f"MAIL FROM:<{world.dave}>")
                smtp.say(f"RCPT TO:<{world.bob.address}>")
                smtp.say("DATA")
                smtp.send(content + b".\r\n", shown="ten MiB")
                reply = smtp.reply()
                if reply.code != 451:
                    break
            replies.append(str(reply))

    threads = [threading.Thread(target=deliver) for _ in range(20)]
    for thread in threads:
        thread.start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, sum(map(memory, (parent(), *workers()))))
        time.sleep(0.05)
    assert [reply[:3] for reply in replies] == ["250"] * 20, replies
    print(f"at most {most / 1024 / 1024:.0f} MiB in {len(workers())} workers and their parent")
    assert 0 < most < 300 * 1024 * 1024
    wait(lambda: world.count(world.bob, "ten MiB") == 20, "all of them", 60)
