"""The service manager of the world: supervisord, as in a container (there is no systemd in a namespace that
lives for ten seconds)."""

from __future__ import annotations

from pathlib import Path

COMMAND = ("/usr/bin/supervisord", "--nodaemon", "-c", "/etc/supervisor/supervisord.conf")
SOCKET = Path("/run/supervisor.sock")
