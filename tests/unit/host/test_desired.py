# Promise: the same settings in, the same resources out, each with its reason and after what it needs.

from __future__ import annotations

import pytest

from todoku.host import desired
from todoku.host.client import Host
from todoku.host.facts import Facts, ServiceManager, Version
from todoku.host.rendered import RenderedFile
from todoku.host.services import Service
from todoku.plan.order import ordered
from todoku.plan.resource import Item, LookFailed
from todoku.settings import Settings, parse

TOML = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""


DOVECOT = Version(2, 4, 1)


def facts(manager: ServiceManager | None = "systemd", dovecot: Version | None = DOVECOT) -> Facts:
    return Facts("debian", "13", "trixie", Version(3, 10, 5), dovecot, None, manager)


def ids(settings: Settings, manager: ServiceManager | None = "systemd") -> list[str]:
    return [resource.id for resource in desired.resources(settings, facts(manager), {})]


@pytest.fixture
def settings() -> Settings:
    return parse(TOML, "todoku.toml")


def test_every_resource_has_a_reason(settings: Settings) -> None:
    assert all(resource.why for resource in desired.resources(settings, facts(), {}))


def test_everything_can_be_put_in_order(settings: Settings) -> None:
    resources = desired.resources(settings, facts("supervisord"), {})
    items = [Item(resource, Host()) for resource in resources]
    order = [item.resource.id for item in ordered([*items, *desired._directory(settings)], {"packages"})]
    for earlier, later in [
        ("user:vmail", "folder:/var/lib/todoku/mail"),
        ("relay-credential", "configuration:postfix"),
        ("certificate", "configuration:dovecot"),
        ("configuration:postfix", "directory:export"),
        ("directory:export", "service:postfix"),
        ("file:/etc/supervisor/conf.d/todoku-dovecot.conf", "service:dovecot"),
        ("file:/etc/supervisor/conf.d/todoku-gate.conf", "service:todoku-gate"),
        ("folder:/var/spool/postfix/todoku", "service:todoku-gate"),
        ("service:todoku-gate", "service:postfix"),
    ]:
        assert order.index(earlier) < order.index(later)


def test_supervisord_gets_its_sections_and_systemd_its_folder_after_a_reboot(settings: Settings) -> None:
    assert "file:/etc/supervisor/conf.d/todoku-postfix.conf" in ids(settings, "supervisord")
    assert not any("supervisor" in name for name in ids(settings, "systemd"))
    assert "file:/etc/tmpfiles.d/todoku.conf" in ids(settings, "systemd")


def test_accounts_of_the_system_need_no_vmail() -> None:
    system = parse(TOML + '[accounts]\nmode = "system"\n', "todoku.toml")
    assert not any("vmail" in name or "mail" in name.split("/") for name in ids(system))


def test_a_service_restarts_for_each_of_its_files_and_is_only_reloaded_for_the_certificate(
    settings: Settings,
) -> None:
    services = [r for r in desired.resources(settings, facts(), {}) if isinstance(r, Service)]
    postfix = services[0]
    assert postfix.watches == {"configuration:postfix", "relay-credential"}
    assert postfix.read_by == (("/etc/postfix/relay_credential", "smtp"),)  # a reload is enough
    assert "/etc/todoku/tls/self-signed.pem" not in postfix.configuration
    served = next(r for r in desired.resources(settings, facts(), {}) if r.id == "certificate-served")
    assert served.watches == {"certificate"}
    assert "/etc/postfix/main.cf" in postfix.configuration


def test_a_missing_daemon_version_is_a_failed_look_not_a_crash(settings: Settings) -> None:
    with pytest.raises(LookFailed, match="Dovecot"):
        desired.resources(settings, facts(dovecot=None), {})


def test_the_addresses_that_postfix_binds_are_read_from_its_configuration() -> None:
    def listens(value: str) -> list[str]:
        main = RenderedFile("/etc/postfix/main.cf", f"a = b\ninet_interfaces = {value}\n")
        return [str(address) for address in desired._listens_on((main,))]

    assert listens("all") == []
    assert listens("203.0.113.10, [2001:db8::1] 127.0.0.1") == ["203.0.113.10", "2001:db8::1", "127.0.0.1"]


def test_a_missing_credential_is_told_where_it_is_looked_for(settings: Settings) -> None:
    credential = next(r for r in desired.resources(settings, facts(), {}) if r.id == "relay-credential")
    with pytest.raises(LookFailed, match="/etc/todoku/secrets/relay"):
        credential.look(Host())
