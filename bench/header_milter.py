"""A milter with pymilter (libmilter) that reads the message and adds one header: a peer of the gate.

With "floor" as a second argument it wants to hear of nothing and does nothing: libmilter, in C, agrees with Postfix
that no step is sent, and answers the end of the message. No milter that is asked about each message costs it less.

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


class Nothing(Milter.Base):
    """Without callbacks, none of which is then asked for (SMFIP_NO*)."""


if __name__ == "__main__":
    Milter.factory = Nothing if sys.argv[2:] == ["floor"] else AddOne
    Milter.set_flags(Milter.ADDHDRS)
    Milter.runmilter("bench", sys.argv[1], 30)
