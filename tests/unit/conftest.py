"""What holds for all unit tests."""

from __future__ import annotations

import hypothesis

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("todoku", deadline=None)
hypothesis.settings.load_profile("todoku")
