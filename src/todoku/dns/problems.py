"""What can be wrong with records, as exceptions: one for each thing that somebody can act on."""

from __future__ import annotations


class RecordProblem(Exception):
    """What is published, or what the settings want, makes no working record. The message says what to do."""


class SpfProblem(RecordProblem):
    """The SPF record that is published cannot be understood, or the relay cannot be added to it."""


class DmarcProblem(RecordProblem):
    """The DMARC record that is published cannot be understood or added to."""


class NotKnownByOracle(RecordProblem):
    """Oracle has not published what would be needed, and nothing is guessed."""
