"""Todoku (届く, "it arrives"): own-domain mail that arrives, planned and applied from one file."""

__version__ = "0.1.0"
