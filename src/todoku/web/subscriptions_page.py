"""How a page of subscriptions looks: one template, no script, nothing loaded from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment
from starlette.responses import HTMLResponse

from todoku.web.subscriptions_text import TEXTS

# Nothing but this page's own style; not to be framed; links with tokens in them are told to nobody.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
}
_PAGE = Environment(autoescape=True).from_string("""\
<!doctype html>
<html lang="{{ language }}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ heading }}</title><style>
body { font: 1.05rem/1.7 system-ui, sans-serif; max-width: 34rem; margin: 3rem auto; padding: 0 1rem }
button, input, select { font: inherit; padding: .4rem .8rem } input[type=email] { width: 100%; box-sizing: border-box }
label { display: block; margin: .7rem 0 } .trap { position: absolute; left: -100rem }
</style></head><body><h1>{{ heading }}</h1>
{% for each in paragraphs %}<p>{{ each }}</p>
{% endfor %}{% if form %}<form method="post" action="{{ form.action }}">
{% for each in form.choices %}<label><input type="checkbox" name="list" value="{{ each.value }}"
{%- if each.on %} checked{% endif %}> {{ each.label }}</label>
{% endfor %}{% if form.counted is not none %}<label><input type="checkbox" name="counted" value="yes"
{%- if form.counted %} checked{% endif %}> {{ texts.counted }}</label>
{% endif %}{% if form.asks_address %}<label>{{ texts.address }}
<input type="email" name="address" required maxlength="254" autocomplete="email"></label>
<label class="trap" aria-hidden="true">Website <input name="website" tabindex="-1" autocomplete="off"></label>
{% endif %}{% if form.asks_language %}<label>{{ texts.language }} <select name="language">
<option value="ja"{% if language == "ja" %} selected{% endif %}>日本語</option>
<option value="en"{% if language == "en" %} selected{% endif %}>English</option></select></label>
{% endif %}<button>{{ form.button }}</button></form>{% endif %}
{% if link %}<p><a href="{{ link }}">{{ texts.to_preferences }}</a></p>{% endif %}
</body></html>
""")


@dataclass(frozen=True, slots=True)
class Choice:
    value: int
    label: str
    on: bool


@dataclass(frozen=True, slots=True)
class Form:
    """Posted to `action`, which is the page's own address unless it is given."""

    button: str
    action: str = ""
    asks_address: bool = False
    asks_language: bool = False
    choices: tuple[Choice, ...] = ()
    counted: bool | None = None  # whether opens and clicks are counted; None: it is not asked


def page(
    language: str,
    heading: str,
    *paragraphs: str,
    form: Form | None = None,
    link: str = "",
    status: int = 200,
) -> HTMLResponse:
    """`heading` is a key of the texts; paragraphs are text."""
    texts = TEXTS[language]
    html = _PAGE.render(
        language=language, texts=texts, heading=texts[heading], paragraphs=paragraphs, form=form, link=link
    )
    return HTMLResponse(html, status, _HEADERS)
