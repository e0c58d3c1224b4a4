"""The TCP ports on which services of ours listen for this machine alone: in one place, so that no two are the same.

Not here: 25, 465, 587 and 993, and the page for attachments (`protect.page_port`), which are for others.
"""

from __future__ import annotations

LOOPBACK = "127.0.0.1"

FORWARD = 10027  # Postfix: what the gate passes on in our name, and this machine's own mail (master.cf)
ALARM = (
    10028  # Postfix: what the agent tells the postmaster, to nobody else and not through the gate (master.cf)
)
GUESSING = 10029  # the agent: Dovecot asks it who may try a password
METRICS = 9587  # the agent: figures, unless `metrics.port` says otherwise
PAGES = 8025  # the pages of bulk mail, unless `campaign.pages_port` says otherwise
