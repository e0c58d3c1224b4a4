"""The answers that `todoku init` needs, and the settings that follow from them: pure functions of values.

In an answers file (toml) they are keys of the same names. `domain`, `hostname`, `region`, `dns` and `postmaster` are
the five questions; `addresses` and `compartment` are otherwise found out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from todoku.host.instance import Instance
from todoku.settings import values
from todoku.settings.problems import WrongValueError, wrong

DNS_FORMS = "manual, oci, `rfc2136 SERVER`, or a provider that dns-lexicon knows (cloudflare, ...)"


class AnswerError(Exception):
    """An answer cannot be used. The message says which, why, and what to write."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `why` is told before it is asked."""

    key: str
    ask: str
    why: str
    check: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Answers:
    """All that is needed for a settings file. `dns`: the publisher, and what it needs to know, in words."""

    domain: str
    hostname: str
    region: str
    dns: str
    postmaster: str
    addresses: tuple[str, ...] = ()
    compartment: str = ""
    on_instance: bool = False  # of Oracle's cloud
    instance: str = ""  # its OCID
    has_api_key: bool = False  # /root/.oci/config is there, and is used before the instance's own rights


def _dns(value: Any) -> str:
    words = str(value).split()
    if not isinstance(value, str) or not words:
        raise wrong("is empty", f"write {DNS_FORMS}")
    publisher, more = words[0].lower(), words[1:]
    if publisher == "rfc2136" and len(more) != 1:
        raise wrong(
            "does not name the name server", 'write it behind, by name or address: "rfc2136 192.0.2.53"'
        )
    if publisher == "oci" and more:
        return f"oci {values.ocid(more[0])}"
    if publisher not in ("oci", "rfc2136") and more:
        raise wrong(f"is more than one word ({value})", f"write {DNS_FORMS}")
    return " ".join([publisher, *more])


QUESTIONS = (
    Question("domain", "Your mail domain", "What comes after the @ in your addresses.", values.domain_name),
    Question(
        "hostname",
        "Name of this server",
        "Others deliver to it, and its address has to resolve back to it. Not the domain itself.",
        values.domain_name,
    ),
    Question(
        "region",
        "Region of Oracle's cloud",
        "Where your Email Delivery is, through which mail leaves; the nearest is best.",
        values.region_id,
    ),
    Question("dns", "Who has your DNS", f"Who publishes the domain's records: {DNS_FORMS}.", _dns),
    Question(
        "postmaster",
        "Who is postmaster",
        "An address within the domain, of a person: gets the mail to postmaster@ and abuse@, and notices.",
        values.mail_address,
    ),
)
_MORE = ("addresses", "compartment")


def checked(question: Question, value: Any) -> str:
    """The answer in its normal form. Raises AnswerError."""
    try:
        return question.check(value)
    except WrongValueError as fault:
        fix = (fault.context or {}).get("fix", "")
        raise AnswerError(f"{question.key}: {fault.message()}: {fix}") from None


def read(text: str) -> dict[str, Any]:
    """The answers in a file, of which some may be missing. Raises AnswerError."""
    try:
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"not valid TOML: {error}") from None
    known = {question.key: question for question in QUESTIONS}
    for key, value in given.items():
        if key in known:
            given[key] = checked(known[key], value)
        elif key == "addresses":
            listed = value if isinstance(value, list) else [value]
            given[key] = tuple(_checked(key, values.ip, each) for each in listed)
        elif key == "compartment":
            given[key] = _checked(key, values.ocid, value)
        else:
            raise AnswerError(f"{key}: is no question; there are {', '.join((*known, *_MORE))}")
    return given


def as_file(answers: Answers) -> str:
    """What was answered, as a file of answers, with an example for the address that is missing."""
    lines = [f'{question.key} = "{getattr(answers, question.key)}"' for question in QUESTIONS]
    return "\n".join([*lines, 'addresses = ["203.0.113.10"]'])


def _checked(key: str, check: Callable[[Any], Any], value: Any) -> str:
    try:
        return str(check(value))
    except WrongValueError as fault:
        raise AnswerError(f"{key}: {fault.message()}: {(fault.context or {}).get('fix', '')}") from None


def complete(given: Mapping[str, Any], instance: Instance | None, *, has_api_key: bool = False) -> Answers:
    """The answers, with what the instance knows of itself. Raises AnswerError for those that are missing."""
    missing = [question.key for question in QUESTIONS if not given.get(question.key)]
    if missing:
        raise AnswerError(f"nothing is said about {', '.join(missing)}")
    compartment = given.get("compartment") or (instance.compartment if instance else "")
    publisher, _, named = str(given["dns"]).partition(" ")
    if publisher == "oci":
        compartment = compartment or named
        if not compartment:
            raise AnswerError(
                "dns: with oci it has to be known in which compartment the zone is, and this machine is no "
                'instance that could tell: write it behind, "oci ocid1.compartment.oc1..aaaa..."'
            )
    return Answers(
        domain=given["domain"],
        hostname=given["hostname"],
        region=given["region"],
        dns=given["dns"],
        postmaster=given["postmaster"],
        addresses=tuple(given.get("addresses", ())),
        compartment=compartment,
        on_instance=instance is not None and bool(instance.compartment),
        instance=instance.id if instance is not None else "",
        has_api_key=has_api_key,
    )


def settings(answers: Answers) -> dict[str, Any]:
    """The settings that follow, by their dotted keys, for `settings.example`."""
    chosen: dict[str, Any] = {
        "hostname": answers.hostname,
        "addresses": list(answers.addresses),
        "postmaster": answers.postmaster,
        "domains.name": answers.domain,
        "relay.region": answers.region,
    }
    if answers.compartment:
        chosen["cloud.compartment"] = answers.compartment
        chosen["cloud.auth"] = (
            "instance_principal" if answers.on_instance and not answers.has_api_key else "config"
        )
        if answers.instance:
            chosen["cloud.instance"] = answers.instance
    publisher, _, named = answers.dns.partition(" ")
    if publisher in ("manual", "oci", "rfc2136"):
        chosen["dns.publisher"] = publisher
    else:
        chosen["dns.publisher"] = "lexicon"
        chosen["dns.provider"] = publisher
        chosen["dns.credential_file"] = "/etc/todoku/secrets/dns"
    if publisher == "oci" and named and named != answers.compartment:
        chosen["dns.compartment"] = named
    if publisher == "rfc2136":
        chosen |= {
            "dns.server": named,
            "dns.tsig_name": "todoku",
            "dns.tsig_secret_file": "/etc/todoku/secrets/tsig",
        }
    return chosen


def still_by_hand(answers: Answers) -> Iterator[str]:
    """What has to be done before `todoku plan`, in the imperative."""
    publisher = answers.dns.partition(" ")[0]
    if not answers.compartment:
        yield (
            "nothing is known of a compartment in Oracle's cloud, so [cloud] stands commented out: write your "
            "compartment there, or follow docs/by-hand.md"
        )
    elif answers.on_instance and not answers.has_api_key:
        yield (
            "give this instance the rights that docs/cloud.md lists: a dynamic group with it, and the policy for it"
        )
    elif not answers.has_api_key:
        yield "put an API key into /root/.oci/config: `oci setup config` makes one (docs/cloud.md)"
    if publisher == "rfc2136":
        yield "put the secret of the key `todoku` into /etc/todoku/secrets/tsig, mode 600 (docs/dns.md)"
    elif publisher not in ("manual", "oci"):
        yield f"put what {publisher} wants (auth_token=...) into /etc/todoku/secrets/dns, mode 600 (docs/dns.md)"
