"""Bulk mail with a good conscience: one message to many, never twice, never to someone who said no."""
