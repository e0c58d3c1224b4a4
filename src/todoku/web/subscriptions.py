"""Pages on which people subscribe, confirm, unsubscribe and choose: routes for a Starlette application.

GET and HEAD only show: programs that look at links before people do change nothing. POST to the address in
List-Unsubscribe unsubscribes at once, without a login or a cookie, and is not redirected (RFC 8058 3.2). Who somebody
is, their sealed link says; the form tells everybody the same, whether an address is known or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs

from sqlalchemy import select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from todoku.campaign import forms, lists
from todoku.campaign.errors import CampaignError
from todoku.campaign.lists import Evidence, Membership
from todoku.campaign.message import CONFIRM, PREFERENCES, UNSUBSCRIBE
from todoku.campaign.opened import Opened
from todoku.campaign.tokens import Link
from todoku.campaign.tracking import NOT_COUNTED
from todoku.store import campaign_schema as schema
from todoku.web.reactions import Reactions
from todoku.web.subscriptions_page import Choice, Form, page
from todoku.web.subscriptions_text import TEXTS

_LARGEST = 10_000  # bytes of a form
T = TypeVar("T")


class _TooLarge(Exception):
    """More than any of the forms can have."""


class Subscriptions:
    """The pages over one database."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def routes(self) -> list[Route]:
        both = ["GET", "POST"]
        return [
            Route("/subscribe/{name}", self.subscribe, methods=both),
            Route(f"/{CONFIRM}/{{token}}", self.confirm, methods=both),
            Route(f"/{UNSUBSCRIBE}/{{token}}", self.unsubscribe, methods=both),
            Route(f"/{PREFERENCES}/{{token}}", self.preferences, methods=both),
        ]

    # -- the pages

    async def subscribe(self, request: Request) -> Response:
        language = _language(request)
        texts = TEXTS[language]
        found = await _in_thread(lambda: self._list(request.path_params["name"]))
        if found is None or not found.is_open:
            return _not_known(language)
        form = Form(texts["send"], asks_address=True)
        if request.method != "POST":
            return page(language, "subscribe", *_paragraphs(found, self._privacy(language)), form=form)
        posted = await _form(request)
        if posted.get("website"):  # a field that people do not see
            return page(language, "subscribe", texts["asked"])
        told = (found.consent_text, self._privacy(language))
        agreed = "\n\n".join(filter(None, told))
        asked = forms.Asked(
            posted.get("address", ""), language, _client(request), str(request.url.path), agreed
        )
        try:
            await _in_thread(lambda: forms.ask(self._opened, found, asked))
        except CampaignError:
            return page(language, "subscribe", found.title, texts["wrong_address"], form=form, status=422)
        return page(language, "subscribe", texts["asked" if found.double_opt_in else "confirmed"])

    async def confirm(self, request: Request) -> Response:
        who = await self._who(request, CONFIRM)
        if who is None:
            return _nothing_to_confirm(_language(request))
        link, person, of = who
        texts = TEXTS[person.language]
        told = tuple(filter(None, (of.consent_text, self._privacy(person.language))))
        if request.method != "POST":
            question = texts["confirm_question"].format(address=person.address, title=of.title)
            form = Form(texts["confirm_button"])
            return page(person.language, "confirm", question, *told, form=form)
        source = f"{request.url.path.rpartition('/')[0]} from {_client(request)}"
        evidence = Evidence("confirmed", source, "\n\n".join(told))
        if not await _in_thread(lambda: forms.confirm(self._opened, link, evidence)):
            return _nothing_to_confirm(person.language)
        return page(person.language, "confirm", texts["confirmed"])

    async def unsubscribe(self, request: Request) -> Response:
        who = await self._who(request, UNSUBSCRIBE)
        if who is None:
            return _not_known(_language(request))
        link, person, of = who
        texts = TEXTS[person.language]
        if request.method != "POST":
            question = texts["unsubscribe_question"].format(address=person.address, title=of.title)
            return page(
                person.language,
                "unsubscribe",
                question,
                form=Form(texts["unsubscribe_button"]),
                link=self._preferences(link),
            )
        posted = await _form(request)
        kind = "one click" if posted.get("List-Unsubscribe") == "One-Click" else "the page"
        await _in_thread(lambda: self._unsubscribe(link, f"{kind}, from {_client(request)}"))
        return page(person.language, "unsubscribe", texts["unsubscribed"], link=self._preferences(link))

    async def preferences(self, request: Request) -> Response:
        who = await self._who(request, PREFERENCES)
        if who is None:
            return _not_known(_language(request))
        link, person, _ = who
        said: tuple[str, ...] = ()
        language = person.language
        if request.method == "POST":
            body = parse_qs((await _body(request)).decode("utf-8", "replace"), max_num_fields=200)
            keeps = {int(each) for each in body.get("list", ()) if each.isdecimal() and len(each) < 18}
            chosen = (body.get("language") or [language])[0]
            language = chosen if chosen in TEXTS else language
            counted = "counted" in body if self._counts else None
            await _in_thread(lambda: self._keep(link, keeps, language, _client(request), counted))
            said = (TEXTS[language]["saved"],)
        choices = await _in_thread(lambda: self._choices(link.subscriber))
        texts = TEXTS[language]
        if not any(each.on for each in choices):
            said = (*said, texts["none"])
        privacy = tuple(filter(None, (self._privacy(language),)))
        counted = await _in_thread(lambda: self._is_counted(link)) if self._counts else None
        form = Form(texts["save"], asks_language=True, choices=choices, counted=counted)
        return page(language, "preferences", person.address, *said, *privacy, form=form)

    # -- what is counted of what people do

    def _privacy(self, language: str) -> str:
        return self._opened.wanted.privacy(language)

    @property
    def _counts(self) -> bool:
        return self._opened.wanted.count_opens or self._opened.wanted.count_clicks

    def _is_counted(self, link: Link) -> bool:
        person = schema.subscriber
        with self._opened.read() as connection:
            held = connection.execute(
                select(person.c.attributes).where(person.c.id == link.subscriber)
            ).scalar()
        return NOT_COUNTED not in (held or {})

    # -- the database

    def _list(self, name: str) -> Any:
        table = schema.subscription_list
        with self._opened.read() as connection:
            return connection.execute(select(table).where(table.c.name == name)).first()

    async def _who(self, request: Request, purpose: str) -> tuple[Link, Any, Any] | None:
        """Whose link it is, and of which list; None: nobody's."""
        link = self._opened.keys.opened(request.path_params["token"], purpose)
        return None if link is None else await _in_thread(lambda: self._people(link))

    def _people(self, link: Link) -> tuple[Link, Any, Any] | None:
        person, table = schema.subscriber, schema.subscription_list
        with self._opened.read() as connection:
            found = connection.execute(select(person).where(person.c.id == link.subscriber)).first()
            of = connection.execute(select(table).where(table.c.id == link.list_id)).first()
        return None if found is None or of is None else (link, found, of)

    def _unsubscribe(self, link: Link, source: str) -> None:
        now = self._opened.clock()
        with self._opened.write() as connection:
            lists.unsubscribe(connection, link.list_id, link.subscriber, source, now, link.recipient)

    def _choices(self, subscriber: int) -> tuple[Choice, ...]:
        of, table = schema.subscription, schema.subscription_list
        with self._opened.read() as connection:
            rows = connection.execute(
                select(table.c.id, table.c.title, of.c.state)
                .join(of, of.c.list == table.c.id)
                .where(of.c.subscriber == subscriber, of.c.state != Membership.UNCONFIRMED)
                .order_by(table.c.title)
            )
            return tuple(Choice(row.id, row.title, row.state == Membership.CONFIRMED) for row in rows)

    def _keep(self, link: Link, keeps: set[int], language: str, client: str, counted: bool | None) -> None:
        """The lists that stay; who takes back an unsubscription does it here, on their own page. `counted` None: as
        it was."""
        now = self._opened.clock()
        person, of, table = schema.subscriber, schema.subscription, schema.subscription_list
        with self._opened.write() as connection:
            rows = connection.execute(
                select(of.c.list, of.c.state, table.c.consent_text)
                .join(table, table.c.id == of.c.list)
                .where(of.c.subscriber == link.subscriber)
            ).all()
            for row in rows:
                if row.state == Membership.CONFIRMED and row.list not in keeps:
                    source = f"the preferences, from {client}"
                    lists.unsubscribe(connection, row.list, link.subscriber, source, now, link.recipient)
                elif row.state == Membership.UNSUBSCRIBED and row.list in keeps:
                    evidence = Evidence("confirmed", f"the preferences, from {client}", row.consent_text)
                    lists.set_membership(
                        connection, row.list, link.subscriber, Membership.CONFIRMED, evidence, now
                    )
            me = person.c.id == link.subscriber
            connection.execute(update(person).where(me).values(language=language))
            if counted is None:
                return
            held = connection.execute(select(person.c.attributes).where(me)).scalar() or {}
            others = {name: value for name, value in held.items() if name != NOT_COUNTED}
            more = {} if counted else {NOT_COUNTED: "yes"}
            connection.execute(update(person).where(me).values(attributes=others | more))

    def _preferences(self, link: Link) -> str:
        return f"{self._opened.wanted.url}/{PREFERENCES}/{self._opened.keys.token(link, PREFERENCES)}"


