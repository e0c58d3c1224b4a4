"""What a provider wrote into the head of a message that it received, explained: SPF, DKIM, DMARC, TLS, the way it took.

RFC 8601 (Authentication-Results), RFC 5321 4.4 and RFC 3848 (Received). Only the topmost Authentication-Results counts:
whoever receives a message last writes it there; what is below it may be anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from todoku.check.authentication_results import Result, results
from todoku.check.finding import Finding, by_urgency, failed, passed, unknown, warned
from todoku.check.message.parsing import Message, parse
from todoku.check.message.people import author
from todoku.check.pasted import source

_RELAY = ("oracleemaildelivery.com", "oraclevcn.com", "oracle communications messaging server")
_WITHIN_TLS = re.compile(
    r"\bwith\s{1,10}(?:utf8)?(?:e?smtps|esmtpsa|lmtps)\b|\bversion=tls|\bTLSv?1|\busing tls", re.IGNORECASE
)
_LONG = timedelta(minutes=10)


def look(raw: bytes, folder: str = "") -> list[Finding]:
    """What the head of a received message says, however it was copied. `folder`: where it was found, if known."""
    message = parse(source(raw))
    findings = [*_authentication(message), *_way(message)]
    if folder:
        findings.append(_folder(folder))
    findings += _spam(message)
    return by_urgency(findings)


def _authentication(message: Message) -> Iterator[Finding]:
    values = message.all("Authentication-Results")
    if not values:
        seen = "the receiver wrote no Authentication-Results"
        advice = 'Paste the whole source of the message ("show original"), from its first line on'
        for rule in ("received.spf", "received.dkim", "received.dmarc"):
            yield unknown(rule, seen, advice)
        return
    found = results(values[0])
    domain = author(message).rpartition("@")[2].lower()
    yield _spf([each for each in found if each.method == "spf"], message)
    yield _dkim([each for each in found if each.method == "dkim"], domain)
    yield _dmarc([each for each in found if each.method == "dmarc"], domain)


def _spf(found: list[Result], message: Message) -> Finding:
    said = found[0].result if found else ""
    about = f" for {found[0].domain}" if found and found[0].domain else ""
    if not found and (field := message.first("Received-SPF")):  # RFC 7208 9.1
        said = field.strip().partition(" ")[0].lower()
    if not said:
        advice = "Run `todoku check spf`, which asks for the relay's own address"
        return unknown("received.spf", "the receiver says nothing about SPF", advice)
    if said == "pass":
        return passed("received.spf", f"spf=pass{about}")
    if said == "temperror":
        advice = "Send it once more; if it stays so, run `todoku check dns`: some name server does not answer"
    else:
        advice = "Run `todoku check spf` and `todoku check return-path`; mail that is forwarded on the way always fails"
    return failed("received.spf", f"spf={said}{about}", advice)


def _dkim(found: list[Result], domain: str) -> Finding:
    signed = [each for each in found if each.result != "none"]
    told = ", ".join(_told(each) for each in signed)
    if not signed:
        advice = "Run `todoku check dkim`: Oracle signs once the key is active"
        return failed("received.dkim", "the receiver saw no DKIM signature", advice)
    ours = [each for each in signed if _aligned(each.domain, domain)]
    if any(each.result == "pass" for each in ours):
        return passed("received.dkim", told)
    if not ours and any(each.result == "pass" for each in signed):
        seen = f"{told}: of {domain or 'our domain'} there is no signature, only somebody else's"
        advice = "Run `todoku check dkim`: Oracle signs for the domain once its key is active"
        return failed("received.dkim", seen, advice)
    return failed("received.dkim", told, _dkim_advice(ours or signed))


def _told(each: Result) -> str:
    said = f" ({each.comment[:60]})" if each.comment and each.result != "pass" else ""
    return f"dkim={each.result}{said} for {each.domain or 'an unnamed domain'}"


def _dkim_advice(signed: list[Result]) -> str:
    """By what the receiver says in its comment: the words of Gmail, Yahoo and Microsoft."""
    said = " ".join(each.comment.lower() for each in signed)
    if "body hash" in said or "body has been altered" in said:
        return (
            "Something changed the text after it was signed: send to another provider as well; if it passes there, it "
            "was a filter or a mailing list on the way"
        )
    if "no key" in said or "key query" in said or any(each.result == "temperror" for each in signed):
        return "Run `todoku check dkim` and `todoku check dns`: the receiver did not find the key's record"
    if "expired" in said:
        return "Look at the clock (`todoku check host`) and at how long it took: the signature had expired"
    return "Run `todoku check dkim`; a filter or a mailing list on the way may have changed the message"


def _dmarc(found: list[Result], domain: str) -> Finding:
    said = found[0].result if found else ""
    about = found[0].domain if found and found[0].domain else domain
    if said in ("pass", "bestguesspass"):
        return passed("received.dmarc", f"dmarc={said} for {about}")
    if said in ("", "none"):
        seen = f"dmarc=none for {about}" if said else "the receiver says nothing about DMARC"
        advice = f"Run `todoku check dmarc`: the receiver seems to have found no record for {about or 'the domain'}"
    elif said in ("temperror", "permerror"):
        seen = f"dmarc={said} for {about}"
        advice = "Run `todoku check dmarc` and `todoku check dns`: the receiver could not read the record"
    else:
        seen = f"dmarc={said} for {about}"
        advice = "Put right what failed above: SPF or DKIM has to pass for the very domain in From"
    return failed("received.dmarc", seen, advice)


def _aligned(signed: str, author_domain: str) -> bool:
    """The same, or one below the other: what relaxed alignment comes to within one organisation."""
    return bool(signed and author_domain) and (
        signed == author_domain
        or signed.endswith(f".{author_domain}")
        or author_domain.endswith(f".{signed}")
    )


def _way(message: Message) -> Iterator[Finding]:
    hops = message.all("Received")
    if not hops:
        seen = "there is no Received header"
        yield unknown("received.relay", seen, "Paste the whole source of the message, from its first line on")
        return
    if any(mark in hop.lower() for hop in hops for mark in _RELAY):
        yield passed("received.relay", "it came through Oracle's relay")
    else:
        seen = "no Received header names Oracle's relay"
        yield failed("received.relay", seen, "Look at relayhost in main.cf, and run `todoku plan`")
    last = next((hop for hop in hops if any(mark in hop.lower() for mark in _RELAY)), hops[0])
    if _WITHIN_TLS.search(last):
        yield passed("received.tls", "the last stretch was within TLS")
    else:
        seen = "the last stretch was not within TLS, as far as Received tells"
        yield warned(
            "received.tls", seen, "That stretch is Oracle's: open a service request, with this message"
        )
    yield from _delay(hops)


def _delay(hops: list[str]) -> Iterator[Finding]:
    times = [time for hop in hops if (time := _time(hop)) is not None]
    if len(times) < 2:
        return
    took = max(times) - min(times)
    if took > _LONG:
        seen = f"it took {int(took.total_seconds() // 60)} minutes"
        yield warned(
            "received.delay", seen, "Look at `todoku check host` for what waited here; see Received for where"
        )
    else:
        yield passed("received.delay", f"it took {int(took.total_seconds())} s")


def _time(hop: str) -> datetime | None:
    try:
        time = parsedate_to_datetime(hop.rpartition(";")[2].strip())
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return None


def _folder(folder: str) -> Finding:
    if folder.upper() == "INBOX":
        return passed("received.folder", "it is in the INBOX")
    seen = f"it was put into {folder}"
    advice = "Mark it as no spam; look at what failed above, and at `todoku check message` for its content"
    return failed("received.folder", seen, advice)


def _spam(message: Message) -> Iterator[Finding]:
    """What filters wrote: Microsoft's, Yahoo's, SpamAssassin's and rspamd's headers."""
    for seen in _spam_marks(message):
        advice = "Put right what failed above, then see `todoku check message` for its content"
        yield failed("received.folder", seen, advice)


def _spam_marks(message: Message) -> Iterator[str]:
    level = re.search(
        r"\bSCL:\s{0,3}(-?\d{1,2})", message.first("X-Forefront-Antispam-Report") or "", re.IGNORECASE
    )
    number = level[1] if level else (message.first("X-MS-Exchange-Organization-SCL") or "").strip()
    if re.fullmatch(r"\d{1,2}", number) and int(number) >= 5:
        yield f"Microsoft takes it for spam (SCL {number})"
    elif re.search(
        r"\bdest:J\b", message.first("X-Microsoft-Antispam-Mailbox-Delivery") or "", re.IGNORECASE
    ):
        yield "Outlook has put it into the folder for junk (dest:J)"
    if message.first("X-YahooFilteredBulk") is not None:
        yield "Yahoo has put it among the spam (X-YahooFilteredBulk)"
    flag = message.first("X-Spam-Flag") or message.first("X-Spam-Status") or message.first("X-Spam") or ""
    if flag.strip().lower().startswith("yes"):
        yield f"the receiver's filter takes it for spam: {flag[:80]}"
