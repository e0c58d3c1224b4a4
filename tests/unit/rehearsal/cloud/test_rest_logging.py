# What the relay did is in a log of the cloud: only where somebody has switched it on, only for whom a policy lets read
# it, and only after a while. The official SDK and command line, unmodified, are the witnesses.

from __future__ import annotations

import json
import os
import smtplib
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import oci
import pytest
from cloud_side import Side, side_fixture, until  # noqa: F401
from test_rest_cli import OCI

from todoku.rehearsal.cloud import log_query
from todoku.rehearsal.cloud.errors import ApiError

TYPE = "com.oraclecloud.emaildelivery.emaildomain"


def logging_client(side: Side) -> Any:
    return side.client(oci.logging.LoggingManagementClient)


def enable(side: Side, *categories: str) -> str:
    """The email domain hoge.example with these logs; the group's OCID."""
    models, where = oci.logging.models, side.config.compartment
    side.email().create_email_domain(
        oci.email.models.CreateEmailDomainDetails(name="hoge.example", compartment_id=where)
    )
    listed = until(
        lambda: [
            d for d in side.email().list_email_domains(where).data.items if d.lifecycle_state == "ACTIVE"
        ]
    )
    client = logging_client(side)
    client.create_log_group(models.CreateLogGroupDetails(compartment_id=where, display_name="todoku"))
    until(lambda: [g for g in client.list_log_groups(where).data if g.lifecycle_state == "ACTIVE"])
    (group,) = client.list_log_groups(where, display_name="todoku").data
    for category in categories:
        source = models.OciService(service="emaildelivery", resource=listed[0].id, category=category)
        client.create_log(
            group.id,
            models.CreateLogDetails(
                display_name=f"hoge_example_{category}",
                log_type="SERVICE",
                is_enabled=True,
                configuration=models.Configuration(compartment_id=where, source=source),
            ),
        )
    until(lambda: all(log.lifecycle_state == "ACTIVE" for log in client.list_logs(group.id).data))
    return group.id


def search(side: Side, query: str = "", **options: Any) -> Any:
    now = datetime.now(UTC)
    details = oci.loggingsearch.models.SearchLogsDetails(
        time_start=options.pop("start", now - timedelta(hours=1)),
        time_end=options.pop("end", now + timedelta(minutes=1)),
        search_query=query or f'search "{side.config.compartment}" | sort by datetime asc',
    )
    return side.client(oci.loggingsearch.LogSearchClient).search_logs(details, **options)


def contents(found: Any) -> list[dict[str, Any]]:
    return [each.data["logContent"] for each in found.data.results]


def submit(side: Side, *recipients: str) -> dict[str, tuple[int, bytes]]:
    """A message of a@hoge.example, handed to the relay as Postfix does."""
    side.relay.state.credentials["ocid1.user.oc1..u@t.x9.com"] = "secret"
    side.relay.state.approve("@hoge.example", 900)
    (listen,) = side.relay.server.listens
    context = ssl.create_default_context(cafile=side.ca)
    with smtplib.SMTP("127.0.0.1", listen.port) as smtp:
        smtp.starttls(context=context)
        smtp.login("ocid1.user.oc1..u@t.x9.com", "secret")
        text = "From: a@hoge.example\r\nTo: x@y.example\r\nSubject: s\r\nMessage-ID: <1@hoge.example>\r\n\r\nx\r\n"
        return smtp.sendmail("a@hoge.example", recipients, text)


def test_what_was_accepted_and_relayed_is_logged_once_it_is_switched_on(side: Side) -> None:
    group = enable(side, "outboundaccepted")
    side.relay.state.suppress("gone@y.example", "HARDBOUNCE")
    submit(side, "x@y.example", "gone@y.example")
    accepted, suppressed = contents(search(side))
    assert accepted["type"] == f"{TYPE}.outboundaccepted"
    assert accepted["source"] == "hoge.example"
    assert accepted["oracle"]["loggroupid"] == group
    assert accepted["data"] == {
        "action": "accept",
        "sender": "a@hoge.example",
        "recipient": "x@y.example",
        "smtpStatus": "250 2.1.5 x@y.example and options Ok",
        "messageId": "1@hoge.example",
    }
    assert suppressed["data"]["errorType"] == "Recipient suppressed"
    assert suppressed["data"]["smtpStatus"].startswith("254 4.7.1 Suppression for user")
    # Nobody answers at y.example; but its own category was not switched on.
    assert {each["type"] for each in contents(search(side))} == {f"{TYPE}.outboundaccepted"}