def application(opened: Opened) -> Starlette:
    """The pages alone, as one application."""
    return Starlette(
        routes=[*Subscriptions(opened).routes(), *Reactions(opened).routes()],
        exception_handlers={_TooLarge: lambda _request, _error: PlainTextResponse("too large", 413)},
    )


def _paragraphs(of: Any, privacy: str) -> tuple[str, ...]:
    return tuple(filter(None, (of.title, of.consent_text, privacy)))


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST:
            raise _TooLarge
    return body


async def _form(request: Request) -> dict[str, str]:
    """The first value of each field. Gmail posts multipart/form-data at times (RFC 8058 3.2 allows both); what it says
    does not matter, since the address says everything."""
    text = (await _body(request)).decode("utf-8", "replace")
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        return {"List-Unsubscribe": "One-Click"} if "One-Click" in text else {}
    try:
        return {name: values[0] for name, values in parse_qs(text, max_num_fields=20).items()}
    except ValueError:
        return {}


def _language(request: Request) -> str:
    if (asked := request.query_params.get("lang", "")) in TEXTS:
        return asked
    return "ja" if "ja" in request.headers.get("accept-language", "ja").lower() else "en"


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _not_known(language: str) -> HTMLResponse:
    return page(language, "not_known", status=404)


def _nothing_to_confirm(language: str) -> HTMLResponse:
    return page(language, "not_known", TEXTS[language]["ask_again"], status=404)
