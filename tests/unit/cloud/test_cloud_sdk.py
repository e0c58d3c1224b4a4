# What the fake cloud of the other tests takes for granted is here done by the official SDK, over TLS with real
# signatures, against the rehearsal's cloud and its relay: permissions, life cycles, pages, faults and all.

import sys
import threading
import time

import pytest
from organisation import (
    Organisation,
    empty,
    internet_fixture,  # noqa: F401
    organisation_fixture,  # noqa: F401
    running,
    side_fixture,  # noqa: F401
)

from todoku.cloud import credential_rotation, destruction, dkim_rotation, probe
from todoku.cloud.desired import notes
from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.probe import Relay
from todoku.cloud.retry import Patience
from todoku.plan.plan import make
from todoku.rehearsal.internet import pki
from todoku.settings import RelayCredential

pytest.importorskip("oci")


def test_from_an_empty_tenancy_to_everything_in_place_and_then_nothing_to_do(organisation):
    first = organisation.apply(addresses=["alice@hoge.example"])
    assert not first.failed
    assert {one.id for one in first.waits} >= {"dkim-active:hoge.example", "return-path-active:hoge.example"}

    organisation.publish()
    organisation.apply_all(addresses=["alice@hoge.example"])

    client = organisation.client()
    plan = make(organisation.items(client, addresses=["alice@hoge.example"]))
    assert plan.empty
    assert notes(organisation.settings, client, ["alice@hoge.example"]) == ()


@pytest.mark.parametrize("cut", ["before", "after"])
def test_every_write_may_be_cut_and_nothing_is_made_twice(organisation, cut):
    organisation.side.switch(rest={"cut": cut, "operation": "create_*", "count": 6})

    organisation.apply_all()

    state = organisation.side.cloud.email["ap-tokyo-1"]
    assert len([each for each in state.domains.values() if each.alive()]) == 1
    assert len([each for each in state.dkims.values() if each.alive()]) == 1
    tenancy = organisation.side.cloud.tenancy
    assert len([each for each in tenancy.credentials.values() if each.alive()]) == 1


def test_a_storm_of_429_is_waited_out(organisation):
    organisation.side.switch(rest={"status": 429, "count": 6, "operation": "*"})

    assert not organisation.apply().failed


def test_a_list_is_tried_again_by_us_alone(organisation):
    # The SDK's own paging tries again for ten minutes, within each of our tries: apply seemed to hang.
    organisation.side.switch(rest={"cut": "before", "operation": "list_*", "count": 1000})
    client = organisation.client(Patience(tries=2, first=0.01, longest=0.01))
    for ask in (client.senders, client.email_domains, client.all_return_paths):
        with pytest.raises(CloudError):
            ask()
    operations = organisation.side.switch()["rest_seen"]["operations"]
    assert set(operations.values()) == {2}, operations


def test_pages_are_read_to_the_end(organisation):
    organisation.apply(addresses=[f"person{number:03}@hoge.example" for number in range(120)])

    assert len(organisation.client().senders()) == 121


def test_a_plan_of_many_resources_asks_at_the_same_time_what_does_not_depend_on_another_answer(organisation):
    addresses = [f"person{number}@hoge.example" for number in range(30)]
    organisation.apply_all(addresses=addresses)
    organisation.side.switch(reset=True)
    organisation.side.switch(latency_ms=500)

    began = time.monotonic()
    plan = make(organisation.items(organisation.client(), addresses=addresses))
    seconds = time.monotonic() - began

    assert plan.empty
    operations = organisation.side.switch(latency_ms=0)["rest_seen"]["operations"]
    calls = sum(operations.values())
    assert calls <= 18, operations  # whatever the number of resources
    assert seconds < 0.7 * calls * 0.5, (seconds, operations)  # one after the other it would be all of that


