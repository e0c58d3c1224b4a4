# A database on another host asks who connects. The password is for root alone, and for the one service that connects;
# the service can read what it needs, however its unit confines it, and `todoku plan` shows none of it.

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_machine import FakeMachine

from todoku.host import database
from todoku.host.backup import backup
from todoku.host.daemons import agent, campaign, gate
from todoku.host.database import AuthorityInReach, PasswordCopy
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.files import File
from todoku.host.services import Service
from todoku.plan.resource import Action, Impossible, LookFailed
from todoku.settings import Settings
from todoku.store.place import Place

SECRET = "correct horse battery staple"
FILE = "/etc/todoku/secrets/database"
AUTHORITY = "/etc/ssl/db.pem"
REMOTE = {
    "database": f"postgresql://writer@db.hoge.example/todoku?sslrootcert={AUTHORITY}",
    "database_password_file": FILE,
}
OTHER = REMOTE | {"database": f"postgresql://writer@db.hoge.example/campaign?sslrootcert={AUTHORITY}"}
BULK = {"sender": "news@hoge.example", "sender_name": "Hoge", "url": "https://news.hoge.example"}


def settings(**more: Any) -> Settings:
    return Settings.model_validate(
        {
            "hostname": "mx.hoge.example",
            "addresses": "203.0.113.10",
            "postmaster": "alice@hoge.example",
            "domains": [{"name": "hoge.example"}],
            "relay": {"region": "ap-tokyo-1"},
            **more,
        }
    )


def wanted(
    room: Any, manager: ServiceManager = "systemd", *, code_is_open: bool = True, **more: Any
) -> list[Any]:
    facts = Facts("debian", "13", "trixie", Version(3, 10, 5), Version(2, 4, 1), None, manager)
    found = room.resources(settings(**more), facts, gate.Program(code_is_open=code_is_open))
    return list(found)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "database"
    path.touch(mode=0o600)
    path.write_text(f"{SECRET}\n")
    return path


def copy_of(source: Path | None) -> PasswordCopy:
    return PasswordCopy(
        reason="r", source=source, copy=Path("/var/lib/todoku/ledger-password"), owner=getpass.getuser()
    )


def test_the_copy_is_for_its_user_alone_follows_the_file_and_goes_with_it(
    source: Path, tmp_path: Path
) -> None:
    machine = FakeMachine(tmp_path / "root")
    machine.real("/var/lib/todoku").mkdir(parents=True)
    copied = machine.real("/var/lib/todoku/ledger-password")
    for password in (SECRET, "another one"):
        source.write_text(f"{password}\n")
        resource = copy_of(source)
        change = resource.differ(resource.look(machine))
        assert change is not None
        assert password not in f"{change} {resource!r} {resource.look(machine)!r}"
        resource.change(change, machine)
        assert copied.read_text() == f"{password}\n"
        assert copied.stat().st_mode & 0o777 == 0o400
        assert resource.differ(resource.look(machine)) is None
    copied.chmod(0o644)
    change = resource.differ(resource.look(machine))
    assert change is not None
    assert "0644" in change.summary
    change = copy_of(None).differ(copy_of(None).look(machine))
    assert change is not None
    assert change.action is Action.DELETE
    copy_of(None).change(change, machine)
    assert not copied.exists()
    assert copy_of(None).differ(copy_of(None).look(machine)) is None


def test_a_file_that_cannot_be_used_stops_the_plan_there(source: Path, tmp_path: Path) -> None:
    source.chmod(0o644)
    with pytest.raises(Impossible, match=r"can be used by others \(mode 0644\): run `chmod 600") as refused:
        copy_of(source).look(FakeMachine(tmp_path / "root"))
    assert SECRET not in str(refused.value)
    source.unlink()
    with pytest.raises(Impossible, match="does not exist: write the password alone into it"):
        copy_of(source).look(FakeMachine(tmp_path / "root"))


