"""Every rule that the judge knows: what it is about, who demands it, where that is written. In the order in which
things have to be put right: without an address there is no name, without a name no mail.

The demands are those of the providers' pages for senders:
  G1 support.google.com/mail/answer/81126 (Email sender guidelines)      G2 support.google.com/a/answer/14229414 (FAQ)
  Y1 senders.yahooinc.com/best-practices      Y2 senders.yahooinc.com/faqs
  M1 "Outlook's New Requirements for High-Volume Senders" (techcommunity.microsoft.com, 2025-04)
  M2 Outlook's postmaster pages, policies
  O  Oracle's pages on Email Delivery
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

PROVIDERS = ("Gmail", "Yahoo", "Outlook")


class Demand(Enum):
    """Of whom a provider asks it."""

    NOTHING = "nobody"
    SHOULD = "advised"
    BULK = "those who send much"
    ALL = "everybody"


@dataclass(frozen=True, slots=True)
class Rule:
    """`title` says what is wrong when it is not met, so that it can follow "refused because"."""

    title: str
    source: str
    demands: Mapping[str, Demand] = field(default_factory=dict)


_LETTERS = {"a": Demand.ALL, "b": Demand.BULK, "s": Demand.SHOULD, "-": Demand.NOTHING}


def _rule(title: str, source: str, demands: str = "") -> Rule:
    """`demands`: one letter each for Gmail, Yahoo and Outlook."""
    pairs = zip(PROVIDERS, demands, strict=True) if demands else ()
    return Rule(title, source, {name: _LETTERS[letter] for name, letter in pairs if letter != "-"})


RULES: dict[str, Rule] = {
    # The host that everything else runs on
    "host.services": _rule("a service of the mail system does not run", "docs/architecture.md"),
    "host.resolver": _rule("the host's own resolver does not answer", "RFC 5321 5.1"),
    "host.clock": _rule("the host's clock is wrong", "RFC 5322 3.6.1; O: at most 5 minutes"),
    "host.disk": _rule("the disk is nearly full", "Postfix queue_minfree"),
    "host.object_store": _rule("attachments cannot be put into the object store", "[protect.store]"),
    "host.queue": _rule("mail waits in the queue", "Postfix postqueue(1)"),
    # Names
    "dns.delegation": _rule("the zone's name servers do not work", "RFC 1034 4.2.2; RFC 4035", "aaa"),
    "dns.exists": _rule("the domain does not exist in the DNS", "Y1; RFC 5321 2.3.5", "aaa"),
    "addresses.forward": _rule("the host's name does not lead to its addresses", "RFC 5321 2.3.5"),
    "addresses.reverse": _rule("the address does not lead back to the host's name", "RFC 1912 2.1"),
    "mx.record": _rule("nobody can deliver mail to the domain", "RFC 5321 5.1", "--s"),
    "mx.host": _rule("an MX host cannot be reached by its name", "RFC 2181 10.3; RFC 5321 5.1"),
    "mx.tls": _rule(
        "an MX host does not take mail within TLS that can be trusted", "RFC 3207; RFC 7672; RFC 8461 4"
    ),
    "inbound.accepted": _rule(
        "mail to us is not taken", "RFC 5321 4.5.1; RFC 2142; M1: valid From and Reply-To", "--s"
    ),
    "mta-sts.policy": _rule("the MTA-STS policy keeps mail away, or counts for nothing", "RFC 8461 3, 4"),
    "tls-rpt.record": _rule("reports about TLS do not arrive", "RFC 8460 3"),
    # Who may send
    "spf.record": _rule("there is not exactly one SPF record", "RFC 7208 4.5; G1, Y1, M1", "bbb"),
    "spf.syntax": _rule("the SPF record cannot be read", "RFC 7208 4.6, 12", "bbb"),
    "spf.lookups": _rule("the SPF record needs too many look-ups", "RFC 7208 4.6.4", "bbb"),
    "spf.targets": _rule("the SPF record refers to something that is not there", "RFC 7208 5.2, 6.1", "bbb"),
    "spf.relay": _rule("SPF does not allow the relay to send", "O: SPF Record Syntax", "bbb"),
    "spf.all": _rule("SPF allows too much", "G: 550 5.7.24; RFC 7208 5.1", "b--"),
    "spf.ptr": _rule("SPF asks for reverse names", "RFC 7208 5.5"),
    "dkim.record": _rule("there is no usable DKIM key", "RFC 6376 3.6; G1, Y1, M1", "bbb"),
    "dkim.length": _rule("the DKIM key is too weak", "RFC 8301 3.2; G1, Y2: 1024 bits", "aas"),
    "dkim.type": _rule("the DKIM key is of a kind that few can check", "RFC 8463; RFC 8301", "bbb"),
    "dkim.test": _rule("the DKIM key says that it is only a test", "RFC 6376 3.6.1: t=y", "s--"),
    "dkim.target": _rule("the DKIM record is not the one that Oracle asks for", "O: DKIM", "bbb"),
    "dkim.active": _rule("Oracle does not sign with the DKIM key", "O: DKIM", "bbb"),
    "dmarc.record": _rule("there is no DMARC record that counts", "RFC 9989 4.10; G1, Y1, M1", "bbb"),
    "dmarc.syntax": _rule("the DMARC record cannot be used as it is", "RFC 9989 4.7, 4.8", "bbb"),
    "dmarc.alignment": _rule("From is aligned with neither DKIM nor SPF", "RFC 9989 4.4; G1, M1", "bbb"),
    "dmarc.policy": _rule("DMARC asks for nothing when somebody forges the domain", "RFC 9989 4.7"),
    "dmarc.reports": _rule("DMARC reports do not arrive", "RFC 9990 4; Y1", "-s-"),
    "return-path.record": _rule(
        "the return path's record is not the one that Oracle asks for", "O: return path"
    ),
    "return-path.spf": _rule("SPF does not pass for the return path", "RFC 7208 2.4", "bbb"),
    "return-path.bounces": _rule("bounces to the return path have nowhere to go", "RFC 5321 3.6.3"),
    # The relay and its cloud
    "cloud.domain": _rule("the email domain is not active in Oracle's cloud", "O: email domains"),
    "cloud.senders": _rule("the relay has not approved who sends", "O: approved senders"),
    "cloud.policies": _rule("the group that sends lacks a right", "O: IAM policies of Email Delivery"),
    "cloud.credential": _rule(
        "the relay's credential is old, or another one is needed", "O: SMTP credentials"
    ),
    "cloud.quota": _rule("the plan and the region do not go together", "O: limits"),
    "cloud.suppressions": _rule(
        "mail is accepted and never sent: the recipient is suppressed", "O: suppression list"
    ),
    "relay.login": _rule("the relay does not take our password", "O: troubleshooting, 535"),
    "relay.sender": _rule("the relay does not take mail from us", "O: troubleshooting, 535"),
    # Our own ports
    "tls.offered": _rule("a port of ours is closed, or offers no TLS", "RFC 3207; RFC 8314"),
    "tls.versions": _rule("TLS is too old, or too new for everybody else", "RFC 8996; RFC 9325 3.1"),
    "tls.certificate": _rule("the certificate does not convince mail programs", "RFC 6125; RFC 8314 5.2"),
    "tls.expiry": _rule("the certificate ends soon", "RFC 5280 4.1.2.5"),
    "submission.auth": _rule("a password can be sent in the clear", "RFC 4954 4; RFC 8314 3.3"),
    "submission.relay": _rule("this is an open relay", "RFC 2505 2.1"),
    "submission.smuggling": _rule("a second message can be smuggled in", "CVE-2023-51764; RFC 5321 2.3.8"),
    "submission.imap": _rule("a mailbox can be read without TLS", "RFC 8314 3; RFC 9051 11"),
    # The message (rows 8 to 21 of the senders' pages)
    "message.form": _rule("the message is not well-formed", "RFC 5322 2.1, 2.2; G1, Y1", "aaa"),
    "message.from": _rule("From is not one header with one address", "RFC 5322 3.6.2; G1: 550 5.7.1", "aas"),
    "message.message-id": _rule("Message-ID is missing or wrong", "RFC 5322 3.6.4; G1: 550 5.7.1", "ass"),
    "message.single": _rule("a header is there twice", "RFC 5322 3.6; G1, Y1", "aa-"),
    "message.date": _rule("Date is missing or out of range", "RFC 5322 3.6.1; Y1", "sas"),
    "message.size": _rule("the headers are too large or too many", "G: 552 5.3.4; O: 256 KiB", "aa-"),
    "message.encoding": _rule("characters stand where they may not", "RFC 5322 2.2, RFC 2047 5; G1", "aas"),
    "message.freemail": _rule(
        "From is at a provider that lets nobody else send for it", "G1: p=quarantine", "aaa"
    ),
    "message.unsubscribe": _rule("one-click unsubscribe does not work", "RFC 8058 3; G1, Y1", "bbs"),
    "message.unsubscribe-link": _rule("there is no visible link to unsubscribe", "G1, Y1", "bbs"),
    "message.signature": _rule("the DKIM signature cannot hold", "RFC 6376 3.5, 6.1.1", "bbb"),
    "message.authentication": _rule("the message says itself that it did not pass", "RFC 8601", "bbb"),
    "message.from-domain": _rule("From is at a name that cannot exist", "Y1; RFC 5321 2.3.5", "aaa"),
    "message.script": _rule("the domain in From mixes scripts", "G1; UTS #39 5.2", "a--"),
    "message.reply": _rule("nobody can answer", "M1: valid From and Reply-To", "--s"),
    "message.display-name": _rule("the sender's name says more than who sends", "G1: display names", "s--"),
    "message.subject": _rule("the subject pretends to be an answer", "G1; CAN-SPAM 16 CFR 316", "sss"),
    "message.hidden": _rule("text is hidden, or links lead elsewhere than they say", "G1", "sss"),
    "message.feedback-id": _rule(
        "Feedback-ID cannot be used", "support.google.com/mail/answer/6254652", "s--"
    ),
    # What a provider wrote into a message that it received
    "received.spf": _rule("SPF did not pass at the receiver", "RFC 8601 2.7.2; G1, Y1, M1", "bbb"),
    "received.dkim": _rule(
        "DKIM of our domain did not pass at the receiver", "RFC 8601 2.7.1; G1, Y1, M1", "bbb"
    ),
    "received.dmarc": _rule("DMARC did not pass at the receiver", "RFC 9989 5; G1, Y1, M1", "bbb"),
    "received.relay": _rule("it did not come through the relay", "O: mail from the relay's own addresses"),
    "received.tls": _rule("it came without TLS", "RFC 3848; G1", "a--"),
    "received.folder": _rule("it was put among the spam", "the provider's own verdict", "sss"),
    "received.delay": _rule("it took long", "RFC 5321 4.4"),
}