def test_a_key_and_a_credential_are_rotated_against_the_real_thing(organisation):
    organisation.apply_all()
    before = organisation.keeper.kept

    def publish(records):
        for record in records:
            organisation.side.dns.cname(record.name, record.cname)

    def visible(record):
        return bool(organisation.side.dns(record.name, "CNAME"))

    steps = dkim_rotation.Steps(publish=publish, visible=visible, say=lambda _text: None, wait=20)
    done = dkim_rotation.rotate("hoge.example", organisation.client(), steps)
    assert done.stage is dkim_rotation.Stage.OLD_REMAINS, done
    assert done.current == done.old + "-2"

    rotation = credential_rotation.Steps(
        keeper=organisation.keeper,
        relay=organisation.relay,
        reload=lambda: None,
        say=lambda _text: None,
        settle=0,
    )
    rotated = credential_rotation.rotate("todoku-relay", "mx.hoge.example", organisation.client(), rotation)
    assert rotated.deleted == (before[0],) and organisation.keeper.kept[0] == rotated.username


def test_destroy_takes_away_what_was_made_and_nothing_else(organisation):
    import oci

    organisation.apply_all(addresses=["alice@hoge.example"])
    foreign = oci.email.models.CreateSenderDetails(
        compartment_id=organisation.side.config.compartment, email_address="someone@other.example"
    )
    organisation.side.email().create_sender(foreign)

    found = destruction.made(organisation.settings, organisation.client())
    deleted = []
    published = [kept.split()[2] for kept in found.kept if kept.startswith("DNS record ")]
    assert [name.partition(".")[2] for name in published] == [
        "rp.hoge.example:",
        "_domainkey.hoge.example:",
    ]
    assert destruction.destroy(found, deleted.append) == ()

    client = organisation.client()
    assert [sender.address for sender in client.senders()] == ["someone@other.example"]
    assert client.wait("email-domain", lambda: not client.email_domains(), 5, 0.1)
    # A log group has no state DELETED: once it is gone it is not listed, and the next apply makes another.
    organisation.side.switch(advance_s=60)
    assert organisation.client().log_groups() == []
    assert client.user("todoku-relay") is None and client.group("todoku-senders") is None
    assert client.policies(organisation.side.config.compartment) == []
    assert destruction.made(organisation.settings, organisation.client()).things == ()


def test_who_else_sends_by_what_todoku_made_goes_on_sending_after_destroy(organisation):
    import oci

    organisation.apply_all()
    side, client = organisation.side, organisation.client()
    # Somebody whom an administrator has put into the group.
    person = oci.identity.models.CreateUserDetails(
        compartment_id=side.config.tenancy, name="person", description="-", email="p@hoge.example"
    )
    member = oci.identity.models.AddUserToGroupDetails(
        user_id=side.identity().create_user(person).data.id, group_id=client.group("todoku-senders").id
    )
    side.identity().add_user_to_group(member)
    found = destruction.made(organisation.settings, client)
    assert {kept for kept in found.kept if "others are in the group" in kept} == {
        "policy todoku-senders: others are in the group, and send by it",
        "group todoku-senders: others are in the group, and send by it",
    }

    # Another host: both log in as "todoku-relay", each with a credential of its own.
    other = client.api.create_smtp_credential(client.user("todoku-relay"), "todoku mx2.hoge.example")
    sender = oci.email.models.CreateSenderDetails(
        compartment_id=side.config.compartment, email_address="someone@other.example"
    )
    side.email().create_sender(sender)
    login = RelayCredential(other.username, other.password)
    theirs = Relay(organisation.relay.endpoint, lambda: login)
    assert theirs.wait_for_login(login, 30).accepted
    assert theirs.wait_until_taken("someone@other.example", (), 30).accepted

    found = destruction.made(organisation.settings, organisation.client())
    assert any("todoku-senders and its policy: that credential needs them" in kept for kept in found.kept)
    assert destruction.destroy(found, lambda _what: None) == ()

    answers = probe.ask(theirs.endpoint, login, ["someone@other.example"])
    assert [answer.accepted for answer in answers] == [True, True]
    client = organisation.client()
    assert [each.username for each in client.smtp_credentials(client.user("todoku-relay"))] == [
        other.username
    ]
    assert client.email_domains() == []


