"""The official command line, unmodified, in a process of its own, drives the simulator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cloud_side import Side, side_fixture, until  # noqa: F401

OCI = Path(sys.executable).parent / "oci"
pytestmark = pytest.mark.skipif(not OCI.exists(), reason="oci-cli is not installed (dependency group dev)")


def oci(side: Side, *arguments: str, code: int = 0) -> Any:
    """Run it, with the world's authority trusted; its JSON answer, or what it complained."""
    command = [
        str(OCI),
        "--config-file",
        str(side.config.config_file),
        "--endpoint",
        side.endpoint,
        *arguments,
    ]
    environment = os.environ | {
        "REQUESTS_CA_BUNDLE": side.ca,
        "HOME": str(side.folder),
        "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    if code:
        return done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_the_command_line_sets_up_email_delivery(side: Side):
    where = ("--compartment-id", side.config.compartment)
    made = oci(
        side, "email", "domain", "create", *where, "--name", "hoge.example",
        "--wait-for-state", "SUCCEEDED", "--wait-interval-seconds", "1",
    )  # fmt: skip
    assert made["data"]["status"] == "SUCCEEDED"
    listed = oci(side, "email", "domain", "list", *where, "--all")["data"]["items"]
    assert [item["name"] for item in listed] == ["hoge.example"]
    dkim = oci(side, "email", "dkim", "create", "--email-domain-id", listed[0]["id"], "--name", "s1")["data"]
    assert dkim["cname-record-value"] == "s1.hoge.example.dkim.nrt1.oracleemaildelivery.com"
    side.dns.cname(dkim["dns-subdomain-name"], dkim["cname-record-value"])
    until(lambda: "hoge.example" in side.relay.state.signers)
    sender = oci(side, "email", "sender", "create", *where, "--email-address", "@hoge.example")["data"]
    assert sender["email-address"] == "@hoge.example"
    complaint = oci(side, "email", "sender", "create", *where, "--email-address", "@hoge.example", code=1)
    assert '"code": "Conflict"' in complaint
    assert '"status": 409' in complaint


def test_the_command_line_reads_iam_and_writes_dns(side: Side):
    users = oci(side, "iam", "user", "list")["data"]
    assert [user["name"] for user in users] == ["administrator"]
    where = ("--compartment-id", side.config.compartment)
    oci(side, "dns", "zone", "create", *where, "--name", "hoge.example", "--zone-type", "PRIMARY")
    items = [{"domain": "hoge.example", "rtype": "MX", "rdata": "10 mx.hoge.example.", "ttl": 300}]
    done = oci(
        side, "dns", "record", "rrset", "update", "--zone-name-or-id", "hoge.example",
        "--domain", "hoge.example", "--rtype", "MX", "--items", json.dumps(items), "--force",
    )  # fmt: skip
    assert [item["rdata"] for item in done["data"]["items"]] == ["10 mx.hoge.example."]
    assert side.dns("hoge.example", "MX") == (b"10 mx.hoge.example.",)
