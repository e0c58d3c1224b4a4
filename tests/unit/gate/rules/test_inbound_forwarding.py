# What an alias leads outside is passed on in our name, once, or refused in words; bounces of it go back.

from __future__ import annotations

import email
import email.policy
from pathlib import Path

import pytest
from inbound_side import MAIL, ask, mail, settings

from todoku.gate import srs
from todoku.gate.aliases import AliasBook
from todoku.gate.book import ApprovedSenders
from todoku.gate.context import Context
from todoku.gate.decision import (
    PASS,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    HoldBack,
    Refuse,
)
from todoku.gate.message import MessageSoFar
from todoku.gate.reinjection import Copy, NotTaken
from todoku.gate.rules.forwarding import Forwarding
from todoku.gate.rules.null_sender import made_approvable
from todoku.gate.rules.return_address import ReturnAddress

SECRET = b"s" * 64
NOW = 1_795_500_000.0
ALIASES = """# Written by Todoku
sales@hoge.example\tcarol@mailbox.example,bob@hoge.example
press@hoge.example\tcarol@mailbox.example
team@hoge.example\talice@hoge.example,bob@hoge.example
postmaster@hoge.example\talice@hoge.example
"""


class Postfix:
    """What was handed over; `refusal` is raised instead."""

    def __init__(self, refusal: NotTaken | None = None) -> None:
        self.copies: list[Copy] = []
        self.refusal = refusal

    def __call__(self, copy: Copy) -> None:
        if self.refusal:
            raise self.refusal
        self.copies.append(copy)


@pytest.fixture
def book(tmp_path: Path) -> AliasBook:
    path = tmp_path / "virtual_alias"
    path.write_text(ALIASES)
    return AliasBook(path)


def rule(book: AliasBook, postfix: Postfix) -> Forwarding:
    return Forwarding(book, postfix, lambda: SECRET, lambda: NOW)