def test_what_nobody_switched_on_is_not_logged_and_a_switch_off_ends_it(side: Side) -> None:
    group = enable(side)
    submit(side, "x@y.example")
    assert contents(search(side)) == []
    client, models = logging_client(side), oci.logging.models
    domain = side.email().list_email_domains(side.config.compartment).data.items[0]
    source = models.OciService(service="emaildelivery", resource=domain.id, category="outboundaccepted")
    details = models.CreateLogDetails(
        display_name="l", log_type="SERVICE", is_enabled=True,
        configuration=models.Configuration(compartment_id=side.config.compartment, source=source),
    )  # fmt: skip
    client.create_log(group, details)
    with pytest.raises(oci.exceptions.ServiceError, match="logged already"):
        client.create_log(group, details)
    (log,) = until(
        lambda: [each for each in client.list_logs(group).data if each.lifecycle_state == "ACTIVE"]
    )
    submit(side, "x1@y.example")
    assert len(contents(search(side))) == 1
    client.update_log(group, log.id, models.UpdateLogDetails(is_enabled=False))
    submit(side, "x2@y.example")
    assert len(contents(search(side))) == 1
    with pytest.raises(oci.exceptions.ServiceError, match="still has logs"):
        client.delete_log_group(group)
    client.delete_log(group, log.id)
    client.delete_log_group(group)
    until(
        lambda: (
            not [
                g
                for g in client.list_log_groups(side.config.compartment).data
                if g.lifecycle_state == "ACTIVE"
            ]
        )
    )


def test_a_record_is_found_only_after_its_delay_and_a_later_one_may_come_first(side: Side) -> None:
    enable(side, "outboundaccepted")
    side.switch(log_delay_s=3600)
    submit(side, "slow@y.example")
    side.switch(log_delay_s=0)
    submit(side, "quick@y.example")
    assert [each["data"]["recipient"] for each in contents(search(side))] == ["quick@y.example"]
    side.switch(advance_s=3600)
    both = [each["data"]["recipient"] for each in contents(search(side))]
    assert both == ["slow@y.example", "quick@y.example"]  # in the order of their time


def test_a_search_is_limited_in_time_filtered_and_needs_the_right(side: Side) -> None:
    enable(side, "outboundaccepted")
    for number in range(5):
        submit(side, f"r{number}@y.example")
    query = f"search \"{side.config.compartment}\" | where data.recipient='r3@y.example' and action='x'"
    assert contents(search(side, query)) == []
    either = "(data.recipient='r3@y.example' or data.recipient='r1@y.example') | sort by datetime desc"
    query = f"search \"{side.config.compartment}\" | type='{TYPE}.outboundaccepted' and {either}"
    assert [each["data"]["recipient"] for each in contents(search(side, query))] == [
        "r3@y.example",
        "r1@y.example",
    ]
    with pytest.raises(oci.exceptions.ServiceError, match="14 days"):
        search(side, start=datetime.now(UTC) - timedelta(days=15))
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        search(side, 'search "ocid1.compartment.oc1..other"')
    assert refused.value.status == 404
    side.switch(rest={"status": 429, "operation": "search_logs"})
    with pytest.raises(oci.exceptions.ServiceError) as busy:
        search(side)
    assert busy.value.status == 429


def test_pages_of_one_search_make_up_the_whole(side: Side) -> None:
    enable(side, "outboundaccepted")
    for number in range(5):
        submit(side, f"r{number}@y.example")
    now = datetime.now(UTC)
    span = {"start": now - timedelta(minutes=5), "end": now + timedelta(minutes=5)}
    found, page = [], None
    while True:
        answer = search(side, limit=2, **span, **({"page": page} if page else {}))
        found += [each["data"]["recipient"] for each in contents(answer)]
        page = answer.next_page
        if not page:
            break
    assert found == [f"r{number}@y.example" for number in range(5)]


@pytest.mark.skipif(not OCI.exists(), reason="oci-cli is not installed (dependency group dev)")
def test_the_command_line_finds_the_same(side: Side) -> None:
    enable(side, "outboundaccepted")
    submit(side, "x@y.example")
    now = datetime.now(UTC)
    command = [
        str(OCI), "--config-file", str(side.config.config_file), "--endpoint", side.endpoint, "logging-search",
        "search-logs", "--search-query", f'search "{side.config.compartment}"', "--time-start",
        (now - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"), "--time-end",
        (now + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    ]  # fmt: skip
    environment = os.environ | {
        "REQUESTS_CA_BUNDLE": side.ca, "HOME": str(side.folder), "LC_ALL": "C.UTF-8",
        "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True",
    }  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["data"]["results"]
    assert result["data"]["logContent"]["data"]["recipient"] == "x@y.example"


@pytest.mark.parametrize(
    "query",
    ["", "find x", 'search ""', 'search "a/b/c/d"', 'search "a" | where', "search \"a\" | type='x' or",
     "search \"a\" | type='x' garbage", 'search "a" | sort by size', "search \"a\" | " + "(" * 80, 'search "a" |'],
)  # fmt: skip
def test_a_query_that_cannot_be_understood_is_refused(query: str) -> None:
    with pytest.raises(ApiError) as refused:
        log_query.parse(query)
    assert refused.value.status == 400
