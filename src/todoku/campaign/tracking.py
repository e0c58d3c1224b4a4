"""Opens and clicks, where they are switched on: a picture and links that lead over our own pages.

Only links that stand in the HTML as they are become such; one with a person's attribute in it, and those to
unsubscribe, are left alone, and so is the text. Where a link leads is in the database: the address says only who
clicked on which, sealed, so nobody can have us redirect to anywhere else. What is kept is the first time and how often,
nothing of the program or its address. Programs that open everything before people do are told apart as far as they
let themselves be.
"""

from __future__ import annotations

import html as markup
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, func, insert, select, update

from todoku.campaign.errors import NotSoError
from todoku.campaign.opened import Opened
from todoku.campaign.template import Source
from todoku.campaign.tokens import Keys, Link
from todoku.settings.campaign import Campaign
from todoku.store import campaign_schema as schema

OPENED, CLICKED = "o", "c"  # of the addresses of pages, which should be short
NOT_COUNTED = "not_counted"  # the attribute of those who do not want it; only they themselves set it
_PICTURE = "counted_picture"
_MOST = 200  # links
_TOO_SOON = 10.0  # seconds after the relay took it: nobody reads that fast
_LINK = re.compile(r"""(<a\b[^<>]*?\bhref\s*=\s*)(["'])(https?://[^"'<>{}\s]+)\2""", re.IGNORECASE)
_RAW = re.compile(r"\{%[-+]?\s*raw\b")
_END = re.compile(r"</body\s*>", re.IGNORECASE)
# Apple's Mail Privacy Protection loads every picture beforehand, and says "Mozilla/5.0" and nothing else.
_MACHINE = re.compile(r"bot\b|crawl|spider|scan|preview|curl|wget|python|^mozilla/5\.0$|^$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Counting:
    """What is counted in a campaign."""

    opens: bool = False
    clicks: bool = False


@dataclass(frozen=True)
class Counted:
    """What the letters of a campaign have in them: targets by number, and whether there is the picture."""

    counting: Counting
    targets: Mapping[int, str]

    def values(self, url: str, keys: Keys, link: Link, attributes: Mapping[str, str]) -> dict[str, str]:
        """For the templates: addresses that know who it is, or the targets themselves for who is not counted."""
        if attributes.get(NOT_COUNTED) or not link.recipient:
            return {_name(number): target for number, target in self.targets.items()} | {_PICTURE: ""}
        found = {
            _name(number): f"{url}/{CLICKED}/{number}/{keys.token(link, _purpose(number))}"
            for number in self.targets
        }
        if self.counting.opens:
            found[_PICTURE] = f"{url}/{OPENED}/{keys.token(link, OPENED)}"
        return found


def allowed(wanted: Campaign, counting: Counting, source: Source) -> Counting:
    """Raises NotSoError for what is not switched on, and where there is nothing to count in."""
    for asked, on, key in (
        (counting.opens, wanted.count_opens, "count_opens"),
        (counting.clicks, wanted.count_clicks, "count_clicks"),
    ):
        if asked and not on:
            raise NotSoError(
                f"it is not switched on: campaign.{key}, which needs a privacy text that says so"
            )
    if not (counting.opens or counting.clicks):
        return counting
    if source.html is None:
        raise NotSoError("opens and clicks can be counted in HTML only, and there is none")
    if _RAW.search(source.html):
        raise NotSoError("opens and clicks cannot be counted in HTML with {% raw %} in it")
    return counting


def links(html: str, url: str) -> tuple[str, ...]:
    """Where the links lead that can be counted, each once; none to our own pages."""
    own = urlsplit(url).hostname
    targets = (markup.unescape(found[3]) for found in _LINK.finditer(html))
    kept = (each for each in targets if _host(each) not in (own, None))
    return tuple(dict.fromkeys(kept))[:_MOST]


def _host(target: str) -> str | None:
    try:
        return urlsplit(target).hostname
    except ValueError:
        return None


def keep_links(connection: Connection, campaign: int, html: str, url: str) -> None:
    """Number them, for good: messages on their way have the numbers in them."""
    if rows := [
        {"campaign": campaign, "number": number, "target": target}
        for number, target in enumerate(links(html, url), 1)
    ]:
        connection.execute(insert(schema.link), rows)


def counted(connection: Connection, campaign: Any) -> Counted | None:
    """`campaign` is its row; None: nothing is counted in it."""
    if not (campaign.counts_opens or campaign.counts_clicks):
        return None
    table = schema.link
    rows = connection.execute(select(table).where(table.c.campaign == campaign.id).order_by(table.c.number))
    counting = Counting(campaign.counts_opens, campaign.counts_clicks)
    return Counted(counting, {row.number: row.target for row in rows} if counting.clicks else {})


def marked(html: str, found: Counted) -> str:
    """The HTML's template with names where those links were, and the picture at its end."""
    numbers = {target: number for number, target in found.targets.items()}

    def over_us(link: re.Match[str]) -> str:
        number = numbers.get(markup.unescape(link[3]))
        return link[0] if number is None else f"{link[1]}{link[2]}{{{{ {_name(number)} }}}}{link[2]}"

    made = _LINK.sub(over_us, html)
    if not found.counting.opens:
        return made
    picture = (
        f'{{% if {_PICTURE} %}}<img src="{{{{ {_PICTURE} }}}}" width="1" height="1" alt="">{{% endif %}}'
    )
    ends = [each.start() for each in _END.finditer(made)]
    at = ends[-1] if ends else len(made)
    return made[:at] + picture + made[at:]


def who_clicked(keys: Keys, token: str, number: int) -> Link | None:
    """None: nobody here made it for this link."""
    return keys.opened(token, _purpose(number))


def target(connection: Connection, link: Link, number: int) -> str | None:
    """Where that link leads; None when the campaign is no more."""
    got, table = schema.recipient, schema.link
    found = connection.execute(
        select(table.c.target)
        .join(got, got.c.campaign == table.c.campaign)
        .where(got.c.id == link.recipient, table.c.number == number)
    ).scalar()
    return None if found is None else str(found)


def is_machine(agent: str) -> bool:
    """Whether a program says that it is none that people read with."""
    return bool(_MACHINE.search(agent.strip()))


def note(opened: Opened, link: Link, number: int, *, machine: bool) -> None:
    """Count it, `number` 0 for the picture. Nothing of those who were forgotten or are not to be counted."""
    now = opened.clock()
    got, person, table = schema.recipient, schema.subscriber, schema.reaction
    with opened.write() as connection:
        row = connection.execute(
            select(got.c.settled, person.c.attributes)
            .join(person, person.c.id == got.c.subscriber)
            .where(got.c.id == link.recipient, got.c.state == "sent")
        ).first()
        if row is None or row.attributes.get(NOT_COUNTED):
            return
        by_machine = machine or now - (row.settled or 0.0) < _TOO_SOON
        here = (
            (table.c.recipient == link.recipient)
            & (table.c.link == number)
            & table.c.by_machine.is_(by_machine)
        )
        again = connection.execute(update(table).where(here).values(times=table.c.times + 1))
        if not again.rowcount:
            new = {"recipient": link.recipient, "link": number, "by_machine": by_machine}
            connection.execute(insert(table), {**new, "time": now, "times": 1})


def counts(connection: Connection, campaign: Any) -> dict[str, int]:
    """How many people opened and clicked, and how many messages only programs have opened; `campaign` is its row."""
    if not (campaign.counts_opens or campaign.counts_clicks):
        return {}
    got, did = schema.recipient, schema.reaction
    people = select(func.count(did.c.recipient.distinct())).join(got, got.c.id == did.c.recipient)
    mine = people.where(got.c.campaign == campaign.id)
    found = {}
    if campaign.counts_opens:
        opens = mine.where(did.c.link == 0)
        found["opened"] = connection.execute(opens.where(did.c.by_machine.is_(False))).scalar_one()
        found["opened_by_machine"] = connection.execute(opens.where(did.c.by_machine.is_(True))).scalar_one()
    if campaign.counts_clicks:
        clicks = mine.where(did.c.link > 0)
        found["clicked"] = connection.execute(clicks.where(did.c.by_machine.is_(False))).scalar_one()
        found["clicked_by_machine"] = connection.execute(
            clicks.where(did.c.by_machine.is_(True))
        ).scalar_one()
    return {name: int(count) for name, count in found.items()}


def by_link(connection: Connection, campaign: int) -> list[dict[str, Any]]:
    """Each link with how many people clicked on it."""
    table, got, did = schema.link, schema.recipient, schema.reaction
    clicked = (
        select(func.count(did.c.recipient.distinct()))
        .join(got, got.c.id == did.c.recipient)
        .where(got.c.campaign == campaign, did.c.link == table.c.number, did.c.by_machine.is_(False))
        .scalar_subquery()
    )
    rows = connection.execute(
        select(table.c.target, clicked).where(table.c.campaign == campaign).order_by(table.c.number)
    )
    return [{"target": row[0], "clicked": row[1]} for row in rows]


def _name(number: int) -> str:
    return f"counted_link_{number}"


def _purpose(number: int) -> str:
    return f"{CLICKED} {number}"
