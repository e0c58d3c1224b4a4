"""The matrix of broken messages: each a small mutation of a message in order, with what the judge has to say of it."""

from __future__ import annotations

from datetime import UTC, datetime

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
LETTER = b"""\
From: Alice <alice@hoge.example>
To: carol@mailbox.example
Subject: =?utf-8?b?44GU5rOo5paH?=
Date: Tue, 24 Nov 2026 08:59:00 +0000
Message-ID: <20261124085900.1@hoge.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

\xe3\x81\x94\xe6\xb3\xa8\xe6\x96\x87
""".replace(b"\n", b"\r\n")
MAILING = b"""\
From: Hoge <news@hoge.example>
To: carol@mailbox.example
Subject: News in November
Date: Tue, 24 Nov 2026 08:59:00 +0000
Message-ID: <20261124085900.2@hoge.example>
List-ID: <news.hoge.example>
List-Unsubscribe: <mailto:leave@hoge.example>, <https://hoge.example/u/ab12>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
Feedback-ID: nov:news:hoge1
MIME-Version: 1.0
Content-Type: text/html; charset=utf-8

<p>News. <a href="https://hoge.example/u/ab12">Unsubscribe</a></p>
""".replace(b"\n", b"\r\n")


def without(name: bytes, raw: bytes = LETTER) -> bytes:
    return b"\r\n".join(
        line for line in raw.split(b"\r\n") if not line.lower().startswith(name.lower() + b":")
    )


def put(line: bytes, raw: bytes = LETTER) -> bytes:
    """With that header in the place of the one of its name, or added."""
    return line + b"\r\n" + without(line.partition(b":")[0], raw)


def signed(*changes: str, raw: bytes = LETTER) -> bytes:
    """With a signature in form, but for these tags; "x" takes the tag x= away."""
    tags = {
        "v": "1",
        "a": "rsa-sha256",
        "d": "hoge.example",
        "s": "s",
        "h": "From:To:Subject",
        "bh": "A" * 43 + "=",
    }
    for change in changes:
        name, equals, value = change.partition("=")
        tags.pop(name, None)
        if equals:
            tags[name] = value
    tags["b"] = "A" * 342 + "=="
    return b"DKIM-Signature: " + "; ".join(f"{k}={v}" for k, v in tags.items()).encode() + b"\r\n" + raw


