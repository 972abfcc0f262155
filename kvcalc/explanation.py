"""The answer of `kvcalc explain`: formulas, the numbers put in, and where they come from.

The formulas printed here are those of the extents and formats that compute the bytes; a test evaluates
each printed formula against the code on random integers.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from kvcalc.attention import KINDS
from kvcalc.footprint import Footprint, GroupBytes, StreamBytes, Workload, footprint
from kvcalc.formats import CacheDtype
from kvcalc.spec.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`name = formula = formula with numbers = value unit`."""

    name: str
    formula: str
    with_numbers: str
    value: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedGroup:
    """The rows and bytes of one layer of a group, stream by stream."""

    title: str
    source: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelExplanation:
    """How a model's logical bytes come about."""

    footprint: Footprint
    groups: tuple[ExplainedGroup, ...]
    total: Step
    sources: tuple[str, ...]
    notes: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KindExplanation:
    """A kind of attention in its own words: what it keeps, and by which formula."""

    name: str
    summary: str
    text: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedFormat:
    """One layout of a format, and its bytes for a row of one head."""

    applies_to: str
    summary: str
    formula: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatExplanation:
    """A storage format by each of its layouts."""

    name: str
    summary: str
    layouts: tuple[ExplainedFormat, ...]


def put_in(formula: str, **values: int) -> str:
    """A formula with numbers in place of its names: (`rows * 2`, rows=1024) -> `1,024 * 2`."""
    return re.sub(
        r"[A-Za-z_]\w*", lambda word: f"{values[word[0]]:,}" if word[0] in values else word[0], formula, flags=re.ASCII
    )


def explain_model(spec: ModelSpec, workload: Workload) -> ModelExplanation:
    """Each layer group's streams, their rows and bytes with the numbers put in, and the total."""
    counted = footprint(spec, workload)
    groups = tuple(_explain_group(part, workload) for part in counted.groups)
    terms = [f"{part.bytes_per_layer:,} * {len(part.layers)}" for part in counted.groups if part.bytes_per_layer]
    total = Step(
        name="logical",
        formula="batch * (sum over groups of bytes per layer * layers)",
        with_numbers=f"{counted.batch_size:,} * ({' + '.join(terms) or '0'})",
        value=counted.logical_bytes,
        unit="B",
    )
    return ModelExplanation(
        footprint=counted,
        groups=groups,
        total=total,
        sources=tuple(f"{source.kind}: {source.source}" for source in spec.sources),
        notes=spec.notes,
    )


def _explain_group(part: GroupBytes, workload: Workload) -> ExplainedGroup:
    return ExplainedGroup(
        title=f"{len(part.layers)} x {part.label}",
        source=part.source,
        steps=tuple(step for stream in part.streams for step in _explain_stream(stream, workload)),
    )


def _explain_stream(stream: StreamBytes, workload: Workload) -> tuple[Step, Step]:
    rows = Step(
        name=f"{stream.name} rows",
        formula=stream.rows_formula,
        with_numbers=put_in(stream.rows_formula, S=workload.seq_len, E=workload.encoder_len),
        value=stream.rows,
        unit="rows",
    )
    numbers = {"rows": stream.rows, "heads": stream.heads, "width": stream.width}
    size = Step(
        name=f"{stream.name} bytes ({stream.format})",
        formula=stream.bytes_formula,
        with_numbers=put_in(stream.bytes_formula, **numbers),
        value=stream.bytes,
        unit="B",
    )
    return rows, size


def explain_kind(name: str) -> KindExplanation:
    """What a kind keeps, by its own docstring, and the source of its formula."""
    kind = KINDS[name]
    return KindExplanation(
        name=name, summary=kind.summary, text=inspect.cleandoc(kind.__doc__ or ""), source=kind.source
    )


def explain_format(dtype: CacheDtype) -> FormatExplanation:
    """Every layout a format's name stands for, and its bytes."""
    pairs = [("every stream" if not dtype.variants else "other streams", dtype.default)]
    pairs = [
        (str(role) + (f" of width {width}" if width else ""), stored) for role, width, stored in dtype.variants
    ] + pairs
    layouts = tuple(
        ExplainedFormat(applies_to=where, summary=stored.summary, formula=stored.formula(128), source=stored.source)
        for where, stored in pairs
        if stored is not None
    )
    return FormatExplanation(name=dtype.name, summary=dtype.summary, layouts=layouts)
