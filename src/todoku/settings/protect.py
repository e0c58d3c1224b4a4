"""What becomes of attachments that leave, as types: `[protect]`, and one `[[protect.rules]]` for each exception."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from todoku.settings import values
from todoku.settings.base import Frozen
from todoku.settings.object_store import ObjectStore
from todoku.settings.problems import WrongValueError
from todoku.settings.values import Count, OneOrSeveral, Size

_EXTENSION = re.compile(r"[a-z0-9][a-z0-9_-]{0,15}")


def partner(value: Any) -> str:
    """An address, or a domain (with those below it)."""
    if isinstance(value, str) and "@" in value.strip().lstrip("@"):
        return values.mail_address(value).lower()
    return values.domain_name(value.strip().removeprefix("@") if isinstance(value, str) else value)


def _extension(value: Any) -> str:
    text = value.strip().lower().removeprefix(".") if isinstance(value, str) else ""
    if not _EXTENSION.fullmatch(text):
        raise WrongValueError(
            f"is {value!r}, not the ending of a file's name", 'write it without the dot, as in "xlsx"'
        )
    return text


Who = Annotated[str, BeforeValidator(partner)]
Extension = Annotated[str, BeforeValidator(_extension)]


class ProtectRule(Frozen):
    """An exception from `protect.default`: for some senders, some recipients, or both."""

    mode: Literal["link", "zip", "pass", "refuse", "exclude"] = Field(
        description="link (the recipient fetches them from a page of this host, with a code that is mailed), zip "
        "(an encrypted ZIP, AES-256; the sender gets the password), pass (the original), refuse (the message is not "
        "taken), or exclude (the original, whatever the sender's subject asks for).",
        examples=["zip"],
    )
    senders: Annotated[tuple[Who, ...], *OneOrSeveral] = Field(
        (),
        description="Whose mail it is for: addresses or domains of yours. Such rules are looked at first, in their "
        "order. Everybody's unless you say otherwise.",
        examples=[["alice@hoge.example"]],
    )
    recipients: Annotated[tuple[Who, ...], *OneOrSeveral] = Field(
        (),
        description="To whom: addresses, or domains with all those below them. Everybody outside unless you say "
        "otherwise.",
        examples=[["partner.example", "eve@firm.example"]],
    )
    types: Annotated[tuple[Extension, ...], *OneOrSeveral] = Field(
        (),
        description="Only where one of the attachments has a name that ends so.",
        examples=[["xlsx", "pdf"]],
    )
    larger_than: Size = Field(
        0, description="Only where the attachments are larger than this together.", examples=["1 MB"]
    )


class Protect(Frozen):
    """What becomes of attachments to recipients outside. Off unless you say otherwise; mail that stays inside, and what
    is signed or encrypted by its sender, is never touched."""

    on: bool = Field(False, description="Whether attachments are protected.", examples=[False])
    default: Literal["link", "zip", "pass", "refuse"] = Field(
        "link",
        description="What becomes of attachments that no rule below is about: link, zip, pass or refuse, as in the "
        "rules.",
        examples=["link"],
    )
    subject_words: bool = Field(
        True,
        description="Whether the sender may choose by a word in the subject, which is removed: #link, #zip, or "
        "#expire=3d for how many days a link is good. It changes nothing where refuse or exclude is decided.",
        examples=[True],
    )
    except_types: Annotated[tuple[Extension, ...], *OneOrSeveral] = Field(
        ("ics", "vcf"),
        description="Attachments with names that end so stay as they are.",
        examples=[["ics", "vcf"]],
    )
    days: Annotated[int, Field(ge=1, le=90)] = Field(
        7, description="For how many days a link is good; then the files are removed.", examples=[7]
    )
    downloads: Count = Field(20, description="How often each file can be fetched by one link.", examples=[20])
    page_port: Annotated[int, Field(ge=1, le=65535)] = Field(
        443,
        description="The port of the page (HTTPS, with the certificate of [tls]) at which recipients fetch files; the "
        "world has to reach it.",
        examples=[443],
    )
    zip_names: Literal["utf-8", "cp932"] = Field(
        "utf-8",
        description="How file names are written in ZIPs: utf-8, or cp932 for Japanese Windows before 8.",
        examples=["utf-8"],
    )
    zip_password_to: Literal["sender", "sender-and-recipient"] = Field(
        "sender",
        description="Who is told a ZIP's password: the sender alone, who passes it on by another way; or the recipient "
        "as well, by a second mail, which protects nobody: who can read the one mail reads the other.",
        examples=["sender"],
    )
    incoming_zip: Literal["pass", "mark", "quarantine", "refuse"] = Field(
        "pass",
        description="The other direction: what becomes of mail from outside with a password-protected ZIP, which no "
        "scanner can look into. pass, mark (in the subject, and by the header X-Todoku-Encrypted-ZIP), quarantine "
        "(held until its addressee gives the password on the page and ClamAV finds nothing in it; needs gate.malware) "
        "or refuse; whether protect.on or not.",
        examples=["pass"],
    )
    store: ObjectStore | None = Field(
        None, description="Where the encrypted files lie; on this host's disk without this table."
    )
    quarantine_days: Annotated[int, Field(ge=1, le=90)] = Field(
        14, description="For how many days such mail is held; then it is deleted.", examples=[14]
    )
    quarantine_size: Size = Field(
        1_000_000_000,
        description="How much is held at most; more is not taken for the time being (452).",
        examples=["1 GB"],
    )
    rules: tuple[ProtectRule, ...] = Field(
        (),
        description="Exceptions, one [[protect.rules]] for each. What decides: rules with senders, the first that "
        "fits; then, for each recipient: exclude for the address, a rule for the address, exclude for the domain, a "
        "rule for the domain, the same for the domains above it, a rule for everybody, and protect.default.",
    )

    @property
    def holds(self) -> bool:
        """Whether mail is held until its addressee has shown that it can be looked into."""
        return self.incoming_zip == "quarantine"

    @property
    def page(self) -> bool:
        """Whether there has to be a page."""
        return self.links or self.holds

    @property
    def links(self) -> bool:
        """Whether anybody may get a link."""
        asked = self.subject_words
        return self.on and (
            asked or self.default == "link" or any(rule.mode == "link" for rule in self.rules)
        )
