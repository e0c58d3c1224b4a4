"""Mail addresses as people type them, into the one form in which they are kept, or refused with the reason.

The domain becomes lower-case A-labels (RFC 5890). Local parts of our own are lower case and of the letters
that Postfix maps, Dovecot's login names, file names and mail programs all agree on; those of others keep
their case (RFC 5321 2.4) and may be any dot-atom. Sizes are those of RFC 5321 4.5.3.1.
"""

from __future__ import annotations

import re
import unicodedata

import idna
from pydantic_core import PydanticCustomError

from todoku.directory.errors import AddressRefusedError, UnknownDomainError
from todoku.settings import Settings
from todoku.settings.values import domain_name

LONGEST_LOCAL_PART = 64  # octets
LONGEST_ADDRESS = 254  # octets: 256 with the angle brackets

_OWN = re.compile(r"[a-z0-9._-]+")
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+")  # RFC 5322 3.2.3


def own(text: str, settings: Settings) -> str:
    """An address in one of the domains of the settings, normalised. Raises `DirectoryError`."""
    address = anywhere(text, settings)
    _refuse_other_domain(text, address.rpartition("@")[2], settings)
    return address


def own_sender(text: str, settings: Settings) -> str:
    """Like `own`; or "@domain", which stands for every address of one of our domains. Raises `DirectoryError`."""
    if not text.startswith("@"):
        return own(text, settings)
    sender = sender_anywhere(text, settings)
    _refuse_other_domain(text, sender[1:], settings)
    return sender


def sender_anywhere(text: str, settings: Settings) -> str:
    """Like `anywhere`; or "@domain". Raises `AddressRefusedError`."""
    return f"@{_domain(text, text[1:])}" if text.startswith("@") else anywhere(text, settings)


def anywhere(text: str, settings: Settings) -> str:
    """An address here or elsewhere, normalised. Raises `AddressRefusedError`."""
    local, domain = _split(text, settings)
    _refuse_local_part(text, local)
    name = _domain(text, domain)
    if name in settings.own_domains:
        local = local.lower()
        _refuse_own_local_part(text, local)
    address = f"{local}@{name}"
    if len(address) > LONGEST_ADDRESS:
        raise AddressRefusedError(
            f"{text[:60]}...: has {len(address)} octets, and an address can have {LONGEST_ADDRESS} "
            "(RFC 5321 4.5.3.1): write a shorter one"
        )
    return address


def shown_sender(sender: str) -> str:
    """What somebody may send as, in words."""
    return f"any address of {shown_domain(sender[1:])}" if sender.startswith("@") else shown(sender)


def shown(address: str) -> str:
    """`address` as it is kept, followed by the readable form when its domain is an internationalised one."""
    other = readable(address)
    return address if other == address else f"{address} ({other})"


def readable(address: str) -> str:
    """`address` with its domain in the script that people read."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{_readable(domain)}"


def shown_domain(name: str) -> str:
    """`name` (A-labels), followed by the readable form when it differs."""
    other = _readable(name)
    return name if other == name else f"{name} ({other})"


def _readable(domain: str) -> str:
    try:
        return idna.decode(domain)
    except UnicodeError:
        return domain


def _refuse_other_domain(text: str, domain: str, settings: Settings) -> None:
    if domain in settings.own_domains:
        return
    known = ", ".join(shown_domain(each.name) for each in settings.domains)
    raise UnknownDomainError(
        f"{text}: the domain {shown_domain(domain)} is not in the settings, which have {known}: write an "
        "address in one of these, or add [[domains]] to the settings and run `todoku apply`"
    )


def _split(text: str, settings: Settings) -> tuple[str, str]:
    if any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs") for character in text):
        raise AddressRefusedError(f"{text!r}: holds control characters: type the address by hand")
    local, at, domain = text.rpartition("@")
    if not at or not domain:
        name = text.strip("@ ") or "alice"
        example = f"{name}@{settings.domains[0].name}"
        raise AddressRefusedError(f"{text}: is not a whole mail address: write for example {example}")
    return local, domain


def _refuse_local_part(text: str, local: str) -> None:
    """What is wrong with the part before the @, wherever the address is."""
    if '"' in local or "\\" in local:
        reason = "quoted local parts are refused, since few programs handle them: write it without quotes"
    elif "@" in local or any(character.isspace() for character in local):
        reason = "has a blank or a second @ in it: write one address, as alice@hoge.example"
    elif not local.isascii():
        reason = (
            "has other than ASCII letters before the @. The relay does not have SMTPUTF8 (RFC 6531), so "
            "such an address could not send and often not receive: write it in ASCII letters (the domain "
            "may be of any script)"
        )
    elif local == "" or local.startswith(".") or local.endswith(".") or ".." in local:
        reason = "the part before the @ is empty, or a dot begins, ends or doubles in it: leave it out"
    elif len(local) > LONGEST_LOCAL_PART:
        reason = (
            f"has {len(local)} octets before the @, and {LONGEST_LOCAL_PART} are possible (RFC 5321 "
            "4.5.3.1): write a shorter one"
        )
    elif local.startswith("-"):
        reason = "begins with a dash, which programs take for an option: write it without"
    elif not _DOT_ATOM.fullmatch(local):
        wrong = "".join(sorted(set(_DOT_ATOM.sub("", local))))
        reason = f"has {wrong} before the @, which addresses cannot have: write it without"
    else:
        return
    raise AddressRefusedError(f"{text}: {reason}")


def _refuse_own_local_part(text: str, local: str) -> None:
    """What else is not possible in an address of our own."""
    if "+" in local:
        raise AddressRefusedError(
            f"{text}: the plus sign is kept for tags (alice+shop@... is alice's): write the part before it, "
            f"{local.partition('+')[0] or 'alice'}@..."
        )
    if not _OWN.fullmatch(local):
        wrong = " ".join(sorted(set(_OWN.sub("", local))))
        raise AddressRefusedError(
            f"{text}: has {wrong} before the @. Addresses here have ASCII letters, digits and . _ - only, "
            "because they are login names and folder names as well: write it with these"
        )


def _domain(text: str, domain: str) -> str:
    try:
        return domain_name(domain)
    except PydanticCustomError as error:
        fix = (error.context or {}).get("fix", "correct the domain")
        raise AddressRefusedError(f"{text}: the domain {error.message()}: {fix}") from None
