# Promise: the README's steps, followed in a fresh Debian that boots with systemd, end with mail that flows; and it
# flows again after a reboot. tests/machine/test_booted_systemd.py starts this, in a world of its own, where the
# machine takes the place of the world's own server, with its name and addresses: everybody believes it to be that.

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import socket
import ssl
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import documented
import pytest
from conftest import OFFICE, Account, World, wait
from cryptography import x509
from database_elsewhere import NAME, ROLE, Elsewhere, elsewhere

from todoku.rehearsal.internet import authority
from todoku.rehearsal.internet.plan import OFFICE_GATEWAY, SERVER6

ROOT = Path(os.environ.get("BOOTED_ROOT", "/nonexistent"))
LINK = "server"  # the network namespace that the machine boots in
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
PASSWORD = "a pass phrase of some length"
ANSWERS = {
    "Your mail domain": "hoge.example",
    "Name of this server": "",  # as proposed
    "Region of Oracle's cloud": "ap-tokyo-1",
    "Who has your DNS": "oci",
    "Who is postmaster": "alice@hoge.example",
}
CONSOLE = Path("/run/console.log")
REBOOT = 133  # systemd-nspawn's exit code when it is asked for, and a service manager has to start it again
WORST_EXPOSURE = 2.5  # of systemd-analyze security: 0 is locked up, 10 is open


