# Promises of Postfix's files that follow from the settings alone; what the daemons make of them is shown in
# the rehearsal.

import re
from pathlib import Path

import pytest

from todoku.host import postfix
from todoku.host.facts import Facts, Version
from todoku.host.postfix.pace import Pace, pace
from todoku.settings import Settings, parse
from todoku.settings.outside import RelayPlan

TOML = """
hostname = "mx.hoge.example"
addresses = ["203.0.113.10", "2001:db8:10::10"]
postmaster = "alice@hoge.example"
host_sender = "system@hoge.example"
[[domains]]
name = "hoge.example"
[[domains]]
name = "ほげ.example"
[relay]
region = "ap-tokyo-1"
port = {port}
credential_file = "{credential}"
[relay.plan]
message_size = "2 MB"
[limits]
message_size = "{size}"
[[devices]]
address = "10.1.2.0/24"
sender = "scanner@hoge.example"
[[devices]]
address = "10.1.3.9"
sender = "printer@hoge.example"
"""
BOOKWORM = Version(3, 7, 11)
NEW = frozenset(
    {
        "smtpd_forbid_unauth_pipelining",
        "smtpd_forbid_bare_newline",
        "smtpd_forbid_bare_newline_exclusions",
        "smtpd_forbid_bare_newline_reject_code",
        "cleanup_replace_stray_cr_lf",
    }
)


def settings(
    port: int = 587, size: str = "25 MB", credential: Path = Path("/etc/todoku/secrets/relay")
) -> Settings:
    return parse(TOML.format(port=port, size=size, credential=credential), "todoku.toml")


def facts(
    version: Version | None, parameters: frozenset[str] | None = None, manager: str = "systemd"
) -> Facts:
    return Facts("debian", "12", "bookworm", version, None, parameters, manager)  # type: ignore[arg-type]


def rendered(
    wanted: Settings | None = None,
    version: Version | None = BOOKWORM,
    parameters: frozenset[str] | None = None,
    manager: str = "systemd",
) -> dict[str, str]:
    files = postfix.render(wanted or settings(), facts(version, parameters, manager))
    return {file.path.removeprefix("/etc/postfix/"): file.content for file in files}


def parameters_of(main_cf: str) -> dict[str, str]:
    joined = re.sub(r"\n[ \t]+", " ", re.sub(r"(?m)^#.*\n", "", main_cf))
    pairs = (line.split("=", 1) for line in joined.splitlines() if line)
    return {name.strip(): value.strip() for name, value in pairs}


def regexp(table: str, text: str) -> str | None:
    """What a regexp table answers (regexp_table(5)): first match, case ignored."""
    for line in table.splitlines():
        if not line or line.startswith("#"):
            continue
        negated = line.startswith("!")
        line = line.removeprefix("!")
        pattern, _, result = line[1:].rpartition(line[0] + "  ")
        pattern = pattern.replace("[:space:]", r"\s")
        found = re.search(pattern, text, re.IGNORECASE | re.DOTALL)
        if negated and not found:
            return result
        if found and not negated:
            return found.expand(re.sub(r"\$\{(\d)\}", r"\\g<\1>", result))
    return None


def services(master_cf: str) -> dict[str, str]:
    joined = re.sub(r"\n[ \t]+", " ", re.sub(r"(?m)^#.*\n", "", master_cf))
    return {line.split()[0]: line for line in joined.splitlines() if line}


def test_a_service_that_opens_nothing_relays_nothing() -> None:
    main = parameters_of(rendered()["main.cf"])
    assert main["smtpd_relay_restrictions"] == "reject"
    assert main["mynetworks"] == ""


def test_nothing_can_leave_but_through_the_relay() -> None:
    files = rendered()
    clients = [
        line for line in services(files["master.cf"]).values() if re.search(r"\ssmtp$", line.split(" -o")[0])
    ]
    assert [line.split()[0] for line in clients] == ["relay"]
    main = parameters_of(files["main.cf"])
    assert main["default_transport"] == "relay"
    assert main["relayhost"] == "[smtp.email.ap-tokyo-1.oci.oraclecloud.com]:587"


