"""Values that are right one by one can be impossible together: each such combination is refused."""

from __future__ import annotations

import pytest

from todoku.settings import SettingsError, parse

TOP = """\
hostname = "mx.hoge.example"
addresses = ["203.0.113.10"]
postmaster = "alice@hoge.example"
"""
REST = """\
[[domains]]
name = "hoge.example"
[[domains]]
name = "ほげ.example"
[relay]
region = "ap-tokyo-1"
"""
IMPOSSIBLE = {
    "the postmaster is elsewhere": (
        TOP.replace("alice@hoge", "alice@fuga") + REST,
        "postmaster: is alice@fuga.example, which is not within one of the domains",
        "or add fuga.example as [[domains]]",
    ),
    "mail of the host is sent as an address elsewhere": (
        TOP + 'host_sender = "root@mx.hoge.example"\n' + REST,
        "host_sender: is root@mx.hoge.example, which is not within",
        'write an address like "root@hoge.example"',
    ),
    "a device sends as an address elsewhere": (
        TOP + REST + '[[devices]]\naddress = "10.0.0.1"\nsender = "scan@gmail.com"\n',
        "devices[0].sender: is scan@gmail.com, which is not within",
        'write an address like "scan@hoge.example"',
    ),
    "the host name is a mail domain": (
        TOP + REST + '[[domains]]\nname = "MX.hoge.example"\n',
        "domains[2].name: is mx.hoge.example, the host name itself",
        "mail for the host's own name is handled apart",
    ),
    "a domain is there twice": (
        TOP + REST + '[[domains]]\nname = "hoge.example."\n',
        "domains[2].name: is hoge.example, the same domain as domains[0]",
        "remove one of the two",
    ),
    "a domain is there twice, once in disguise": (
        TOP + REST + '[[domains]]\nname = "xn--18j4d.example"\n',
        "domains[2].name: is xn--18j4d.example, the same domain as domains[1]",
        "both forms of an internationalised name are one domain",
    ),
    "an address is there twice": (
        TOP.replace('"]', '", "203.0.113.10"]') + REST,
        "addresses[1]: is 203.0.113.10, which is listed already",
        "remove one of the two",
    ),
    "no domain at all": (
        TOP + "domains = []\n" + '[relay]\nregion = "ap-tokyo-1"\n',
        "domains: is empty",
        "write at least one: [[domains]]",
    ),
    "a region outside the commercial realm without the relay's name": (
        TOP + REST.replace("ap-tokyo-1", "us-gov-ashburn-1"),
        "relay.host: is missing: us-gov-ashburn-1 is in the realm oc3",
        "Oracle's console shows under Developer Services, Email Delivery, Configuration",
    ),
    "two places for the credential": (
        TOP + REST + 'credential_file = "/etc/relay"\ncredential_env = "RELAY"\n',
        "relay.credential_env: is given together with credential_file",
        "remove one of the two",
    ),
    "a certificate without key": (
        TOP + REST + '[tls]\ncertificate = "/etc/cert.pem"\n',
        "tls.certificate: is given without key",
        "add key = ",
    ),
    "a key without certificate": (
        TOP + REST + '[tls]\nkey = "/etc/key.pem"\n',
        "tls.key: is given without certificate",
        "add certificate = ",
    ),
    "a device twice": (
        TOP
        + REST
        + '[[devices]]\naddress = "10.0.0.1"\nsender = "a@hoge.example"\n'
        + '[[devices]]\naddress = "10.0.0.1/32"\nsender = "b@hoge.example"\n',
        "devices[1].address: is 10.0.0.1, which is that of devices[0]",
        "an address can have one sender only",
    ),
    "a device within the network of others": (
        TOP
        + REST
        + '[[devices]]\naddress = "10.0.0.0/24"\nsender = "a@hoge.example"\n'
        + '[[devices]]\naddress = "10.0.0.1"\nsender = "b@hoge.example"\n',
        "devices[1].address: is 10.0.0.1, which overlaps with that of devices[0] (10.0.0.0/24)",
        "an address can have one sender only",
    ),
    "the world as clients": (
        TOP + REST + '[clients]\nnetworks = "0.0.0.0/0"\n',
        'clients.networks[0]: is the text "0.0.0.0/0": that would open submission',
        "write the networks that people really use",
    ),
    "the world as clients, in pieces": (
        TOP + REST + "[clients]\nnetworks = [" + ", ".join(f'"{n}.0.0.0/8"' for n in range(1, 65)) + "]\n",
        "clients.networks: is together a large part of all IPv4 addresses",
        "write only the networks",
    ),
    "a client network twice": (
        TOP + REST + '[clients]\nnetworks = ["10.0.0.0/8", "10.0.0.0/8"]\n',
        "clients.networks[1]: is 10.0.0.0/8, which is listed already",
        "remove it",
    ),
    "a message larger than the relay can ever take": (
        TOP + REST + '[relay.plan]\nmessage_size = "61 MB"\n',
        "relay.plan.message_size: is 61 MB, more than 60 MB",
        "write a size with its unit",
    ),
    "a message size of nothing": (
        TOP + REST + "[limits]\nmessage_size = 0\n",
        "limits.message_size: is 0 bytes, less than 100 kB",
        'like "25 MB"',
    ),
    "a message size without its unit": (
        TOP + REST + "[limits]\nmessage_size = 25\n",
        "limits.message_size: is 25 bytes, less than 100 kB",
        'like "25 MB"',
    ),
    "an absurd message size": (
        TOP + REST + '[limits]\nmessage_size = "1 TB"\n',
        "limits.message_size: is 1 TB, more than 1 GB",
        'like "25 MB"',
    ),
    "more a minute than a day": (
        TOP + REST + "[relay.plan]\nper_day = 5\n",
        "relay.plan.per_minute: is 10, more than per_day (5)",
        "per_minute can be at most per_day",
    ),
    "no messages at all": (
        TOP + REST + "[relay.plan]\nper_day = 0\n",
        "relay.plan.per_day: is the number 0",
        "write a number like 200",
    ),
    "a mailbox too small for one message": (
        TOP + REST + '[accounts]\nquota = "10 MB"\n',
        "accounts.quota: is 10 MB, less than one message may have",
        "or 0 for no limit",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_combination_is_refused(case: str) -> None:
    text, message, fix = IMPOSSIBLE[case]
    with pytest.raises(SettingsError) as caught:
        parse(text, "todoku.toml")
    (problem,) = caught.value.problems
    said = str(problem)
    assert message in said
    assert fix in said
    assert problem.line is not None


@pytest.mark.parametrize(
    "addition",
    [
        "",
        'host = "smtp.email.ap-tokyo-1.oci.oraclecloud.com"\n',
        'credential_env = "TODOKU_RELAY"\n',
        "[accounts]\nquota = 0\n",
        "[clients]\nnetworks = []\n",
        '[tls]\ncertificate = "/a.pem"\nkey = "/a.pem"\n',
        '[relay.plan]\nmessage_size = "60 MB"\nper_minute = 18000\nper_day = 50000\nper_month = 1500000\n',
        '[[devices]]\naddress = "10.0.0.1"\nsender = "a@HOGE.example"\n'
        '[[devices]]\naddress = "2001:db8::/64"\nsender = "a@ほげ.example"\n',
    ],
)
def test_what_is_possible_is_accepted(addition: str) -> None:
    parse(TOP + REST + addition, "todoku.toml")


def test_outside_the_commercial_realm_the_given_host_is_used() -> None:
    text = TOP + REST.replace("ap-tokyo-1", "ap-chiyoda-1") + 'host = "smtp.relay.example"\n'
    assert parse(text, "x").relay.hostname == "smtp.relay.example"
