"""`todoku init` writes settings that are right, or says which answer is wrong and what to write instead."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todoku.cli.parts import init_answers
from todoku.cli.parts.init_answers import AnswerError, complete, read
from todoku.host.client import Host
from todoku.host.instance import Instance, ask
from todoku.host.outlook import Finding, of_the_machine, offset, rejects_25
from todoku.settings import parse
from todoku.settings.example import example

FIVE = """\
domain = "hoge.example"
hostname = "MX.hoge.example"
region = "ap-tokyo-1"
dns = "manual"
postmaster = "alice@hoge.example"
addresses = "203.0.113.10"
"""
OCID = "ocid1.compartment.oc1..aaaaaaaaexample"


def settings(text: str, instance: Instance | None = None):  # type: ignore[no-untyped-def]
    return parse(example(init_answers.settings(complete(read(text), instance))), "todoku.toml")


def test_the_answers_stand_in_the_settings() -> None:
    made = settings(FIVE)
    assert made.hostname == "mx.hoge.example"
    assert [str(address) for address in made.addresses] == ["203.0.113.10"]
    assert [domain.name for domain in made.domains] == ["hoge.example"]
    assert (made.relay.region, made.postmaster) == ("ap-tokyo-1", "alice@hoge.example")
    assert made.dns is not None
    assert made.dns.publisher == "manual"
    assert made.cloud is None


def test_what_was_answered_is_not_lost_where_no_address_can_be_found_out() -> None:
    told = init_answers.as_file(complete(read(FIVE.replace("manual", f"oci {OCID}")), None))
    assert complete(read(told), None) == complete(read(FIVE.replace("manual", f"oci {OCID}")), None)


def test_an_instance_says_who_it_is_by_itself() -> None:
    itself = OCID.replace("compartment", "instance")
    made = settings(FIVE.replace("manual", "oci"), Instance("ap-tokyo-1", OCID, itself))
    assert made.cloud is not None
    assert made.cloud.instance == itself
    assert (made.cloud.compartment, made.cloud.auth) == (OCID, "instance_principal")


@pytest.mark.parametrize(
    ("dns", "publisher", "key", "value"),
    [
        (f"oci {OCID}", "oci", "publisher", "oci"),
        ("rfc2136 192.0.2.53", "rfc2136", "server", "192.0.2.53"),
        ("cloudflare", "lexicon", "provider", "cloudflare"),
    ],
)
def test_each_way_of_publishing_has_what_it_needs(dns: str, publisher: str, key: str, value: str) -> None:
    made = settings(FIVE.replace("manual", dns))
    assert made.dns is not None
    assert made.dns.publisher == publisher
    assert getattr(made.dns, key) == value


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("ap-tokyo-1", "tokyo", 'did you mean "ap-tokyo-1"?'),
        ('"hoge.example"', '"hoge"', "not fully qualified"),
        ("alice@", "alice", "not a mail address"),
        ("manual", "rfc2136", "does not name the name server"),
        ("domain", "domian", "is no question"),
        ('"203.0.113.10"', '["x"]', "addresses"),
        ('region = "ap-tokyo-1"\n', "", "nothing is said about region"),
        ("manual", "oci", "in which compartment"),
        ('"', "'''", "not valid TOML"),
    ],
)
def test_a_wrong_answer_is_named_with_what_to_write(before: str, after: str, said: str) -> None:
    with pytest.raises(AnswerError) as refused:
        complete(read(FIVE.replace(before, after, 1)), None)
    assert said in str(refused.value)


@given(st.text() | st.builds(lambda text: f'dns = "{text}"', st.text()))
def test_any_file_is_read_or_refused(text: str) -> None:
    with suppress(AnswerError):
        assert isinstance(read(text), dict)


def test_what_is_not_given_stands_as_in_the_example() -> None:
    assert example({}) == example()
    chosen = example({"cloud.compartment": OCID})
    assert tomllib.loads(chosen)["cloud"] == {"compartment": OCID}
    assert "\n#auth =" in chosen
    assert "\n#[dns]" in chosen


# --- what will hurt -----------------------------------------------------------------------------------------------

# As the images of Oracle's instances have it.
ORACLE = """\
-P INPUT ACCEPT
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
"""


def test_the_firewall_of_oracles_images_is_seen() -> None:
    assert rejects_25(ORACLE)
    assert not rejects_25(
        ORACLE.replace("-A INPUT -j REJECT", "-A INPUT -p tcp --dport 25 -j ACCEPT\n-A INPUT -j REJECT")
    )
    assert not rejects_25(
        ORACLE.replace(
            "-A INPUT -j REJECT", "-A INPUT -p tcp --dports 22,20:30 -j ACCEPT\n-A INPUT -j REJECT"
        )
    )
    assert rejects_25("-P INPUT DROP\n")
    assert not rejects_25("-P INPUT ACCEPT\n")
    assert not rejects_25("")


def test_little_memory_is_seen(tmp_path: Path) -> None:
    def rules(kibibytes: int) -> list[str]:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/meminfo").write_text(f"MemTotal:       {kibibytes} kB\nMemFree: 1 kB\n")
        found: list[Finding] = list(of_the_machine(Host(tmp_path), ()))
        return [each.rule for each in found]

    assert "memory.little" in rules(500_000)
    assert "memory.little" not in rules(990_000)  # an instance that is sold as one with 1 GB


def test_the_clock_is_compared_with_a_date_of_http() -> None:
    now = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)
    assert offset("Tue, 24 Nov 2026 08:10:00 GMT", now) == 600
    assert offset("Tue, 24 Nov 2026 07:59:00 GMT", now) == -60
    assert offset("yesterday", now) == 0


def test_five_questions_at_most_and_each_says_what_it_is_for() -> None:
    assert len(init_answers.QUESTIONS) <= 5
    assert all(question.why.endswith(".") and question.ask for question in init_answers.QUESTIONS)


def test_a_machine_that_is_no_instance_is_none() -> None:
    assert ask("127.0.0.1", 1) is None
