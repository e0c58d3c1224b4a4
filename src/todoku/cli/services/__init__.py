"""What systemd, supervisord and certbot start, as `python -m todoku.cli.services.NAME`; nobody types these."""
