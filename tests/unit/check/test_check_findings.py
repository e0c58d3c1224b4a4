# A check that hangs on one dead server, or hides what is most urgent below what is not, is not run a second time.

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from todoku.check import providers, rules, show
from todoku.check.finding import Finding, Verdict, by_urgency, failed, passed, unknown, warned
from todoku.check.means import Unanswered
from todoku.check.runner import Step, run
from todoku.cloud.errors import Attempt, Reply, refused
from todoku.cloud.permissions import READ_TENANCY
from todoku.plan.resource import LookFailed

DOMAIN = "hoge.example"


def test_what_has_to_be_done_first_comes_first() -> None:
    mixed = [
        passed("dns.exists", "it does", DOMAIN),
        warned("spf.all", "?all", "Write ~all", DOMAIN),
        failed("dmarc.record", "none", "Publish one", DOMAIN),
        unknown("spf.lookups", "no answer", "Look again", DOMAIN),
        failed("mx.record", "none", "Publish one", DOMAIN),
    ]
    assert [f.rule for f in by_urgency(mixed)] == [
        "mx.record",
        "dmarc.record",
        "spf.lookups",
        "spf.all",
        "dns.exists",
    ]


def test_a_finding_names_a_rule_that_exists_and_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="no-such-rule"):
        passed("no-such-rule", "seen")
    with pytest.raises(ValueError, match="advice"):
        Finding("spf.record", Verdict.FAIL, "two records")
    with pytest.raises(ValueError, match="advice"):
        Finding("spf.record", Verdict.PASS, "one record", "Do something")


def test_steps_run_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=5)

    def look() -> Iterator[Finding]:
        together.wait()
        yield passed("spf.record", "seen")

    assert len(run([Step("spf.record", DOMAIN, look)] * 3)) == 3


def test_a_step_that_hangs_is_unknown_and_the_others_are_told() -> None:
    release = threading.Event()

    def hangs() -> Iterator[Finding]:
        release.wait(30)
        yield passed("mx.record", "too late")

    begun = time.monotonic()
    found = run(
        [
            Step("mx.record", DOMAIN, hangs, seconds=0.2),
            Step("spf.record", DOMAIN, lambda: [passed("spf.record", "one")]),
        ]
    )
    release.set()
    assert time.monotonic() - begun < 2
    assert [(f.rule, f.verdict) for f in found] == [
        ("mx.record", Verdict.UNKNOWN),
        ("spf.record", Verdict.PASS),
    ]
    assert "0.2 s" in found[0].seen


def test_the_whole_check_has_a_deadline_whatever_its_steps_say() -> None:
    release = threading.Event()
    begun = time.monotonic()
    found = run(
        [Step("mx.record", DOMAIN, lambda: (release.wait(30) and []) or [], seconds=60)] * 40, seconds=0.3
    )
    release.set()
    assert time.monotonic() - begun < 2
    assert {f.verdict for f in found} == {Verdict.UNKNOWN}


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Unanswered("MX of hoge.example: server failure"), "server failure"),
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (TimeoutError("timed out"), "no answer in time (timed out)"),
        (KeyError("ours"), "a fault in Todoku itself"),
    ],
)
def test_what_cannot_be_found_out_is_unknown_and_never_a_crash(problem: Exception, words: str) -> None:
    def look() -> Iterator[Finding]:
        raise problem

    (found,) = run([Step("mx.record", DOMAIN, look)])
    assert found.verdict is Verdict.UNKNOWN
    assert words in found.seen
    assert found.advice


def refused_by_oracle(status: int, message: str = "") -> LookFailed:
    attempt = Attempt("list the email domains", READ_TENANCY, "ocid1.compartment.oc1..a", "ap-tokyo-1")
    return refused(attempt, Reply(status, "Code", message, {}))


@pytest.mark.parametrize(
    ("problem", "seen", "advice"),
    [
        (refused_by_oracle(401), "Oracle does not accept the API key", "Check that user, tenancy"),
        (
            refused_by_oracle(404),
            "cannot list the email domains in ap-tokyo-1",
            "If it is not allowed, this policy",
        ),
        (refused_by_oracle(429), "Oracle asks to slow down", "Try again in a few minutes"),
        (refused_by_oracle(503), "Oracle's service in ap-tokyo-1 has trouble", "Try again later"),
        (
            refused_by_oracle(401, "skew"),
            "the clock of this machine is wrong",
            "Put that right, then look again",
        ),
        (LookFailed("something else"), "something else", "Put that right, then look again"),
    ],
    ids=["key", "denied", "slow", "trouble", "clock", "other"],
)
def test_what_oracle_says_is_told_apart_from_what_to_do(problem: LookFailed, seen: str, advice: str) -> None:
    def look() -> Iterator[Finding]:
        raise problem

    (found,) = run([Step("cloud.domain", DOMAIN, look)])
    assert found.seen.startswith(seen)
    assert found.advice.startswith(advice)
    assert advice not in found.seen


