# Only the relay knows whether a new sender or credential works. It is asked over verified TLS, without ever
# sending a message, and no more often than it stands: it shuts out who fails too often.

import ssl
import threading

import pytest
from cloud_fake import Clock

from asked_relay import LOGIN, FakeSmtp
from todoku.cloud.probe import Endpoint, Relay, Verdict, ask
from todoku.settings import CredentialError, RelayCredential


@pytest.fixture
def smtp(tmp_path):
    server = FakeSmtp(tmp_path)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def verdicts(answers):
    return [answer.verdict for answer in answers]


def test_an_approved_address_is_taken_without_a_message_being_sent(smtp):
    smtp.approved = {"alice@hoge.example", "todoku-probe@hoge.example"}

    answers = ask(smtp.endpoint(), LOGIN, ["alice@hoge.example", "todoku-probe@hoge.example"])

    assert verdicts(answers) == [Verdict.ACCEPTED] * 3
    verbs = [line.split()[0].upper() for line in smtp.said]
    assert verbs == ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RSET", "MAIL", "RSET", "QUIT"]


def test_a_refusal_ends_the_round_because_refusals_are_counted(smtp):
    answers = ask(smtp.endpoint(), LOGIN, ["new@hoge.example", "other@hoge.example"])

    assert verdicts(answers) == [Verdict.ACCEPTED, Verdict.REFUSED, Verdict.NOT_ASKED]
    assert "535 Authorization failed" in answers[1].said
    assert sum(line.upper().startswith("MAIL") for line in smtp.said) == 1


def test_a_wrong_password_is_told_and_no_address_is_asked_for(smtp):
    answers = ask(smtp.endpoint(), RelayCredential(LOGIN.username, "wrong"), ["a@hoge.example"])

    assert verdicts(answers) == [Verdict.LOGIN_REFUSED] * 2
    assert "wrong" not in repr(answers)


def test_a_relay_that_shuts_us_out_is_not_asked_again(smtp):
    smtp.throttled = True
    clock = Clock()
    relay = Relay(smtp.endpoint(), lambda: LOGIN, clock.sleep, clock.monotonic)

    answer = relay.wait_until_taken("a@hoge.example", [], 600)

    assert answer.verdict is Verdict.THROTTLED
    assert clock.seconds == 0


def test_no_password_is_said_to_somebody_who_only_pretends_to_be_the_relay(smtp):
    answers = ask(smtp.endpoint(ssl.create_default_context), LOGIN, ["a@hoge.example"])

    assert verdicts(answers) == [Verdict.UNREACHABLE] * 2
    assert "certificate" in answers[0].said.lower()
    assert not any(line.upper().startswith("AUTH") for line in smtp.said)


@pytest.mark.parametrize("verb", ["EHLO", "AUTH", "MAIL", "RSET"])
def test_a_connection_that_breaks_is_an_answer_not_a_crash(smtp, verb):
    smtp.approved = {"a@hoge.example"}
    smtp.drop_at = verb

    answers = ask(smtp.endpoint(), LOGIN, ["a@hoge.example", "b@hoge.example"])

    assert len(answers) == 3
    assert answers[-1].verdict is Verdict.UNREACHABLE


def test_nobody_listening_is_an_answer_not_a_crash():
    endpoint = Endpoint("127.0.0.1", 1, "mx.hoge.example")
    assert ask(endpoint, LOGIN)[0].verdict is Verdict.UNREACHABLE


def test_it_is_asked_again_with_growing_pauses_up_to_the_bound(smtp):
    clock = Clock()

    def sleep(seconds):
        clock.sleep(seconds)
        if clock.seconds > 90:
            smtp.approved = {"new@hoge.example"}

    relay = Relay(smtp.endpoint(), lambda: LOGIN, sleep, clock.monotonic)
    assert not relay.wait_until_taken("new@hoge.example", [], 10).accepted
    assert clock.seconds <= 10
    assert not relay.wait_until_taken("other@hoge.example", [], 10).accepted
    assert clock.seconds <= 10  # waited for that one, too
    clock.sleep(70)
    smtp.approved = set()
    before = clock.seconds
    assert relay.wait_until_taken("new@hoge.example", [], 300).accepted
    assert clock.seconds - before <= 60


def test_many_new_addresses_bring_the_relay_no_nearer_to_shutting_its_door(smtp):
    # Each refusal counts, and Oracle's throttle would hit Postfix too, which logs in from the same address.
    clock = Clock()
    relay = Relay(smtp.endpoint(), lambda: LOGIN, clock.sleep, clock.monotonic)
    new = [f"new{number}@hoge.example" for number in range(10)]

    def refused():
        return sum(line.upper().startswith("MAIL") for line in smtp.said)

    for _ in range(3):
        for address in new:
            clock.sleep(0.5)
            assert not relay.takes(address, new).accepted
    assert refused() == 3
    assert not relay.wait_until_taken(new[0], new, 20).accepted
    assert refused() == 3
    clock.sleep(60)
    relay.takes(new[1], new)
    relay.takes(new[2], new)
    assert refused() == 4  # from then on once a minute
    smtp.approved = set(new)
    clock.sleep(60)
    assert relay.takes(new[1], new).accepted
    assert relay.takes(new[2], new).accepted


def test_addresses_that_are_asked_for_together_share_a_session(smtp):
    smtp.approved = {f"p{number}@hoge.example" for number in range(30)}
    relay = Relay(smtp.endpoint(), lambda: LOGIN)

    for address in sorted(smtp.approved):
        assert relay.takes(address, sorted(smtp.approved)).accepted

    assert sum(line.startswith("AUTH") for line in smtp.said) == 1


def test_without_a_credential_nobody_is_asked(smtp):
    def login():
        raise CredentialError("there is no file")

    assert Relay(smtp.endpoint(), login).takes("a@hoge.example").verdict is Verdict.NO_LOGIN
    assert smtp.said == []
