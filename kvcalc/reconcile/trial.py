"""One hypothesis of how a server was set up, and the search for one that explains a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from kvcalc.engines.base import Parallel
from kvcalc.problems import KvcalcError
from kvcalc.reconcile.report import Comparison, Explanation

SHARDING = {"tensor": "-tp", "pipeline": "-pp", "data": "-dp", "decode_context": "-dcp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The settings of one prediction."""

    version: str
    dtype: str
    sharding: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parallel(self) -> Parallel:
        return Parallel(**self.sharding)

    def changed(self, name: str, value: Any) -> Trial:
        """The same with one setting changed."""
        if name in ("version", "dtype"):
            return replace(self, **{name: value})
        if name in SHARDING:
            return replace(self, sharding={**self.sharding, name: value})
        return replace(self, options={**self.options, name: value})

    def value(self, name: str) -> Any:
        """What a setting is now."""
        if name in ("version", "dtype"):
            return getattr(self, name)
        return self.sharding.get(name, 1) if name in SHARDING else self.options.get(name)


Compare = Callable[[Trial], Sequence[Comparison]]
Change = tuple[str, Any]

_WORDS = {"dtype": "--kv-cache-dtype", "version": "version", "block_size": "--block-size"}


def say(change: Change) -> str:
    """`-tp 2`, `--kv-cache-dtype fp8`, as a user would write it."""
    name, value = change
    if name == "hybrid_kv_cache_manager":
        return "--disable-hybrid-kv-cache-manager" if value is False else "the hybrid KV cache manager on"
    if name == "enable_prefix_caching":
        return "prefix caching on" if value else "--no-enable-prefix-caching"
    word = SHARDING.get(name) or _WORDS.get(name) or "--" + name.replace("_", "-")
    return f"{word} {value}"


def agrees(compare: Compare, trial: Trial) -> bool:
    """Whether every figure agrees; a set-up that the engine refuses does not."""
    try:
        found = compare(trial)
    except KvcalcError:
        return False
    return bool(found) and all(c.agrees for c in found)


MAX_TRIALS = 1_000


def explain(compare: Compare, trial: Trial, alternatives: Mapping[str, Sequence[Any]]) -> tuple[Explanation, ...]:
    """Single changes that make every figure agree; pairs of changes where no single one does."""
    changes = [
        (name, value)
        for name, values in alternatives.items()
        for value in values
        if value != trial.value(name)
    ]  # fmt: skip
    for size in (1, 2):
        found = tuple(_explaining(compare, trial, changes, size))
        if found:
            return found
    return ()


def _explaining(compare: Compare, trial: Trial, changes: Sequence[Change], size: int) -> Iterator[Explanation]:
    for number, chosen in enumerate(combinations(changes, size)):
        if number >= MAX_TRIALS:
            return
        if len({name for name, _ in chosen}) < size:
            continue
        altered = trial
        for name, value in chosen:
            altered = altered.changed(name, value)
        if agrees(compare, altered):
            yield Explanation(change=" and ".join(say(change) for change in chosen))
