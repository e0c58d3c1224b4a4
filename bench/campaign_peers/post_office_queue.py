"""django-post_office in the benchmark "campaign": its queue in SQLite, its templates rendered at delivery, its
`send_queued_mail_until_done`, with a log row for each message as it comes.

`python post_office_queue.py prepare FOLDER COUNT`; `... send FOLDER PORT PROCESSES THREADS`. Run with its own packages.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench import campaign_letter as letter


def main() -> None:
    what, folder, numbers = sys.argv[1], Path(sys.argv[2]), [int(each) for each in sys.argv[3:]]
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "post_office"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": folder / "post_office.sqlite3",
                # As its documentation advises for several writers (Django, "Databases", SQLite notes).
                "OPTIONS": {
                    "timeout": 60,
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
                },
            }
        },
        TEMPLATES=[
            {
                "BACKEND": "post_office.template.backends.post_office.PostOfficeTemplates",
                "NAME": "post_office",
                "APP_DIRS": True,
                "OPTIONS": {},
            },
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
        ],
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=numbers[0],
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
        POST_OFFICE={
            "BATCH_SIZE": 1000,
            "THREADS_PER_PROCESS": numbers[2] if what == "send" else 1,
            "BATCH_DELIVERY_TIMEOUT": 600,
        },
        USE_TZ=True,
        LOGGING_CONFIG=None,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    logging.disable(logging.INFO)
    django.setup()
    print(json.dumps(prepare(numbers[0]) if what == "prepare" else send(folder, numbers[1])))


def prepare(count: int) -> dict[str, float]:
    from django.core.management import call_command
    from post_office import mail
    from post_office.models import EmailTemplate

    call_command("migrate", verbosity=0)
    template = EmailTemplate.objects.create(
        name="spring", subject=letter.SUBJECT, content=letter.TEXT, html_content=letter.HTML
    )
    begun = time.monotonic()
    for begin in range(0, count, 5000):
        mail.send_many(
            [
                {
                    "recipients": [letter.address(each)],
                    "sender": letter.SENDER,
                    "template": template,
                    "context": {
                        "first_name": letter.first_name(each),
                        "unsubscribe": letter.unsubscribe(each),
                    },
                    "headers": letter.headers(each),
                    "render_on_delivery": True,
                    "priority": "medium",
                }
                for each in range(begin, min(count, begin + 5000))
            ]
        )
    return {"created": time.monotonic() - begun}


def send(folder: Path, processes: int) -> dict[str, float]:
    from post_office.mail import send_queued_mail_until_done
    from post_office.models import STATUS, Email

    begun, used = time.monotonic(), sum(os.times()[:4])
    send_queued_mail_until_done(str(folder / "lock"), processes=processes)
    seconds, used = time.monotonic() - begun, sum(os.times()[:4]) - used
    own, each = (
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    memory = (own + (each * processes if processes > 1 else 0)) * 1024
    sent = Email.objects.filter(status=STATUS.sent).count()
    return {"seconds": seconds, "cpu": used, "memory": memory, "recorded": sent}


if __name__ == "__main__":
    main()