def parsed(copy: Copy) -> email.message.EmailMessage:
    message = email.message_from_bytes(copy.content, policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    return message


def test_the_targets_here_stay_and_those_outside_get_a_copy_in_our_name(book: AliasBook) -> None:
    postfix = Postfix()
    decision = ask(rule(book, postfix), mail(to=("sales@hoge.example", "alice@hoge.example")))
    assert decision == Change([DeleteRecipient("sales@hoge.example"), AddRecipient("bob@hoge.example")])
    (copy,) = postfix.copies
    assert copy.recipients == ("carol@mailbox.example",)
    assert srs.reverse(copy.sender, SECRET, NOW) == "dave@outside.example"
    message = parsed(copy)
    assert message["From"] == '"Dave (dave@outside.example)" <sales@hoge.example>'
    assert message["Reply-To"] == "dave@outside.example"
    assert message["Subject"] == "hello"
    assert message["Message-ID"] == "<1@outside.example>"
    assert message["X-Todoku-Forwarded"] == "sales@hoge.example"
    assert "from mail.outside.example" in message.get_all("Received", [])[0]
    assert message.get_payload() == "text\r\n"


@pytest.mark.parametrize("to", ["press@hoge.example", "Press@HOGE.example", "press+monday@hoge.example"])
def test_the_alias_is_found_as_postfix_finds_it(book: AliasBook, to: str) -> None:
    postfix = Postfix()
    assert ask(rule(book, postfix), mail(to=(to,))) == Change([DeleteRecipient(to)])
    assert parsed(postfix.copies[0])["From"].addresses[0].addr_spec == "press@hoge.example"


@pytest.mark.parametrize("to", ["postmaster", "postmaster@mx.hoge.example"])
def test_the_hosts_own_postmaster_may_be_somebody_elsewhere(tmp_path: Path, to: str) -> None:
    (tmp_path / "virtual_alias").write_text("alice@hoge.example\tcarol@mailbox.example\n")
    postfix = Postfix()
    assert isinstance(ask(rule(AliasBook(tmp_path / "virtual_alias"), postfix), mail(to=(to,))), Change)
    assert postfix.copies[0].recipients == ("carol@mailbox.example",)


def test_who_is_reached_by_two_aliases_gets_one_copy(book: AliasBook) -> None:
    postfix = Postfix()
    ask(rule(book, postfix), mail(to=("sales@hoge.example", "press@hoge.example")))
    assert [copy.recipients for copy in postfix.copies] == [("carol@mailbox.example",)]


@pytest.mark.parametrize("to", ["team@hoge.example", "alice@hoge.example", "nobody@hoge.example"])
def test_what_stays_here_is_left_alone(book: AliasBook, to: str) -> None:
    assert ask(rule(book, Postfix()), mail(to=(to,))) is PASS


@pytest.mark.parametrize(
    "macros", [{"auth_authen": "alice"}, {"daemon_name": "ORIGINATING"}], ids=["login", "host"]
)
def test_what_leaves_under_an_own_sender_needs_no_copy(book: AliasBook, macros: dict[str, str]) -> None:
    postfix = Postfix()
    assert ask(rule(book, postfix), mail(to=("press@hoge.example",), macros=macros)) is PASS
    assert not postfix.copies


@pytest.mark.parametrize(
    ("author", "shown"),
    [
        (" dave@outside.example", '"dave@outside.example" <'),
        (' "Dave \\"the\\" <x>" <dave@outside.example>', 'Dave "the" <x> (dave@outside.example)'),
        (" =?utf-8?b?44OH44Kk44OW?= <dave@outside.example>", "デイブ (dave@outside.example)"),
        (" nobody", '"unknown" <'),
        (" a@outside.example, b@outside.example", '"a@outside.example" <'),
    ],
)
def test_from_is_ours_alone_whatever_it_was(book: AliasBook, author: str, shown: str) -> None:
    postfix = Postfix()
    ask(rule(book, postfix), mail(("From", author), ("Subject", " x"), to=("press@hoge.example",)))
    header = parsed(postfix.copies[0])["From"]
    assert [address.addr_spec for address in header.addresses] == ["press@hoge.example"]
    raw = postfix.copies[0].content.decode("ascii").partition("\r\n\r\n")[0]
    assert shown in raw or header.addresses[0].display_name == shown
    assert raw.lower().count("\nfrom:") == 1


def test_a_reply_to_of_the_writer_stays_and_a_broken_signature_does_not(book: AliasBook) -> None:
    postfix = Postfix()
    more = (("Reply-To", " desk@outside.example"), ("DKIM-Signature", " v=1; d=outside.example"))
    ask(rule(book, postfix), mail(*MAIL, *more, to=("press@hoge.example",)))
    message = parsed(postfix.copies[0])
    assert message.get_all("Reply-To") == ["desk@outside.example"]
    assert message["DKIM-Signature"] is None


def test_a_bounce_to_an_alias_is_passed_on_with_a_sender_that_the_postmaster_reads(book: AliasBook) -> None:
    postfix = Postfix()
    ask(rule(book, postfix), mail(sender="", to=("press@hoge.example",)))
    assert postfix.copies[0].sender == "bounces@hoge.example"


def refused(book: AliasBook, message: MessageSoFar, postfix: Postfix | None = None) -> Refuse:
    postfix = postfix or Postfix()
    decision = ask(rule(book, postfix), message)
    assert isinstance(decision, Refuse), decision
    assert not postfix.copies
    assert message.recipients == ["press@hoge.example"]
    return decision


def test_a_loop_is_cut(book: AliasBook) -> None:
    message = mail(*MAIL, ("X-Todoku-Forwarded", " Press@hoge.example"), to=("press@hoge.example",))
    decision = refused(book, message)
    assert (decision.code, decision.enhanced) == (554, "5.4.6")
    assert "has been forwarded by press@hoge.example before" in decision.words


def test_too_large_for_the_relay_is_said_with_both_figures(book: AliasBook) -> None:
    for size in (1_999_999, 2_000_001):  # with the headers it is too large, or even without
        decision = refused(book, mail(to=("press@hoge.example",), body=b"x" * size))
        assert (decision.code, decision.enhanced) == (552, "5.3.4")
        assert "press@hoge.example leads to carol@mailbox.example" in decision.words
        assert "2000000 bytes" in decision.words


def test_without_an_approved_domain_it_is_refused_instead_of_lost(book: AliasBook, tmp_path: Path) -> None:
    (tmp_path / "approved").write_text("press@hoge.example\n")
    context = Context(settings(), approval=ApprovedSenders(tmp_path / "approved"))
    decision = refused(book, mail(to=("press@hoge.example",), context=context))
    assert (decision.code, decision.enhanced) == (550, "5.7.1")
    assert "cannot pass the relay" in decision.words
    (tmp_path / "approved2").write_text("@hoge.example\n")
    context = Context(settings(), approval=ApprovedSenders(tmp_path / "approved2"))
    assert isinstance(ask(rule(book, Postfix()), mail(to=("press@hoge.example",), context=context)), Change)


def test_a_sender_that_cannot_be_rewritten_is_refused(book: AliasBook) -> None:
    decision = refused(book, mail(sender='"a b"@outside.example', to=("press@hoge.example",)))
    assert (decision.code, decision.enhanced) == (553, "5.1.7")


def test_what_the_own_rules_refuse_of_the_copy_is_told_to_the_writer(book: AliasBook) -> None:
    postfix = Postfix(NotTaken("5.6.7 The header Subject has characters beyond US-ASCII", for_good=True))
    decision = refused(book, mail(to=("press@hoge.example",)), postfix)
    assert "characters beyond US-ASCII" in decision.words


def test_what_cannot_be_handed_over_now_is_held_back(book: AliasBook) -> None:
    message = mail(to=("press@hoge.example",))
    held = ask(rule(book, Postfix(NotTaken("connection refused"))), message)
    assert isinstance(held, HoldBack)
    assert (held.code, message.recipients) == (451, ["press@hoge.example"])


def test_the_same_message_again_has_the_same_key_and_another_has_not(book: AliasBook) -> None:
    postfix = Postfix()
    for body in (b"one\r\n", b"one\r\n", b"two\r\n"):
        ask(rule(book, postfix), mail(to=("press@hoge.example",), body=body))
    first, again, other = (copy.key for copy in postfix.copies)
    assert first == again != other


# -- and back

BACK = srs.forward("dave@outside.example", "hoge.example", SECRET, NOW)
BOUNCE = (("From", " Mail Delivery <MAILER-DAEMON@mailbox.example>"), ("Subject", " Undelivered"))


def test_a_bounce_goes_back_to_the_writer_under_a_sender_of_ours() -> None:
    postfix = Postfix()
    bounce = mail(*BOUNCE, sender="", to=(BACK,))
    assert ask(ReturnAddress(postfix, lambda: SECRET, lambda: NOW), bounce) == Change([DeleteRecipient(BACK)])
    (copy,) = postfix.copies
    assert (copy.sender, copy.recipients) == ("bounces@hoge.example", ("dave@outside.example",))
    message = parsed(copy)
    assert message["From"] == '"Mail Delivery (MAILER-DAEMON@mailbox.example)" <bounces@hoge.example>'
    assert message["Reply-To"] is None


@pytest.mark.parametrize(
    ("sender", "to", "days", "enhanced", "words"),
    [
        ("x@y.example", BACK, 0, "5.7.1", "is for bounces only"),
        ("", BACK.replace("=dave@", "=victim@"), 0, "5.1.1", "not given out by us"),
        ("", BACK, 30, "5.1.1", "good for 21 days"),
    ],
)
def test_return_addresses_cannot_be_misused(
    sender: str, to: str, days: int, enhanced: str, words: str
) -> None:
    postfix = Postfix()
    decision = ask(
        ReturnAddress(postfix, lambda: SECRET, lambda: NOW + days * 86400),
        mail(*BOUNCE, sender=sender, to=(to,)),
    )
    assert isinstance(decision, Refuse)
    assert (decision.code, decision.enhanced) == (550, enhanced)
    assert words in decision.words
    assert not postfix.copies


def test_a_bounce_that_has_come_back_before_is_not_sent_round() -> None:
    bounce = mail(*BOUNCE, ("X-Todoku-Forwarded", " bounces@hoge.example"), sender="", to=(BACK,))
    decision = ask(ReturnAddress(Postfix(), lambda: SECRET, lambda: NOW), bounce)
    assert isinstance(decision, Refuse)
    assert decision.enhanced == "5.4.6"


def test_a_recipient_that_is_not_ours_does_not_make_a_forged_return_address_good() -> None:
    rule = ReturnAddress(Postfix(), lambda: SECRET, lambda: NOW)
    forged, foreign = BACK.replace("=dave@", "=victim@"), BACK.replace("@hoge", "@other")
    assert isinstance(ask(rule, mail(*BOUNCE, sender="", to=(forged, foreign))), Refuse)


def test_somebody_elses_return_address_is_somebody_elses_business() -> None:
    postfix = Postfix()
    rule = ReturnAddress(postfix, lambda: SECRET, lambda: NOW)
    foreign = BACK.replace("@hoge", "@other")
    assert ask(rule, mail(*BOUNCE, sender="", to=(foreign,))) is PASS
    assert not postfix.copies


def test_other_recipients_are_none_of_its_business() -> None:
    rule = ReturnAddress(Postfix(), lambda: SECRET, lambda: NOW)
    assert ask(rule, mail(to=("alice@hoge.example", "bounces@hoge.example"))) is PASS


# -- mail of our own without a sender

HOST = {"daemon_name": "ORIGINATING"}


def test_our_own_bounce_gets_a_sender_and_a_from_that_the_relay_takes() -> None:
    own = (("From", " MAILER-DAEMON@mx.hoge.example (Mail Delivery System)"), ("Subject", " Undelivered"))
    bounce = mail(*own, sender="", to=("dave@outside.example",), macros=HOST)
    assert ask(made_approvable, bounce) == Change(
        [
            ChangeSender("bounces@hoge.example"),
            ChangeHeader(
                "From",
                ' "Mail Delivery System (MAILER-DAEMON@mx.hoge.example)" <bounces@hoge.example>',
            ),
        ]
    )


def test_a_from_of_ours_stays() -> None:
    answer = mail(("From", " alice@hoge.example"), sender="", to=("dave@outside.example",), macros=HOST)
    assert ask(made_approvable, answer) == Change([ChangeSender("bounces@hoge.example")])


def test_a_receipt_of_somebody_who_logged_in_gets_a_sender_and_keeps_its_from() -> None:
    receipt = mail(
        ("From", " dave@outside.example"),
        sender="",
        to=("x@outside.example",),
        macros={"auth_authen": "alice"},
    )
    assert ask(made_approvable, receipt) == Change([ChangeSender("bounces@hoge.example")])


@pytest.mark.parametrize(
    ("sender", "to", "macros"),
    [
        ("", "alice@hoge.example", {"auth_authen": "alice"}),
        ("", "alice@hoge.example", HOST),  # stays here: the null sender is right
        ("alice@hoge.example", "dave@outside.example", HOST),
        ("", "dave@outside.example", {}),  # from the world: not ours to change
    ],
)
def test_everything_else_is_left_alone(sender: str, to: str, macros: dict[str, str]) -> None:
    message = mail(sender=sender, to=(to,), macros={"i": "Q", **macros})
    assert ask(made_approvable, message) is PASS


class Choosy(Postfix):
    """Does not take what is from `refused`."""

    def __init__(self, *refused: str, for_good: bool = True) -> None:
        super().__init__()
        self.refused = refused
        self.for_good = for_good

    def __call__(self, copy: Copy) -> None:
        if parsed(copy)["From"].addresses[0].addr_spec in self.refused:
            raise NotTaken("550 5.7.1 not this one", for_good=self.for_good)
        super().__call__(copy)


@pytest.fixture
def two(tmp_path: Path) -> AliasBook:
    (tmp_path / "two").write_text(
        "one@hoge.example carol@mailbox.example\ntwo@hoge.example dan@mailbox.example\n"
    )
    return AliasBook(tmp_path / "two")


BOTH = ("one@hoge.example", "two@hoge.example")


def test_what_can_be_passed_on_in_part_only_is_no_refusal_of_all_and_its_writer_is_told(
    two: AliasBook,
) -> None:
    postfix = Choosy("two@hoge.example")
    assert isinstance(ask(rule(two, postfix), mail(to=BOTH)), Change)
    copy, notice = postfix.copies
    assert copy.recipients == ("carol@mailbox.example",)
    assert (notice.sender, notice.recipients) == ("bounces@hoge.example", ("dave@outside.example",))
    text = " ".join(parsed(notice).get_content().split())
    assert "Why: two@hoge.example leads to dan@mailbox.example" in text
    assert "not this one" in text
    assert parsed(notice)["Auto-Submitted"] == "auto-replied"


def test_a_refusal_before_anything_was_passed_on_is_a_refusal(two: AliasBook) -> None:
    postfix = Choosy("one@hoge.example")
    refused = ask(rule(two, postfix), mail(to=BOTH))
    assert isinstance(refused, Refuse)
    assert "one@hoge.example leads to carol@mailbox.example" in refused.words
    assert postfix.copies == []


def test_a_part_that_has_to_wait_has_all_come_again(two: AliasBook) -> None:
    # What was handed over is noted, so it goes once all the same.
    assert isinstance(ask(rule(two, Choosy("two@hoge.example", for_good=False)), mail(to=BOTH)), HoldBack)


def test_a_bounce_that_is_passed_on_in_part_is_not_bounced(two: AliasBook) -> None:
    postfix = Choosy("two@hoge.example")
    assert isinstance(ask(rule(two, postfix), mail(sender="", to=BOTH)), Change)
    assert len(postfix.copies) == 1