@pytest.mark.parametrize("manager", ["systemd", "supervisord"])
@pytest.mark.parametrize(
    ("room", "table", "owner"),
    [
        (agent, {"ledger": REMOTE}, "todoku-agent"),
        (campaign, {"campaign": BULK | OTHER}, "todoku-campaign"),
    ],
)
def test_a_service_that_connects_starts_when_it_can_read_what_it_needs(
    room: Any, table: dict[str, Any], owner: str, manager: ServiceManager
) -> None:
    resources = wanted(room, manager, **table)
    (password,) = (each for each in resources if isinstance(each, PasswordCopy))
    assert (str(password.source), password.owner) == (FILE, owner)
    (authority,) = (each for each in resources if isinstance(each, AuthorityInReach))
    services = [each for each in resources if isinstance(each, Service)]
    assert services
    for service in services:
        assert {password.id, authority.id} <= service.after
        assert AUTHORITY in service.configuration  # another authority is taken in by a restart
        assert str(password.copy) not in service.configuration  # and a password without one
    text = "".join(each.file.content for each in resources if isinstance(each, File))
    assert FILE not in text
    assert "db.hoge.example" not in text


def test_the_two_copies_are_two_and_neither_is_in_a_backup() -> None:
    everything = [
        *wanted(agent, ledger=REMOTE),
        *wanted(campaign, campaign=BULK | OTHER),
    ]
    copies = {each.owner: str(each.copy) for each in everything if isinstance(each, PasswordCopy)}
    assert copies == {
        "todoku-agent": "/var/lib/todoku/ledger-password",
        "todoku-campaign": "/var/lib/todoku/campaign-password",
    }
    assert {path.lstrip("/") for path in copies.values()} <= backup._LEFT_OUT
    # The administrator's own file is.
    assert FILE.startswith(tuple(f"/{root}/" for root in backup.ROOTS))


def units(**more: Any) -> dict[str, str]:
    resources = [
        *wanted(agent, **more),
        *wanted(agent, code_is_open=False, **more),
        *wanted(campaign, **more),
    ]
    return {
        f"{number}-{Path(each.file.path).name}": each.file.content
        for number, each in enumerate(resources)
        if isinstance(each, File)
    }


def test_with_a_database_elsewhere_the_units_wait_for_the_network_and_may_use_it() -> None:
    for name, unit in units(ledger=REMOTE, campaign=BULK | OTHER).items():
        lines = unit.splitlines()
        assert "After=network-online.target postgresql.service" in lines, name
        assert "Wants=network-online.target" in lines, name
        assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6" in lines
        assert not [line for line in lines if line.startswith(("IPAddressDeny", "InaccessiblePaths"))]
        (calls,) = (line for line in lines if line.startswith("SystemCallFilter=@"))
        assert calls == "SystemCallFilter=@system-service"
    assert "After=network.target postgresql.service" in "".join(units(campaign=BULK).values())


def test_systemd_itself_finds_the_units_sound(tmp_path: Path) -> None:
    if subprocess.run(
        ["sh", "-c", "command -v systemd-analyze"], check=False, capture_output=True
    ).returncode:
        pytest.skip("systemd-analyze is not installed")
    for name, unit in units(ledger=REMOTE, campaign=BULK | OTHER).items():
        path = tmp_path / name.partition("-")[2]
        path.write_text(unit)
        command = ["systemd-analyze", "security", "--offline=yes", "--threshold=40", str(path)]
        judged = subprocess.run(command, check=False, capture_output=True, text=True)
        assert judged.returncode == 0, judged.stdout + judged.stderr
        assert "Unknown key" not in judged.stderr


def look_at(authority: str | Path) -> None:
    place = Place(f"postgresql://writer@db.hoge.example/todoku?sslrootcert={authority}")
    (_, found) = database.resources(place, Path("/var/lib/todoku/ledger-password"))
    found.look(FakeMachine(Path("/")))


def test_an_authority_that_the_service_could_not_read_is_told_before_it_starts(tmp_path: Path) -> None:
    look_at("/etc/passwd")  # as good as any that everybody may read
    for hidden in ("/root/db.pem", "/home/alice/db.pem"):
        with pytest.raises(LookFailed, match="cannot be read"):
            look_at(hidden)
    file = tmp_path / "db.pem"  # below /tmp, of which each service has its own
    file.write_text("")
    with pytest.raises(
        LookFailed, match=r"todoku-agent, who connects: .* is not for everybody.*install -m 644"
    ):
        look_at(file)
    closed = Path("/etc/shadow")
    with pytest.raises(LookFailed, match="/etc/shadow is not for everybody"):
        look_at(closed)
