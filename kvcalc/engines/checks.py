"""What engines refuse, and how their versions are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import lru_cache
from typing import Any

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.formats import TOKEN_ROLES
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec

StageBudgets = int | tuple[int, ...]
"""Bytes for the cache on every rank, or on a rank of each pipeline stage."""


def check_counts(settings: Any, *, at_most: int = 2**60) -> None:
    """Every whole number among an engine's settings is at least 1 (speculative tokens: 0).

    Raises:
        KvcalcError: one is not.
    """
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        least = 0 if entry.name == "num_speculative_tokens" else 1
        if isinstance(value, int) and not isinstance(value, bool) and not least <= value <= at_most:
            raise usage_error(f"{entry.name} must be at least {least} and at most {at_most:,}, got {value:,}")


@lru_cache(maxsize=64)
def version_key(version: str) -> tuple[int, int, int]:
    """`0.20.1rc1` -> (0, 20, 1).

    Raises:
        KvcalcError: not a version.
    """
    parts: list[int] = []
    for part in version.removeprefix("v").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 6:
            break
        parts.append(int(digits))
    if not parts:
        raise usage_error(f"{version[:40]!r} is not a version", help="write it like 0.33.0")
    major, minor, patch = (*parts, 0, 0)[:3]
    return major, minor, patch


def longest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """Largest n in 0..limit for which `fits(n)` holds (it holds for all smaller ones too)."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def check_formats(engine: str, formats: FormatChoice, accepted: Iterable[str]) -> None:
    """Refuse formats that an engine does not have; `accepted` are names or their beginnings.

    Raises:
        KvcalcError: the default, or a format given for keys, values, latents or indexer keys.
    """
    beginnings = tuple(accepted)
    asked = [formats.default, *(dtype for role, dtype in formats.by_role.items() if role in TOKEN_ROLES)]
    for dtype in asked:
        if not dtype.name.startswith(beginnings):
            raise usage_error(
                f"{engine} cannot store {dtype.name}", help=f"it has {', '.join(name + '*' for name in beginnings)}"
            )


def context_limit(spec: ModelSpec, max_model_len: int | None, otherwise: int | None = None) -> int:
    """Tokens of the longest request: as given, or the model's context.

    Raises:
        KvcalcError: neither is known.
    """
    limit = max_model_len or spec.max_position_embeddings or otherwise
    if limit is None:
        raise usage_error(f"{spec.name} states no context length", help="give --max-model-len")
    return limit


def per_stage(budget: StageBudgets, stages: int) -> tuple[int, ...]:
    """Bytes of the cache on a rank of each pipeline stage."""
    return budget if isinstance(budget, tuple) else (budget,) * stages