def test_a_missing_right_is_told_as_the_statement_that_is_missing(organisation):
    import oci

    identity = organisation.side.identity()
    policies = identity.list_policies(organisation.side.config.tenancy).data
    statements = [
        "Allow group Administrators to manage email-family in tenancy",
        "Allow group Administrators to manage users in tenancy",
        "Allow group Administrators to manage groups in tenancy",
        "Allow group Administrators to manage policies in tenancy",
        "Allow group Administrators to manage credentials in tenancy",
    ]
    identity.update_policy(policies[0].id, oci.identity.models.UpdatePolicyDetails(statements=statements))

    outcome = organisation.apply()

    reasons = "\n".join(failure.reason for failure in outcome.failed)
    compartment = organisation.side.config.compartment
    assert f"Allow group YOUR-GROUP to read dkims in compartment id {compartment}" in reasons


def test_a_wrong_key_is_told(organisation, tmp_path):
    config = organisation.side.config.config_file
    other = tmp_path / "other.pem"
    other.write_text(pki.generate_dkim_key())
    other.chmod(0o600)
    text = config.read_text()
    config.write_text(
        "\n".join(f"key_file={other}" if "key_file" in line else line for line in text.splitlines())
    )

    with pytest.raises(CloudError, match="does not accept the API key") as caught:
        organisation.client().email_domains()
    assert caught.value.trouble is Trouble.UNKNOWN_CALLER


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("[DEFAULT]", "[OTHER]"), "not complete"),
        (lambda text: text.replace("user=", "usr="), "not complete"),
        (
            lambda text: text.replace("key_file=/", "key_file=/nowhere/"),
            "key_file|cannot log in|cannot be used",
        ),
    ],
)
def test_a_config_file_that_is_wrong_is_told_before_anything_is_asked(organisation, change, words):
    config = organisation.side.config.config_file
    config.write_text(change(config.read_text()))
    with pytest.raises(CloudError, match=words) as caught:
        organisation.client().email_domains()
    assert caught.value.trouble is Trouble.LOCAL


def test_a_config_file_that_is_not_there_is_told(organisation):
    organisation.side.config.config_file.unlink()
    with pytest.raises(CloudError, match="oci setup config"):
        organisation.client().email_domains()


def test_iam_is_written_in_the_home_region_and_the_other_one_is_pointed_out(internet, tmp_path, monkeypatch):
    for side in running(empty(internet, home_region="us-ashburn-1"), tmp_path):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", side.ca)
        organisation = Organisation(side)
        client = organisation.client()
        assert {each.name for each in client.regions() if each.home} == {"us-ashburn-1"}
        assert any("us-ashburn-1" in note for note in notes(organisation.settings, client))
        assert client.api._sdk.home_region == "us-ashburn-1"


def test_the_sdk_is_not_imported_before_something_is_asked():
    import subprocess

    modules = "sys, todoku.cloud.desired, todoku.cloud.dkim_rotation, todoku.cli.dkim"
    code = f"import {modules}; sys.exit('oci' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_several_threads_ask_only_once(organisation):
    client = organisation.client()
    threads = [threading.Thread(target=client.senders) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert organisation.side.switch()["rest_seen"]["operations"].get("list_senders") == 1


def test_that_this_is_no_instance_is_found_out_once_and_told(side, monkeypatch):
    # Where there is no metadata service, asking for it takes a while, and some thirty resources want to know.
    import oci

    signer = oci.auth.signers.InstancePrincipalsSecurityTokenSigner
    monkeypatch.setattr(signer, "METADATA_URL_BASE", "http://127.0.0.1:1/opc/v2")
    tried = []
    make = signer.__init__
    monkeypatch.setattr(signer, "__init__", lambda self, **more: (tried.append(self), make(self, **more))[1])
    client = Organisation(side, auth="instance_principal").client()
    for ask in (client.senders, client.regions, client.senders):
        with pytest.raises(CloudError, match=r"only on an instance of Oracle's cloud.*cloud.auth"):
            ask()
    assert len(tried) == 1


def test_what_refuses_our_key_is_told_in_the_same_words_whatever_was_asked(organisation, tmp_path):
    config = organisation.side.config.config_file
    text = config.read_text()
    wrong = ":".join(["00"] * 16)
    config.write_text(
        "\n".join(f"fingerprint={wrong}" if "finger" in line else line for line in text.splitlines())
    )
    client = organisation.client()
    told = set()
    for ask in (client.email_domains, client.senders, client.regions):
        with pytest.raises(CloudError, match="does not accept the API key") as caught:
            ask()
        told.add(str(caught.value))
    assert len(told) == 1
