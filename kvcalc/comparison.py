"""The answer of `kvcalc compare`: models and what-ifs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.footprint import Footprint, footprint, workload_for
from kvcalc.spec.model import ModelSpec
from kvcalc.variants import Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """One line of the comparison; ratios are to the first line."""

    label: str
    footprint: Footprint
    ratio: Fraction | None
    """Logical bytes over those of the first line; None where the first has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareReport:
    """The lines in the order in which they were asked for, and what was assumed on the way."""

    rows: tuple[ComparedModel, ...]
    warnings: tuple[str, ...]


def compare(
    candidates: Sequence[tuple[ModelSpec, Variant | None]],
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    encoder_len: int | None = None,
    formats: FormatChoice = BF16,
) -> CompareReport:
    """Footprints of models and variants for one workload; without a length, that of the first model's context.

    Raises:
        KvcalcError: no length is known, or a variant or format does not apply.
    """
    rows: list[ComparedModel] = []
    warnings: list[str] = []
    for spec, variant in candidates:
        changed = variant.spec(spec) if variant else spec
        workload, said = workload_for(
            changed,
            batch_size=batch_size,
            seq_len=seq_len,
            encoder_len=encoder_len,
            formats=(variant.formats if variant else None) or formats,
        )
        # One length for all, else the figures could not be set side by side.
        seq_len = workload.seq_len
        warnings += [message for message in said if message not in warnings]
        counted = footprint(changed, workload)
        first = rows[0].footprint.logical_bytes if rows else counted.logical_bytes
        rows.append(
            ComparedModel(
                label=f"{spec.name} {variant.label}" if variant else spec.name,
                footprint=counted,
                ratio=Fraction(counted.logical_bytes, first) if first else None,
            )
        )
    return CompareReport(rows=tuple(rows), warnings=tuple(warnings))
