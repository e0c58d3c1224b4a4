"""Subject, text and HTML of a campaign, filled in for one person: Jinja in its sandbox, MJML made into HTML before.

What a template can reach are texts: the person's attributes, `address`, `language`, `list_title`, and the two links
`unsubscribe` and `preferences`. A name that a person does not have is an error, not an empty place in a letter:
`{{ first_name | default("") }}` says what to write then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import escape

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


class _Text:
    """One template. Where it is nothing but texts and names, as most letters are, it is put together without Jinja,
    which takes ten times as long; what is made is the same."""

    def __init__(self, environment: ImmutableSandboxedEnvironment, what: str, source: str) -> None:
        self._template, tree = _read(environment, what, source)
        self.names = frozenset(meta.find_undeclared_variables(tree))
        self._escapes = bool(environment.autoescape)
        self._pieces = _pieces(tree)

    def render(self, values: Mapping[str, str]) -> str:
        """Raises whatever the template does."""
        if self._pieces is None:
            return self._template.render(values)
        found = []
        for text, name in self._pieces:
            if not name:
                found.append(text)
            elif type(value := values.get(name)) is str:
                found.append(str(escape(value)) if self._escapes else value)
            else:  # it is not there: Jinja says what is wrong
                return self._template.render(values)
        return "".join(found)


class Templates:
    """A campaign's templates, read once. Raises TemplateFault."""

    def __init__(self, source: Source) -> None:
        plain = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        marked_up = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=True)
        # In mail there are no other lines than those (RFC 5322 2.3).
        self._subjects = {"a": _Text(plain, "the subject", source.subject)}
        if source.subject_b is not None:
            self._subjects["b"] = _Text(plain, "the second subject", source.subject_b)
        self._text = _Text(plain, "the text", source.text)
        self._html = None if source.html is None else _Text(marked_up, "the HTML", source.html)
        texts = (*self._subjects.values(), self._text, *([] if self._html is None else [self._html]))
        self.names = frozenset[str]().union(*(each.names for each in texts))  # that can be asked for at all

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


def _read(
    environment: ImmutableSandboxedEnvironment, what: str, source: str
) -> tuple[Template, nodes.Template]:
    if len(source) > _LARGEST:
        raise TemplateFault(f"{what} has more than {_LARGEST:,} characters")
    try:
        return environment.from_string(source), environment.parse(source)
    except TemplateError as error:
        number = getattr(error, "lineno", None)
        line = f", line {number}" if number else ""
        raise TemplateFault(f"{what}{line}: {error}") from error


def _pieces(tree: nodes.Template) -> list[tuple[str, str]] | None:
    """Texts and names in their order; None: there is more in it than these."""
    found = []
    for output in tree.body:
        if not isinstance(output, nodes.Output):
            return None
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                found.append((node.data, ""))
            elif isinstance(node, nodes.Name) and node.name != "self":  # which is Jinja's own
                found.append(("", node.name))
            else:
                return None
    return found


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
