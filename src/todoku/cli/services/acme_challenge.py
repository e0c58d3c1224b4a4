"""`python -m todoku.cli.services.acme_challenge`: certbot's hooks (its manual plugin), which publish and remove a
challenge the way that the settings say. certbot tells the name and the value in its environment.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from todoku.settings import DEFAULT_PATH, Settings, SettingsError, load


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 it could not be published, 2 wrong usage or settings."""
    parser = argparse.ArgumentParser(prog="todoku-acme-challenge", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument("action", choices=["publish", "remove"])
    options = parser.parse_args(arguments)
    domain, value = os.environ.get("CERTBOT_DOMAIN", ""), os.environ.get("CERTBOT_VALIDATION", "")
    if not domain or not value:
        print("CERTBOT_DOMAIN and CERTBOT_VALIDATION are not set: certbot starts this", file=sys.stderr)
        return 2
    try:
        settings = load(options.config)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if settings.dns is None:
        print("the settings have no [dns] table", file=sys.stderr)
        return 2
    return _do(options.action, settings, domain, value)


def _do(action: str, settings: Settings, domain: str, value: str) -> int:
    from todoku.dns import challenge
    from todoku.dns.client import Names
    from todoku.dns.publisher import PublisherFailed
    from todoku.plan.outputs import Outputs

    try:
        names = Names.of(settings, Outputs())
        if action == "publish":
            challenge.publish(names, domain, value)
        else:
            challenge.remove(names, domain, value)
    except (challenge.ChallengeFailed, PublisherFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
