# The sending user may live in an identity domain of its own, which the older IAM API does not see. The same
# things are then asked for by SCIM (RFC 7644), here of a small server that speaks it, by the official SDK.

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from cloud_fake import COMPARTMENT

from todoku.cloud.errors import CloudError, Trouble
from todoku.cloud.sdk import Access, Sdk
from todoku.cloud.sdk_api import open_api
from todoku.cloud.sdk_domains import SdkDomainPeople
from todoku.cloud.values import IdentityDomain
from todoku.rehearsal import pki

pytest.importorskip("oci")


class Scim(BaseHTTPRequestHandler):
    """/admin/v1 with Users, Groups and SmtpCredentials; pages of at most two."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def kept(self):
        return self.server.kept[urlsplit(self.path).path.split("/")[3]]

    def do_GET(self):
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        found = [thing for thing in self.kept if self._matches(thing, query["filter"])]
        start = int(query.get("startIndex", 1)) - 1
        self._answer(
            200, {"totalResults": len(found), "Resources": found[start : start + 2], "schemas": ["x"]}
        )

    def do_POST(self):
        thing = self._body()
        kind = self.path.split("/")[3]
        thing["id"] = f"{kind.lower()}-{len(self.kept) + 1}"
        thing["meta"] = {"created": "2026-11-24T05:00:00.000Z"}
        if kind == "SmtpCredentials":
            thing |= {"userName": f"ocid1.user@ocid1.tenancy.{len(self.kept)}.com", "password": "p4$s:#word"}
        self.kept.append(thing)
        self._answer(201, thing)
        if kind == "SmtpCredentials":
            del thing["password"]

    def do_PATCH(self):
        thing = next(each for each in self.kept if each["id"] == self.path.split("/")[4])
        (operation,) = self._body()["Operations"]
        match operation["op"]:
            case "ADD":
                thing.setdefault("members", []).extend(operation["value"])
            case "REMOVE":
                gone = re.search(r'"(.*)"', operation["path"])[1]
                thing["members"] = [each for each in thing["members"] if each["value"] != gone]
            case "REPLACE":
                schema, _, name = operation["path"].rpartition(":")
                thing.setdefault(schema, {})[name] = operation["value"]
        self._answer(200, thing)

    def do_DELETE(self):
        self.kept[:] = [each for each in self.kept if each["id"] != self.path.split("/")[4]]
        self.send_response(204)
        self.end_headers()

    def _matches(self, thing, wanted):
        for path, value in re.findall(r'([\w.]+) eq "((?:[^"\\]|\\.)*)"', wanted):
            first, _, rest = path.partition(".")
            there = thing.get(first)
            values = (
                [each.get(rest) for each in (there if isinstance(there, list) else [there or {}])]
                if rest
                else [there]
            )
            if value.replace('\\"', '"') not in values:
                return False
        return True

    def _body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status, content):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/scim+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def scim():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scim)
    server.kept = {"Users": [], "Groups": [], "SmtpCredentials": []}
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def people(scim, tmp_path):
    key = tmp_path / "key.pem"
    key.write_text(pki.generate_dkim_key())
    key.chmod(0o600)
    config = tmp_path / "config"
    fingerprint = ":".join(["aa"] * 16)
    config.write_text(
        f"[DEFAULT]\nuser=ocid1.user.oc1..u\ntenancy=ocid1.tenancy.oc1..t\nfingerprint={fingerprint}\n"
        f"region=ap-tokyo-1\nkey_file={key}\n"
    )
    config.chmod(0o600)
    url = f"http://127.0.0.1:{scim.server_address[1]}"
    sdk = Sdk(Access(COMPARTMENT, "ap-tokyo-1", config_file=config, identity_domain="Staff"))
    return SdkDomainPeople(
        sdk, "staff", lambda: [IdentityDomain("Default", "x"), IdentityDomain("Staff", url)]
    )


def test_user_group_membership_and_credential_are_made_seen_and_deleted(people):
    assert people.user("todoku-relay") is None
    made = people.create_user("todoku-relay", "postmaster@hoge.example", "token")
    user = people.user("todoku-relay")
    assert user == made and user.ours and user.active and user.may_use_smtp

    group = people.create_group("todoku-senders", "token")
    assert people.group("todoku-senders") == group and group.ours
    assert not people.is_member(user, group)
    people.join(user, group, "token")
    assert people.is_member(user, group)

    credential = people.create_smtp_credential(user, "todoku mx.hoge.example")
    assert credential.password == "p4$s:#word"
    (listed,) = people.smtp_credentials(user)
    assert (listed.username, listed.description) == (credential.username, "todoku mx.hoge.example")
    assert listed.created is not None and listed.created.year == 2026

    people.delete_smtp_credential(user, listed)
    people.leave(user, group)
    assert people.smtp_credentials(user) == [] and not people.is_member(user, group)
    people.delete_user(user)
    people.delete_group(group)
    assert people.user("todoku-relay") is None and people.group("todoku-senders") is None


def test_the_primary_address_and_the_tag_are_what_scim_wants(people, scim):
    people.create_user("todoku-relay", "postmaster@hoge.example", "token")

    (user,) = scim.kept["Users"]
    assert user["emails"] == [{"value": "postmaster@hoge.example", "type": "work", "primary": True}]
    assert user["urn:ietf:params:scim:schemas:oracle:idcs:extension:OCITags"] == {
        "freeformTags": [{"key": "todoku", "value": "managed"}]
    }


def test_the_capability_is_switched_on(people, scim):
    user = people.create_user("todoku-relay", "a@hoge.example", "token")
    schema = "urn:ietf:params:scim:schemas:oracle:idcs:extension:capabilities:User"
    scim.kept["Users"][0][schema] = {"canUseSmtpCredentials": False}
    assert not people.user("todoku-relay").may_use_smtp

    people.allow_smtp(user)

    assert people.user("todoku-relay").may_use_smtp


def test_a_list_is_read_to_its_end(people):
    user = people.create_user("todoku-relay", "a@hoge.example", "token")
    for number in range(5):
        people.create_smtp_credential(user, f"number {number}")
    assert len(people.smtp_credentials(user)) == 5


def test_a_name_with_quotes_stays_a_name(people):
    people.create_group('say "hi"', "token")
    assert people.group('say "hi"') is not None
    assert people.group('x" or displayName eq "say') is None


def test_a_domain_that_is_not_there_is_told_with_those_that_are(people):
    people._name = "Staf"
    with pytest.raises(CloudError, match=r"no identity domain Staf .*Default, Staff") as caught:
        people.user("x")
    assert caught.value.trouble is Trouble.LOCAL


def test_the_older_api_is_used_for_the_default_domain():
    for name, kind in ((None, "_InDefault"), ("Default", "_InDefault"), ("Staff", "_InOtherDomain")):
        assert type(open_api(Access(COMPARTMENT, "ap-tokyo-1", identity_domain=name))).__name__ == kind
