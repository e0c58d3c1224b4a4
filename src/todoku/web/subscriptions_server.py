"""`python -m todoku.web.subscriptions_server`: the pages of subscriptions on 127.0.0.1, behind a web server with TLS.

It gives its rights up before it listens, and has nothing but the database of bulk mail and the key of its links: no
password of the relay's.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from todoku.campaign.errors import CampaignError
from todoku.campaign.opened import open_campaigns
from todoku.delivery import privileges
from todoku.settings import DEFAULT_PATH, SettingsError, load
from todoku.store import StoreError
from todoku.store import campaign as store

NAME = "todoku-pages"
_LAZY = ("anyio", "h11", "jinja2", "todoku.campaign", "todoku.web", "uvicorn")


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 stopped as told, 1 cannot work, 2 wrong usage or settings."""
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the settings file (%(default)s)")
    parser.add_argument("--user", default=store.OWNER, help="whom to run as (%(default)s)")
    parser.add_argument("--pid-file", type=Path, help="where to write the number of the process")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"{NAME} %(levelname)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    try:
        settings = load(options.config)
        if settings.campaign is None:
            print(f"{NAME}: the settings have no [campaign] table", file=sys.stderr)
            return 1
        import uvicorn

        from todoku.web.subscriptions import application

        privileges.import_everything(_LAZY)
        opened = open_campaigns(settings, kept=True)
        if options.pid_file is not None:
            options.pid_file.write_text(f"{os.getpid()}\n")
        if os.geteuid() == 0:
            privileges.drop(options.user)
        pages = application(opened)
    except ImportError as error:
        print(f"{NAME}: {error.name} is not installed: pip install 'todoku[web]'", file=sys.stderr)
        return 1
    except (SettingsError, StoreError, CampaignError, privileges.CannotBecome) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    # Of whom a form came the web server before us says (X-Forwarded-For), and only one on this machine is believed.
    uvicorn.run(
        pages,
        host="127.0.0.1",
        port=settings.campaign.pages_port,
        http="h11",
        loop="asyncio",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1",
        limit_concurrency=200,
        timeout_keep_alive=10,
        log_level="warning",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
