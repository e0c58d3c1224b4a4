"""The rules in the order in which they are asked: the one place where order and precedence are written down.

Within a stage the first refusal or hold-back ends the matter, changes add up, and each rule sees what those before
it changed. One module per rule.
"""

from __future__ import annotations

from todoku.gate.rule import Placed

ORDER: tuple[Placed, ...] = ()
