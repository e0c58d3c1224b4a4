"""Mails of the page and of the quarantine: handed to Postfix on this machine, whose gate treats them like any other
mail of the host."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import TypeAlias

from todoku.protect.subject import one_line
from todoku.protect.wording import Letter
from todoku.settings import Settings, ports

SERVER = (ports.LOOPBACK, ports.FORWARD)
Send: TypeAlias = Callable[[str, Letter], None]


def sender(settings: Settings, server: tuple[str, int] = SERVER) -> Send:
    """Blocks while Postfix takes the letter. Raises OSError or smtplib.SMTPException."""

    def send(recipient: str, letter: Letter) -> None:
        domain = settings.host_sender.rpartition("@")[2]
        message = EmailMessage(policy=SMTP)
        message["From"] = f"Todoku <{settings.host_sender}>"
        message["To"] = f"<{recipient}>"
        message["Subject"] = one_line(letter.subject)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=domain)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text, charset="utf-8", cte="base64")
        with smtplib.SMTP(*server, local_hostname="localhost", timeout=40) as smtp:
            smtp.sendmail(f"bounces@{domain}", [recipient], message.as_bytes())

    return send
