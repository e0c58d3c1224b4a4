"""One run says everything that is wrong with a settings file: file, line, key, and what to write instead."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path

import pytest
from pydantic import ValidationError

from todoku.settings import DEFAULT_PATH, Problem, Settings, SettingsError, load, parse

MINIMAL = """\
hostname = "mx.hoge.example"
addresses = "203.0.113.10"
postmaster = "alice@hoge.example"
[[domains]]
name = "hoge.example"
[relay]
region = "ap-tokyo-1"
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        parse(text, "todoku.toml")
    return list(caught.value.problems)


def one(text: str) -> Problem:
    found = problems(text)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


# What is right


def test_five_keys_are_enough_and_the_rest_has_defaults() -> None:
    settings = parse(MINIMAL, "todoku.toml")
    assert settings.addresses == (IPv4Address("203.0.113.10"),)
    assert settings.host_sender == settings.postmaster == "alice@hoge.example"
    assert settings.relay.hostname == "smtp.email.ap-tokyo-1.oci.oraclecloud.com"
    assert settings.relay.port == 587
    assert settings.relay.credential_file == Path("/etc/todoku/secrets/relay")
    assert settings.relay.credential_env is None
    plan = settings.relay.plan
    assert (plan.per_minute, plan.per_day, plan.per_month, plan.message_size) == (10, 200, 3000, 2_000_000)
    assert IPv6Network("fc00::/7") in settings.clients.networks
    assert (settings.accounts.mode, settings.accounts.quota) == ("virtual", 2_000_000_000)
    assert settings.limits.message_size == 25_000_000
    assert settings.domains[0].dmarc.policy == "none"
    assert settings.tls.certificate is settings.tls.key is None
    assert settings.devices == ()


def test_settings_never_change_and_can_be_keys() -> None:
    settings = parse(MINIMAL, "x")
    assert hash(settings) == hash(parse(MINIMAL, "y"))
    assert settings == pickle.loads(pickle.dumps(settings))  # noqa: S301
    with pytest.raises(ValidationError):
        settings.hostname = "other.example"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.relay.plan.per_day = 5  # type: ignore[misc]


def test_an_address_is_our_own_whatever_its_case_and_form() -> None:
    settings = parse(
        MINIMAL
        + '[[devices]]\naddress = "10.0.0.1"\nsender = "x@ほげ.example"\n'.replace(
            "[[dev", '[[domains]]\nname = "ほげ.example"\n[[dev'
        ),
        "x",
    )
    assert settings.own_domains == {"hoge.example", "xn--18j4d.example"}
    assert settings.is_own("Bob@HOGE.example")
    assert settings.is_own("bob@ほげ.example")
    assert settings.is_own("bob@xn--18J4D.example")
    assert not settings.is_own("bob@sub.hoge.example")
    assert not settings.is_own("hoge.example")
    assert not settings.is_own("bob@💌")
    assert settings.domains[1].unicode == "ほげ.example"


def test_an_environment_prefix_stands_in_for_the_credential_file() -> None:
    relay = parse(MINIMAL + 'credential_env = "TODOKU_RELAY"\n', "x").relay
    assert (relay.credential_env, relay.credential_file) == ("TODOKU_RELAY", None)


# What is wrong


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    found = problems(
        """\
hostnam = "mx.hoge.example"
addresses = ["203.0.113.10", "0.0.0.0"]
postmaster = "alice@fuga.example"
[[domains]]
name = "hoge.example"
dmarc = { policy = "rejct" }
[[domains]]
name = "HOGE.example"
[relay]
region = "ap-tokio-1"
credential_env = "TODOKU_RELAY"
credential_file = "/etc/relay"
[clients]
networks = ["0.0.0.0/0"]
[tls]
certificate = "/etc/cert.pem"
"""
    )
    assert [(problem.line, problem.key) for problem in found] == [
        (1, "hostnam"),
        (2, "addresses[1]"),
        (3, "postmaster"),
        (6, "domains[0].dmarc.policy"),
        (8, "domains[1].name"),
        (10, "relay.region"),
        (11, "relay.credential_env"),
        (14, "clients.networks[0]"),
        (16, "tls.certificate"),
    ]
    assert all(problem.file == "todoku.toml" and problem.message and problem.fix for problem in found)


def test_a_problem_reads_like_an_error_of_a_compiler() -> None:
    assert str(one(MINIMAL.replace("ap-tokyo-1", "ap-tokio-1"))) == (
        'todoku.toml:7: relay.region: is the text "ap-tokio-1", which is not a region of Oracle\'s cloud\n'
        '    fix: did you mean "ap-tokyo-1"?'
    )


def test_an_unknown_key_is_named_with_the_one_that_was_meant() -> None:
    problem = one(MINIMAL + 'credential-fle = "/x"\n')
    assert (problem.line, problem.key) == (8, "relay.credential-fle")
    assert problem.fix == "did you mean credential_file?"


def test_a_misspelt_key_is_not_called_missing_as_well_and_its_value_is_checked() -> None:
    assert [p.message for p in problems(MINIMAL.replace("hostname =", "host_name ="))] == [
        "is not a key that exists here"
    ]
    found = problems(MINIMAL.replace('hostname = "mx.hoge.example"', 'hostnam = "hoge.example"'))
    assert [p.key for p in found] == ["hostnam", "domains[0].name"]


