"""Headers that tell which program wrote a message, and from where: left out of what leaves (`gate.hide_client`)."""

from __future__ import annotations

TELLING = (
    "User-Agent",
    "X-Mailer",
    "X-MimeOLE",
    "X-Newsreader",
    "X-Originating-IP",
    "X-Originating-Client",
    "X-Originating-Email",
    "X-Source-IP",
    "X-Client-IP",
    "X-Remote-IP",
    "X-Sender-IP",
    "X-Forwarded-For",
    "X-PHP-Originating-Script",
    "X-PHP-Script",
)
