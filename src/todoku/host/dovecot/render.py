"""The one file of Dovecot, from the settings: IMAP, LMTP, and the passwords and quotas that Postfix asks for.

The languages of Dovecot 2.3 and 2.4 differ too much for one template: each has its own, after
doc.dovecot.org. The package's conf.d is not read.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from todoku.host import endpoint, guessing
from todoku.host.facts import Facts, Version
from todoku.host.rendered import RenderedFile
from todoku.settings import Settings

_PATH = "/etc/dovecot/dovecot.conf"


def render(settings: Settings, facts: Facts) -> tuple[RenderedFile, ...]:
    """Dovecot's configuration; raises ValueError when there is no Dovecot, or one that we do not know."""
    template = _environment().get_template(f"{_generation(facts.dovecot)}/dovecot.conf.j2")
    content = template.render(
        settings=settings,
        listen=", ".join(str(address) for address in endpoint.listen(settings)) or "*, ::",
        # "local": asked on this machine by a program, as doveadm does, that has no client.
        allow_nets=",".join(["local", *map(str, endpoint.client_networks(settings))]),
        certificate=endpoint.certificate(settings),
        key=endpoint.key(settings),
        internal_certificate=endpoint.INTERNAL,
        guessing_url=guessing.URL,
        guessing_file=guessing.DOVECOT_FILE,
        log_to_file=facts.service_manager != "systemd",
    )
    return (RenderedFile(_PATH, content),)


def _generation(version: Version | None) -> str:
    if version is None:
        raise ValueError(
            "neither an installed nor an installable Dovecot was found: run `apt-get update`, then try again"
        )
    if version < Version(2, 3, 16):
        raise ValueError(f"Dovecot {version} is too old: 2.3.16 or later is needed")
    return "2.3" if version < Version(2, 4) else "2.4"


@cache
def _environment() -> Environment:
    # Configuration files, not HTML: nothing is escaped.
    return Environment(
        loader=PackageLoader("todoku.host.dovecot", ""),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
