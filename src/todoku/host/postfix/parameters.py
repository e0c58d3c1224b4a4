"""Which Postfix parameters of the recent past this Postfix knows.

Security fixes were carried back into older series, by Postfix itself (3.6.13, 3.7.9, ...) and by
distributions (Ubuntu 22.04: 3.6.4 with the fix for SMTP smuggling). So once Postfix is installed its own list
decides; before that, the announcements at postfix.org. A parameter that is unknown to Postfix only earns a
warning from it, but we want none, so that any other warning is noticed.
"""

from __future__ import annotations

from todoku.host.facts import Facts, Version

# The first release of each series that has it, as announced at postfix.org. Later series all have it.
_SINCE: dict[str, tuple[Version, ...]] = {
    "smtpd_forbid_unauth_pipelining": (Version(3, 6, 10), Version(3, 7, 6), Version(3, 8, 1)),
    "smtpd_forbid_bare_newline": (Version(3, 6, 13), Version(3, 7, 9), Version(3, 8, 4)),
    "smtpd_forbid_bare_newline_exclusions": (Version(3, 6, 13), Version(3, 7, 9), Version(3, 8, 4)),
    # Came together with the values "normalize" and "reject" of smtpd_forbid_bare_newline, a yes or no before.
    "smtpd_forbid_bare_newline_reject_code": (Version(3, 6, 14), Version(3, 7, 10), Version(3, 8, 5)),
    "cleanup_replace_stray_cr_lf": (Version(3, 6, 14), Version(3, 7, 10), Version(3, 8, 5)),
}


def known(facts: Facts) -> frozenset[str]:
    """Those of the parameters above that this Postfix knows; raises ValueError when there is no Postfix."""
    if facts.postfix_parameters is not None:
        return frozenset(_SINCE) & facts.postfix_parameters
    if facts.postfix is None:
        raise ValueError(
            "neither an installed nor an installable Postfix was found: run `apt-get update`, then try again"
        )
    return frozenset(name for name, since in _SINCE.items() if _has(facts.postfix, since))


def _has(version: Version, since: tuple[Version, ...]) -> bool:
    for first in since:
        if (version.major, version.minor) == (first.major, first.minor):
            return version >= first
    return version >= max(since)
