"""The letter of the benchmark "campaign", and whom it goes to: the same for Todoku and for its peers.

Some 4 KB as it is sent: text and HTML in Japanese with a name and a link of one's own in each, and the headers of bulk
mail. Imports nothing, as the peers have their own Python.
"""

from __future__ import annotations

SENDER = "news@hoge.example"
SUBJECT = "{{ first_name }}様、春のお知らせ"
_LINE = "来月の予定をお送りします。お時間のある方はぜひお越しください。"
TEXT = "{{ first_name }}様\n\n" + f"{_LINE}\n" * 9 + "\n配信停止: {{ unsubscribe }}\n"
HTML = (
    "<!doctype html><html lang='ja'><body><p>{{ first_name }}様</p>\n"
    + f"<p>{_LINE}</p>\n" * 9
    + "<p><a href='{{ unsubscribe }}'>配信停止</a></p></body></html>\n"
)


def address(number: int) -> str:
    """8 digits, by which the sink knows whom it has got something for."""
    return f"p{number:08}@d{number % 50}.example"


def first_name(number: int) -> str:
    return f"太郎{number}"


def unsubscribe(number: int) -> str:
    """Where it is not Todoku that makes it."""
    return "https://news.hoge.example/unsubscribe/" + f"{number:08}".rjust(56, "x")


def headers(number: int) -> dict[str, str]:
    return {
        "List-Id": "<news.hoge.example>",
        "List-Unsubscribe": f"<{unsubscribe(number)}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "Feedback-ID": "c-spring:l-news:bulk:td0123456789",
    }


def filled(template: str, number: int) -> str:
    return template.replace("{{ first_name }}", first_name(number)).replace(
        "{{ unsubscribe }}", unsubscribe(number)
    )
