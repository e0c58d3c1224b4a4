"""The topics and what each is about, apart from what looks at them, so that the command line need not load it."""

from __future__ import annotations

TOPICS: dict[str, str] = {
    "host": "the host: services, resolver, clock, disk, queue",
    "addresses": "the host's name and addresses, there and back",
    "dns": "the domains' zones and their name servers",
    "mx": "where mail for the domains goes, and what is promised about TLS (MTA-STS)",
    "spf": "SPF: the record, what it costs, whether the relay passes",
    "dkim": "DKIM: the keys, their records, whether Oracle signs",
    "dmarc": "DMARC: the record, the policy, reports, alignment",
    "return-path": "the return path: its record, SPF, bounces",
    "cloud": "Oracle's cloud and the relay: domains, senders, rights, credential",
    "tls": "TLS of our own ports: offered, versions, certificate, expiry",
    "submission": "our ports' behaviour: mail to us, passwords, relaying, smuggling, IMAP",
}
