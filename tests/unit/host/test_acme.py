# certbot is asked in words that are checked here, and what it leaves behind is looked at before anything is replaced.
# That it works is shown in the world, against Pebble.

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host import endpoint, packages
from todoku.host.certificates import certificate
from todoku.host.certificates import resources as certificates
from todoku.host.certificates.acme import FOLDER, AcmeCertificate, StandIn
from todoku.host.certificates.own_authority import create, issue
from todoku.host.certificates.served import Served
from todoku.host.daemons.gate import Program
from todoku.host.facts import Facts, Version
from todoku.plan.resource import Action, ChangeFailed, NeedsPerson
from todoku.settings import SettingsError, parse

HOST = "mx.hoge.example"
NOW = datetime.now(UTC)
AUTHORITY = create([HOST, "mx.fuga.example"], NOW)
TOML = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""
RFC2136 = '[dns]\npublisher = "rfc2136"\nserver = "192.0.2.53"\ntsig_name = "k"\ntsig_secret_file = "/k"\n'


def acme(**more: bool) -> AcmeCertificate:
    return AcmeCertificate(
        hostname=HOST,
        directory="https://acme.example/dir",
        contact="alice@hoge.example",
        by_hand=more.get("by_hand", False),
        config=Path("/etc/todoku/my settings.toml"),
        served=Served(wanted=(), reason=""),
        reason="trust",
    )


class Machine(FakeMachine):
    """certbot "succeeds", and leaves `live` behind."""

    def make_directory(self, path: str, mode: int = 0o755, owner: str = "", group: str = "") -> None:
        del mode, owner, group
        self.real(path).mkdir(parents=True, exist_ok=True)

    def replace(
        self, path: str, content: bytes, *, mode: int = 0o644, owner: str = "", group: str = ""
    ) -> None:
        del mode, owner, group
        self.real(path).parent.mkdir(parents=True, exist_ok=True)
        self.real(path).write_bytes(content)

    def remove(self, path: str) -> None:
        self.asked.append(f"remove {path}")


def machine(
    root: Path, content: bytes | None, *, code: int = 0, said: str = "", live: bytes = b""
) -> Machine:
    host = Machine(root, {"certbot": [(code, said, "")]})
    if content is not None:
        host.replace(endpoint.MANAGED, content)
    if live:
        for name in ("fullchain.pem", "privkey.pem"):
            host.replace(f"{FOLDER}/config/live/todoku/{name}", live)
    return host


def signed(name: str = HOST, age: int = 0) -> bytes:
    return issue(AUTHORITY, name, NOW - timedelta(days=age))


def stand_in() -> bytes:
    chain, key = certificate.self_signed(HOST, NOW)
    return key + chain


@pytest.mark.parametrize(
    ("content", "summary"),
    [
        (None, "get a certificate for mx.hoge.example from acme.example"),
        (b"garbage", "get a certificate for mx.hoge.example from acme.example"),
        (stand_in(), "get a certificate for mx.hoge.example from acme.example"),
        (
            signed("mx.fuga.example"),
            "get a certificate for mx.hoge.example from acme.example (it was for mx.fuga.example)",
        ),
        (signed(age=300), "renew the certificate for mx.hoge.example (96 days left)"),
        (signed(age=100), None),
    ],
)
def test_a_certificate_is_got_when_it_is_needed(
    tmp_path: Path, content: bytes | None, summary: str | None
) -> None:
    change = acme().differ(acme().look(machine(tmp_path, content)))
    assert (change.summary if change else None) == summary


def test_something_can_be_served_from_the_first_minute_on_and_is_never_put_over_a_real_one(
    tmp_path: Path,
) -> None:
    resource = StandIn(hostname=HOST, reason="")
    host = machine(tmp_path, None)
    change = resource.differ(resource.look(host))
    assert change is not None and change.action is Action.CREATE
    resource.change(change, host)
    assert resource.differ(resource.look(host)) is None
    assert resource.differ(resource.look(machine(tmp_path / "other", signed(age=396)))) is None


def test_the_new_certificate_is_put_in_place_whole(tmp_path: Path) -> None:
    fresh = signed()
    host = machine(tmp_path, stand_in(), live=fresh)
    change = acme().differ(acme().look(host))
    assert change is not None
    acme().change(change, host)
    assert host.read(endpoint.MANAGED) == fresh + fresh
    assert f"remove {FOLDER}/config/renewal" in host.asked


