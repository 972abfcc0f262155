"""The answers of `list gpus` and `explain GPU`: what is known of accelerators, and from where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvcalc.roofline import ceilings
from kvcalc.spec.figures import figures
from kvcalc.spec.hardware import HardwareSpec, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureLine:
    """One figure of a hardware file, as it was printed."""

    place: str
    """Where it stands in the file, as in `sram.clock`."""
    value: str
    kind: str
    source: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierTheory:
    """One tier's capacity and bandwidth as calculations use them, and as explanations quote them."""

    tier: str
    capacity_bytes: int | None
    capacity: str
    """How the capacity comes about, as in `108 x 192 KiB`."""
    bytes_per_s: int | None
    basis: str
    theory_bytes_per_s: int | None
    theory: str
    quoted: tuple[str, ...]
    measured: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorExplanation:
    """A GPU's hierarchy, its ridge points, and every figure with its source."""

    name: str
    full_name: str
    aliases: tuple[str, ...]
    announced: bool
    tiers: tuple[TierTheory, ...]
    ridges: tuple[tuple[str, int, float], ...]
    """(type, peak FLOP/s, FLOP/B at which memory and arithmetic take equally long)."""
    figures: tuple[FigureLine, ...]
    notes: str | None


def explain_accelerator(spec: HardwareSpec) -> AcceleratorExplanation:
    """Every figure of a hardware file, and what follows from them."""
    limits = ceilings(spec) if spec.memory.rate else None
    peaks = limits.flops_per_s.items() if limits else ()
    return AcceleratorExplanation(
        name=spec.name,
        full_name=spec.full_name,
        aliases=spec.aliases,
        announced=spec.announced,
        tiers=tuple(_theories(spec)),
        ridges=tuple((dtype, peak, float(limits.ridge(dtype))) for dtype, peak in peaks if limits),
        figures=tuple(_lines(spec)),
        notes=spec.notes,
    )


def _theories(spec: HardwareSpec) -> Iterator[TierTheory]:
    for name, tier in spec.tiers().items():
        rate = tier.rate
        yield TierTheory(
            tier=name,
            capacity_bytes=tier.total_bytes,
            capacity=_capacity_text(tier) if isinstance(tier, Level) else f"as the {spec.memory.plan_basis} reports it",
            bytes_per_s=rate.bytes_per_s if rate else None,
            basis=rate.basis if rate else "",
            theory_bytes_per_s=tier.theoretical_bytes_per_s,
            theory=tier.theory or "",
            quoted=tuple(f"{q.printed} in {q.source}{f': {q.note}' if q.note else ''}" for q in tier.quoted),
            measured=tuple(f"{m.value} ({m.what}; {m.machine}, {m.date})" for m in tier.measured),
        )


def _capacity_text(tier: Level) -> str:
    if tier.capacity is not None or tier.per_unit is None or tier.units is None:
        return ""
    return f"{tier.units.exact} x {tier.per_unit.value}"


def _lines(spec: HardwareSpec) -> Iterator[FigureLine]:
    for place, figure in figures(spec):
        yield FigureLine(
            place=".".join(str(part) for part in place),
            value=str(figure.value),
            kind=getattr(figure, "kind", "measured"),
            source=figure.source,
            note=getattr(figure, "note", None),
        )
