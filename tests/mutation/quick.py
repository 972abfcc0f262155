"""A pytest plugin of mutation runs: one failing example is enough, and no test profits from another's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache

import pytest
from hypothesis import HealthCheck, Phase, settings


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Hypothesis neither shrinks nor remembers. A slow example is no verdict: the processor's time is bounded."""
    settings.register_profile(
        "mutation", deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    settings.load_profile("mutation")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What one test left in a cache would hide the change (or the line) from the next."""
    for clear in _caches(len(sys.modules)):
        clear()


@lru_cache(maxsize=1)
def _caches(_modules: int) -> list[Callable[[], None]]:
    """What empties each cache of the modules that are loaded by now."""
    loaded = [module for name, module in list(sys.modules.items()) if name.startswith("kvcalc")]
    found = [value.cache_clear for module in loaded for value in list(vars(module).values())
             if hasattr(value, "cache_clear")]  # fmt: skip
    layers = sys.modules.get("kvcalc.engines.layers")
    return [*found, layers._RECENT.clear] if layers else found
