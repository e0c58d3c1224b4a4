"""A campaign's message as a page for its sender's browser, on this machine only and for some minutes.

The HTML is a page of its own in a frame: no script runs, nothing is loaded from anywhere, and a link in it leads
nowhere (Content-Security-Policy 3: sandbox, default-src, and frame-src of the page around it). Its address has a part
that nobody can guess, since every user of this machine reaches every port of it. Nor can they read it among the
arguments of the browser (`doorway`).
"""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from todoku.settings import ports

_PATIENCE = 10.0  # seconds for a request: browsers open connections that they do not use
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; margin: 1rem; color: #1b1b1b; background: #f4f4f4; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { color: #595959; }
dd { margin: 0; overflow-wrap: anywhere; }
main { display: flex; flex-wrap: wrap; gap: 1rem; clear: both; }
section { flex: 1 1 20rem; min-width: 0; }
iframe, pre { box-sizing: border-box; height: 75vh; border: 1px solid #8a8a8a; background: #fff; margin: 0; }
iframe { width: 100%; }
pre { padding: 1rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
#narrow:checked ~ main iframe { width: 375px; max-width: 100%; }
#wide:checked ~ main section { flex-basis: 100%; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_AROUND = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_INSIDE = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
_DOORWAY = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Preview</title><meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}"></head>
<body><p><a href="{address}">The preview</a></p></body></html>
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """To a GET. `policy`: its Content-Security-Policy."""

    kind: str
    policy: str
    content: bytes
    disposition: str = "inline"


def answers(raw: bytes) -> dict[str, Answer]:
    """Of one message: what is below the address of its page, by the name there; "" is the page itself."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    html, text = message.get_body(("html",)), message.get_body(("plain",))
    shown = "".join(
        f"<dt>{name}</dt><dd>{escape(str(message[name]))}</dd>" for name in ("Subject", "From", "To")
    )
    parts = []
    if html is not None:
        parts.append('<iframe src="html" sandbox title="HTML"></iframe>')
    if text is not None:
        parts.append(f'<pre tabindex="0">{escape(text.get_content())}</pre>')
    switch = (
        '<input type="radio" name="width" id="beside" checked><label for="beside">beside the text</label>\n'
        '<input type="radio" name="width" id="narrow"><label for="narrow">narrow, as a telephone</label>\n'
        '<input type="radio" name="width" id="wide"><label for="wide">wide</label>\n'
    )
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(str(message["Subject"]))}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body><dl>{shown}</dl>\n'
        '<p><a href="message.eml">The whole message (.eml)</a>. '
        "Pictures from elsewhere are not loaded here, and links lead nowhere.</p>\n"
        f"{switch if html is not None else ''}<main>{''.join(f'<section>{each}</section>' for each in parts)}</main>"
        "</body></html>\n"
    )
    found = {
        "": Answer("text/html; charset=utf-8", _AROUND, page.encode()),
        "message.eml": Answer("message/rfc822", _AROUND, raw, 'attachment; filename="message.eml"'),
    }
    if html is not None:
        found["html"] = Answer("text/html; charset=utf-8", _INSIDE, html.get_content().encode())
    return found


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a browser goes away when it likes
            super().handle_error(request, client_address)


@contextmanager
def served(given: Mapping[str, Answer]) -> Iterator[str]:
    """Their address, as long as it lasts. Raises OSError."""
    key = secrets.token_urlsafe(24)

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE
        server_version, sys_version = "todoku", ""

        def do_GET(self) -> None:
            before, _, name = self.path.removeprefix("/").partition("/")
            answer = given.get(name)
            # Another name that leads to this machine: somebody's page, which had it resolved to here.
            is_here = self.headers["Host"] == address.removeprefix("http://").partition("/")[0]
            if not is_here or answer is None or not secrets.compare_digest(before.encode(), key.encode()):
                self.send_error(404)
                return
            self.send_response(200)
            for header, value in (
                ("Content-Type", answer.kind),
                ("Content-Length", str(len(answer.content))),
                ("Content-Disposition", answer.disposition),
                ("Content-Security-Policy", answer.policy),
                ("X-Content-Type-Options", "nosniff"),
                ("Referrer-Policy", "no-referrer"),
                ("Cache-Control", "no-store"),
            ):
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            """The key is nobody's business."""

    with _Server((ports.LOOPBACK, 0), Handler) as server:
        address = f"http://{ports.LOOPBACK}:{server.server_address[1]}/{key}/"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def doorway(address: str) -> Iterator[str]:
    """A file that leads to `address`, as a URL: what a browser is started with stands in the list of processes, which
    everybody can read, and the file only its owner. It is gone at the end. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="todoku-preview-") as folder:
        file = Path(folder) / "preview.html"
        file.touch(0o600)
        file.write_text(_DOORWAY.format(address=escape(address)))
        yield file.as_uri()
