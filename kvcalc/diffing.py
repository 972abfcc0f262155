"""The answer of `kvcalc diff`: what a change of specs does to the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.checks.capacity import need_of
from kvcalc.footprint import footprint, workload_for
from kvcalc.problems import KvcalcError
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.spec.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A model before or after."""

    seq_len: int | None
    """Tokens per sequence; None where none was given and the model states no context."""
    bytes_per_token: Fraction
    """Of one sequence, once windows have filled."""
    fixed_bytes: int
    """Of one sequence: windows, states, encoder."""
    logical_bytes: int | None
    """Of the whole batch; None where there is no length."""
    gpus: int | None
    """Fewest accelerators whose memory adds up to weights and cache; None where not asked or not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChange:
    """One model; a side is None where the model was added or removed."""

    model: str
    old: Side | None
    new: Side | None

    @property
    def changes_bytes(self) -> bool:
        return self.old != self.new


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffReport:
    models: tuple[ModelChange, ...]
    batch_size: int
    seq_len: int | None
    """None: each model's own context."""
    kv_cache_dtype: str
    gpu: str | None
    warnings: tuple[str, ...]

    @property
    def changes_bytes(self) -> bool:
        return any(model.changes_bytes for model in self.models)


def diff(
    old: Mapping[str, ModelSpec],
    new: Mapping[str, ModelSpec],
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    encoder_len: int | None = None,
    formats: FormatChoice = BF16,
    gpu: str | None = None,
) -> DiffReport:
    """Both sides of each model (by the keys of the mappings), for one workload.

    Raises:
        KvcalcError: no length is known, a stream cannot be stored so, or an unknown accelerator.
    """
    if gpu:
        find_hardware(gpu)  # an unknown name is the user's mistake; weights that cannot be counted are the spec's
    warnings: list[str] = []
    changes: list[ModelChange] = []
    for key in sorted({*old, *new}):
        # A change of the context itself must show: each side is sized at its own, unless a length is given.
        sides = [
            _side(specs[key], warnings, batch_size, seq_len, encoder_len, formats, gpu) if key in specs else None
            for specs in (old, new)
        ]
        name = (new.get(key) or old[key]).name
        changes.append(ModelChange(model=name, old=sides[0], new=sides[1]))
    return DiffReport(
        models=tuple(changes),
        batch_size=batch_size,
        seq_len=seq_len,
        kv_cache_dtype=formats.name,
        gpu=gpu,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _side(
    spec: ModelSpec, warnings: list[str], batch_size: int, seq_len: int | None, encoder_len: int | None,
    formats: FormatChoice, gpu: str | None,
) -> Side:  # fmt: skip
    known = seq_len is not None or spec.max_position_embeddings is not None
    workload, said = workload_for(
        spec, batch_size=batch_size, seq_len=seq_len if known else 1, encoder_len=encoder_len, formats=formats
    )
    warnings += (
        said
        if known
        else (
            *said,
            f"{spec.name} states no context length: give --seq-len for its bytes",
        )
    )
    counted = footprint(spec, workload)
    grown = counted.growth
    return Side(
        seq_len=counted.seq_len if known else None,
        bytes_per_token=Fraction(grown.step_bytes, grown.step_tokens),
        fixed_bytes=grown.fixed_bytes,
        logical_bytes=counted.logical_bytes if known else None,
        gpus=_gpus(spec, counted.logical_bytes, gpu, warnings) if gpu and known else None,
    )


def _gpus(spec: ModelSpec, cache_bytes: int, gpu: str, warnings: list[str]) -> int | None:
    """Fewest accelerators; None, with a warning, where the weights cannot be counted."""
    try:
        return need_of(spec, cache_bytes, gpu).gpus
    except KvcalcError as error:
        warnings.append(error.problems[0].message)
        return None
