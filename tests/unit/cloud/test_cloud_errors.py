# "NotAuthorizedOrNotFound" tells nobody what to do. Every refusal becomes a sentence with the next step in it,
# and a missing right becomes the policy statement that grants it.

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cloud_fake import Clock

from todoku.cloud import permissions, sdk
from todoku.cloud.errors import Attempt, CloudError, Reply, Trouble, refused, unreachable
from todoku.cloud.retry import Patience

COMPARTMENT = "ocid1.compartment.oc1..mail"
NOW = datetime(2026, 11, 24, 5, 0, tzinfo=UTC)


def attempt(right=permissions.MANAGE_DKIMS, **more):
    return Attempt("create a DKIM key for hoge.example", right, COMPARTMENT, "ap-tokyo-1", **more)


def said(status, code="", message="", headers=None, **more):
    return refused(attempt(**more), Reply(status, code, message, headers or {}), NOW)


def test_a_missing_permission_names_the_statement_that_is_missing():
    error = said(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found")

    assert f"Allow group YOUR-GROUP to manage dkims in compartment id {COMPARTMENT}" in str(error)
    assert "ap-tokyo-1" in str(error)
    assert error.trouble is Trouble.DENIED


def test_the_statement_is_for_the_instance_where_the_instance_asks():
    error = said(404, caller="dynamic-group YOUR-DYNAMIC-GROUP")

    assert "Allow dynamic-group YOUR-DYNAMIC-GROUP to manage dkims" in str(error)


def test_rights_on_the_root_compartment_and_on_people_are_given_in_the_tenancy():
    root = Attempt("x", permissions.MANAGE_DKIMS, "ocid1.tenancy.oc1..t", "ap-tokyo-1")
    assert root.statement == "Allow group YOUR-GROUP to manage dkims in tenancy"
    assert attempt(permissions.MANAGE_USERS).statement == "Allow group YOUR-GROUP to manage users in tenancy"
    assert attempt(permissions.MANAGE_CREDENTIALS).statement.endswith("where target.credential.type = 'smtp'")


def test_a_wrong_key_names_what_has_to_belong_together():
    error = said(401, "NotAuthenticated", "The required information was not provided or is incorrect")

    assert "fingerprint" in str(error) and "key_file" in str(error)
    assert not error.passes


@pytest.mark.parametrize(("minutes", "word"), [(20, "ahead"), (-20, "behind")])
def test_a_wrong_clock_is_told_from_a_wrong_key_by_the_date_of_the_answer(minutes, word):
    there = format_datetime(NOW - timedelta(minutes=minutes), usegmt=True)

    error = said(401, "NotAuthenticated", "", {"Date": there})

    assert "1200 s" in str(error) and word in str(error) and "timedatectl" in str(error)


def test_a_clock_that_is_right_is_not_blamed():
    there = format_datetime(NOW, usegmt=True)
    assert "clock" not in str(said(401, "NotAuthenticated", "", {"date": there}))


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}, {"date": ""}])
def test_an_answer_without_a_usable_date_still_gives_a_sentence(headers):
    assert "API key" in str(said(401, "NotAuthenticated", "", headers))


def test_a_limit_says_where_it_can_be_raised():
    error = said(400, "LimitExceeded", "the limit of senders is reached")
    assert error.trouble is Trouble.LIMIT and "Limits" in str(error)


def test_throttling_and_trouble_at_oracle_pass_and_a_wrong_request_does_not():
    slow = said(429, "TooManyRequests", "", {"retry-after": "7"})
    assert slow.passes and slow.retry_after == 7
    assert said(429, "", "", {"retry-after": "99999"}).retry_after == 60
    assert said(429, "", "", {"retry-after": "Tue, 24 Nov 2026 05:00:10 GMT"}).retry_after is None
    assert said(503, "ServiceUnavailable").passes
    assert not said(400, "InvalidParameter", "name is not valid").passes
    assert not said(501, "NotImplemented").passes


def test_what_cannot_be_reached_says_where_to_look():
    assert "name server" in str(unreachable(attempt(), "NameResolutionError", sent=False))
    assert "not trusted" in str(unreachable(attempt(), "CERTIFICATE_VERIFY_FAILED", sent=False))
    assert not unreachable(attempt(), "CERTIFICATE_VERIFY_FAILED", sent=False).passes


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "HTTPSConnectionPool(host='x', port=443): Max retries exceeded (Caused by NameResolutionError(\"Connection("
            "host='x', port=443): Failed to resolve 'ctrl.email.example' ([Errno -3] Temporary failure in name "
            'resolution)"))',
            "Failed to resolve ctrl.email.example",
        ),
        (
            "('Connection aborted.', NewConnectionError('<X object>: Failed to establish a new connection: [Errno 111] "
            "Connection refused'))",
            "[Errno 111] Connection refused",
        ),
        ("whatever else", "whatever else"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] [Errno 1] x", "[SSL: CERTIFICATE_VERIFY_FAILED] [Errno 1] x"),
    ],
)
def test_of_wrapped_errors_the_innermost_is_told(reason, told):
    assert sdk._shortened(reason) == told


def patience(**more):
    clock = Clock()
    return clock, Patience(sleep=clock.sleep, clock=clock.monotonic, **more)


def failing(errors, result="done"):
    left = list(errors)

    def call():
        if left:
            raise left.pop(0)
        return result

    return call


def test_what_passes_is_tried_again_and_the_time_that_oracle_asks_for_is_kept():
    clock, patient = patience()
    slow = said(429, "", "", {"retry-after": "11"})

    assert patient.repeat(failing([slow, slow])) == "done"
    assert clock.seconds == 22


def test_nothing_is_tried_for_ever():
    random.seed(1)
    clock, patient = patience()
    with pytest.raises(CloudError):
        patient.repeat(failing([said(500)] * 1000))
    assert clock.seconds <= 90

    clock, patient = patience()
    with pytest.raises(CloudError):
        patient.repeat(failing([said(429, "", "", {"retry-after": "60"})] * 1000))
    assert clock.seconds <= 120


def test_what_does_not_pass_is_tried_once():
    clock, patient = patience()
    with pytest.raises(CloudError):
        patient.repeat(failing([said(404)]))
    assert clock.seconds == 0


def test_what_was_made_although_the_answer_was_lost_is_found_and_not_made_again():
    made = []

    def make():
        made.append(1)
        raise unreachable(attempt(), "connection reset", sent=True)

    _, patient = patience()
    assert patient.create(make, lambda: "found" if made else None) == "found"
    assert len(made) == 1


def test_a_conflict_after_a_lost_answer_is_our_own_even_when_the_list_is_late():
    clock, patient = patience()
    answers = [unreachable(attempt(), "reset", sent=True), said(409, "Conflict")]

    found = patient.create(failing(answers), lambda: "found" if clock.seconds > 10 else None)

    assert found == "found"


def test_a_conflict_about_something_of_others_is_told():
    _, patient = patience()
    with pytest.raises(CloudError) as caught:
        patient.create(failing([said(409, "Conflict", "exists")]), lambda: None)
    assert caught.value.trouble is Trouble.CONFLICT


def test_what_is_gone_already_counts_as_deleted_and_what_may_not_be_deleted_does_not():
    _, patient = patience()
    patient.delete(failing([said(404)], None), lambda: None)
    with pytest.raises(CloudError, match="manage dkims"):
        patient.delete(failing([said(404)], None), lambda: "still there")
