"""What a provider wrote into the head of a message that it received, explained: SPF, DKIM, DMARC, TLS, the way it took.

RFC 8601 (Authentication-Results), RFC 5321 4.4 and RFC 3848 (Received). Only the topmost Authentication-Results counts:
whoever receives a message last writes it there; what is below it may be anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from todoku.check.finding import Finding, by_urgency, failed, passed, unknown, warned
from todoku.check.message.parsing import Message, parse
from todoku.check.message.people import author

_RESULT = re.compile(r"\s{0,20}([a-z][a-z0-9-]{0,30})\s{0,5}=\s{0,5}([a-z]{1,20})\b", re.IGNORECASE)
_PROPERTY = re.compile(r"\b([a-z]{1,20}\.[a-z-]{1,20})\s{0,5}=\s{0,5}\"?([^\s\";]{1,300})", re.IGNORECASE)
_RELAY = ("oracleemaildelivery.com", "oraclevcn.com", "oracle communications messaging server")
_WITHIN_TLS = re.compile(
    r"\bwith\s{1,10}(?:utf8)?(?:e?smtps|esmtpsa|lmtps)\b|\bversion=tls|\bTLSv?1|\busing tls", re.IGNORECASE
)
_LONG = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Result:
    """One mechanism's result: "dkim", "pass", and what it was about ("header.d": "hoge.example")."""

    method: str
    result: str
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def domain(self) -> str:
        """The domain that the result is about."""
        for name in ("header.d", "header.i", "smtp.mailfrom", "smtp.helo", "header.from"):
            if value := self.properties.get(name):
                return value.rpartition("@")[2].lower()
        return ""


def results(value: str) -> list[Result]:
    """The results in an Authentication-Results field. Any text; never fails."""
    found = []
    for part in _without_comments(value).split(";")[:100]:
        if match := _RESULT.match(part):
            properties = {name.lower(): said for name, said in _PROPERTY.findall(part)}
            found.append(Result(match[1].lower(), match[2].lower(), properties))
    return found


def look(raw: bytes, folder: str = "") -> list[Finding]:
    """What the head of a received message says. `folder`: where it was found, if that is known."""
    message = parse(raw)
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
    yield _spf([each for each in found if each.method == "spf"])
    yield _dkim([each for each in found if each.method == "dkim"], domain)
    yield _dmarc([each for each in found if each.method == "dmarc"], domain)


def _spf(found: list[Result]) -> Finding:
    if not found:
        advice = "Look at `todoku check spf`; some receivers write it into Received-SPF only"
        return unknown("received.spf", "the receiver says nothing about SPF", advice)
    said = found[0]
    about = f" for {said.domain}" if said.domain else ""
    if said.result == "pass":
        return passed("received.spf", f"spf=pass{about}")
    advice = "Look at `todoku check spf` and `todoku check return-path`; mail that is forwarded always fails"
    return failed("received.spf", f"spf={said.result}{about}", advice)


def _dkim(found: list[Result], domain: str) -> Finding:
    told = ", ".join(f"dkim={each.result} for {each.domain or 'an unnamed domain'}" for each in found)
    if not found:
        return failed("received.dkim", "the receiver saw no DKIM signature", "Look at `todoku check dkim`")
    ours = [each for each in found if _aligned(each.domain, domain)]
    if any(each.result == "pass" for each in ours):
        return passed("received.dkim", told)
    if any(each.result == "pass" for each in found):
        seen = f"{told}: of {domain or 'our domain'} no signature passes, only somebody else's"
        advice = "Look at `todoku check dkim`: Oracle signs for the domain once its key is active"
        return failed("received.dkim", seen, advice)
    advice = "Look at `todoku check dkim`; a mailing list or a filter on the way may have changed the message"
    return failed("received.dkim", told, advice)


def _dmarc(found: list[Result], domain: str) -> Finding:
    if not found:
        seen = "the receiver says nothing about DMARC"
        return failed(
            "received.dmarc", seen, f"Look at `todoku check dmarc`: is there a record for {domain or 'it'}?"
        )
    said = found[0]
    if said.result in ("pass", "bestguesspass"):
        return passed("received.dmarc", f"dmarc={said.result} for {said.domain or domain}")
    advice = "Look at `todoku check dmarc`: SPF or DKIM has to pass for the very domain in From"
    return failed("received.dmarc", f"dmarc={said.result} for {said.domain or domain}", advice)


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
    """What filters wrote: Microsoft's spam confidence level, and SpamAssassin's and rspamd's headers."""
    level = re.search(
        r"\bSCL:\s{0,3}(-?\d{1,2})", message.first("X-Forefront-Antispam-Report") or "", re.IGNORECASE
    )
    number = level[1] if level else (message.first("X-MS-Exchange-Organization-SCL") or "").strip()
    advice = "Look at what failed above, and at `todoku check message` for its content"
    if re.fullmatch(r"\d{1,2}", number) and int(number) >= 5:
        yield failed("received.folder", f"Microsoft takes it for spam (SCL {number})", advice)
    flag = message.first("X-Spam-Flag") or message.first("X-Spam-Status") or message.first("X-Spam") or ""
    if flag.strip().lower().startswith("yes"):
        yield failed("received.folder", f"the receiver's filter takes it for spam: {flag[:80]}", advice)


def _without_comments(value: str) -> str:
    """RFC 5322 3.2.2: comments may be nested, and quoted strings may hold parentheses."""
    kept: list[str] = []
    depth, quoted, skip = 0, False, False
    for char in value:
        if skip:
            skip = False
            if not depth:
                kept.append(char)
        elif char == "\\":
            skip = True
        elif char == '"' and not depth:
            quoted = not quoted
            kept.append(char)
        elif char == "(" and not quoted:
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(char)
    return "".join(kept)
