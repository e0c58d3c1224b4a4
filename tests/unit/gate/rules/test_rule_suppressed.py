# "Mail silently dropped for a suppressed recipient": who writes to one hears it at once, why, and how it is lifted.

from __future__ import annotations

from pathlib import Path

import pytest
from outbound_mail import settings

from todoku.gate.book import Suppressions
from todoku.gate.context import Context
from todoku.gate.decision import PASS, Refuse
from todoku.gate.message import Client, MessageSoFar
from todoku.gate.protocol import Step
from todoku.gate.rule import RuleSet
from todoku.gate.rules import ORDER
from todoku.gate.rules.suppressed import all_suppressed, suppressed


def asked(tmp_path: Path, to: str, login: str = "alice@hoge.example") -> object:
    listed = tmp_path / "suppressed"
    listed.write_text(
        "carol@mailbox.example\tHARDBOUNCE\t2026-11-24\nbob@hoge.example\tMANUAL\t2026-11-24\nodd line\n"
    )
    context = Context(settings(), suppressions=Suppressions(listed))
    message = MessageSoFar(Client("pc", "192.0.2.7", 4000), context, {"auth_authen": login} if login else {})
    message.began("<alice@hoge.example>", ())
    message.recipient_came(f"<{to}>")
    return suppressed(message)


def test_a_suppressed_recipient_is_refused_with_the_reason_and_how_to_lift_it(tmp_path: Path) -> None:
    refused = asked(tmp_path, "Carol@mailbox.example")
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.enhanced) == (550, "5.7.1")
    assert "since 2026-11-24, as its server refused a message for good" in refused.words
    assert "`todoku suppression lift carol@mailbox.example`" in refused.words


@pytest.mark.parametrize(
    ("to", "login"),
    [
        ("dave@mailbox.example", "alice@hoge.example"),  # not on the list
        ("bob@hoge.example", "alice@hoge.example"),  # one of ours: no relay is asked
        ("carol@mailbox.example", ""),  # from outside: port 25 has its own answer
    ],
)
def test_all_others_are_let_pass(tmp_path: Path, to: str, login: str) -> None:
    assert asked(tmp_path, to, login) is PASS


def test_without_a_list_nobody_is_refused(tmp_path: Path) -> None:
    assert Suppressions(tmp_path / "none").now == {}


# --- while the list is empty, recipients are not asked about ---


def rules() -> RuleSet:
    return RuleSet(placed for placed in ORDER if placed.name == "suppressed")


def test_an_empty_list_costs_no_round_trip_for_a_recipient(tmp_path: Path) -> None:
    listed = tmp_path / "suppressed"
    now = [0.0]
    context = Context(settings(), suppressions=Suppressions(listed, lambda: now[0]))
    assert rules().steps(context) & Step.SILENT_RCPT
    listed.write_text("carol@mailbox.example\tHARDBOUNCE\t2026-11-24\n")
    now[0] += 1
    assert not rules().steps(context) & Step.SILENT_RCPT


def test_what_is_listed_after_a_connection_began_is_refused_at_the_end_if_nobody_else_gets_it(
    tmp_path: Path,
) -> None:
    listed = tmp_path / "suppressed"
    listed.write_text(
        "carol@mailbox.example\tHARDBOUNCE\t2026-11-24\ndan@mailbox.example\tMANUAL\t2026-11-24\n"
    )
    context = Context(settings(), suppressions=Suppressions(listed))

    def at_the_end(*recipients: str, login: str = "alice@hoge.example") -> object:
        macros = {"auth_authen": login} if login else {}
        message = MessageSoFar(Client("pc", "192.0.2.7", 4000), context, macros)
        message.began("<alice@hoge.example>", ())
        for recipient in recipients:
            message.recipient_came(f"<{recipient}>")
        return all_suppressed(message)

    refused = at_the_end("carol@mailbox.example", "Dan@mailbox.example")
    assert isinstance(refused, Refuse)
    assert "The relay has sent nothing to carol@mailbox.example" in refused.words
    # The relay says 254 for her, and a notice tells it to the sender.
    assert at_the_end("carol@mailbox.example", "bob@hoge.example") is PASS
    assert at_the_end("carol@mailbox.example", login="") is PASS
    assert at_the_end() is PASS
