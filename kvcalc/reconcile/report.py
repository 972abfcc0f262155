"""What a reconciliation says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure as predicted and as printed, both in the log's own unit and rounding."""

    name: str
    predicted: str
    printed: str
    unit: str
    agrees: bool
    line: int
    """Of the log."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingUsed:
    """A setting of the prediction, and where it comes from: option, log or default."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Other settings under which every figure would agree."""

    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileReport:
    """Prediction against log."""

    engine: str
    version: str
    model: str
    log: str
    settings: tuple[SettingUsed, ...]
    comparisons: tuple[Comparison, ...]
    agrees: bool
    explanations: tuple[Explanation, ...]
    """Where it disagrees: what would explain it, the smallest change first."""
    notes: tuple[str, ...] = ()
