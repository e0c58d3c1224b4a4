# "Does it run on mine?" For each release that is supported: which Postfix and Dovecot it has, what Todoku writes for
# them, and that nothing in it is of another version. Debian's are tried in the rehearsal; Ubuntu's cannot be here.

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_machine import FakeMachine

from todoku.host import dovecot, postfix
from todoku.host.facts import Facts, gather
from todoku.host.postfix import parameters
from todoku.settings import Settings, parse

# codename: what the release came with, before the updates of its years
RELEASES = {
    "bookworm": ("debian", "12", "3.7", "2.3"),
    "trixie": ("debian", "13", "3.10", "2.4"),
    "jammy": ("ubuntu", "22.04", "3.6", "2.3"),
    "noble": ("ubuntu", "24.04", "3.8", "2.3"),
    "resolute": ("ubuntu", "26.04", "3.10", "2.4"),
}
releases = pytest.mark.parametrize("codename", RELEASES)
modes = pytest.mark.parametrize("mode", ["virtual", "system"])

# doc.dovecot.org, "Upgrading Dovecot CE from 2.3 to 2.4": what one of them refuses to start with.
ONLY_2_3 = (
    *("ssl_cert", "ssl_key", "mail_location", "disable_plaintext_auth", "service_count", "args", "plugin"),
    *("override_fields", "default_fields", "quota_rule", "quota_grace"),
)
ONLY_2_4 = (
    *("dovecot_config_version", "dovecot_storage_version", "ssl_server_cert_file", "ssl_server_key_file"),
    *("mail_driver", "mail_path", "auth_allow_cleartext", "restart_request_count", "passwd_file_path"),
    *("quota_storage_size", "quota_storage_grace"),
)
# postconf(5): the parameters of main.cf that are younger than Postfix 3.6.0, the oldest that is supported. Some were
# brought into older series later: those depend on what is installed (test_postfix_render.py).
YOUNGER = frozenset(
    {
        *("smtpd_forbid_bare_newline", "smtpd_forbid_bare_newline_exclusions", "cleanup_replace_stray_cr_lf"),
        *("smtpd_forbid_bare_newline_reject_code", "smtpd_forbid_unauth_pipelining", "known_tcp_ports"),
        *(
            "enable_threaded_bounces",
            "postlogd_watchdog_timeout",
            "force_mime_input_conversion",
            "openssl_path",
        ),
        *("smtp_tls_enable_rpk", "smtpd_tls_enable_rpk", "smtpd_hide_client_session", "tls_config_file"),
        *("tls_config_name", "tls_required_enable", "smtp_bind_address_enforce", "smtpd_reject_filter_maps"),
    }
)


def settings(mode: str) -> Settings:
    return parse(
        f"""
        hostname = "mx.hoge.example"
        addresses = ["203.0.113.10"]
        postmaster = "alice@hoge.example"
        [[domains]]
        name = "hoge.example"
        [relay]
        region = "ap-tokyo-1"
        [accounts]
        mode = "{mode}"
        quota = "5 GB"
        """,
        "todoku.toml",
    )


def fresh(codename: str, folder: Path) -> Facts:
    """A machine of that release, before apt has lists."""
    name, number, _, _ = RELEASES[codename]
    (folder / "etc").mkdir()
    (folder / "etc/os-release").write_text(f'ID={name}\nVERSION_ID="{number}"\nVERSION_CODENAME={codename}\n')
    return gather(FakeMachine(folder, {"dpkg-query": [(1, "", "")], "apt-get": [(0, "", "")]}))


def names(configuration: str) -> set[str]:
    """The settings in a file, without those in comments."""
    return set(re.findall(r"(?m)^\s*([a-z][a-z0-9_]*) ?(?:=|\{)", configuration))


@releases
def test_a_plan_can_be_made_on_a_fresh_machine(codename: str, tmp_path: Path) -> None:
    facts = fresh(codename, tmp_path)
    assert str(facts.postfix).startswith(f"{RELEASES[codename][2]}.")
    assert str(facts.dovecot).startswith(f"{RELEASES[codename][3]}.")


@releases
@modes
def test_dovecot_gets_the_settings_of_its_generation_and_no_others(
    codename: str, mode: str, tmp_path: Path
) -> None:
    (file,) = dovecot.render(settings(mode), fresh(codename, tmp_path))
    here = names(file.content)
    old, new = set(ONLY_2_3), set(ONLY_2_4)
    if RELEASES[codename][3] == "2.4":
        assert not here & old
        assert {"dovecot_config_version", "passwd_file_path"} <= here
    else:
        assert not here & new
        assert "ssl_cert" in here


@releases
@modes
def test_postfix_gets_no_parameter_that_its_release_does_not_have(
    codename: str, mode: str, tmp_path: Path
) -> None:
    facts = fresh(codename, tmp_path)
    files = {file.path: file.content for file in postfix.render(settings(mode), facts)}
    younger = names(files["/etc/postfix/main.cf"]) & YOUNGER
    # That one only tells which values another one takes.
    assert younger == parameters.known(facts) - {"smtpd_forbid_bare_newline_reject_code"}


@releases
def test_the_services_are_those_that_every_release_has(codename: str, tmp_path: Path) -> None:
    files = {
        file.path: file.content for file in postfix.render(settings("virtual"), fresh(codename, tmp_path))
    }
    programs = set(re.findall(r"(?m)^[^#\s]\S*(?:[ \t]+\S+){6}[ \t]+(\S+)$", files["/etc/postfix/master.cf"]))
    assert programs <= {
        "smtpd", "smtp", "lmtp", "pickup", "cleanup", "qmgr", "trivial-rewrite", "bounce", "error", "flush", "showq",
        "anvil", "tlsmgr", "tlsproxy", "scache", "postlogd",
    }  # fmt: skip
    assert {"smtpd", "postlogd", "tlsproxy"} <= programs