def test_no_service_runs_in_a_chroot() -> None:
    for line in services(rendered()["master.cf"]).values():
        assert line.split()[4] == "n", line


@pytest.mark.parametrize("port", [587, 465])
def test_the_credential_is_found_under_the_very_name_of_the_relay(tmp_path: Path, port: int) -> None:
    # One character of difference, and Postfix sends without a password and without a word.
    secret = tmp_path / "relay"
    secret.write_text(
        "ocid1.user.oc1..a@ocid1.tenancy.oc1..b.cd.com\na!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ z\n"
    )
    secret.chmod(0o600)
    wanted = settings(port=port, credential=secret)
    file = postfix.render_credential(wanted, {})
    relayhost = parameters_of(rendered(wanted)["main.cf"])["relayhost"]
    assert file.content == (
        f"{relayhost} ocid1.user.oc1..a@ocid1.tenancy.oc1..b.cd.com:a!\"#$%&'()*+,-./:;<=>?@[\\]^_`{{|}}~ z\n"
    )
    assert (file.mode, file.owner, file.secret) == (0o600, "root", True)
    assert "a!" not in repr(file)


def test_a_user_name_with_a_colon_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "relay"
    secret.write_text("us:er\npassword\n")
    secret.chmod(0o600)
    with pytest.raises(ValueError, match="colon"):
        postfix.render_credential(settings(credential=secret), {})


def test_465_is_tls_from_the_start_and_587_is_not() -> None:
    assert parameters_of(rendered(settings(port=465))["main.cf"])["smtp_tls_wrappermode"] == "yes"
    assert "smtp_tls_wrappermode" not in rendered(settings(port=587))["main.cf"]


@pytest.mark.parametrize(
    ("version", "known"),
    [
        (Version(3, 6, 4), frozenset()),
        (Version(3, 6, 13), NEW - {"smtpd_forbid_bare_newline_reject_code", "cleanup_replace_stray_cr_lf"}),
        (Version(3, 7, 11), NEW),
        (Version(3, 8, 1), frozenset({"smtpd_forbid_unauth_pipelining"})),
        (Version(3, 8, 6), NEW),
        (Version(3, 9, 0), NEW),
        (Version(3, 10, 1), NEW),
    ],
)
def test_before_installation_the_version_decides_which_parameters_are_set(
    version: Version, known: frozenset[str]
) -> None:
    main = parameters_of(rendered(version=version)["main.cf"])
    assert frozenset(main) & NEW == known - {"smtpd_forbid_bare_newline_reject_code"}


def test_once_installed_its_own_list_decides() -> None:
    # Ubuntu 22.04 carried the fix for SMTP smuggling back into 3.6.4.
    main = parameters_of(rendered(version=Version(3, 6, 4), parameters=NEW)["main.cf"])
    assert main["smtpd_forbid_bare_newline"] == "reject"
    assert main["smtpd_forbid_bare_newline_exclusions"] == ""
    unpatched = rendered(version=Version(3, 10, 0), parameters=frozenset({"myhostname"}))["main.cf"]
    assert not frozenset(parameters_of(unpatched)) & NEW


def test_without_any_postfix_the_error_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="apt-get update"):
        postfix.render(settings(), facts(None))


def test_it_logs_to_a_file_where_nothing_listens_on_dev_log() -> None:
    assert "maillog_file" not in rendered(manager="systemd")["main.cf"]
    assert "maillog_file = /var/log/mail.log" in rendered(manager="supervisord")["main.cf"]


def test_what_is_passed_on_fits_the_relay_with_the_lines_that_we_add() -> None:
    main = parameters_of(rendered()["main.cf"])
    assert 0 < int(main["relay_size_limit"]) < 2_000_000
    assert main["message_size_limit"] == "25000000"


