"""Answers Dovecot's questions about passwords over HTTP on this machine: `guessing` has the rules.

Dovecot's protocol: POST with ?command=allow or ?command=report and a JSON object; the answer is {"status": 0} to go on,
or -1 to refuse. Who does not know the key, which Dovecot and the agent alone can read, gets no answer. When nobody
answers, Dovecot goes on by itself: mail is more important than this.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from todoku.delivery.guessing import Guesses
from todoku.settings import ports

log = logging.getLogger("todoku.agent")

ADDRESS = (ports.LOOPBACK, ports.GUESSING)
KEY = Path("/var/lib/todoku/ledger/guessing-key")
KNOWN = Path("/var/lib/todoku/ledger/known-clients.json")
HEADER = "X-Todoku-Key"
_LARGEST = 16_384  # bytes of a request
_PATIENCE = 20.0  # seconds; Dovecot keeps an idle connection for ten


class Server(ThreadingHTTPServer):
    """Raises OSError when the port is taken."""

    daemon_threads = True

    def __init__(self, guesses: Guesses, key: str, address: tuple[str, int] = ADDRESS) -> None:
        super().__init__(address, _Handler)
        self.guesses, self.key = guesses, key

    def start(self) -> None:
        """Serve in a thread, for as long as the process lives."""
        threading.Thread(target=self.serve_forever, name="guessing", daemon=True).start()


def start(guesses: Guesses, key_file: Path = KEY) -> None:
    """Serve, if this machine has been set up for it; what is in the way is told in the log, and all else goes on."""
    try:
        key = key_file.read_text().strip()
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("nobody limits guessing: %s", error)
        return
    try:
        Server(guesses, key).start()
    except OSError as error:
        log.error("nobody limits guessing: 127.0.0.1:%d: %s", ADDRESS[1], error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    server: Server

    def do_POST(self) -> None:
        given = self.headers.get(HEADER, "")
        if not hmac.compare_digest(given.encode(), self.server.key.encode()):
            self._answer(403, {"status": 0})
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= _LARGEST):
            self._answer(413, {"status": 0})
            return
        command = parse_qs(urlsplit(self.path).query).get("command", [""])[0]
        try:
            asked = json.loads(self.rfile.read(int(length)))
            login, remote = str(asked["login"]), str(asked.get("remote", ""))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._answer(400, {"status": 0})
            return
        if command == "allow":
            answer = self.server.guesses.allow(login, remote)
            if not answer.allowed:
                log.warning("%s may not log in from %s: %s", login, remote, answer.why)
            self._answer(200, {"status": 0 if answer.allowed else -1, "msg": answer.why})
        elif command == "report":
            # What was refused unseen tells nothing about the password.
            if not asked.get("policy_reject"):
                success = asked.get("success") is True
                self.server.guesses.report(login, remote, str(asked.get("pwhash", "")), success=success)
            self._answer(200, {"status": 0})
        else:
            self._answer(400, {"status": 0})

    def _answer(self, code: int, value: dict[str, object]) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code != 200:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: every log-in would be a line."""