@pytest.mark.parametrize(
    ("addition", "fix"),
    [
        ('host_sender = "alice@hoge.example"', "move it to the top of the file, above the first [table]"),
        ('message_size = "2 MB"', "move it below [relay.plan]"),
        ('policy = "none"', "move it below [domains.dmarc]"),
        ("quota = 0", "move it below [accounts]"),
    ],
)
def test_a_key_that_slid_into_the_wrong_table_is_sent_home(addition: str, fix: str) -> None:
    assert one(MINIMAL + addition + "\n").fix == fix


def test_a_password_in_the_file_is_refused_and_not_repeated() -> None:
    problem = one(MINIMAL + 'password = "s3cr3t!"\n')
    assert "no place for secrets" in problem.message
    assert "relay.credential_file" in problem.fix
    assert "s3cr3t" not in str(problem)


def test_what_is_missing_is_named_with_what_to_add() -> None:
    assert [(p.key, p.message, p.fix) for p in problems("")] == [
        ("hostname", "is missing", 'add hostname = "mx.hoge.example" at the top of the file'),
        (
            "addresses",
            "is missing",
            'add addresses = ["203.0.113.10", "2001:db8:10::10"] at the top of the file',
        ),
        ("postmaster", "is missing", 'add postmaster = "alice@hoge.example" at the top of the file'),
        ("domains", "is missing", 'add [[domains]], and below it name = "hoge.example"'),
        ("relay", "is missing", 'add [relay], and below it region = "ap-tokyo-1"'),
    ]
    assert one(MINIMAL.replace('region = "ap-tokyo-1"', "")).line == 6


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ("[[domains]]", "[domains]", "domains", "write [[domains]] with two brackets"),
        ('[relay]\nregion = "ap-tokyo-1"', "", "relay", "add [relay]"),
        ("[relay]\n", "[relay]\nport = 25\n", "relay.port", "write 587 or 465"),
        ("[relay]\n", '[relay]\nport = "465"\n', "relay.port", "write 465 without quotes"),
        ("[relay]\n", "[relay]\nport = true\n", "relay.port", "is true, but can only be one of 587, 465"),
        ("[relay]\n", "[relay]\nplan = 5\n", "relay.plan", "write [relay.plan]"),
        ('"ap-tokyo-1"', '"nrt"', "relay.region", 'did you mean "ap-tokyo-1"?'),
        ('"203.0.113.10"', "5", "addresses", "is the number 5, but has to be a list"),
        ('"203.0.113.10"', "[]", "addresses", "is empty"),
        ('"mx.hoge.example"', "1979-05-27", "hostname", "is a date, but has to be a text"),
    ],
)
def test_a_wrong_type_or_choice_is_explained(old: str, new: str, key: str, words: str) -> None:
    problem = one(MINIMAL.replace(old, new))
    assert problem.key == key
    assert words in f"{problem.message} {problem.fix}"


# Files


def test_a_file_that_is_not_there_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"todoku settings example > .*/none\.toml"):
        load(tmp_path / "none.toml")
    assert str(DEFAULT_PATH) == "/etc/todoku/todoku.toml"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbf" + MINIMAL.encode(), "byte order mark"),
        (MINIMAL.encode("utf-16"), "is UTF-16, not UTF-8"),
        ("# 設定\n".encode("cp932") + MINIMAL.encode(), "is not UTF-8: the byte 0x90 on this line"),
        (b"#" * 1_000_001, "is larger than 1000000 bytes"),
        (b"\0" * 10, "not valid toml"),
    ],
)
def test_a_file_in_the_wrong_encoding_says_so(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "todoku.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert words in problem.message
    assert problem.file == str(file)
    assert problem.fix


def test_a_directory_is_not_a_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a directory, not a file"):
        load(tmp_path)


def test_a_path_through_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be read: ENOTDIR"):
        load(tmp_path / "file" / "todoku.toml")


def test_a_file_that_may_not_be_read_says_to_use_root(tmp_path: Path) -> None:
    file = tmp_path / "todoku.toml"
    file.write_text(MINIMAL)
    file.chmod(0)
    # Root may read everything, so somebody else has to try.
    code = (
        "import os, sys, pathlib\n"
        "import todoku.settings as s\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: s.load(pathlib.Path(sys.argv[1]))\n"
        "except s.SettingsError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert "may not be read by this user" in ran.stdout
    assert "sudo" in ran.stdout


def test_a_pipe_can_be_the_settings_file(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, MINIMAL.encode())
    os.close(write)
    try:
        assert load(Path(f"/dev/fd/{read}")).hostname == "mx.hoge.example"
    finally:
        os.close(read)


def test_settings_made_in_code_follow_the_same_rules() -> None:
    with pytest.raises(ValidationError, match="not within one of the domains"):
        Settings.model_validate(
            {
                "hostname": "mx.hoge.example",
                "addresses": "203.0.113.10",
                "postmaster": "alice@fuga.example",
                "domains": [{"name": "hoge.example"}],
                "relay": {"region": "ap-tokyo-1"},
            }
        )
