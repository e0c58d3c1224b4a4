# A real HTTP client for the pages; it follows no redirect (RFC 8058 3.1).

from __future__ import annotations

import urllib.error
import urllib.request


class Browser:
    def __init__(self, base: str) -> None:
        self.base = base

    def get(self, path: str) -> tuple[int, str]:
        return self._ask(urllib.request.Request(self.base + path, headers={"Accept-Language": "en"}))

    def head(self, path: str) -> int:
        return self._ask(urllib.request.Request(self.base + path, method="HEAD"))[0]

    def post(
        self, path: str, body: str = "", kind: str = "application/x-www-form-urlencoded"
    ) -> tuple[int, str]:
        headers = {"Content-Type": kind, "Accept-Language": "en"}
        return self._ask(urllib.request.Request(self.base + path, body.encode(), headers))

    def _ask(self, request: urllib.request.Request) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