# --- providers ---------------------------------------------------------------------------------------------------


def _outcomes(*findings: Finding) -> dict[str, str]:
    return {judgement.provider: judgement.outcome for judgement in providers.judge(findings)}


def test_all_well_is_accepted_everywhere() -> None:
    well = [passed(rule, "fine", DOMAIN) for rule in rules.RULES]
    assert set(_outcomes(*well).values()) == {"accepted"}


def test_what_everybody_is_asked_for_is_refused_and_named() -> None:
    found = providers.judge([failed("message.from", "none", "Write one"), passed("spf.record", "one")])
    assert [j.outcome for j in found] == ["refused because", "refused because", "accepted but"]
    assert "From is not one header with one address" in str(found[0])


def test_what_only_bulk_senders_are_refused_for_is_a_but() -> None:
    assert set(_outcomes(failed("dmarc.record", "none", "Publish one", DOMAIN)).values()) == {"accepted but"}


def test_spf_or_dkim_may_fail_but_not_both_for_one_domain() -> None:
    spf = failed("spf.record", "none", "Publish one", DOMAIN)
    dkim = failed("dkim.record", "none", "Publish one", DOMAIN)
    elsewhere = failed("dkim.record", "none", "Publish one", "fuga.example")
    assert _outcomes(spf)["Gmail"] == "accepted but"
    assert _outcomes(spf, elsewhere)["Gmail"] == "accepted but"
    assert _outcomes(spf, dkim) == {
        "Gmail": "refused because",
        "Yahoo": "refused because",
        "Outlook": "accepted but",
    }


def test_what_is_not_known_is_not_called_accepted() -> None:
    assert _outcomes(unknown("dns.exists", "no answer", "Look again", DOMAIN)) == dict.fromkeys(
        rules.PROVIDERS, "not known because"
    )


def test_what_only_bulk_senders_need_and_nobody_knows_is_a_perhaps() -> None:
    (gmail, *_) = providers.judge([unknown("dkim.record", "no selector", "Name it", DOMAIN)])
    assert str(gmail) == f"accepted but perhaps there is no usable DKIM key ({DOMAIN})"


def test_a_provider_is_told_the_cause_and_not_what_follows() -> None:
    gone = failed("dns.exists", "no such domain", "Register it", DOMAIN)
    (gmail, *_) = providers.judge([gone, failed("spf.record", "none", "Publish one", DOMAIN)])
    assert str(gmail) == f"refused because the domain does not exist in the DNS ({DOMAIN})"


def test_nothing_is_said_of_providers_when_nothing_that_they_want_was_looked_at() -> None:
    assert providers.judge([failed("host.disk", "full", "Make room")]) == []


# --- printing ----------------------------------------------------------------------------------------------------


def test_each_problem_is_printed_with_what_to_do_and_passes_can_be_left_out() -> None:
    findings = [
        failed("spf.record", "two records", "Remove one", DOMAIN),
        passed("mx.record", "10 mx.hoge.example", DOMAIN),
    ]
    text = "\n".join(show.lines(findings, providers.judge(findings)))
    assert "FAIL    spf.record (hoge.example): two records\n        -> Remove one" in text
    assert "PASS    mx.record" in text
    assert "Gmail    accepted but there is not exactly one SPF record (hoge.example)" in text
    assert text.endswith("1 pass, 0 warn, 1 fail, 0 unknown")
    short = "\n".join(show.lines(findings, [], only_problems=True))
    assert "mx.record" not in short
    assert short.endswith("1 pass, 0 warn, 1 fail, 0 unknown")


def test_what_somebody_else_wrote_does_not_reach_the_terminal_as_it_is() -> None:
    text = "\n".join(show.lines([failed("spf.record", "\x1b[2J\x07évil\r\nline", "Do it")], []))
    assert text.isprintable() or set(text) - {"\n"} == {c for c in text if c.isprintable()}
    assert "évil" in text


def test_json_has_the_same_findings() -> None:
    findings = [failed("spf.record", "two records", "Remove one", DOMAIN)]
    told = show.as_json(findings, providers.judge(findings), 0.1234)
    assert told["ok"] is False
    assert told["counts"] == {"pass": 0, "warn": 0, "fail": 1, "unknown": 0}
    assert told["findings"][0] == {
        "rule": "spf.record",
        "verdict": "fail",
        "seen": "two records",
        "advice": "Remove one",
        "about": DOMAIN,
        "title": "there is not exactly one SPF record",
        "source": "RFC 7208 4.5; G1, Y1, M1",
        "because": None,
    }
    assert [p["provider"] for p in told["providers"]] == ["Gmail", "Yahoo", "Outlook"]


def test_every_rule_says_where_it_is_written() -> None:
    for name, rule in rules.RULES.items():
        assert rule.title, name
        assert rule.source, name
        assert set(rule.demands) <= set(rules.PROVIDERS), name
