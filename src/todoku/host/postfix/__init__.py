"""Postfix: what its files have to say, as a function of the settings and of the installed version."""

from todoku.host.postfix.render import QUEUE_DIRECTORY, render, render_credential

__all__ = ["QUEUE_DIRECTORY", "render", "render_credential"]
