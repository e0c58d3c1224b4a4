# What Oracle's cloud has, against what has to be there: each thing that is missing or not ready has its finding, and
# none of it is blamed on the DNS.

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from internet_for_checks import DOMAIN, RELAY, SELECTOR, Place, rsa_key, rules, txt

sys.path.insert(0, str(Path(__file__).parents[1] / "cloud"))
from cloud_fake import COMPARTMENT, START, Clock, FakeApi
from cloud_fake import settings as cloud_settings

from todoku.check import runner, topics
from todoku.check.finding import Finding, Verdict
from todoku.check.means import Dns, Means
from todoku.cloud import permissions
from todoku.cloud.client import Cloud
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.limits import SendingLimits
from todoku.cloud.retry import Patience
from todoku.cloud.suppressions import Suppression
from todoku.cloud.values import (
    ACTIVE,
    CREATING,
    FAILED,
    NEEDS_ATTENTION,
    Dkim,
    EmailDomain,
    Policy,
    Region,
    ReturnPath,
    Sender,
    SmtpCredential,
    User,
)
from todoku.settings import CredentialError, RelayCredential

KEY = f"{SELECTOR}._domainkey.{DOMAIN}"
TARGET = f"{SELECTOR}.{DOMAIN}.dkim.nrt1.oracleemaildelivery.com"
BOUNCES = "nrt1.rp.oracleemaildelivery.com"
PATH = f"nrt1.rp.{DOMAIN}"
NAMES = ("dkim", "dmarc", "return-path", "cloud")


class Everything:
    """A tenancy and a zone in order."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.api: Any = FakeApi(self.clock)
        self.api.domains = [EmailDomain("d", DOMAIN, ACTIVE, True, "k")]
        self.api.keys = [
            Dkim(
                "k",
                "d",
                SELECTOR,
                ACTIVE,
                True,
                f"{SELECTOR}._domainkey.{DOMAIN}",
                TARGET,
                created=START,
                updated=START,
            )
        ]
        self.api.all_senders = [Sender("s", f"@{DOMAIN}", ACTIVE, True)]
        self.api.paths = [ReturnPath("p", "d", PATH, ACTIVE, True, PATH, BOUNCES, created=START)]
        self.api.users = [User("u", "todoku-relay", True)]
        self.api.credentials = [SmtpCredential("c", "ocid1.user@x", "", START)]
        statements = permissions.sending("todoku-senders", COMPARTMENT, "Default")
        self.api.all_policies = [Policy("y", "todoku-senders", COMPARTMENT, tuple(statements), True)]
        self.place = Place()
        del self.place.ours[KEY, "TXT"]
        self.place.ours[KEY, "CNAME"] = [f"{TARGET}."]
        self.place.ours[PATH, "CNAME"] = [f"{BOUNCES}."]
        self.place.others["oracleemaildelivery.com"] |= {
            (TARGET, "TXT"): [txt(f"v=DKIM1; p={rsa_key(2048)}")],
            (BOUNCES, "TXT"): [txt(f"v=spf1 include:{RELAY} ~all")],
            (BOUNCES, "MX"): ["10 bmta.oracleemaildelivery.com."],
        }
        self.login: Callable[[], RelayCredential] = lambda: RelayCredential("ocid1.user@x", "secret")
        self.more = ""
        self.limits: Callable[[], SendingLimits] = lambda: SendingLimits(50_000, 18_000)
        self.suppressed = [Suppression("1", "gone@mailbox.example", "HARDBOUNCE", "2026-11-01T00:00:00Z")]
        self.forwards = {"carol@mailbox.example": f"info@{DOMAIN}"}

    def looked(self) -> list[Finding]:
        settings = cloud_settings(self.more)
        cloud = Cloud(
            self.api,
            patience=Patience(sleep=self.clock.sleep, clock=self.clock.monotonic),
            now=self.clock.now,
        )
        means = Means(
            Dns(self._lookups()),
            now=self.clock.now,
            cloud=cloud,
            login=self.login,
            forwards=self.forwards,
            suppressions=lambda: self.suppressed,
            limits=self.limits,
        )
        steps = [step for step in topics.steps(settings, means, NAMES) if step.rule != "relay.login"]
        return runner.run(steps)

    def _lookups(self) -> Any:
        """With Oracle's zone joined to ours, as the small internet follows a CNAME within a zone only."""
        joined = {**self.place.others["oracleemaildelivery.com"], **self.place.ours}
        self.place.ours.update(joined)
        return self.place.lookups()


Break = Callable[[Everything], None]


def state(where: str, value: str, **more: Any) -> Break:
    def change(all_: Everything) -> None:
        setattr(all_.api, where, [replace(thing, state=value, **more) for thing in getattr(all_.api, where)])

    return change


def none(where: str) -> Break:
    return lambda all_: setattr(all_.api, where, [])


def record(name: str, type_: str, *values: str) -> Break:
    def change(all_: Everything) -> None:
        for known in [known for known in all_.place.ours if known[0] == name]:
            del all_.place.ours[known]
        if values:
            all_.place.ours[name, type_] = list(values)

    return change


def no_credential(all_: Everything) -> None:
    def login() -> RelayCredential:
        raise CredentialError("there is no /etc/todoku/secrets/relay")

    all_.login = login


def unknown_credential(all_: Everything) -> None:
    all_.login = lambda: RelayCredential("ocid1.user@other", "secret")


def old(all_: Everything) -> None:
    all_.api.credentials = [SmtpCredential("c", "ocid1.user@x", "", START - timedelta(days=400))]


def single_senders(all_: Everything) -> None:
    all_.api.all_senders = [Sender("s", f"postmaster@{DOMAIN}", ACTIVE, True)]


