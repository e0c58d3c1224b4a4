"""A milter with pymilter (libmilter) that reads the message and adds one header: a peer of the gate.

Run by the system's Python as a process of its own: pymilter is under the GPL, and nothing of Todoku imports it.
"""

import sys

import Milter  # type: ignore[import-not-found]


class AddOne(Milter.Base):
    def header(self, _name, _value):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def body(self, _chunk):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def eom(self):  # type: ignore[no-untyped-def]
        self.addheader("X-Bench", "seen")
        return Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = AddOne
    Milter.set_flags(Milter.ADDHDRS)
    Milter.runmilter("bench", sys.argv[1], 30)