# name -> the message, and the rules that fail, and those that warn
MUTATIONS: dict[str, tuple[bytes, set[str], set[str]]] = {
    "no From": (without(b"From"), {"message.from"}, set()),
    "two From": (b"From: bob@hoge.example\r\n" + LETTER, {"message.from", "message.single"}, set()),
    "two addresses in From": (put(b"From: alice@hoge.example, bob@hoge.example"), {"message.from"}, set()),
    "From without an address": (put(b"From: Alice"), {"message.from"}, set()),
    "From with a group": (put(b"From: us: alice@hoge.example;"), {"message.from"}, set()),
    "From with trailing junk": (put(b"From: <alice@hoge.example> x"), {"message.from"}, set()),
    "another address as a name": (
        put(b'From: "ceo@big.example" <alice@hoge.example>'), set(), {"message.display-name"},
    ),
    "emoji in the name": (put(b"From: =?utf-8?q?=F0=9F=8E=81?= <alice@hoge.example>"), set(), {"message.display-name"}),
    "the subject as a name": (
        put(b"From: News in November <news@hoge.example>", MAILING), set(), {"message.display-name"},
    ),
    "the recipient as a name": (
        put(b"To: Carol Doe <carol@mailbox.example>", put(b'From: "Carol Doe, your order" <alice@hoge.example>')),
        set(), {"message.display-name"},
    ),
    "the recipient's address as a name": (
        put(b'From: "carol@mailbox.example" <alice@hoge.example>'), set(), {"message.display-name"},
    ),
    "From in two scripts": (put(b"From: a@xn--aypal-uye.example"), {"message.script"}, set()),
    "From at Gmail": (put(b"From: alice@gmail.com"), {"message.freemail"}, set()),
    "From at GMAIL": (put(b"From: alice@GMAIL.com"), {"message.freemail"}, set()),
    "From without a dot": (put(b"From: root@mx"), {"message.from-domain"}, set()),
    "From at .local": (put(b"From: root@mx.local"), {"message.from-domain"}, set()),
    "nobody answers": (put(b"From: noreply@hoge.example"), set(), {"message.reply"}),
    "Reply-To nobody": (put(b"Reply-To: no-reply@hoge.example"), set(), {"message.reply"}),
    "Reply-To broken": (put(b"Reply-To: <<x"), set(), {"message.reply"}),
    "no Message-ID": (without(b"Message-ID"), {"message.message-id"}, set()),
    "Message-ID without brackets": (put(b"Message-ID: 1@hoge.example"), {"message.message-id"}, set()),
    "Message-ID without @": (put(b"Message-ID: <1>"), {"message.message-id"}, set()),
    "Message-ID with trailing junk": (put(b"Message-ID: <1@hoge.example> x"), {"message.message-id"}, set()),
    "no Date": (without(b"Date"), {"message.date"}, set()),
    "no such date": (put(b"Date: yesterday"), {"message.date"}, set()),
    "Date in the future": (put(b"Date: Tue, 24 Nov 2036 08:59:00 +0000"), {"message.date"}, set()),
    "Date of 1970": (put(b"Date: Thu, 01 Jan 1970 00:00:00 +0000"), {"message.date"}, set()),
    "Date of last month": (put(b"Date: Sat, 24 Oct 2026 08:59:00 +0000"), set(), {"message.date"}),
    "two Date": (b"Date: Tue, 24 Nov 2026 08:59:00 +0000\r\n" + LETTER, {"message.single"}, set()),
    "two To": (b"To: x@mailbox.example\r\n" + LETTER, {"message.single"}, set()),
    "two Subject": (b"Subject: x\r\n" + LETTER, {"message.single"}, set()),
    "two SUBJECT": (b"SUBJECT: x\r\n" + LETTER, {"message.single"}, set()),
    "two Content-Type": (b"Content-Type: text/plain\r\n" + LETTER, {"message.single"}, set()),
    "no Subject": (without(b"Subject"), set(), {"message.subject"}),
    "Re: without an answer": (put(b"Subject: Re: your order"), set(), {"message.subject"}),
    "raw bytes in a header": (put("Subject: ご注文".encode()), {"message.encoding"}, set()),
    "encoded word cut off": (put(b"Subject: =?utf-8?b?44G?="), {"message.encoding"}, set()),
    "encoded word in no charset": (put(b"Subject: =?utf-99?q?a?="), {"message.encoding"}, set()),
    "encoded word in Message-ID": (
        put(b"Message-ID: <=?utf-8?q?a?=@hoge.example>"), {"message.encoding"}, set(),
    ),
    "encoded word as an address": (
        put(b"Cc: =?utf-8?q?a?=@hoge.example"), {"message.encoding"}, set(),
    ),
    "a line that is no header": (LETTER.replace(b"To:", b"this is none\r\nTo:", 1), {"message.form"}, set()),
    "a space before the first header": (b" x\r\n" + LETTER, {"message.form"}, set()),
    "an mbox line": (b"From alice Tue Nov 24 08:59:00 2026\r\n" + LETTER, set(), {"message.form"}),
    "a NUL": (LETTER + b"\0", {"message.form"}, set()),
    "a bare CR": (LETTER + b"a\rb\r\n", {"message.form"}, set()),
    "bare LF beside CR LF": (LETTER + b"a\nb\r\n", set(), {"message.form"}),
    "a line of 1000": (LETTER + b"x" * 1000 + b"\r\n", {"message.form"}, set()),
    "8-bit text that says 7bit": (without(b"Content-Transfer-Encoding"), {"message.form"}, set()),
    "no such encoding": (put(b"Content-Transfer-Encoding: 9bit"), {"message.form"}, set()),
    "multipart without a boundary": (put(b"Content-Type: multipart/mixed"), {"message.form"}, set()),
    "a boundary that is nowhere": (put(b'Content-Type: multipart/mixed; boundary="b"'), {"message.form"}, set()),
    "no such type": (put(b"Content-Type: text"), {"message.form"}, set()),
    "headers beyond 256 KiB": (b"".join(b"X-%d: %s\r\n" % (n, b"x" * 900) for n in range(300)) + LETTER,
                               {"message.size"}, set()),
    "1001 headers": (b"X: y\r\n" * 1001 + LETTER, {"message.size"}, set()),
    "mailing without List-Unsubscribe": (without(b"List-Unsubscribe", MAILING), {"message.unsubscribe"}, set()),
    "mailto alone": (put(b"List-Unsubscribe: <mailto:leave@hoge.example>", MAILING), {"message.unsubscribe"}, set()),
    "http instead of https": (
        put(b"List-Unsubscribe: <http://hoge.example/u>", MAILING), {"message.unsubscribe"}, set(),
    ),
    "two https": (
        put(b"List-Unsubscribe: <https://hoge.example/u>, <https://hoge.example/v>", MAILING),
        {"message.unsubscribe"}, set(),
    ),
    "no brackets": (put(b"List-Unsubscribe: https://hoge.example/u", MAILING), {"message.unsubscribe"}, set()),
    "no Post": (without(b"List-Unsubscribe-Post", MAILING), {"message.unsubscribe"}, set()),
    "another Post": (put(b"List-Unsubscribe-Post: one-click", MAILING), {"message.unsubscribe"}, set()),
    "the signature does not cover it": (
        signed("h=From:Feedback-ID", raw=MAILING), {"message.unsubscribe"}, set(),
    ),
    "no link in the text": (MAILING.replace(b"Unsubscribe</a>", b"here</a>"), {"message.unsubscribe-link"}, set()),
    "Feedback-ID too short": (put(b"Feedback-ID: a:b:c", MAILING), set(), {"message.feedback-id"}),
    "hidden text": (
        MAILING.replace(b"<p>News.", b'<p>News. <span style="font-size:0px">' + b"cheap " * 100 + b"</span>"),
        set(), {"message.hidden"},
    ),
    "a link that deceives": (
        MAILING.replace(b"<p>News.", b'<p><a href="https://evil.example/">https://bank.example/login</a>'),
        set(), {"message.hidden"},
    ),
    "a key of 512 bits": (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=hoge.example; s=s; h=from; bh=AAAA; b="
        + b"A" * 84 + b"AA==\r\n" + LETTER,
        {"dkim.length"}, set(),
    ),
    "a key of 1024 bits": (
        b"DKIM-Signature: v=1; a=rsa-sha256; d=hoge.example; s=s; h=from; bh=AAAA; b=" + b"A" * 171 + b"=\r\n" + LETTER,
        set(), {"dkim.length"},
    ),
    "signed with SHA-1": (b"DKIM-Signature: v=1; a=rsa-sha1; d=hoge.example; s=s; h=from; bh=AAAA; b=AAAA\r\n" + LETTER,
                          {"dkim.length"}, set()),
    "signed for another version": (signed("v=2"), {"message.signature"}, set()),
    "a signature without a selector": (signed("s"), {"message.signature"}, set()),
    "a signature without the body": (signed("bh"), {"message.signature"}, set()),
    "a signature that does not cover From": (signed("h=To:Subject"), {"message.signature"}, set()),
    "a signature for somebody else": (signed("i=@other.example"), {"message.signature"}, set()),
    "a signature that has expired": (signed("t=1700000000", "x=1700604800"), {"message.signature"}, set()),
    "a signature from the future": (signed("t=2100000000"), {"message.signature"}, set()),
    "a signature that ends before it begins": (signed("t=1700604800", "x=1700000000"), {"message.signature"}, set()),
    "a signature without a value for d": (signed("d="), {"message.signature"}, set()),
    "a signature of no known kind": (signed("a=rsa-md5"), {"message.signature"}, set()),
    "a signature that is no base64": (signed("bh=!!!!"), {"message.signature"}, set()),
    "a signature with another canonicalisation": (signed("c=relaxed/nowsp"), {"message.signature"}, set()),
    "a signature whose key is not in the DNS": (signed("q=https"), {"message.signature"}, set()),
    "a signature of half a byte": (signed("l=ten"), {"message.signature"}, set()),
    "a signature of more than there is": (signed("l=1000000"), {"message.signature"}, set()),
    "a signature of a header without a name": (signed("h=From::Subject"), {"message.signature"}, set()),
    "a signature with no time in x": (signed("x=tomorrow"), {"message.signature"}, set()),
    "a signature with a tag twice": (
        signed().replace(b"; s=s;", b"; s=s; s=s;", 1), {"message.signature"}, set(),
    ),
    "a signature with junk in it": (signed().replace(b"; s=s;", b"; s=s; junk;", 1), {"message.signature"}, set()),
    "a signature of a part of the body": (signed("l=10"), set(), {"message.signature"}),
    "the receiver says that DMARC failed": (
        b"Authentication-Results: mx.mailbox.example; spf=pass; dkim=pass; dmarc=fail (p=none)\r\n" + LETTER,
        {"message.authentication"}, set(),
    ),
}  # fmt: skip
