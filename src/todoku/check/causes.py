"""What is only a consequence of something else that failed: nobody has to look at it before that is put right.

A dead resolver makes two dozen things unknown, and a gate that is down closes three ports: the one thing to do is told
first, and what follows from it in one line below it (`todoku.check.show`). That mail is relayed for everybody, or lost,
is never taken for a consequence.
"""

from __future__ import annotations

from collections.abc import Sequence

from todoku.check.finding import Finding, Verdict

_AT_PORTS = ("tls", "submission", "inbound")
_BY_DNS = (
    *("dns", "addresses", "mx", "mta-sts", "tls-rpt", "spf", "dkim", "dmarc"),
    *("return-path", "cloud", "relay"),
)
_OF_A_DOMAIN = ("dns", "mx", "spf", "dkim", "dmarc")
# The ports that a service answers at; the gate looks at what comes in there, and Dovecot at passwords and recipients.
_PORTS = {
    "postfix": ("port 25", "port 465", "port 587"),
    "todoku-gate": ("port 25", "port 465", "port 587"),
    "dovecot": ("port 993",),
}


def consequences(findings: Sequence[Finding]) -> dict[Finding, Finding]:
    """Each finding that follows from another one, with the one at the root of it. `findings`: the most urgent first."""
    causes = [each for each in findings if each.verdict is Verdict.FAIL]
    nearest: dict[Finding, Finding] = {}
    for each in findings:
        cause = next((cause for cause in causes if cause != each and _follows(each, cause)), None)
        if cause is not None:
            nearest[each] = cause
    return {each: _root(cause, nearest) for each, cause in nearest.items()}


def _root(cause: Finding, nearest: dict[Finding, Finding]) -> Finding:
    for _ in range(len(nearest)):
        if cause not in nearest:
            break
        cause = nearest[cause]
    return cause


def _follows(each: Finding, cause: Finding) -> bool:
    subject, unknown = each.rule.partition(".")[0], each.verdict is Verdict.UNKNOWN
    if each.verdict in (Verdict.PASS, Verdict.WARN):
        return False
    match cause.rule:
        case "host.services":
            return _of_service(each, _PORTS.get(cause.about, ()))
        case "host.resolver":
            # Postfix looks up who greets it, and puts everybody off when nobody answers.
            at_25 = each.rule in ("submission.smuggling", "submission.relay")
            asked = subject in _BY_DNS or each.rule == "host.clock" or at_25
            return (unknown and asked) or each.rule in ("relay.login", "inbound.accepted")
        case "tls.offered":
            at_25 = cause.about == "port 25" and each.rule in ("inbound.accepted", "submission.smuggling")
            return unknown and subject in _AT_PORTS and (each.about == cause.about or at_25)
        case "inbound.accepted":
            return unknown and each.rule in ("submission.relay", "submission.smuggling")
        case "relay.login" | "relay.sender":
            return unknown and each.rule == "relay.sender"
    if each.about != cause.about:
        return False
    match cause.rule:
        case "dns.exists":
            return subject in _OF_A_DOMAIN
        case "dns.delegation":
            return unknown
        case "mx.record":
            return each.rule == "mx.host"
        case "dkim.target":
            return each.rule in ("dkim.record", "dkim.active", "dmarc.alignment")
        case "dkim.active":
            return each.rule == "dmarc.alignment"
    return False


def _of_service(each: Finding, ports: Sequence[str]) -> bool:
    """`ports`: those that cannot work without the service."""
    if not ports:
        return False
    if each.verdict is Verdict.UNKNOWN:
        return each.rule.partition(".")[0] in _AT_PORTS or each.rule == "host.queue"
    return each.rule == "inbound.accepted" or (each.rule == "tls.offered" and each.about in ports)
