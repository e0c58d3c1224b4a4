"""The source of a message as people have it at hand: saved from a mail program, or copied out of a window.

What stands above the first line that a receiver wrote (Gmail's table on "show original", empty lines) is left out, an
indentation or quotation is taken away, and lines that lost the space that continues a header field get it back.
"""

from __future__ import annotations

import codecs
import re

# Every receiver writes its own above everything else.
_FIRST = re.compile(
    r"^([>| \t]{0,8})(?:Delivered-To|Received|X-Received|Return-Path|X-Apparently-To|X-Originating-IP|Received-SPF|"
    r"X-YMailISG|X-YMailAVSC|Authentication-Results|ARC-Seal|X-Google-Smtp-Source|X-Original-To|Envelope-To|"
    r"X-MS-Exchange-[A-Za-z-]{1,60}|X-Microsoft-Antispam[A-Za-z-]{0,40}):",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,70}:(?:\s|$)")
_LINE = re.compile(r"\r\n|\n|\r")
_MOST_LOOKED_AT = 64 * 1024  # characters in which the head has to begin


def source(raw: bytes) -> bytes:
    """The message in `raw`; `raw` itself where nothing in it looks like what a receiver writes."""
    text = _decoded(raw)
    found = _FIRST.search(text[:_MOST_LOOKED_AT])
    if found is None:
        return raw
    lines = _LINE.split(text[found.start() :])
    if before := found[1]:
        lines = [
            line.removeprefix(before) if line.startswith(before) else line.lstrip(" \t>|") for line in lines
        ]
    else:
        lines = [*_fields_above(text[: found.start()]), *lines]
    end = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    head = [line if line[:1] in " \t" or _FIELD.match(line) else f" {line}" for line in lines[:end]]
    return "\r\n".join([*head, *lines[end:], ""]).encode("utf-8", "surrogateescape")


def _fields_above(text: str) -> list[str]:
    """The header fields that stand right above: whatever filter comes last writes its own on top."""
    lines = _LINE.split(text)[:-1]
    begin = len(lines)
    while begin and (_FIELD.match(lines[begin - 1]) or lines[begin - 1][:1] in (" ", "\t")):
        begin -= 1
    return lines[begin:]


def _decoded(raw: bytes) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # Notepad's "Unicode"
        return raw.decode("utf-16", "replace")
    return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
