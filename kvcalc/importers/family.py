"""What the table of families holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvcalc.importers.config import Config, Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One `model_type`: how its config becomes layers."""

    read: Callable[[Config], Layout]
    source: str
    """Where the rule stands (repository file and version)."""
    harmless: frozenset[str] = frozenset()
    """Keys that look like cache geometry, and are known to say nothing of it in this family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A `model_type` that is known, and that kvcalc cannot describe."""

    reason: str


def hf(folder: str) -> str:
    """Source line of a family that transformers defines."""
    return f"transformers 5.23.0 models/{folder}"
