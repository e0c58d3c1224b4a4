"""Bulk mail, as types: in whose name, at what pace, and where people unsubscribe."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field

from todoku.settings import ports
from todoku.settings.base import Frozen
from todoku.settings.database import ABOUT_DATABASE, ABOUT_ITS_FILE, PasswordFile, PostgresqlUrl
from todoku.settings.problems import wrong
from todoku.settings.values import Count, MailAddress, kind

_QUIET = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def _https_url(value: Any) -> str:
    example = "https://news.hoge.example"
    if not isinstance(value, str):
        raise wrong(f"is {kind(value)}", f'write it as "{example}"')
    parts = urlsplit(value.rstrip("/"))
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or not value.isascii():
        raise wrong(
            f"is {kind(value)}, which is no https address without a query", f'write it as "{example}"'
        )
    return parts.geturl()


def _name(value: Any) -> str:
    # It becomes a header: a line break would begin another one.
    if not isinstance(value, str) or not value.strip() or len(value) > 60 or not value.isprintable():
        raise wrong(f"is {kind(value)}, not a name of at most 60 characters", 'write it as "Hoge"')
    return value


def _quiet_hours(value: Any) -> str:
    if not isinstance(value, str) or not _QUIET.fullmatch(value):
        raise wrong(f"is {kind(value)}, not two times of a day", 'write it as "21:00-08:00"')
    return value


def _time_zone(value: Any) -> str:
    try:
        return str(ZoneInfo(str(value)).key)
    except (ValueError, OSError, KeyError) as error:
        raise wrong(
            f"is {kind(value)}, and there is no time zone of that name", 'write "Asia/Tokyo"'
        ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 5000:
        raise wrong(
            f"is {kind(value)}, not a text of at most 5,000 characters", "write what people should know"
        )
    return value.strip()


PrivacyText = Annotated[str, BeforeValidator(_text)]


class Campaign(Frozen):
    """Bulk mail: newsletters and notices to people who agreed to them."""

    sender: MailAddress = Field(
        description="The From address of all bulk mail, within one of the domains. Answers go there, so somebody "
        "should read them.",
        examples=["news@hoge.example"],
    )
    sender_name: Annotated[str, BeforeValidator(_name)] = Field(
        description="The name beside it: that of the organisation, without anything else.", examples=["Hoge"]
    )
    return_address: MailAddress | None = Field(
        None,
        description="What bounces to this server comes to it, with a mark after a + that says which message it was. "
        "bounces@ in the domain of sender unless you say otherwise, which every domain has.",
        examples=["bounces@hoge.example"],
    )
    url: Annotated[str, BeforeValidator(_https_url)] = Field(
        description="Where the world finds the pages on which people subscribe and unsubscribe: https only.",
        examples=["https://news.hoge.example"],
    )
    pages_port: Annotated[int, Field(ge=1024, le=65535)] = Field(
        ports.PAGES,
        description="Where on this machine (127.0.0.1, plain HTTP) the pages are served: your web server passes url "
        "on to it.",
        examples=[ports.PAGES],
    )
    connections: Annotated[int, Field(ge=1, le=50)] = Field(
        5,
        description="How many connections to the relay are kept open while a campaign is sent.",
        examples=[5],
    )
    per_second: Count = Field(
        10,
        description="How many messages are sent in a second at most. The relay's plan (relay.plan), less what "
        "gate.reserved_share leaves to personal mail, is kept to in any case.",
        examples=[10],
    )
    per_hour: Count | None = Field(
        None,
        description="How many in an hour at most. No such limit unless you say otherwise.",
        examples=[1000],
    )
    per_domain_per_minute: Count | None = Field(
        None,
        description="How many in a minute at most to addresses of one domain. No such limit unless you say otherwise.",
        examples=[100],
    )
    warm_up: Count | None = Field(
        None,
        description="For a domain that has sent no bulk mail yet: how many on the first day, and half as many again on "
        "each later day on which something is sent. No such limit unless you say otherwise.",
        examples=[50],
    )
    quiet_hours: Annotated[str, BeforeValidator(_quiet_hours)] | None = Field(
        None, description="When nothing is sent, as HH:MM-HH:MM.", examples=["21:00-08:00"]
    )
    time_zone: Annotated[str, BeforeValidator(_time_zone)] = Field(
        "UTC", description="Of the quiet hours, and of times that are typed.", examples=["Asia/Tokyo"]
    )
    unconfirmed_days: Count = Field(
        30,
        description="After how many days a request to be on a list that nobody confirmed is removed, and with it all "
        "that is kept of somebody who is on no other list.",
        examples=[30],
    )
    count_opens: bool = Field(
        False,
        description="Whether campaigns may count who opens a message, by a picture in it. The privacy text has to say "
        "so.",
        examples=[False],
    )
    count_clicks: bool = Field(
        False,
        description="Whether campaigns may count who clicks on which link, over url. The privacy text has to say so.",
        examples=[False],
    )
    privacy_ja: PrivacyText | None = Field(
        None,
        description="What people should know of what is kept of them, in Japanese: on all pages, and part of what they "
        "agree to. With count_opens it has to have the word 開封 in it, with count_clicks クリック.",
        examples=["配信の改善のため、開封とクリックを記録します。配信の設定で止められます。"],
    )
    privacy_en: PrivacyText | None = Field(
        None,
        description='The same in English: with count_opens it has to have the word "open" in it, with count_clicks '
        '"click".',
        examples=["We count opens and clicks to write better. You can switch that off in your preferences."],
    )
    database: PostgresqlUrl | None = Field(
        None,
        description="The PostgreSQL database that lists and campaigns are kept in; several machines can share it. "
        f"{ABOUT_DATABASE}",
        examples=["postgresql:///campaign"],
    )
    database_password_file: PasswordFile | None = Field(
        None, description=ABOUT_ITS_FILE, examples=["/etc/todoku/secrets/campaign-database"]
    )

    @property
    def envelope_sender(self) -> str:
        """Without a mark."""
        return self.return_address or f"bounces@{self.sender.rpartition('@')[2]}"

    def privacy(self, language: str) -> str:
        """What people should know, in that language where it is there; empty where nobody has written anything."""
        asked, other = self.privacy_ja, self.privacy_en
        if language != "ja":
            asked, other = other, asked
        return asked or other or ""