def test_what_becomes_a_link_may_be_larger_than_the_relay_takes_all_the_way_to_the_gate() -> None:
    """60 MB are 82 MB in a mail: port 587, cleanup and the queue take it, and only what goes on has to fit."""
    files = rendered(settings(size="90 MB"))
    main, master = parameters_of(files["main.cf"]), files["master.cf"]
    assert main["message_size_limit"] == "90000000"
    assert master.count("-o message_size_limit=90000000") == 3  # 25, 587, 465
    assert int(main["relay_size_limit"]) < 2_000_000
    assert "-o message_size_limit=$relay_size_limit" in master


def test_no_service_takes_a_message_that_cleanup_would_refuse() -> None:
    main = parameters_of(rendered(settings(size="1 MB"))["main.cf"])
    assert int(main["message_size_limit"]) >= int(main["relay_size_limit"]) > 1_000_000


def test_strangers_are_told_why_they_cannot_submit() -> None:
    lines = rendered()["clients.cidr"].splitlines()
    assert "203.0.113.10/32  DUNNO" in lines
    assert "127.0.0.0/8  DUNNO" in lines
    assert "192.168.0.0/16  DUNNO" in lines
    assert [line.split("  ")[0] for line in lines[-2:]] == ["0.0.0.0/0", "::/0"]
    assert all(line.split("  ")[1].startswith("554 5.7.1 ") for line in lines[-2:])


def test_dovecot_is_asked_for_the_quota_of_our_own_domains_only() -> None:
    main = parameters_of(rendered()["main.cf"])
    for restrictions in ("mx_recipient_restrictions", "submission_recipient_restrictions"):
        assert main[restrictions].endswith("check_recipient_access $ask_quota_of")
    own = main["virtual_mailbox_domains"].split(", ")
    assert main["ask_quota_of"] == f"inline:{{ {', '.join(f'{{ {name} = quota }}' for name in own)} }}"
    assert main["quota"] == "check_policy_service unix:private/quota-status"
    assert "quota" in main["smtpd_restriction_classes"].split(", ")


def test_each_device_is_bound_to_its_own_sender() -> None:
    files = rendered()
    table = [line.split() for line in files["devices.cidr"].splitlines() if not line.startswith("#")]
    assert {network for network, _ in table} == {"10.1.3.9/32", "10.1.2.0/24"}
    main = parameters_of(files["main.cf"])
    by_network = {network: main[restriction] for network, restriction in table}
    assert "{ printer@hoge.example = OK }" in by_network["10.1.3.9/32"]
    assert "{ scanner@hoge.example = OK }" in by_network["10.1.2.0/24"]
    assert set(main["smtpd_restriction_classes"].split(", ")) == {"quota", *(name for _, name in table)}


@pytest.mark.parametrize(
    ("reply", "becomes"),
    [
        (
            "254 4.7.1 Suppression for user ocid1.user to x@y.example",
            "554 5.7.1 Suppression for user ocid1.user to x@y.example",
        ),
        ("254-4.7.1 Suppression", "554-5.7.1 Suppression"),
        ("254 2.0.0 whatever", "554 5.0.0 whatever"),
        ("254 suppressed", "554 suppressed"),
        ("254", "554"),
        ("250 2.0.0 Ok: 254", None),
        ("455 Maximum messages sent per minute reached : limit is 10", None),
        (
            "535 Authorization failed: Envelope From address a@hoge.example not authorized",
            "450 4.7.1 Authorization failed: Envelope From address a@hoge.example not authorized",
        ),
        (
            "535 Authorization failed: Envelope From address not authorized",
            "450 4.7.1 Authorization failed: Envelope From address not authorized",
        ),
        # After the message: an author, who will not be approved in a quarter of an hour either.
        (
            "535 Authorization failed: address a@hoge.example not authorized",
            "550 5.7.1 Authorization failed: address a@hoge.example not authorized",
        ),
        ("535 Authentication required", "450 4.7.0 Authentication required"),
        ("535 Authentication credentials invalid", None),
    ],
)
def test_a_suppressed_recipient_is_a_failure_and_a_sender_that_is_not_accepted_yet_waits(
    reply: str, becomes: str | None
) -> None:
    assert regexp(rendered()["relay_reply.regexp"], reply) == becomes


