"""A milter of libmilter (through pymilter) that decides as `gate_for_tests` does: the two have to answer the same.

/usr/bin/python3 libmilter_peer.py SOCKET

Run by the system's Python as a process of its own: pymilter is under the GPL, and nothing of Todoku imports it.
"""

import os
import sys

import Milter  # type: ignore[import-not-found]


class Peer(Milter.Base):
    """The rules of `gate_for_tests.ORDER`; headers and body are silent where that is offered."""

    def connect(self, _name, _family, address):  # type: ignore[no-untyped-def]
        return (
            self._refuse("554", "5.7.1", "no such client") if address[0] == "127.0.0.9" else Milter.CONTINUE
        )

    def hello(self, name):  # type: ignore[no-untyped-def]
        return self._refuse("550", "5.7.1", "no such name") if name == "refuse.helo" else Milter.CONTINUE

    def envfrom(self, sender, *_arguments):  # type: ignore[no-untyped-def]
        self.recipients = []
        self.do = ""
        self.size = 0
        if sender.startswith("<hold@"):
            self.setreply("451", "4.7.1", "later")
            return Milter.TEMPFAIL
        return Milter.CONTINUE

    def envrcpt(self, recipient, *_arguments):  # type: ignore[no-untyped-def]
        if recipient.startswith("<refuse@"):
            return self._refuse("550", "5.1.1", "no such person")
        if recipient.startswith("<hold@"):
            self.setreply("450", "4.2.1", "person busy")
            return Milter.TEMPFAIL
        return Milter.CONTINUE

    @Milter.noreply
    def header(self, name, value):  # type: ignore[no-untyped-def]
        if name == "X-Do":
            self.do = value.strip()
        return Milter.CONTINUE

    @Milter.noreply
    def body(self, chunk):  # type: ignore[no-untyped-def]
        self.size += len(chunk)
        return Milter.CONTINUE

    def eom(self):  # type: ignore[no-untyped-def]
        if self.do == "refuse-body":
            return self._refuse("552", "5.3.4", f"body of {self.size} bytes")
        if self.do == "hold":
            self.setreply("452", "4.3.1", "not now")
            return Milter.TEMPFAIL
        if self.do == "count":
            self.addheader("X-Count", f"{self.size} {self.getsymval('i')} {self.getsymval('{auth_authen}')}")
            return Milter.CONTINUE
        self.addheader("X-Gate", "seen")
        if self.do == "add":
            self.addheader("X-Added", "below")
        if self.do == "change":
            self.chgheader("Subject", 1, "changed")
            self.chgheader("X-Twice", 2, "second changed")
        if self.do == "delete-first":
            self.chgheader("X-Twice", 1, "")
        if self.do == "envelope":
            self.chgfrom("<changed@sender.test>")
            self.addrcpt("<added@local.test>")
            self.delrcpt("<b@other.test>")
        if self.do == "null-sender":
            self.chgfrom("<>")
        if self.do == "large-body":
            self.replacebody("line\r\n" * 50_000)
        return Milter.CONTINUE

    def _refuse(self, code, enhanced, words):  # type: ignore[no-untyped-def]
        self.setreply(code, enhanced, words)
        return Milter.REJECT


if __name__ == "__main__":
    Milter.factory = Peer
    Milter.set_flags(
        Milter.ADDHDRS | Milter.CHGHDRS | Milter.CHGBODY | Milter.ADDRCPT | Milter.DELRCPT | Milter.CHGFROM
    )
    os.umask(0)
    Milter.runmilter("peer", f"unix:{sys.argv[1]}", 30)
