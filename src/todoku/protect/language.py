"""In which language a message is answered: Japanese where it is written in it, English otherwise."""

from __future__ import annotations

import re
from typing import Literal

from todoku.protect import attachments
from todoku.protect.mime import Octets, Part

Language = Literal["ja", "en"]

_KANA = re.compile(r"[぀-ヿㇰ-ㇿｦ-ﾟ]")
_HAN = re.compile(r"[一-鿿]")
_CHARSETS = ("iso-2022-jp", "shift_jis", "euc-jp", "cp932", "windows-31j", "x-sjis")
_LOOKED_AT = 64 * 1024  # bytes of a text


def of(subject: str, message: Part, body: Octets) -> Language:
    """By kana in the subject or in a text of the message, or by a charset that only Japanese use."""
    if _KANA.search(subject):
        return "ja"
    for part in message.walk():
        if not part.type.startswith("text/") or attachments.is_attachment(part):
            continue
        charset = _charset(part)
        if charset.startswith(_CHARSETS):
            return "ja"
        text = next(attachments.content(part, body), b"")[:_LOOKED_AT]
        try:
            found = text.decode(charset, "ignore")
        except LookupError:
            found = text.decode("utf-8", "ignore")
        if _KANA.search(found):
            return "ja"
    return "en" if not _HAN.search(subject) else "ja"


def _charset(part: Part) -> str:
    try:
        return (part.headers.get_content_charset() or "utf-8").lower()
    except (LookupError, ValueError, TypeError, AttributeError, IndexError):
        return "utf-8"
