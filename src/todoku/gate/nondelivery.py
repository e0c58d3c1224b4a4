"""The notice that a part of a message could not be passed on (RFC 3464, in words only), where a refusal would be about
all of it: some of its recipients have got it already.

It goes to the envelope sender only, from bounces@, so that it is never bounced twice, and is one copy however often
the message is tried again.
"""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

from todoku.gate import passage, srs
from todoku.gate.message import MessageSoFar
from todoku.gate.reinjection import Copy
from todoku.settings import Settings


def notice(message: MessageSoFar, copy: Copy, words: str, settings: Settings, now: float) -> Copy:
    """Tells the sender of `message` that `copy` of it was not taken; `words` say why."""
    domain = settings.domains[0].name
    sender = srs.plain(domain)
    made = EmailMessage(policy=SMTP)
    made["From"] = f"Mail Delivery System <{sender}>"
    made["To"] = f"<{message.sender}>"
    made["Subject"] = "Undelivered mail: passed on in part only"
    made["Date"] = formatdate(now)
    made["Message-ID"] = make_msgid(domain=domain)
    made["Auto-Submitted"] = "auto-replied"
    made[passage.NAME] = passage.TOKEN
    subject = "".join(c for c in message.headers.first("Subject") or "" if c.isprintable() and c.isascii())
    made.set_content(
        f"This is the mail system at {settings.hostname}.\n\nYour message could not be delivered to all of those to "
        f"whom an address leads that you wrote to.\n\nSubject: {subject[:200]}\nWhy: {words}\n\nThe others get it.\n",
        charset="utf-8",
        cte="quoted-printable",
    )
    return Copy(b"notice " + copy.key, sender, (message.sender,), made.as_bytes())
