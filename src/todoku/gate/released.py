"""Of a held message that has passed the gate on its way to its recipient, the quarantine did not hear whether Postfix
took it (killed, one of the two): that is found out here, as the quarantine may ask nobody.

The quarantine leaves a note, "unsure"; the answer is the note "taken", or that the copy has not passed.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from todoku.gate.asked import Agent
from todoku.protect.held import Quarantine

log = logging.getLogger("todoku.gate")


def settle(quarantine: Quarantine, agent: Agent) -> None:
    """What is known of those that the quarantine is unsure of. OSError."""
    for note in sorted(quarantine.messages.glob("*/*.unsure")):
        held = quarantine.find(note.parent.name)
        if held is None or not note.stem.isdigit():
            continue
        number = int(note.stem)
        with suppress(FileNotFoundError):  # it was dropped meanwhile, or another worker was faster
            queue_id = held.passed(number)
            has = agent.has(queue_id)
            if has is None:
                continue
            if has:
                held.note(f"{number}.taken")
                held.is_sure(number)
            else:
                held.unmark(number)
            if queue_id:
                agent.forget(queue_id)
            log.info(
                "%s: its copy passed as %s, and Postfix %s", held.id, queue_id, "has it" if has else "has not"
            )
