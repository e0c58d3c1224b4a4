"""The official SDK drives Email Delivery's control plane, unmodified: what it makes is there, what must be refused
is refused, and a key works only when the DNS says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import oci
import pytest
from cloud_side import Side, side_fixture, until  # noqa: F401
from oci.email import models

DOMAIN = "hoge.example"


def make_domain(side: Side, name: str = DOMAIN) -> Any:
    composite = oci.email.EmailClientCompositeOperations(side.email())
    details = models.CreateEmailDomainDetails(name=name, compartment_id=side.config.compartment)
    done = composite.create_email_domain_and_wait_for_state(
        details, ["SUCCEEDED"], waiter_kwargs={"max_interval_seconds": 0.1, "max_wait_seconds": 10}
    )
    assert done.data.status == "SUCCEEDED"
    found = side.email().list_email_domains(side.config.compartment, name=name).data.items
    assert len(found) == 1
    return side.email().get_email_domain(found[0].id).data


def make_dkim(side: Side, domain: Any, selector: str | None = "s1", *, publish: bool = True) -> Any:
    details = models.CreateDkimDetails(name=selector, email_domain_id=domain.id)
    dkim = side.email().create_dkim(details).data
    if publish:
        side.dns.cname(dkim.dns_subdomain_name, dkim.cname_record_value)
        until(lambda: side.email().get_dkim(dkim.id).data.lifecycle_state == "ACTIVE")
    return side.email().get_dkim(dkim.id).data


def make_sender(side: Side, address: str) -> Any:
    details = models.CreateSenderDetails(email_address=address, compartment_id=side.config.compartment)
    return side.email().create_sender(details).data


def refused(call: Any, status: int, code: str, words: str = "") -> oci.exceptions.ServiceError:
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call()
    assert (caught.value.status, caught.value.code) == (status, code), caught.value.message
    assert words in caught.value.message
    return caught.value


# -- email domains


def test_an_email_domain_passes_through_creating_and_can_be_changed_and_deleted(side: Side):
    side.switch(creating_s=0.5)
    client = side.email()
    details = models.CreateEmailDomainDetails(
        name=DOMAIN, compartment_id=side.config.compartment, description="ours", freeform_tags={"a": "b"}
    )
    made = client.create_email_domain(details)
    assert made.data.lifecycle_state == "CREATING"
    assert made.headers["opc-work-request-id"]
    waited = oci.wait_until(
        client,
        client.get_email_domain(made.data.id),
        "lifecycle_state",
        "ACTIVE",
        max_interval_seconds=0.1,
        max_wait_seconds=5,
    )
    domain = waited.data
    assert (domain.name, domain.description, domain.freeform_tags) == (DOMAIN, "ours", {"a": "b"})
    assert (domain.is_spf, domain.active_dkim_id) == (False, None)
    client.update_email_domain(domain.id, models.UpdateEmailDomainDetails(description="changed"))
    assert client.get_email_domain(domain.id).data.description == "changed"
    client.delete_email_domain(domain.id)
    until(lambda: client.get_email_domain(domain.id).data.lifecycle_state == "DELETED")
    side.switch(advance_s=1000)
    refused(lambda: client.get_email_domain(domain.id), 404, "NotAuthorizedOrNotFound")


def test_an_email_domain_exists_once_and_not_for_other_peoples_mail(side: Side):
    make_domain(side)
    side.switch(claimed=["theirs.example"])
    for name in (DOMAIN, DOMAIN.upper(), "theirs.example"):
        details = models.CreateEmailDomainDetails(name=name, compartment_id=side.config.compartment)
        refused(lambda details=details: side.email().create_email_domain(details), 409, "Conflict", "exists")
    for name in ("gmail.com", "-x.example", "nodots", "a..example"):
        details = models.CreateEmailDomainDetails(name=name, compartment_id=side.config.compartment)
        refused(lambda details=details: side.email().create_email_domain(details), 400, "InvalidParameter")
    details = models.CreateEmailDomainDetails(compartment_id=side.config.compartment)
    refused(lambda: side.email().create_email_domain(details), 400, "MissingParameter", "name")


def test_is_spf_follows_the_dns(side: Side):
    domain = make_domain(side)
    assert domain.is_spf is False
    side.dns.extra[DOMAIN, "TXT"] = (b"v=spf1 mx include:ap.rp.oracleemaildelivery.com ~all",)
    until(lambda: side.email().get_email_domain(domain.id).data.is_spf)


def test_the_configuration_names_the_relay_for_the_tenancy_only(side: Side):
    found = side.email().get_email_configuration(side.config.tenancy).data
    assert found.smtp_submit_endpoint == "smtp.email.ap-tokyo-1.oci.oraclecloud.com"
    assert found.http_submit_endpoint == "cell0.submit.email.ap-tokyo-1.oci.oraclecloud.com"
    refused(
        lambda: side.email().get_email_configuration(side.config.compartment),
        400,
        "InvalidParameter",
        "tenancy",
    )


# -- DKIM


def test_a_dkim_needs_its_dns_record_and_then_its_time(side: Side):
    side.switch(dkim_activation_s=3900)
    domain = make_domain(side)
    dkim = make_dkim(side, domain, publish=False)
    assert dkim.cname_record_value == f"s1.{DOMAIN}.dkim.nrt1.oracleemaildelivery.com"
    assert dkim.dns_subdomain_name == f"s1._domainkey.{DOMAIN}"
    assert (dkim.key_length, dkim.is_imported) == (2048, False)
    # The public key is at the target already.
    assert side.dns(dkim.cname_record_value, "TXT") == (dkim.txt_record_value.encode(),)

    def now() -> tuple[str, str | None]:
        found = side.email().get_dkim(dkim.id).data
        return found.lifecycle_state, found.lifecycle_details

    until(lambda: now() == ("NEEDS_ATTENTION", "NEED_DNS"))
    # The mistake of the web console that doubles the zone's name is not seen as right.
    side.dns.cname(f"{dkim.dns_subdomain_name}.{DOMAIN}", dkim.cname_record_value)
    side.switch(advance_s=7200)
    assert now() == ("NEEDS_ATTENTION", "NEED_DNS")
    side.dns.cname(dkim.dns_subdomain_name, dkim.cname_record_value)
    side.switch(advance_s=60)
    assert now() == ("NEEDS_ATTENTION", "NEED_DNS")
    side.switch(advance_s=3900)
    assert now() == ("ACTIVE", None)
    assert side.email().get_email_domain(domain.id).data.active_dkim_id == dkim.id
    assert side.relay.state.signers[DOMAIN].selector == "s1"


def test_a_dkim_is_active_by_its_txt_value_too_and_not_by_another_key(side: Side):
    domain = make_domain(side)
    dkim = make_dkim(side, domain, publish=False)
    side.dns.extra[dkim.dns_subdomain_name, "TXT"] = (b"v=DKIM1; k=rsa; p=AAAA",)
    side.switch(advance_s=10)
    assert side.email().get_dkim(dkim.id).data.lifecycle_state == "NEEDS_ATTENTION"
    value = dkim.txt_record_value.replace("v=DKIM1; k=rsa", "v=DKIM1;k=rsa")
    side.dns.extra[dkim.dns_subdomain_name, "TXT"] = (value.encode(),)
    side.switch(advance_s=10)
    assert side.email().get_dkim(dkim.id).data.lifecycle_state == "ACTIVE"


def test_a_cname_to_somewhere_else_is_not_right(side: Side):
    domain = make_domain(side)
    dkim = make_dkim(side, domain, publish=False)
    side.dns.cname(dkim.dns_subdomain_name, dkim.cname_record_value.replace("nrt1", "kix1"))
    side.switch(advance_s=10)
    assert side.email().get_dkim(dkim.id).data.lifecycle_state == "NEEDS_ATTENTION"
    side.dns.cname(dkim.dns_subdomain_name, dkim.cname_record_value.upper())
    side.switch(advance_s=10)
    assert side.email().get_dkim(dkim.id).data.lifecycle_state == "ACTIVE"


def test_a_record_that_goes_away_stops_the_signing(side: Side):
    domain = make_domain(side)
    dkim = make_dkim(side, domain)
    del side.dns.extra[dkim.dns_subdomain_name, "CNAME"]
    until(lambda: side.email().get_dkim(dkim.id).data.lifecycle_state == "NEEDS_ATTENTION")
    until(lambda: DOMAIN not in side.relay.state.signers)


def test_the_newest_active_key_signs_and_deleting_it_stops_signing(side: Side):
    domain = make_domain(side)
    first = make_dkim(side, domain, "s1")
    second = make_dkim(side, domain, "s2", publish=False)
    assert side.relay.state.signers[DOMAIN].selector == "s1"
    details = models.CreateDkimDetails(name="s3", email_domain_id=domain.id)
    refused(lambda: side.email().create_dkim(details), 400, "LimitExceeded", "at most 2")
    side.dns.cname(second.dns_subdomain_name, second.cname_record_value)
    until(lambda: side.relay.state.signers[DOMAIN].selector == "s2")
    assert side.email().get_dkim(first.id).data.lifecycle_state == "INACTIVE"
    side.email().delete_dkim(second.id)
    assert DOMAIN not in side.relay.state.signers
    assert side.email().get_dkim(first.id).data.lifecycle_state == "INACTIVE"


def test_a_deleted_key_stays_resolvable_for_a_day(side: Side):
    domain = make_domain(side)
    dkim = make_dkim(side, domain)
    side.email().delete_dkim(dkim.id)
    side.switch(advance_s=80_000)
    assert side.email().get_dkim(dkim.id).data.lifecycle_state == "DELETING"
    assert side.dns(dkim.cname_record_value, "TXT")
    side.switch(advance_s=7_000)
    assert side.email().get_dkim(dkim.id).data.lifecycle_state == "DELETED"
    assert side.dns(dkim.cname_record_value, "TXT") == ()
    # Its time shows on the clients' clock, which has not jumped.
    assert 86_000 < oci_age(side.email().get_dkim(dkim.id).data) < 88_000


def oci_age(entry: Any) -> float:
    from datetime import UTC, datetime

    return (datetime.now(UTC) - entry.time_created).total_seconds()


def test_selectors_are_unique_generated_when_left_out_and_imported_keys_are_taken(side: Side):
    from todoku.rehearsal.internet import pki

    domain = make_domain(side)
    generated = make_dkim(side, domain, None, publish=False)
    assert generated.name.startswith("hoge-nrt-20")
    details = models.CreateDkimDetails(name=generated.name, email_domain_id=domain.id)
    refused(lambda: side.email().create_dkim(details), 409, "Conflict", "already exists")
    details = models.CreateDkimDetails(name="Übung", email_domain_id=domain.id)
    refused(lambda: side.email().create_dkim(details), 400, "InvalidParameter", "selector")
    key = pki.generate_dkim_key()
    details = models.CreateDkimDetails(name="own", email_domain_id=domain.id, private_key=key)
    imported = side.email().create_dkim(details).data
    assert (imported.is_imported, imported.txt_record_value) == (True, pki.dkim_txt(key))
    summary = side.email().list_dkims(domain.id, name="own").data.items
    assert [item.id for item in summary] == [imported.id]
    refused(lambda: side.email().delete_email_domain(domain.id), 409, "Conflict", "still has")


def test_the_work_request_of_a_dkim_says_needs_attention_until_it_is_active(side: Side):
    domain = make_domain(side)
    made = side.email().create_dkim(models.CreateDkimDetails(name="s1", email_domain_id=domain.id))
    number = made.headers["opc-work-request-id"]
    until(lambda: side.email().get_work_request(number).data.status == "NEEDS_ATTENTION")
    side.dns.cname(made.data.dns_subdomain_name, made.data.cname_record_value)
    until(lambda: side.email().get_work_request(number).data.status == "SUCCEEDED")
    work = side.email().list_work_requests(compartment_id=side.config.compartment).data.items
    assert [w.operation_type for w in work] == ["CREATE_DKIM", "CREATE_EMAIL_DOMAIN"]
    resource = side.email().get_work_request(number).data.resources[0]
    assert (resource.identifier, resource.action_type) == (made.data.id, "CREATED")
    assert side.email().list_work_request_errors(number).data.items == []
    assert side.email().list_work_request_logs(number).data.items[0].message == "CREATE_DKIM accepted"


# -- return paths


def test_a_return_path_needs_dkim_and_its_record(side: Side):
    domain = make_domain(side)
    details = models.CreateEmailReturnPathDetails(name=f"bounce.{DOMAIN}", parent_resource_id=domain.id)
    refused(lambda: side.email().create_email_return_path(details), 400, "InvalidParameter", "DKIM")
    make_dkim(side, domain)
    path = side.email().create_email_return_path(details).data
    assert (path.dns_subdomain_name, path.cname_record_value) == (
        f"bounce.{DOMAIN}",
        "nrt1.rp.oracleemaildelivery.com",
    )
    until(lambda: side.email().get_email_return_path(path.id).data.lifecycle_state == "NEEDS_ATTENTION")
    refused(lambda: side.email().create_email_return_path(details), 409, "Conflict")
    side.dns.cname(path.dns_subdomain_name, path.cname_record_value)
    until(lambda: side.email().get_email_return_path(path.id).data.lifecycle_state == "ACTIVE")
    until(lambda: side.relay.state.return_paths == {DOMAIN: f"bounce.{DOMAIN}"})
    side.email().update_email_return_path(path.id, models.UpdateEmailReturnPathDetails(description="x"))
    listed = side.email().list_email_return_paths(parent_resource_id=domain.id).data.items
    assert [(item.name, item.description) for item in listed] == [(f"bounce.{DOMAIN}", "x")]
    side.email().delete_email_return_path(path.id)
    until(lambda: side.relay.state.return_paths == {})


def test_a_return_path_fails_for_good_after_72_hours_and_has_to_be_made_again(side: Side):
    domain = make_domain(side)
    make_dkim(side, domain)
    details = models.CreateEmailReturnPathDetails(parent_resource_id=domain.id)
    path = side.email().create_email_return_path(details).data
    assert path.name == f"nrt1.rp.{DOMAIN}"
    side.switch(advance_s=71 * 3600)
    assert side.email().get_email_return_path(path.id).data.lifecycle_state == "NEEDS_ATTENTION"
    side.switch(advance_s=3700)
    assert side.email().get_email_return_path(path.id).data.lifecycle_state == "FAILED"
    side.dns.cname(path.dns_subdomain_name, path.cname_record_value)
    side.switch(advance_s=60)
    assert side.email().get_email_return_path(path.id).data.lifecycle_state == "FAILED"
    side.email().delete_email_return_path(path.id)
    again = side.email().create_email_return_path(details).data
    until(lambda: side.email().get_email_return_path(again.id).data.lifecycle_state == "ACTIVE")


# -- senders


def test_a_sender_is_believed_by_smtp_once_active_and_propagated(side: Side):
    side.switch(creating_s=0.3, sender_propagation_s=600)
    sender = make_sender(side, "alice@Hoge.Example")
    assert (sender.lifecycle_state, sender.email_address) == ("CREATING", f"alice@{DOMAIN}")
    until(lambda: side.email().get_sender(sender.id).data.lifecycle_state == "ACTIVE")
    assert not side.relay.state.is_approved(f"alice@{DOMAIN}")
    side.switch(advance_s=601)
    assert side.relay.state.is_approved(f"alice@{DOMAIN}")
    refused(lambda: make_sender(side, f"alice@{DOMAIN}"), 409, "Conflict", "already exists")
    side.email().delete_sender(sender.id)
    assert not side.relay.state.is_approved(f"alice@{DOMAIN}")


def test_a_sender_for_a_whole_domain_needs_an_active_dkim(side: Side):
    refused(lambda: make_sender(side, f"@{DOMAIN}"), 400, "InvalidParameter", "ACTIVE DKIM")
    domain = make_domain(side)
    dkim = make_dkim(side, domain, publish=False)
    refused(lambda: make_sender(side, f"@{DOMAIN}"), 400, "InvalidParameter", "ACTIVE DKIM")
    side.dns.cname(dkim.dns_subdomain_name, dkim.cname_record_value)
    until(lambda: side.email().get_dkim(dkim.id).data.lifecycle_state == "ACTIVE")
    sender = make_sender(side, f"@{DOMAIN}")
    assert sender.email_domain_id == domain.id
    until(lambda: side.relay.state.is_approved(f"anybody@{DOMAIN}"))
    for address in ("nobody", "a@", "a b@hoge.example"):
        refused(
            lambda address=address: make_sender(side, address), 400, "InvalidParameter", "Invalid Internet"
        )


def test_senders_come_in_pages_sorted_and_filtered(side: Side):
    for number in range(7):
        make_sender(side, f"user{number}@{DOMAIN if number % 2 else 'other.example'}")
    client, where = side.email(), side.config.compartment
    first = client.list_senders(where, limit=3, sort_by="EMAILADDRESS", sort_order="ASC")
    assert [s.email_address[:5] for s in first.data] == ["user0", "user1", "user2"]
    assert first.has_next_page
    everything = oci.pagination.list_call_get_all_results(client.list_senders, where, limit=3).data
    assert len({sender.id for sender in everything}) == 7
    assert len(client.list_senders(where, domain=DOMAIN).data) == 3
    assert len(client.list_senders(where, email_address="user0@other.example").data) == 1
    assert client.list_senders(where, lifecycle_state="FAILED").data == []
    refused(lambda: client.list_senders(where, limit=1001), 400, "InvalidParameter", "limit")
    refused(lambda: client.list_senders(where, page="bm9uc2Vuc2U="), 400, "InvalidParameter", "page")
    stolen = client.list_senders(where, limit=3).next_page
    refused(lambda: client.list_senders(where, page=stolen, domain=DOMAIN), 400, "InvalidParameter", "page")


def test_etags_and_locks_protect_from_each_others_changes(side: Side):
    sender = make_sender(side, f"alice@{DOMAIN}")
    client = side.email()
    etag = client.get_sender(sender.id).headers["etag"]
    details = models.UpdateSenderDetails(freeform_tags={"by": "todoku"})
    client.update_sender(sender.id, details, if_match=etag)
    refused(lambda: client.update_sender(sender.id, details, if_match=etag), 412, "NoEtagMatch")
    refused(lambda: client.delete_sender(sender.id, if_match=etag), 412, "NoEtagMatch")
    lock = models.AddLockDetails(type="DELETE", message="keep")
    assert client.add_sender_lock(sender.id, lock).data.locks[0].message == "keep"
    refused(lambda: client.delete_sender(sender.id), 409, "ResourceLocked")
    client.remove_sender_lock(sender.id, models.RemoveLockDetails(type="DELETE"))
    where = models.ChangeSenderCompartmentDetails(compartment_id=side.config.tenancy)
    client.change_sender_compartment(sender.id, where)
    assert client.get_sender(sender.id).data.compartment_id == side.config.tenancy
    client.delete_sender(sender.id)


def test_an_email_domain_moves_with_its_keys(side: Side):
    domain = make_domain(side)
    dkim = make_dkim(side, domain)
    where = models.ChangeEmailDomainCompartmentDetails(compartment_id=side.config.tenancy)
    side.email().change_email_domain_compartment(domain.id, where)
    assert side.email().get_dkim(dkim.id).data.compartment_id == side.config.tenancy


# -- suppressions


def test_the_suppression_list_is_the_relays_own(side: Side):
    client, tenancy = side.email(), side.config.tenancy
    details = models.CreateSuppressionDetails(compartment_id=tenancy, email_address="Carol@Mailbox.Example")
    made = client.create_suppression(details).data
    assert (made.email_address, made.reason) == ("carol@mailbox.example", "MANUAL")
    assert side.relay.state.is_suppressed("carol@mailbox.example")
    refused(lambda: client.create_suppression(details), 409, "Conflict")
    side.relay.state.suppress(
        "dead@mailbox.example", "HARDBOUNCE", "<1@x>", "550 5.1.1 no", "mx.mailbox.example"
    )
    listed = client.list_suppressions(tenancy).data
    assert [entry.reason for entry in listed] == ["HARDBOUNCE", "MANUAL"]
    found = client.get_suppression(listed[0].id).data
    assert (found.error_detail, found.error_source, found.message_id) == (
        "550 5.1.1 no",
        "mx.mailbox.example",
        "1@x",
    )
    assert len(client.list_suppressions(tenancy, email_address="dead@mailbox.example").data) == 1
    client.delete_suppression(made.id)
    assert not side.relay.state.is_suppressed("carol@mailbox.example")
    details = models.CreateSuppressionDetails(
        compartment_id=side.config.compartment, email_address="x@y.example"
    )
    refused(lambda: client.create_suppression(details), 400, "InvalidParameter", "tenancy")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDK's waiters sleep whole seconds at first."""
    monkeypatch.setattr("oci.waiter.time.sleep", _short_sleep)
    yield


def _short_sleep(seconds: float) -> None:
    import threading

    threading.Event().wait(min(seconds, 0.05))