@pytest.mark.parametrize(
    ("per_minute", "delay", "recipients"),
    [
        (1, 61, 1),
        (10, 7, 1),
        (60, 2, 1),
        (61, 1, 1),
        (300, 1, 4),
        (1199, 1, 19),
        (1200, 0, 50),
        (18_000, 0, 50),
    ],
)
def test_no_more_leaves_in_a_minute_than_the_plan_has(per_minute: int, delay: int, recipients: int) -> None:
    plan = RelayPlan(per_minute=per_minute)
    assert pace(plan) == Pace(delay, recipients)
    if delay:  # with one delivery that began late
        assert (60 // delay + 1) * recipients <= per_minute
    main = parameters_of(rendered()["main.cf"])
    assert main["relay_transport_rate_delay"] == "7s"  # of the smallest plan, which is the default
    assert main["relay_destination_recipient_limit"] == "1"


@pytest.mark.parametrize(
    ("sender", "becomes"),
    [
        ("www-data@mx.hoge.example", "system@hoge.example"),
        ("x@gmail.com", "system@hoge.example"),
        ("x@hoge.example.evil.example", "system@hoge.example"),
        ("x@hogeXexample", "system@hoge.example"),
        ("x@evilhoge.example", "system@hoge.example"),
        ("alice@HOGE.example", None),
        ("taro@xn--18j4d.example", None),
    ],
)
def test_mail_made_on_the_host_has_an_envelope_sender_of_ours(sender: str, becomes: str | None) -> None:
    assert regexp(rendered()["host_sender.regexp"], sender) == becomes


@pytest.mark.parametrize(
    ("header", "becomes"),
    [
        ("From: alice@hoge.example", "DUNNO"),
        ("From: Alice <alice@Hoge.example>", "DUNNO"),
        ('From: "Alice, Hoge" <alice@xn--18j4d.example>', "DUNNO"),
        ("From: =?utf-8?B?44GC/w==?=\n <alice@hoge.example>", "DUNNO"),
        ("From: root (Cron Daemon)", 'REPLACE From: "Cron Daemon" <system@hoge.example>'),
        ("From: www-data@mx.hoge.example (www-data)", 'REPLACE From: "www-data" <system@hoge.example>'),
        ("From: Web Shop\n <www-data@mx.hoge.example>", 'REPLACE From: "Web Shop" <system@hoge.example>'),
        ("From: root", "REPLACE From: system@hoge.example"),
        ("From:", "REPLACE From: system@hoge.example"),
        ("From: x@gmail.com", "REPLACE From: system@hoge.example"),
        ("From: alice@hoge.example, eve@gmail.com", "REPLACE From: system@hoge.example"),
        ("From: eve <alice@hoge.example> <eve@gmail.com>", "REPLACE From: system@hoge.example"),
        ("From: <@gmail.com:alice@hoge.example>", "REPLACE From: system@hoge.example"),
        ("From: alice@hoge.example@gmail.com", "REPLACE From: system@hoge.example"),
        ("From : eve@gmail.com", "REPLACE From: system@hoge.example"),
        ("Reply-To: visitor@gmail.com", None),
    ],
)
def test_mail_made_on_the_host_has_a_header_from_of_ours(header: str, becomes: str | None) -> None:
    assert regexp(rendered()["host_header_from.regexp"], header) == becomes


TLS = (
    "\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\n\t key-exchange X25519)"
    "\n\t(No client certificate requested)"
)
BY = "by mx.hoge.example (Postfix) with ESMTPSA id 4jYWYg6SNMz53\n\tfor <carol@x.example>; Tue, 24 Nov 2026"


@pytest.mark.parametrize(
    ("header", "becomes"),
    [
        (f"Received: from laptop (unknown [192.168.1.5]){TLS}\n\t{BY}", f"REPLACE Received: {BY}"),
        (f"Received: from [10.0.0.1] (a.b.example [IPv6:fd00::5]){TLS}\n\t{BY}", f"REPLACE Received: {BY}"),
        (f"Received: from laptop (unknown [192.168.1.5]){TLS}\n\t{BY.replace('mx.', 'mxX')}", None),
        (f"Received: from a (b [192.0.2.1])\n\t{BY.replace('hoge', 'other')}", None),
        (
            "Subject: from laptop (unknown [192.168.1.5])\n by mx.hoge.example (Postfix) with ESMTPSA id 4j",
            None,
        ),
        ("User-Agent: Thunderbird", "IGNORE"),
        ("x-originating-ip : [192.168.1.5]", "IGNORE"),
        ("X-Priority: 1", None),
        ("Subject: User-Agent: x", None),
    ],
)
def test_of_our_own_trace_line_the_client_is_left_out(header: str, becomes: str | None) -> None:
    assert regexp(rendered()["submission_received.regexp"], header) == becomes


def test_only_what_our_people_submit_loses_its_client_and_only_where_that_is_wanted() -> None:
    files = rendered()
    by_name = services(files["master.cf"])
    assert "header_checks=regexp:/etc/postfix/submission_received.regexp" in by_name["cleanup-submission"]
    users = {name for name, line in by_name.items() if "cleanup_service_name=cleanup-submission" in line}
    assert users == {"submission", "submissions"}
    shown = parse(
        TOML.format(port=587, size="25 MB", credential="/etc/x") + "[gate]\nhide_client = false\n", "t"
    )
    assert "cleanup-submission" not in rendered(shown)["master.cf"]
    assert "submission_received.regexp" not in rendered(shown)


def test_every_message_passes_the_gate_and_without_the_gate_none_passes() -> None:
    main = parameters_of(rendered()["main.cf"])
    assert main["smtpd_milters"] == main["non_smtpd_milters"] == "unix:todoku/gate"
    assert main["milter_default_action"] == "tempfail"
    # No service has filters of its own, and those of our own people say that they are. The one without any is for the
    # agent's alarms, of which a gate that is down is one: it takes this machine's mail to the postmaster, and no other.
    by_name = services(rendered()["master.cf"])
    alarms = by_name.pop("127.0.0.1:10028")
    assert {
        "smtpd_milters=",
        "smtpd_client_restrictions=permit_mynetworks,reject",
        "smtpd_recipient_restrictions=$alarm_recipient_restrictions",
    } <= set(alarms.split())
    assert main["alarm_recipient_restrictions"].split(" }")[0].startswith("check_recipient_access inline:{ {")
    assert main["alarm_recipient_restrictions"].endswith("= OK } } reject")
    assert not any("_milters=" in line for line in by_name.values())
    ours = {name for name, line in by_name.items() if "milter_macro_daemon_name=ORIGINATING" in line}
    assert ours >= {"submission", "submissions", "cleanup-host"}
    assert "smtp" not in ours


def test_of_the_hosts_own_name_the_world_reaches_the_postmaster_only() -> None:
    files = rendered()
    world, local = files["host_recipient.regexp"], files["host_local_recipient.regexp"]
    assert regexp(world, "postmaster@mx.hoge.example") == "alice@hoge.example"
    assert regexp(world, "root@mx.hoge.example") is None
    for address in ("root@mx.hoge.example", "www-data@localhost", "nobody@localhost.localdomain"):
        assert regexp(local, address) == "alice@hoge.example"
    assert regexp(local, "root@hoge.example") is None
