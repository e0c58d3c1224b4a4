"""Bad days on demand: throttling, broken services, cut connections, slow answers; and how retry tokens save from
doing things twice."""

from __future__ import annotations

import time
from typing import Any

import oci
import pytest
from cloud_side import Side, side_fixture  # noqa: F401
from oci.email import models


def domain(side: Side, name: str = "hoge.example") -> models.CreateEmailDomainDetails:
    return models.CreateEmailDomainDetails(name=name, compartment_id=side.config.compartment)


def names(side: Side) -> list[str]:
    return [found.name for found in side.email().list_email_domains(side.config.compartment).data.items]


def test_a_storm_of_429_passes_and_the_sdks_retries_get_through_it(side: Side):
    side.switch(rest={"status": 429, "count": 2, "operation": "list_email_domains"})
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        names(side)
    assert (caught.value.status, caught.value.code) == (429, "TooManyRequests")
    assert caught.value.headers["opc-request-id"]
    retry = oci.retry.RetryStrategyBuilder().add_max_attempts(4).get_retry_strategy()
    side.switch(rest={"status": 429, "count": 2, "operation": "list_*"})
    found = side.email().list_email_domains(side.config.compartment, retry_strategy=retry).data.items
    assert found == []
    seen = side.switch()
    assert seen["rest_seen"]["statuses"]["429"] == 3
    assert seen["rest"] is None


def test_only_the_operation_that_was_named_fails_and_after_those_that_are_skipped(side: Side):
    side.switch(rest={"status": 503, "operation": "writes", "skip": 1})
    assert names(side) == []
    side.email().create_email_domain(domain(side))
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        side.email().create_email_domain(domain(side, "fuga.example"))
    assert (caught.value.status, caught.value.code) == (503, "ServiceUnavailable")
    assert names(side) == ["hoge.example"]


@pytest.mark.parametrize(("cut", "there"), [("before", []), ("after", ["hoge.example"])])
def test_a_connection_is_cut_before_or_after_the_work_is_done(side: Side, cut: str, there: list[str]):
    side.switch(rest={"cut": cut, "operation": "create_email_domain"})
    with pytest.raises(oci.exceptions.RequestException):
        side.email().create_email_domain(domain(side))
    assert names(side) == there


def test_a_retry_token_gives_the_first_answer_again_and_nothing_twice(side: Side):
    side.switch(rest={"cut": "after", "operation": "create_email_domain"})
    client = side.email()
    with pytest.raises(oci.exceptions.RequestException):
        client.create_email_domain(domain(side), opc_retry_token="once")
    again = client.create_email_domain(domain(side), opc_retry_token="once").data
    assert again.id == client.create_email_domain(domain(side), opc_retry_token="once").data.id
    assert names(side) == ["hoge.example"]
    for token, status, code in (("once", 409, "InvalidatedRetryToken"), (None, 200, "")):
        try:
            client.create_email_domain(
                domain(side, "fuga.example"), **({"opc_retry_token": token} if token else {})
            )
        except oci.exceptions.ServiceError as problem:
            assert (problem.status, problem.code) == (status, code)
        else:
            assert status == 200
    side.switch(advance_s=90_000)  # the token is forgotten, the domain is not
    with pytest.raises(oci.exceptions.ServiceError, match="already exists"):
        client.create_email_domain(domain(side), opc_retry_token="once")


def test_a_refusal_is_not_remembered_by_its_retry_token(side: Side):
    side.switch(claimed=["hoge.example"])
    with pytest.raises(oci.exceptions.ServiceError):
        side.email().create_email_domain(domain(side), opc_retry_token="t")
    side.switch(claimed=[])
    assert side.email().create_email_domain(domain(side), opc_retry_token="t").data.name == "hoge.example"


def test_latency_applies_to_every_answer(side: Side):
    names(side)
    side.switch(latency_ms=200)
    start = time.monotonic()
    names(side)
    assert time.monotonic() - start >= 0.2


def test_a_reset_forgets_the_switches_and_keeps_what_was_made(side: Side):
    side.email().create_email_domain(domain(side))
    side.email().create_sender(
        models.CreateSenderDetails(email_address="a@hoge.example", compartment_id=side.config.compartment)
    )
    side.switch(advance_s=10)
    assert side.relay.state.is_approved("a@hoge.example")
    side.switch(dkim_activation_s=99, claimed=["x.example"], rest={"status": 500}, latency_ms=5)
    shown = side.switch(reset=True)
    assert (shown["dkim_activation_s"], shown["claimed"], shown["rest"], shown["latency_ms"]) == (
        0.5,
        [],
        None,
        0,
    )
    assert side.relay.state.is_approved("a@hoge.example")
    assert names(side) == ["hoge.example"]


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        ({"rest": {"status": 200}}, "rest.status has to be from 400 to 599"),
        ({"rest": {"status": 500, "cut": "after"}}, "either status or cut"),
        ({"rest": {"cut": "sometimes"}}, "before or after"),
        ({"rest": {"status": 500, "times": 1}}, "any of status"),
        ({"rest": {"status": 500, "count": -1}}, "rest.count has to be a whole number"),
        ({"advance_s": -1}, "advance_s has to be a number of seconds"),
        ({"dkim_activation_s": True}, "dkim_activation_s has to be a number of seconds"),
        ({"claimed": "x"}, "claimed has to be a list of domains"),
    ],
)
def test_a_wrong_switch_is_explained_and_changes_nothing(side: Side, posted: dict[str, Any], words: str):
    with pytest.raises(AssertionError, match=words):
        side.switch(latency_ms=7, **posted)
    assert side.switch()["latency_ms"] == 0


def test_what_was_seen_has_no_secrets(side: Side):
    import json

    details = oci.identity.models.CreateSmtpCredentialDetails(description="x")
    made = side.identity().create_smtp_credential(details, side.sdk_config()["user"]).data
    shown = json.dumps(side.switch())
    assert made.password not in json.loads(shown).values()
    assert json.dumps(made.password)[1:-1] not in shown
    assert "create_smtp_credential" in shown
