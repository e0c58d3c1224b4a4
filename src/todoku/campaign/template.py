"""Subject, text and HTML of a campaign, filled in for one person: Jinja in its sandbox, MJML made into HTML before.

What a template can reach are texts: the person's attributes, `address`, `language`, `list_title`, and the two links
`unsubscribe` and `preferences`. A name that a person does not have is an error, not an empty place in a letter:
`{{ first_name | default("") }}` says what to write then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from todoku.campaign.errors import CampaignError

_LARGEST = 1_000_000  # characters of a template
_LONGEST_SUBJECT = 250  # characters, filled in


class TemplateFault(CampaignError):
    """A template cannot be read, or not be filled in for somebody."""


@dataclass(frozen=True, slots=True)
class Source:
    """As it is kept. `html` None: text only. `subject_b`: the other one of a test."""

    subject: str
    text: str
    html: str | None = None
    subject_b: str | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    subject: str
    text: str
    html: str | None


class Templates:
    """A campaign's templates, read once. Raises TemplateFault."""

    def __init__(self, source: Source) -> None:
        plain = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        marked_up = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=True)
        # In mail there are no other lines than those (RFC 5322 2.3).
        self._subjects = {"a": _read(plain, "the subject", source.subject)}
        if source.subject_b is not None:
            self._subjects["b"] = _read(plain, "the second subject", source.subject_b)
        self._text = _read(plain, "the text", source.text)
        self._html = None if source.html is None else _read(marked_up, "the HTML", source.html)

    def fill(self, values: Mapping[str, str], variant: str = "a") -> Filled:
        """Raises TemplateFault."""
        try:
            subject = self._subjects.get(variant, self._subjects["a"]).render(values)
            text = self._text.render(values)
            html = None if self._html is None else self._html.render(values)
        except Exception as error:  # a template can fail in every way that Python can
            raise TemplateFault(f"it cannot be filled in: {error}") from error
        subject = re.sub(r"\s+", " ", subject).strip()
        if not subject or len(subject) > _LONGEST_SUBJECT or any(ord(each) < 32 for each in subject):
            raise TemplateFault(
                f"the subject has {len(subject)} characters: 1 to {_LONGEST_SUBJECT} can be sent"
            )
        return Filled(subject, text, html)


def _read(environment: ImmutableSandboxedEnvironment, what: str, source: str) -> Template:
    if len(source) > _LARGEST:
        raise TemplateFault(f"{what} has more than {_LARGEST:,} characters")
    try:
        return environment.from_string(source)
    except TemplateError as error:
        number = getattr(error, "lineno", None)
        line = f", line {number}" if number else ""
        raise TemplateFault(f"{what}{line}: {error}") from error


def html_of_mjml(source: str) -> str:
    """MJML as HTML, Jinja's marks in it untouched. Raises TemplateFault."""
    try:
        from mjml import mjml2html
    except ImportError as error:
        raise TemplateFault(
            "MJML needs mjml-python: pip install 'todoku[campaign]'; or write HTML"
        ) from error
    try:
        made = mjml2html(source, disable_comments=True)
    except Exception as error:  # the binding has no class of its own
        raise TemplateFault(f"the MJML cannot be read: {error}") from error
    # Version 1.3 gives an object instead of the text.
    return str(getattr(made, "content", made))