@pytest.mark.parametrize(
    ("live", "why"),
    [
        (b"", "cannot be used: the certificate is not one in PEM form"),
        (b"garbage", "cannot be used"),
        (signed("mx.fuga.example"), r"for mx\.fuga\.example"),
        (signed(age=400), "it is not used"),
    ],
)
def test_a_certificate_that_is_of_no_use_replaces_nothing(tmp_path: Path, live: bytes, why: str) -> None:
    old = signed(age=300)
    host = machine(tmp_path, old, live=live)
    change = acme().differ(acme().look(host))
    assert change is not None
    with pytest.raises(ChangeFailed, match=why):
        acme().change(change, host)
    assert host.read(endpoint.MANAGED) == old


def test_a_refusal_is_told_in_certbots_words_without_its_noise(tmp_path: Path) -> None:
    said = "Saving debug log to /x\nAn unexpected error occurred:\nThere were too many requests of a given type\n"
    host = machine(tmp_path, None, code=1, said=said)
    with pytest.raises(ChangeFailed, match="too many requests") as failed:
        acme().change(acme().differ(acme().look(host)), host)  # type: ignore[arg-type]
    assert sum(asked.startswith("certbot") for asked in host.asked) == 2  # once more, and no oftener
    assert "Saving debug log" not in str(failed.value)
    assert "goes on being served" in str(failed.value)


def test_a_challenge_that_failed_is_not_tried_again_as_authorities_count_that(tmp_path: Path) -> None:
    host = machine(tmp_path, None, code=1, said="Certbot failed to authenticate some domains\n")
    with pytest.raises(ChangeFailed, match="failed to authenticate"):
        acme().change(acme().differ(acme().look(host)), host)  # type: ignore[arg-type]
    assert sum(asked.startswith("certbot") for asked in host.asked) == 1


def test_the_hooks_are_our_own_and_survive_a_shell() -> None:
    command = acme().command()
    hook = shlex.split(command[command.index("--manual-auth-hook") + 1])
    assert hook[-3:] == ["--config", "/etc/todoku/my settings.toml", "publish"]
    assert command[command.index("--config-dir") + 1].startswith(
        FOLDER
    )  # not /etc/letsencrypt, which may be somebody's


def test_a_publisher_by_hand_cannot_renew_and_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NeedsPerson, match=r"dns\.publisher is manual"):
        acme(by_hand=True).look(machine(tmp_path, None))


# --- what the settings want ---


def ids(toml: str, manager: str | None = "systemd") -> set[str]:
    settings = parse(TOML + toml, "todoku.toml")
    facts = Facts("debian", "12", "bookworm", Version(3, 7, 11), Version(2, 3, 19), None, manager)  # type: ignore[arg-type]
    wanted = [*certificates.resources(settings, Program()), *certificates.renewal(settings, facts, Program())]
    return {each.id for each in wanted}


def test_each_mode_wants_its_own() -> None:
    assert ids("") == {"certificate", "certificate-served"}
    assert "timer:todoku-certificates.timer" in ids('[tls]\ncertificate = "/c"\nkey = "/k"\n')
    assert "acme-certificate" in ids(f'{RFC2136}[tls]\nmode = "acme"\n')
    assert "service:todoku-certificates" in ids('[tls]\nmode = "own-ca"\n', "supervisord")
    assert {"certificate-authority", "certificate:internal"} <= ids(
        '[tls]\ninternal_name = "mx.hoge.internal"\n'
    )
    assert "certbot" in packages.wanted(parse(f'{TOML}{RFC2136}[tls]\nmode = "acme"\n', "todoku.toml"))


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('[tls]\nmode = "files"\n', "no files are named"),
        ('[tls]\nmode = "acme"\n', r"add \[dns\]"),
        (f'{RFC2136}[tls]\nmode = "acme"\ncertificate = "/c"\nkey = "/k"\n', "remove certificate and key"),
        ('[tls]\ninternal_name = "mx.hoge.example"\n', "is the host name itself"),
        ('[tls]\nacme_directory = "http://acme.example/dir"\n', "https://"),
        ('[tls]\nacme_directory = "https://acme.example/dir; rm -rf /"\n', "https://"),
    ],
)
def test_settings_that_do_not_fit_together_are_told(toml: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse(TOML + toml, "todoku.toml")
