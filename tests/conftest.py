"""Settings that every room's tests share."""

from __future__ import annotations

from hypothesis import settings

# The same examples on every run, and no deadline: a busy machine is no failure.
settings.register_profile("kvcalc", deadline=None, derandomize=True)
settings.load_profile("kvcalc")