def no_smtp(all_: Everything) -> None:
    all_.api.users = [User("u", "todoku-relay", True, may_use_smtp=False)]


def another_region(all_: Everything) -> None:
    all_.api.subscribed = [Region("us-ashburn-1", home=True), Region("ap-tokyo-1", home=False)]


def policies_denied(all_: Everything) -> None:
    all_.api.denied = {"policies"}


def forwarded_into_nothing(all_: Everything) -> None:
    all_.forwards["gone@mailbox.example"] = f"sales@{DOMAIN}"


def small_limits(all_: Everything) -> None:
    all_.limits = lambda: SendingLimits(per_day=100, per_minute=None)


def limits_fail(trouble: Trouble) -> Break:
    def refuse() -> SendingLimits:
        raise CloudError("the limits cannot be read", trouble)

    return lambda all_: setattr(all_, "limits", refuse)


MUTATIONS: dict[str, tuple[Break, set[str], set[str], set[str]]] = {
    "no email domain": (
        none("domains"), {"cloud.domain", "dkim.active", "return-path.record", "dmarc.alignment"}, set(), set(),
    ),
    "an email domain that is not ready": (state("domains", CREATING), {"cloud.domain"}, set(), set()),
    "no key": (none("keys"), {"dkim.active"}, set(), set()),
    "a key that does not sign": (
        state("keys", NEEDS_ATTENTION, details="NEED_DNS"), {"dkim.active"}, set(), set(),
    ),
    "the key's record missing": (record(KEY, "CNAME"), {"dkim.target", "dkim.record"}, set(), set()),
    "the key's record elsewhere": (
        record(KEY, "CNAME", f"{BOUNCES}."), {"dkim.target", "dkim.record"}, set(), set(),
    ),
    "the key's record copied": (record(KEY, "TXT", txt(f"v=DKIM1; p={rsa_key(2048)}")), {"dkim.target"}, set(), set()),
    "no return path": (none("paths"), {"return-path.record"}, set(), set()),
    "a return path that failed": (state("paths", FAILED), {"return-path.record"}, set(), set()),
    "the return path's record missing": (
        record(PATH, "CNAME"), {"return-path.record", "return-path.spf", "return-path.bounces"}, set(), set(),
    ),
    "no sender": (none("all_senders"), {"cloud.senders"}, set(), set()),
    "a sender that is not ready": (state("all_senders", CREATING), {"cloud.senders"}, set(), set()),
    "single senders": (single_senders, set(), {"cloud.senders"}, set()),
    "no policy": (none("all_policies"), {"cloud.policies"}, set(), set()),
    "policies that may not be read": (policies_denied, set(), set(), {"cloud.policies"}),
    "no user": (none("users"), {"cloud.credential"}, set(), set()),
    "a user without SMTP": (no_smtp, {"cloud.credential"}, set(), set()),
    "no credential here": (no_credential, {"cloud.credential"}, set(), set()),
    "a credential that Oracle does not know": (unknown_credential, {"cloud.credential"}, set(), set()),
    "an old credential": (old, set(), {"cloud.credential"}, set()),
    "an alias that leads to somebody suppressed": (forwarded_into_nothing, {"cloud.suppressions"}, set(), set()),
    "a plan beyond what Oracle allows": (small_limits, set(), {"cloud.quota"}, set()),
    "limits that may not be read": (limits_fail(Trouble.DENIED), set(), set(), set()),
    "limits that cannot be read": (limits_fail(Trouble.UNSURE), set(), set(), {"cloud.quota"}),
    "another home region": (another_region, set(), {"cloud.quota"}, set()),
}  # fmt: skip


def test_a_tenancy_in_order_passes() -> None:
    found = Everything().looked()
    assert {finding.verdict for finding in found} == {Verdict.PASS}, found


@pytest.mark.parametrize("name", MUTATIONS)
def test_each_thing_amiss_has_its_finding_and_no_other(name: str) -> None:
    change, failing, warning, unclear = MUTATIONS[name]
    all_ = Everything()
    change(all_)
    found = all_.looked()
    assert rules(found, Verdict.FAIL) == failing, found
    assert rules(found, Verdict.WARN) == warning, found
    assert rules(found, Verdict.UNKNOWN) == unclear, found


def test_neither_key_nor_return_path_means_that_from_is_not_aligned() -> None:
    all_ = Everything()
    state("keys", NEEDS_ATTENTION)(all_)
    state("paths", CREATING)(all_)
    assert "dmarc.alignment" in rules(all_.looked(), Verdict.FAIL)


def test_strict_spf_alignment_does_not_count_the_return_path() -> None:
    all_ = Everything()
    state("keys", NEEDS_ATTENTION)(all_)
    all_.place.ours[f"_dmarc.{DOMAIN}", "TXT"] = [txt(f"v=DMARC1; p=reject; aspf=s; rua=mailto:a@{DOMAIN}")]
    assert "dmarc.alignment" in rules(all_.looked(), Verdict.FAIL)


def test_without_the_cloud_alignment_is_not_guessed() -> None:
    found = Place().seen_by_us(("dkim", "dmarc", "return-path", "cloud"))
    assert rules(found, Verdict.UNKNOWN) == {"dkim.record", "dmarc.alignment"}


def test_a_cloud_that_does_not_answer_makes_it_unknown() -> None:
    all_ = Everything()
    all_.api.denied = {"email_domains", "senders", "user", "regions", "smtp_host", "policies"}
    found = all_.looked()
    assert not rules(found, Verdict.FAIL), found
    assert {"cloud.domain", "dkim.active", "cloud.senders"} <= rules(found, Verdict.UNKNOWN)
