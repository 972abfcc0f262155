"""The answer of `kvcalc size`: footprints of models for one workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.footprint import Footprint, footprint, workload_for
from kvcalc.layout import HasLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeReport:
    """Logical bytes of each model, and what was assumed on the way."""

    models: tuple[Footprint, ...]
    warnings: tuple[str, ...]

    @property
    def logical_bytes(self) -> int:
        """Of all models together."""
        return sum(model.logical_bytes for model in self.models)


def size(
    candidates: Sequence[HasLayout],
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    encoder_len: int | None = None,
    formats: FormatChoice = BF16,
) -> SizeReport:
    """Footprints of the models for `batch_size` sequences of `seq_len` tokens (default: each model's context).

    Raises:
        KvcalcError: no length is known, or a stream cannot be stored in the chosen format.
    """
    models: list[Footprint] = []
    warnings: list[str] = []
    for model in candidates:
        workload, said = workload_for(
            model, batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len, formats=formats
        )
        models.append(footprint(model, workload))
        warnings += said
    return SizeReport(models=tuple(models), warnings=tuple(warnings))
