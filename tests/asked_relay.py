# A relay that is asked whom it takes mail from, over TLS: real sockets, and no messages.

import base64
import socketserver
import ssl

from todoku.cloud.probe import Endpoint
from todoku.rehearsal.internet.pki import Authority
from todoku.settings import RelayCredential

LOGIN = RelayCredential("ocid1.user.oc1..a@ocid1.tenancy.oc1..b.x9.com", "p4$s:word[#&!(<.}\"'")


class FakeSmtp(socketserver.ThreadingTCPServer):
    """Oracle's relay, as its pages describe it: STARTTLS, then AUTH PLAIN alone, 535 for what is not approved."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, folder):
        authority = Authority.create(folder)
        certificate, key = authority.issue(["localhost"], folder)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        self.ca = authority.certificate_path
        self.approved = set()
        self.throttled = False
        self.drop_at = ""
        self.said = []
        super().__init__(("127.0.0.1", 0), Session)

    def endpoint(self, context=None):
        make = context or (lambda: ssl.create_default_context(cafile=str(self.ca)))
        return Endpoint("localhost", self.server_address[1], "mx.hoge.example", make)


class Session(socketserver.BaseRequestHandler):
    def handle(self):
        self.secure = False
        stream = self.request.makefile("rb")
        self.reply("220 relay ESMTP smtp-in")
        while line := stream.readline():
            text = line.decode().rstrip("\r\n")
            self.server.said.append(text)
            verb = text.split()[0].upper()
            if verb == self.server.drop_at:
                return
            if verb == "STARTTLS":
                self.reply("220 Ready to start TLS")
                try:
                    self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                except OSError:
                    return
                self.secure = True
                stream = self.request.makefile("rb")
            else:
                self.reply(self.answer(verb, text))
            if verb == "QUIT":
                return

    def answer(self, verb, text):
        if verb == "EHLO":
            return (
                "250-relay\r\n250-PIPELINING\r\n250-AUTH PLAIN\r\n250 Ok"
                if self.secure
                else "250-relay\r\n250 STARTTLS"
            )
        if verb == "AUTH":
            given = base64.b64decode(text.split()[2]).decode()
            good = f"\0{LOGIN.username}\0{LOGIN.password}"
            if self.server.throttled:
                return "421 Too many auth failures, try again later"
            return "235 Ok" if given == good else "535 Authentication credentials invalid"
        if verb == "MAIL":
            address = text.split("<")[1].split(">")[0]
            if {address, f"@{address.rpartition('@')[2]}"} & self.server.approved:
                return "250 Ok"
            return f"535 Authorization failed: Envelope From address <{address}> not authorized"
        return "221 bye" if verb == "QUIT" else "250 Ok"

    def reply(self, text):
        self.request.sendall(text.encode() + b"\r\n")
