"""The pages as HTML: Japanese or English, without a script, for phones, keyboards and screen readers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from todoku.protect.language import Language
from todoku.protect.shelf import Link
from todoku.protect.wording import day, size
from todoku.web.words import WORDS

_FOLDER = Path(__file__).parent / "templates"
_PREFIXES = {"back": "r", "held": "h"}  # of the pages' addresses
_STYLE = (_FOLDER / "style.css").read_text(encoding="utf-8")


class Pages:
    """Loaded once: later on the process may read no file of its own."""

    def __init__(self) -> None:
        sources = {path.name: path.read_text(encoding="utf-8") for path in _FOLDER.glob("*.html.j2")}
        self._environment = Environment(
            loader=DictLoader(sources),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        for name in sources:
            self._environment.get_template(name)

    async def style(self, _request: Request) -> Response:
        return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})

    async def robots(self, _request: Request) -> Response:
        return PlainTextResponse("User-agent: *\nDisallow: /\n")

    def ask(self, request: Request, status: int = 200) -> Response:
        return self._page(request, "ask", status, sent=False, wrong=False)

    def asked(self, request: Request, *, wrong: bool = False) -> Response:
        return self._page(request, "ask", 403 if wrong else 200, sent=True, wrong=wrong)

    def files(self, request: Request, link: Link, counts: list[int]) -> Response:
        language = self._language(request)
        files = [
            asdict(kept)
            | {"number": number, "size": size(kept.octets), "left": max(0, link.downloads - counts[number])}
            for number, kept in enumerate(link.files)
        ]
        shown = {"sender": link.sender, "subject": link.subject, "until": day(language, link.expires)}
        return self._page(request, "files", 200, files=files, **shown)

    def ask_back(self, request: Request) -> Response:
        return self._page(request, "back", 200, done=False)

    def taken_back(self, request: Request) -> Response:
        return self._page(request, "back", 200, done=True)

    def held(self, request: Request, outcome: str, status: int = 200) -> Response:
        return self._page(request, "held", status, outcome=outcome)

    def nothing(self, request: Request) -> Response:
        return self._page(request, "message", 404, word="nothing")

    def used_up(self, request: Request) -> Response:
        return self._page(request, "message", 410, word="used_up")

    def damaged(self, request: Request) -> Response:
        return self._page(request, "message", 500, word="damaged")

    def not_now(self, request: Request) -> Response:
        answer = self._page(request, "message", 503, word="not_now")
        answer.headers["Retry-After"] = "300"
        return answer

    def too_many(self, request: Request) -> Response:
        answer = self._page(request, "message", 429, word="too_many")
        answer.headers["Retry-After"] = "60"
        return answer

    def language_query(self, request: Request) -> str:
        """So that a choice of the reader's stays."""
        chosen = request.query_params.get("l")
        return f"?l={chosen}" if chosen in WORDS else ""

    def _page(self, request: Request, name: str, status: int, **values: Any) -> Response:
        language = self._language(request)
        token = request.path_params.get("token", "")
        path = f"/{_PREFIXES.get(name, 'a')}/{token}"
        text = self._environment.get_template(f"{name}.html.j2").render(
            words=WORDS[language],
            language=language,
            other="en" if language == "ja" else "ja",
            other_name="English" if language == "ja" else "日本語",
            path=path,
            query=self.language_query(request),
            **values,
        )
        return Response(text, status, media_type="text/html")

    def _language(self, request: Request) -> Language:
        """As the reader chose, or as the browser asks; Japanese and English are what there is."""
        chosen = request.query_params.get("l")
        if chosen in ("ja", "en"):
            return "ja" if chosen == "ja" else "en"
        for each in request.headers.get("accept-language", "")[:200].lower().split(","):
            if each.strip().startswith(("ja", "en")):
                return "ja" if each.strip().startswith("ja") else "en"
        return "en"
