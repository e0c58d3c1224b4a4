"""Dovecot: what its file has to say, as a function of the settings and of the installed version."""

from todoku.host.dovecot.render import render

__all__ = ["render"]