class Machine:
    """A system that was booted by systemd-nspawn. Its root is the world's throw-away copy of `ROOT`."""

    def __init__(self) -> None:
        # Its own service manager has to have the unified hierarchy, and the world has no cgroups mounted.
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], check=True)
        self.boot()

    def boot(self) -> None:
        """Start it, and wait until it has come up."""
        command = [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"),
            *("--machine=mx", "--resolv-conf=off", "--link-journal=no"),
            *(f"--network-namespace-path=/run/netns/{LINK}", f"--directory={ROOT}"),
        ]
        with CONSOLE.open("wb") as console:
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        listed = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")

        def find() -> int | None:
            assert self._process.poll() is None, f"it ended:\n{CONSOLE.read_text(errors='replace')}"
            children = [int(child) for child in listed.read_text().split()]
            return next((c for c in children if Path(f"/proc/{c}/comm").read_text() == "systemd\n"), None)

        self.init = wait(find, "the machine's systemd", 30)

        def is_up() -> bool:
            state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
            return state in ("running", "degraded")

        wait(is_up, "the end of the start", 60)

    def _entered(self, *command: str) -> list[str]:
        # REQUESTS_CA_BUNDLE: Oracle's SDK trusts no other authorities than its own list, and the world's is not on it.
        return [
            *("nsenter", "--target", str(self.init), "--all", "--wdns=/", "--", "env", "-i", "HOME=/root"),
            *("LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            *(f"REQUESTS_CA_BUNDLE={BUNDLE}", *command),
        ]

    def run(
        self, *command: str, check: bool = True, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._entered(*command), capture_output=True, text=True, timeout=seconds, check=False
        )
        assert not check or done.returncode == 0, (
            f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def typed(self, line: str, answers: dict[str, str]) -> str:
        """Type a line into a shell at a terminal, and an answer when a question comes. Returns what was shown."""
        pid, terminal = pty.fork()
        if pid == 0:
            command = self._entered("sh", "-c", line)
            os.execvp(command[0], command)  # noqa: S606
        shown, waiting = "", dict(answers)
        while True:
            ready, _, _ = select.select([terminal], [], [], 120)
            assert ready, f"{line} says nothing any more:\n{shown}"
            try:
                shown += os.read(terminal, 4096).decode(errors="replace")
            except OSError:  # the other end is closed: it has ended
                break
            for question in [question for question in waiting if question in shown]:
                answer = waiting.pop(question)
                if answer == PASSWORD:  # what was typed before the echo is off is thrown away
                    wait(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO, "a hidden prompt")
                os.write(terminal, f"{answer}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code == 0, f"{line}: {code}\n{shown}"
        assert not waiting, f"{line} did not ask {list(waiting)}:\n{shown}"
        return shown

    def reboot(self) -> None:
        self.run("systemctl", "reboot", check=False)
        assert self._process.wait(90) == REBOOT
        self.boot()

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout


class Server(World):
    """The world, seen by those who talk to the booted machine."""

    def __init__(self, described: dict[str, Any], machine: Machine) -> None:
        super().__init__(described)
        self.machine = machine

    def certificate(self) -> str:
        """Where everybody here finds the machine's certificate, which is new after its first start."""
        copy = Path("/run/server.pem")
        copy.write_text(self.machine.read("/etc/todoku/tls/self-signed.pem"))
        return str(copy)

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate())


def take_the_servers_place(world: World) -> None:
    """The world's own server falls silent; its addresses are at the other end of a link."""
    for program in ("todoku-postfix", "todoku-dovecot", "todoku-gate"):
        subprocess.run(["supervisorctl", "stop", program], check=True, capture_output=True)
    for family in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", family).write_text("1")
    shown = subprocess.run(
        ["ip", "-j", "-4", "addr", "show", "dev", "lo"], capture_output=True, check=True
    ).stdout
    others = [each["local"] for each in json.loads(shown)[0]["addr_info"] if each["local"] != world.ip]
    # Routes that name the server's address as their source go with it.
    restored = "".join(
        f"route replace local {a} dev lo table local src {a}\n" for a in others if a != "127.0.0.1"
    )
    ours = f"""\
addr del {world.ip}/32 dev lo
addr del {SERVER6}/128 dev lo
netns add {LINK}
link add to-server type veth peer name host0 netns {LINK}
addr add fe80::1/64 dev to-server nodad
link set to-server up
route add {world.ip} dev to-server src {OFFICE_GATEWAY}
route add {SERVER6} dev to-server
{restored}"""
    theirs = f"""\
link set lo up
addr add {world.ip}/32 dev host0
addr add {SERVER6}/128 dev host0 nodad
link set host0 up
route add {OFFICE_GATEWAY} dev host0
route add default via {OFFICE_GATEWAY} dev host0
route add default via fe80::1 dev host0
"""
    for batch, options in ((ours, ()), (theirs, ("-netns", LINK))):
        subprocess.run(["ip", *options, "-batch", "-"], input=batch, text=True, check=True)


def _a_new_machine(world: World) -> None:
    """What a machine has before Todoku comes: a name, a resolver, and here the world's authorities and API key."""
    ROOT.joinpath("etc/hostname").write_text(f"{world.hostname}\n")
    ROOT.joinpath("etc/hosts").write_text(f"127.0.0.1 localhost\n{world.ip} {world.hostname}\n")
    ROOT.joinpath("etc/resolv.conf").write_text(f"nameserver {OFFICE_GATEWAY}\n")
    bundle = ROOT / BUNDLE.lstrip("/")
    bundle.write_text(bundle.read_text() + Path(world.described["ca"]).read_text())
    config = Path(world.described["cloud"]["config_file"]).read_text()
    key = Path(re.findall(r"(?m)^key_file=(.*)$", config)[0])
    ROOT.joinpath("root/.oci").mkdir(mode=0o700, exist_ok=True)
    ROOT.joinpath("root/.oci/config").write_text(config.replace(str(key), "/root/.oci/api_key.pem"))
    shutil.copy(key, ROOT / "root/.oci/api_key.pem")


def _follow_the_readme(machine: Machine) -> None:
    for line in os.environ["README"].splitlines():
        if line.startswith("todoku rehearse"):
            continue  # a world within this world: tests/machine has its own tests of that
        if line == "todoku init":
            machine.typed(line, ANSWERS)
        elif line == "todoku apply":
            machine.typed(line, {"Apply this?": "y"})
        elif line.startswith("todoku account add"):
            machine.typed(line, {"New password": PASSWORD, "The same once more": PASSWORD})
        else:
            machine.run("sh", "-c", line)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    described = json.loads(Path(os.environ["TODOKU_WORLD"]).read_text())
    world = World(described)
    take_the_servers_place(world)
    _a_new_machine(world)
    machine = Machine()
    _follow_the_readme(machine)
    yield Server(described, machine)
    if request.session.testsfailed:
        print(machine.run("journalctl", "--lines=100", "--no-pager").stdout)


ALICE = Account("alice@hoge.example", "alice@hoge.example", PASSWORD)


def _from_the_office(server: Server, subject: str) -> None:
    from_the_office = [
        *OFFICE, "env", f"SSL_CERT_FILE={server.certificate()}", "python", "-c", _SUBMIT, server.hostname,
        ALICE.login, PASSWORD, server.carol, subject,
    ]  # fmt: skip
    done = subprocess.run(from_the_office, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def _mail_flows(server: Server, number: str) -> None:
    """From the office to the provider, and from outside into the mailbox."""
    _from_the_office(server, f"out {number}")
    arrived = server.wait_for(f"out {number}", 60)
    assert arrived.judged["dmarc"]["result"] == "pass"
    assert arrived.judged["header_from"] == ALICE.address
    sent = server.outside_sends(ALICE.address, f"in {number}")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert server.read(ALICE, f"in {number}", 60)["From"]


_SUBMIT = """
import smtplib, ssl, sys
host, login, password, to, subject = sys.argv[1:]
with smtplib.SMTP(host, 587, timeout=30) as smtp:
    smtp.starttls(context=ssl.create_default_context())
    smtp.login(login, password)
    smtp.sendmail(login, [to], f"From: {login}\\r\\nTo: {to}\\r\\nSubject: {subject}\\r\\n\\r\\nhello\\r\\n")
"""


def test_the_first_hour_goes_on_where_the_readme_ends(server: Server) -> None:
    done = set(os.environ["README"].splitlines())
    left = [line for line in documented.block("first-hour.md", "todoku init") if line not in done]
    assert left == ["todoku account setup alice@hoge.example", "todoku status"]
    for line in left:
        assert server.machine.run("sh", "-c", line).stdout


def test_nothing_is_left_to_do_and_mail_flows(server: Server) -> None:
    done = server.machine.run("todoku", "plan", "--check", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    _mail_flows(server, "first")


def test_todokus_own_services_are_locked_up(server: Server) -> None:
    _are_locked_up(server, "todoku-gate.service", "todoku-way-out.service")


def _are_locked_up(server: Server, *expected: str) -> None:
    """All of ours that there are units for, also those that a timer or a path starts; among them these."""
    listed = server.machine.run("sh", "-c", "cd /etc/systemd/system && ls todoku-*.service").stdout.split()
    assert set(expected) <= set(listed)
    for unit in listed:
        said = server.machine.run("systemd-analyze", "security", "--no-pager", unit).stdout
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert found is not None, said
        print(unit, found[1])
        assert float(found[1]) <= WORST_EXPOSURE, said


DATABASE_PASSWORD = "eleven%horses'on \"staples"
BULK = """
[campaign]
sender = "news@hoge.example"
sender_name = "Hoge"
url = "https://news.hoge.example"
"""


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Elsewhere]:
    """On another machine, for the ledger and bulk mail of this one, set up as docs/database.md says."""
    with elsewhere((), str(OFFICE_GATEWAY), DATABASE_PASSWORD) as there:
        hosts, config = ROOT / "etc/hosts", ROOT / "etc/todoku/todoku.toml"
        hosts.write_text(f"{hosts.read_text()}{OFFICE_GATEWAY} {NAME}\n")
        ROOT.joinpath("etc/ssl/db.pem").write_bytes(there.authority.read_bytes())
        keys = {}
        for name in ("ledger", "campaign"):
            file = ROOT / f"etc/todoku/secrets/{name}-database"
            file.touch(mode=0o600)
            file.write_text(f"{DATABASE_PASSWORD}\n")
            keys[name] = (
                f'database = "postgresql://{ROLE}@{NAME}/{name}?sslrootcert=/etc/ssl/db.pem"\n'
                f'database_password_file = "/etc/todoku/secrets/{name}-database"\n'
            )
        text = config.read_text()
        text = text if "\n[ledger]\n" in text else f"{text}\n[ledger]\n"
        text = text.replace("\n[ledger]\n", f"\n[ledger]\n{keys['ledger']}")
        config.write_text(f"{text}{BULK}{keys['campaign']}")
        server.machine.run("todoku", "apply", "--yes", seconds=300)
        yield there


def _stays_up(machine: Machine, unit: str) -> None:
    """It may have been started again while the database was not there yet, but it does not go on like that."""

    def shown() -> str:
        asked = ("systemctl", "show", "--property=ActiveState,MainPID,NRestarts", unit)
        return machine.run(*asked).stdout

    begun = shown()
    deadline = time.monotonic() + 12  # twice the time after which systemd starts it again
    while time.monotonic() < deadline:
        assert "ActiveState=active" in begun, machine.run("journalctl", "-u", unit, "-n", "40").stdout
        assert shown() == begun, machine.run("journalctl", "-u", unit, "-n", "40").stdout
        time.sleep(1)


def _keeps_its_books_there(server: Server, database: Elsewhere, subject: str) -> None:
    for name in ("ledger", "campaign"):
        wait(lambda name=name: database.connected(name), f"the services of {name} to be connected", 60)
    for unit in ("todoku-agent", "todoku-campaign", "todoku-pages"):
        _stays_up(server.machine, unit)
    before = database.asked("ledger", "SELECT count(*) FROM message")
    _mail_flows(server, subject)
    wait(lambda: database.asked("ledger", "SELECT count(*) FROM message") != before, "the message there", 60)


def test_services_that_systemd_has_locked_up_reach_a_database_on_another_machine(
    server: Server, database: Elsewhere
) -> None:
    _keeps_its_books_there(server, database, "books elsewhere")
    shown = server.machine.run(
        "sh", "-c", "journalctl --no-pager; systemctl show 'todoku-*'; cat /proc/*/cmdline"
    )
    assert DATABASE_PASSWORD not in shown.stdout
    asked = 'for u in todoku-gate todoku-campaign; do ! setpriv --reuid=$u --regid=$u --clear-groups cat "$0"; done'
    server.machine.run("sh", "-ec", asked, "/var/lib/todoku/ledger-password")


def test_a_gate_that_was_killed_is_started_again(server: Server) -> None:
    before = _main_process(server.machine)
    server.machine.run("kill", "-9", str(before))
    wait(lambda: _main_process(server.machine) not in (0, before), "another gate")
    wait(
        lambda: server.machine.run("systemctl", "is-active", "todoku-gate", check=False).returncode == 0,
        "its word",
    )
    _mail_flows(server, "after the gate was killed")


def test_the_way_out_is_shut_and_opened_by_who_may_write_one_table_only(server: Server) -> None:
    # The agent is not root here: a unit sees that the table has changed, and has Postfix read it.
    machine = server.machine
    machine.run("systemctl", "stop", "todoku-agent")
    table = "/var/lib/todoku/way-out/table"

    def reloads() -> int:
        return machine.run(
            "journalctl", "--no-pager", "--grep", "reload -- version", check=False
        ).stdout.count("postfix/master")

    before = reloads()
    shut = f"echo 'outside day 200 2099-01-01 00:00:00' >{table}.new && mv {table}.new {table}"
    machine.run("runuser", "-u", "todoku-agent", "--", "sh", "-c", shut)
    wait(lambda: reloads() > before, "Postfix to be told", 60)

    def waits() -> bool:
        return "plan of the day is used up" in machine.run("postqueue", "-j").stdout

    _from_the_office(server, "waits for the plan")
    wait(waits, "the message to wait", 60)
    machine.run("systemctl", "start", "todoku-agent")  # which knows better
    server.wait_for("waits for the plan", 60)
    assert machine.read(table) == ""
    wait(lambda: not waits(), "the queue to be empty", 60)
    listed = machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout
    assert "todoku-way-out" not in listed


def test_after_a_reboot_all_is_there_and_mail_flows_again(server: Server) -> None:
    server.machine.reboot()
    assert server.machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout.strip() == ""
    _mail_flows(server, "after the reboot")
    assert server.read(ALICE, "in first")
    done = server.machine.run("todoku", "plan", "--check", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in server.machine.run("journalctl", "-u", "todoku-gate", "--no-pager").stdout


def test_after_the_reboot_the_database_elsewhere_is_reached_again(
    server: Server, database: Elsewhere
) -> None:
    _keeps_its_books_there(server, database, "books after the reboot")


CERTIFIED = """
mode = "acme"
acme_directory = "{directory}"
internal_name = "mx.hoge.internal"
"""
EVERYTHING = {
    "gate": 'malware = "clamav"\nmalware_updates = false\n',
    "protect": 'on = true\nincoming_zip = "quarantine"\npage_port = 8443\n',
    "campaign": 'sender = "news@hoge.example"\nsender_name = "Hoge"\nurl = "https://news.hoge.example"\n',
    "metrics": "",
    "tls": CERTIFIED.format(directory=authority.DIRECTORY),
}
MORE_SERVICES = ("todoku-web", "todoku-quarantine", "todoku-campaign", "todoku-pages")


def test_with_everything_switched_on_all_services_run_and_are_locked_up(server: Server) -> None:
    pki = Path("/run/todoku-rehearsal")
    authority.start(pki)
    bundle = ROOT / BUNDLE.lstrip("/")
    bundle.write_text(bundle.read_text() + (pki / "authority/root.pem").read_text())
    # What fetches signatures of malware has no network here; one of our own will do.
    server.machine.run("mkdir", "-p", "/var/lib/clamav")
    server.machine.run(
        "sh", "-c", "echo 'Todoku.Test:0:*:746f646f6b752d74657374' >/var/lib/clamav/todoku.ndb"
    )
    path = "/etc/todoku/todoku.toml"
    text = server.machine.read(path)
    for table, lines in EVERYTHING.items():
        header = f"\n[{table}]\n"
        if header not in text:
            text += header + lines
        elif table != "campaign":  # that has its keys already, where it is there
            text = text.replace(header, header + lines, 1)
    (ROOT / path.lstrip("/")).write_text(text)
    server.machine.run("todoku", "apply", "--yes", "--wait", seconds=300)
    for name in MORE_SERVICES:
        wait(lambda name=name: _state(server, name) == "active", name)
    _are_locked_up(server, *(f"{name}.service" for name in (*MORE_SERVICES, "todoku-certificates")))
    done = server.machine.run("todoku", "plan", "--check", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sent = server.outside_sends(ALICE.address, "past the scanner")
    assert sent.returncode == 0, sent.stdout + sent.stderr


def test_the_timers_unit_renews_the_certificate_with_no_rights_but_its_own(server: Server) -> None:
    trusted = ssl.create_default_context(cafile="/run/todoku-rehearsal/authority/root.pem")

    def serial() -> int:
        with (
            socket.create_connection((server.ip, 993), 20) as raw,
            trusted.wrap_socket(raw, server_hostname=server.hostname) as tls,
        ):
            shown = tls.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown).serial_number

    before = serial()
    unit = "todoku-certificates.service"
    command = server.machine.run("systemctl", "cat", unit).stdout.partition("\nExecStart=")[2].splitlines()[0]
    forced = Path(f"/etc/systemd/system/{unit}.d/forced.conf")
    server.machine.run("mkdir", "-p", str(forced.parent))
    (ROOT / str(forced).lstrip("/")).write_text(
        f"[Service]\nEnvironment=REQUESTS_CA_BUNDLE={BUNDLE}\nExecStart=\nExecStart={command} --force\n"
    )
    server.machine.run("systemctl", "daemon-reload")
    done = server.machine.run("systemctl", "start", unit, check=False)
    assert done.returncode == 0, server.machine.run("journalctl", "--no-pager", "-u", unit).stdout
    assert serial() != before
    server.machine.run("rm", "-r", str(forced.parent))
    server.machine.run("systemctl", "daemon-reload")


def test_nothing_of_ours_was_kept_from_its_work_by_its_own_confinement(server: Server) -> None:
    said = server.machine.run("journalctl", "--no-pager").stdout
    refused = re.findall(r"(?m)^.*(?:not supported by protocol|SECCOMP|status=31/SYS|Traceback).*$", said)
    assert refused == []


def _state(server: Server, unit: str) -> str:
    return server.machine.run("systemctl", "is-active", unit, check=False).stdout.strip()


def test_who_removes_it_as_the_readme_says_has_nothing_of_it_left(server: Server) -> None:
    server.machine.run("rm", "-f", "/var/lib/clamav/todoku.ndb")  # this test's own
    text = Path("README.md").read_text().partition("\n## Removing it\n")[2].partition("```sh\n")[2]
    for line in text.partition("```")[0].splitlines():
        if line.startswith("todoku destroy"):
            continue  # the cloud's part: tests/world has its own test of that
        if line.startswith("apt-get purge"):
            server.machine.typed(line, {"continue?": "y"})
        else:
            server.machine.run("sh", "-c", line.partition("  #")[0])
    found = server.machine.run("find", "/", "-xdev", "-iname", "*todoku*", "-not", "-path", "/proc/*").stdout
    assert [path for path in found.splitlines() if not path.startswith("/var/log/")] == []
    assert not re.search(
        "todoku|vmail", server.machine.read("/etc/passwd") + server.machine.read("/etc/group")
    )
    assert not [unit for unit in _units(server.machine) if re.search("postfix|dovecot|todoku", unit)]


def _units(machine: Machine) -> list[str]:
    listed = machine.run("systemctl", "list-units", "--type=service", "--plain", "--no-legend").stdout
    return [line.split()[0] for line in listed.splitlines()]


def _main_process(machine: Machine) -> int:
    return int(machine.run("systemctl", "show", "--value", "--property=MainPID", "todoku-gate").stdout)
