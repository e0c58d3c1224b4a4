# One certificate that cannot be renewed must not keep another one from being renewed, and a round in which there is
# nothing to do must not be in the way of somebody's `todoku apply`.

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from todoku.cli.parts import renewal
from todoku.delivery import alarms
from todoku.host.client import Host
from todoku.plan.resource import Action, Change, ChangeFailed, NeedsPerson
from todoku.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "hostname": "mx.hoge.example",
        "addresses": ["203.0.113.10"],
        "postmaster": "alice@hoge.example",
        "domains": [{"name": "hoge.example"}],
        "relay": {"region": "ap-tokyo-1"},
        "tls": {"mode": "own-ca", "internal_name": "mx.hoge.internal"},
    }
)


@dataclass
class Certificate:
    """Stands in for a resource; `fails` is what its look or its change raises."""

    id: str
    due: bool = False
    look_fails: Exception | None = None
    fails: Exception | None = None
    changed: list[str] = field(default_factory=list)

    def look(self, client: Host) -> bool:
        del client
        if self.look_fails:
            raise self.look_fails
        return self.due

    def differ(self, seen: bool) -> Change | None:
        return Change(Action.UPDATE, f"renew {self.id}") if seen else None

    def change(self, change: Change, client: Host) -> None:
        del client
        if self.fails:
            raise self.fails
        self.changed.append(change.summary)


@pytest.fixture
def these(monkeypatch: pytest.MonkeyPatch):
    def use(*wanted: Certificate) -> None:
        monkeypatch.setattr(renewal, "_resources", lambda *_: wanted)

    return use


def test_a_round_with_nothing_to_do_is_told_apart_without_a_lock(these) -> None:
    these(Certificate("a"), Certificate("b"))
    assert not renewal.is_due(SETTINGS, Path("/x"))
    these(Certificate("a"), Certificate("b", due=True))
    assert renewal.is_due(SETTINGS, Path("/x"))
    these(Certificate("a", look_fails=NeedsPerson("enter it")))
    assert renewal.is_due(SETTINGS, Path("/x"))


def test_what_fails_keeps_nothing_else_from_being_done(these) -> None:
    good = Certificate("certificate-served", due=True)
    these(Certificate("acme-certificate", due=True, fails=ChangeFailed("no answer")), good)
    done, failed = renewal.renew(SETTINGS, Path("/x"), force=False)
    assert (done, failed) == (["renew certificate-served"], {"acme-certificate": "no answer"})
    these(Certificate("acme-certificate", look_fails=NeedsPerson("enter it")), good)
    assert renewal.renew(SETTINGS, Path("/x"), force=False)[1] == {"acme-certificate": "enter it"}


def test_only_a_public_authority_can_be_asked_before_it_is_time(these) -> None:
    acme, other = Certificate("acme-certificate"), Certificate("certificate")
    these(acme, other)
    assert renewal.renew(SETTINGS, Path("/x"), force=False) == ([], {})
    assert renewal.renew(SETTINGS, Path("/x"), force=True) == (["get a new certificate, as asked"], {})
    assert (len(acme.changed), len(other.changed)) == (1, 0)


def test_the_postmaster_is_told_while_it_lasts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(alarms, "FOLDER", tmp_path / "alarms")
    renewal.report({"acme-certificate": "no answer"})  # no agent yet: nobody to be told
    (tmp_path / "alarms").mkdir()
    monkeypatch.setattr(alarms.report, "__defaults__", (tmp_path / "alarms",))
    renewal.report({"acme-certificate": "no answer"})
    (alarm,) = alarms.reported(tmp_path / "alarms")
    assert (alarm.name, alarm.found) == ("certificate:acme-certificate", "certificates: no answer")
    renewal.report({})
    assert alarms.reported(tmp_path / "alarms") == []


def test_each_certificate_comes_after_what_signs_it_and_before_it_is_served() -> None:
    ids = [each.id for each in renewal._resources(SETTINGS, Path("/etc/todoku/todoku.toml"), Host())]
    assert ids == ["certificate-authority", "certificate", "certificate:internal", "certificate-served"]
