"""The rules in the order in which they are asked: the one place where order and precedence are written down.

Within a stage the first refusal or hold-back ends the matter, changes add up, and each rule sees what those before
it changed. One module per rule.

Outbound: first what makes a message unreadable to all others (its size, its characters, headers given twice), so
that those which follow need not allow for it; then who it is from, here and at the relay; then what is added and
what is removed. At the end, when the body is known, its size.

Then, in both directions, malware: after what is judged faster, and before anything is counted or passed on. What has
to be held is held then, so that it goes nowhere else. What is sent is counted last of all, so that no message that is
refused uses up anything.
"""

from __future__ import annotations

from todoku.gate.rule import Placed, Stage
from todoku.gate.rules.approved import approved
from todoku.gate.rules.authentication import evaluated, remove_forged
from todoku.gate.rules.bulk_return import bulk_returned
from todoku.gate.rules.complete import complete
from todoku.gate.rules.eight_bit import eight_bit
from todoku.gate.rules.forwarding import forwarded
from todoku.gate.rules.header_size import header_size
from todoku.gate.rules.hide_client import hide_client
from todoku.gate.rules.locked_zip import incoming_zip
from todoku.gate.rules.malware import malware
from todoku.gate.rules.null_sender import made_approvable
from todoku.gate.rules.protection import planned, protection
from todoku.gate.rules.quarantine import quarantine, released
from todoku.gate.rules.return_address import returned
from todoku.gate.rules.sender_belongs import sender_belongs
from todoku.gate.rules.single import single
from todoku.gate.rules.size import size
from todoku.gate.rules.spending import spending
from todoku.gate.rules.suppressed import all_suppressed, any_suppressed, suppressed

OUTBOUND: tuple[Placed, ...] = (
    Placed(Stage.RCPT, "suppressed", suppressed, needed=any_suppressed),
    Placed(Stage.HEADERS, "suppressed", all_suppressed),
    Placed(Stage.HEADERS, "null_sender", made_approvable),
    Placed(Stage.HEADERS, "header_size", header_size),
    Placed(Stage.HEADERS, "eight_bit", eight_bit),
    Placed(Stage.HEADERS, "single", single),
    Placed(Stage.HEADERS, "sender_belongs", sender_belongs),
    Placed(Stage.HEADERS, "approved", approved),
    Placed(Stage.HEADERS, "complete", complete),
    Placed(Stage.HEADERS, "hide_client", hide_client),
    Placed(Stage.BODY, "protection.planned", planned),
    Placed(Stage.BODY, "size", size),
)

INBOUND: tuple[Placed, ...] = (
    Placed(Stage.HEADERS, "authentication.remove_forged", remove_forged),
    Placed(Stage.BODY, "authentication", evaluated),
    Placed(Stage.BODY, "incoming_zip", incoming_zip),
)

BOTH: tuple[Placed, ...] = (Placed(Stage.BODY, "malware", malware),)

# These count, or make copies of the message for others: nothing may refuse a message after them.
LAST: tuple[Placed, ...] = (
    Placed(Stage.BODY, "quarantine", quarantine),
    Placed(Stage.BODY, "spending", spending),
    Placed(Stage.BODY, "bulk_return", bulk_returned),
    Placed(Stage.BODY, "return_address", returned),
    Placed(Stage.BODY, "forwarding", forwarded),
    Placed(Stage.BODY, "protection", protection),
    Placed(Stage.BODY, "quarantine.released", released),
)

ORDER: tuple[Placed, ...] = (*OUTBOUND, *INBOUND, *BOTH, *LAST)
