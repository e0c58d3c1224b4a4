# One written precedence: an office has to be able to say beforehand what happens to an attachment.

from __future__ import annotations

from typing import Any

import pytest

from todoku.protect import subject
from todoku.protect.policy import Content, Mode, decide
from todoku.settings import Protect

CONTENT = Content(frozenset({"pdf"}), 5000)


def policy(*rules: dict[str, Any], **more: Any) -> Protect:
    return Protect.model_validate({"on": True, "rules": rules, **more})


def mode(policy: Protect, recipient: str, *, sender: str = "alice@hoge.example", **more: Any) -> Mode:
    return decide(policy, sender, recipient, more.pop("content", CONTENT), **more).mode


LADDER: list[dict[str, Any]] = [  # from the weakest to the strongest
    {"mode": "pass"},
    {"mode": "refuse", "recipients": "firm.example"},
    {"mode": "zip", "recipients": "mail.firm.example"},
    {"mode": "exclude", "recipients": "mail.firm.example"},
    {"mode": "refuse", "recipients": "eve@mail.firm.example"},
    {"mode": "exclude", "recipients": "eve@mail.firm.example"},
    {"mode": "zip", "senders": "alice@hoge.example"},
]


@pytest.mark.parametrize("steps", range(len(LADDER) + 1))
@pytest.mark.parametrize("backwards", [False, True])
def test_the_more_particular_rule_decides_wherever_it_stands(steps: int, backwards: bool) -> None:
    rules = LADDER[:steps]
    found = policy(*(rules[::-1] if backwards else rules), default="refuse")
    expected = Mode(LADDER[steps - 1]["mode"]) if steps else Mode.REFUSE
    assert mode(found, "Eve@Mail.Firm.example") is expected


def test_the_first_of_several_sender_rules_decides() -> None:
    found = policy(
        {"mode": "pass", "senders": "alice@hoge.example", "recipients": "partner.example"},
        {"mode": "refuse", "senders": "hoge.example"},
        {"mode": "zip", "recipients": "eve@partner.example"},
    )
    assert mode(found, "eve@partner.example") is Mode.PASS
    assert mode(found, "dave@outside.example") is Mode.REFUSE
    assert mode(found, "eve@partner.example", sender="bob@hoge.example") is Mode.REFUSE
    assert mode(found, "eve@partner.example", sender="carol@fuga.example") is Mode.ZIP


def test_conditions_are_part_of_whether_a_rule_fits() -> None:
    found = policy(
        {"mode": "refuse", "types": ["xlsx"]}, {"mode": "zip", "larger_than": "1 MB"}, default="pass"
    )
    assert mode(found, "a@b.example", content=Content(frozenset({"xlsx", "pdf"}), 1)) is Mode.REFUSE
    assert mode(found, "a@b.example", content=Content(frozenset({"pdf"}), 1_000_001)) is Mode.ZIP
    assert mode(found, "a@b.example", content=Content(frozenset({"pdf"}), 1_000_000)) is Mode.PASS


def test_a_similar_domain_is_another_one() -> None:
    found = policy({"mode": "pass", "recipients": "partner.example"}, default="refuse")
    assert mode(found, "eve@notpartner.example") is Mode.REFUSE
    assert mode(found, "eve@partner.example.evil.example") is Mode.REFUSE


def test_the_subject_chooses_but_never_against_refuse_or_exclude() -> None:
    found = policy(
        {"mode": "refuse", "recipients": "a.example.com"},
        {"mode": "exclude", "recipients": "b.example.com"},
        default="pass",
    )
    assert mode(found, "x@y.example.com", asked=Mode.ZIP) is Mode.ZIP
    assert mode(found, "x@a.example.com", asked=Mode.ZIP) is Mode.REFUSE
    assert mode(found, "x@b.example.com", asked=Mode.ZIP) is Mode.EXCLUDE
    off = policy(default="pass", subject_words=False)
    assert mode(off, "x@y.example.com", asked=Mode.ZIP) is Mode.PASS


@pytest.mark.parametrize(
    ("given", "asked", "rest"),
    [
        ("#zip report", Mode.ZIP, "report"),
        ("report #ZIP", Mode.ZIP, "report"),
        ("見積書 #zip の件", Mode.ZIP, "見積書 の件"),
        ("issue #zipper and x#zip", None, None),
        ("plain", None, None),
        ("#zip", Mode.ZIP, ""),
    ],
)
def test_words_are_read_and_removed(given: str, asked: Mode | None, rest: str | None) -> None:
    assert subject.read(given) == subject.Asked(asked, rest)


def test_encoded_subjects_are_read_and_written() -> None:
    text = "見積書 " * 30
    assert (
        subject.decoded(subject.encoded(text)) == text.strip()
        or subject.decoded(subject.encoded(text)) == text
    )
    assert subject.decoded("=?nonsense?b?!!!?=") == "=?nonsense?b?!!!?="
    assert "\nBcc" not in subject.encoded("a\r\nBcc: b@example.com").replace("\n ", " ")
