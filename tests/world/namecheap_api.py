"""Namecheap's XML API as its pages describe it, over HTTPS, for one domain: getInfo, getHosts, setHosts.

It forgets every host that it is not told again, keeps MX records only with EmailType=MX, allows so many requests
a minute, and can be told to go wrong as real APIs do.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import quoteattr

HOST = "api.namecheap.com"
ADDRESS = "127.0.0.56"
_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<ApiResponse Status="{}" xmlns="http://api.namecheap.com/xml.response">'

Host = dict[str, str]


@dataclass
class Api:
    """One account with one domain. `fault` names what goes wrong with the next `times` requests of `command`."""

    key: str
    sld: str
    tld: str
    hosts: list[Host]
    email_type: str = "FWD"
    ours: bool = True  # the domain uses Namecheap's name servers
    fault: str = ""
    command: str = "getHosts"
    times: int = 0
    writes: int = 0
    calls: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # what the test itself has to know

    def answer(self, asked: dict[str, str]) -> tuple[int, str]:
        """The status and the body for a request."""
        command = asked.get("Command", "").rpartition(".")[2]
        self.calls.append(command)
        if asked.get("ApiKey") != self.key:
            return 200, _error("1011102", "API Key is invalid or API access has not been enabled")
        if command == "getInfo":
            if asked.get("DomainName") != f"{self.sld}.{self.tld}":
                return 200, _error("2030166", "Domain is invalid")
            return 200, _ok(
                f'<DomainGetInfoResult Status="Ok" IsOwner="true" DomainName="{self.sld}.{self.tld}"/>'
            )
        if (asked.get("SLD"), asked.get("TLD")) != (self.sld, self.tld):
            return 200, _error("2019166", "Domain not found")
        if command == "getHosts":
            return 200, self._listed()
        if command == "setHosts":
            return 200, self._set(asked)
        return 200, _error("1010104", "Command is invalid")

    def _listed(self) -> str:
        hosts = "".join(
            "<host " + " ".join(f"{name}={quoteattr(value)}" for name, value in host.items()) + " />"
            for host in self.hosts
        )
        ours = str(self.ours).lower()
        result = f'Domain="{self.sld}.{self.tld}" EmailType="{self.email_type}" IsUsingOurDNS="{ours}"'
        return _ok(f"<DomainDNSGetHostsResult {result}>{hosts}</DomainDNSGetHostsResult>")

    def _set(self, asked: dict[str, str]) -> str:
        count = sum(name.startswith("HostName") for name in asked)
        told: list[Host] = []
        for number in range(1, count + 1):
            host = {"HostId": str(1000 + number), "Name": asked[f"HostName{number}"]}
            host |= {"Type": asked[f"RecordType{number}"], "Address": asked[f"Address{number}"]}
            host |= {"MXPref": asked.get(f"MXPref{number}", "10"), "TTL": asked.get(f"TTL{number}", "1800")}
            if host["Type"] != "MX" or asked.get("EmailType") == "MX":
                told.append(host)
        self.hosts = told
        self.email_type = asked.get("EmailType", "NONE")
        self.writes += 1
        return _ok(f'<DomainDNSSetHostsResult Domain="{self.sld}.{self.tld}" IsSuccess="true" />')


def _ok(result: str) -> str:
    return f"{_HEAD.format('OK')}<Errors /><CommandResponse>{result}</CommandResponse></ApiResponse>"


def _error(number: str, text: str) -> str:
    return f'{_HEAD.format("ERROR")}<Errors><Error Number="{number}">{text}</Error></Errors></ApiResponse>'


class _Handler(BaseHTTPRequestHandler):
    api: Api
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        asked |= {name: values[0] for name, values in parse_qs(body).items()}
        api = self.server.api  # type: ignore[attr-defined]
        if api.times and asked.get("Command", "").endswith(f".{api.command}"):
            api.times -= 1
            self._go_wrong(api, asked)
            return
        status, text = api.answer(asked)
        self._send(status, text.encode())

    def _go_wrong(self, api: Api, asked: dict[str, str]) -> None:
        match api.fault:
            case "too many":
                self._send(405, b"")
            case "error":
                self._send(200, _error("5050900", "Unknown error from the provider").encode())
            case "error in an ok":
                text = _ok("<DomainDNSGetHostsResult/>").replace(
                    "<Errors />", "<Errors><Error>failed</Error></Errors>"
                )
                self._send(200, text.encode())
            case "nothing":
                self._send(
                    200, _ok('<DomainDNSGetHostsResult EmailType="FWD" IsUsingOurDNS="true"/>').encode()
                )
            case "no result":
                self._send(200, _ok("").encode())
            case "cut":
                text = api.answer(asked)[1].encode()
                self._send(200, text, cut=len(text) * 2 // 3)
            case "cut without a length":
                text = api.answer(asked)[1].encode()
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + text[: len(text) * 2 // 3])
            case "done, and hung up":
                api.answer(asked)
                self.close_connection = True
            case "hung up":
                self.close_connection = True
            case "strange":
                text = api.answer(asked)[1].replace(
                    "</DomainDNSGetHostsResult>", "<more/></DomainDNSGetHostsResult>"
                )
                self._send(200, text.encode())
            case other:
                api.errors.append(other)

    def _send(self, status: int, body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = cut is not None or self.close_connection

    def log_message(self, *_: Any) -> None:
        """No access log."""


@contextlib.contextmanager
def serving(api: Api, pki: Path, names: Path) -> Iterator[Api]:
    """`api` at its real name, with a certificate of the world's authority in `pki`; `names` is /etc/hosts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / f"{HOST}.pem", pki / f"{HOST}.key")
    server = ThreadingHTTPServer((ADDRESS, 443), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.api = api  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    before = names.read_text()
    names.write_text(f"{before}{ADDRESS} {HOST}\n")
    try:
        yield api
    finally:
        names.write_text(before)
        server.shutdown()
        server.server_close()
