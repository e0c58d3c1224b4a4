# Promises of Dovecot's file that follow from the settings alone; what the daemons make of it is shown in the
# rehearsal.

import re

import pytest

from todoku.host import dovecot
from todoku.host.facts import Facts, Version
from todoku.settings import Settings, parse

TOML = """
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
[accounts]
mode = "{mode}"
quota = {quota}
[limits]
message_size = 1_000_000
"""
BOTH = pytest.mark.parametrize("version", [Version(2, 3, 16), Version(2, 4, 1)], ids=str)
MODES = pytest.mark.parametrize("mode", ["virtual", "system"])


def settings(mode: str = "virtual", quota: int = 5_000_000) -> Settings:
    return parse(TOML.format(mode=mode, quota=quota), "todoku.toml")


def rendered(wanted: Settings, version: Version | None, manager: str = "systemd") -> str:
    facts = Facts("debian", "12", "bookworm", None, version, None, manager)  # type: ignore[arg-type]
    (file,) = dovecot.render(wanted, facts)
    assert file.path == "/etc/dovecot/dovecot.conf"
    return file.content


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"(?ms)^{kind}\b[^\n]*\{{\n(.*?)^\}}", text)


@pytest.mark.parametrize(
    ("version", "new"),
    [
        (Version(2, 3, 16), False),
        (Version(2, 3, 21), False),
        (Version(2, 4, 0), True),
        (Version(2, 4, 1), True),
    ],
    ids=str,
)
def test_the_language_is_that_of_the_installed_version(version: Version, new: bool) -> None:
    text = rendered(settings(), version)
    assert ("dovecot_config_version" in text) == new
    assert ("mail_location" in text) != new


@BOTH
@MODES
def test_every_setting_but_the_key_is_in_this_one_file(version: Version, mode: str) -> None:
    # The file is readable by all, so what is secret is elsewhere; without it Dovecot does not start.
    included = re.findall(r"(?m)^!include.*$", rendered(settings(mode), version))
    assert included == ["!include /etc/dovecot/guessing.conf"]
    assert "api_header" not in rendered(settings(mode), version)


@BOTH
def test_passwords_are_checked_also_when_nobody_limits_guessing(version: Version) -> None:
    assert "auth_policy_reject_on_fail = no" in rendered(settings(), version)


@BOTH
@MODES
def test_no_password_is_taken_from_outside_the_client_networks(version: Version, mode: str) -> None:
    # In system mode those before the last only say who somebody is.
    last = blocks(rendered(settings(mode), version), "passdb")[-1]
    found = re.search(r"allow_nets ?= ?(\S+)", last)
    assert found
    networks = found[1].split(",")
    assert {"127.0.0.0/8", "::1/128", "203.0.113.10/32", "192.168.0.0/16"} <= set(networks)
    assert not {"0.0.0.0/0", "::/0"} & set(networks)


@BOTH
def test_system_mode_lets_only_users_with_mail_try_their_password(version: Version) -> None:
    addresses, accounts, pam = blocks(rendered(settings("system"), version), "passdb")
    assert "dovecot.passwd" in addresses
    assert "result_failure = return-fail" in accounts
    assert "dovecot.userdb" in accounts
    assert re.search(r"(args|pam_service_name) = dovecot", pam)


@BOTH
def test_no_imap_without_tls_from_the_start(version: Version) -> None:
    (login,) = blocks(rendered(settings(), version), "service imap-login")
    assert re.search(r"inet_listener imap \{\s+port = 0\s+\}", login)
    assert re.search(r"inet_listener imaps \{\s+port = 993\s+ssl = yes\s+\}", login)


@BOTH
def test_the_greeting_names_no_product(version: Version) -> None:
    greeting = re.search(r"(?m)^login_greeting = (.*)$", rendered(settings(), version))
    assert greeting
    assert "ovecot" not in greeting[1]


@BOTH
def test_a_full_mailbox_is_refused_in_words_and_the_unknown_left_to_postfix(version: Version) -> None:
    text = rendered(settings(), version)
    assert "quota_status_overquota = 552 5.2.2 Mailbox is full" in text
    assert "quota_status_nouser = DUNNO" in text


@BOTH
def test_what_was_let_in_finds_room(version: Version) -> None:
    # An alias can have one full member: refused by LMTP, the message would come back to a forged sender.
    (lmtp,) = blocks(rendered(settings(), version), "protocol lmtp")
    assert re.search(r"mail_plugins =$|quota = no$", lmtp, re.MULTILINE)


@BOTH
def test_a_quota_of_zero_is_no_quota(version: Version) -> None:
    limit = re.compile(r"(?m)^\s*(quota_rule|quota_storage_size) = .*5000000")
    assert limit.search(rendered(settings(), version))
    assert not re.search(r"(?m)^\s*(quota_rule|quota_storage_size) =", rendered(settings(quota=0), version))


@BOTH
def test_postfix_may_use_the_sockets_and_nobody_else(version: Version) -> None:
    text = rendered(settings(), version)
    for socket, mode in (("auth", "0660"), ("dovecot-lmtp", "0600"), ("quota-status", "0660")):
        found = re.search(rf"unix_listener /var/spool/postfix/private/{socket} \{{(.*?)\}}", text, re.DOTALL)
        assert found
        assert f"mode = {mode}" in found[1]
        assert "user = postfix" in found[1]
        assert "group = postfix" in found[1]


@BOTH
def test_it_logs_to_a_file_where_nothing_listens_on_dev_log(version: Version) -> None:
    assert "log_path" not in rendered(settings(), version, "systemd")
    assert "log_path = /var/log/dovecot.log" in rendered(settings(), version, "supervisord")


def test_a_version_that_is_too_old_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\.3\.16"):
        rendered(settings(), Version(2, 3, 13))


def test_without_any_dovecot_the_error_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="apt-get update"):
        rendered(settings(), None)
