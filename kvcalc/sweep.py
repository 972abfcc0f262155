"""The same formulas over a grid of batch sizes and lengths, in NumPy.

Every figure of a decode step is batch x (something of the length) + (something of the batch), so a plane of millions
of points is two short vectors and an outer product. Integers stay exact: where an int64 could overflow, the same
formulas run on Python integers instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.footprint import Workload
from kvcalc.formats import ceil_div
from kvcalc.layout import CacheGroup
from kvcalc.problems import usage_error
from kvcalc.roofline import PEAKS, Calibration, Ceilings, ceilings, gemm_type
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec, layer_groups
from kvcalc.steps import DECODE, Convention
from kvcalc.traffic import Kernel, kept_bytes, kernels, read_bytes, work_flops, written
from kvcalc.units import parse_count
from kvcalc.weight_traffic import ONE_RANK, Shards, WeightTraffic, step_weights
from kvcalc.weights.ledger import WeightScheme, weight_bytes_per_stage, weight_scheme

Ints = NDArray[Any]
"""int64, or Python integers where those could overflow."""
Floats = NDArray[np.float64]

INT64_SAFE = 2**59
"""Bytes below it leave room for the bits (x 8) and the sums that formats calculate with on the way."""
MAX_AXIS = 1_000_000
"""Values of one axis."""
MAX_POINTS = 10**9
"""Of all planes together: more would take minutes to write."""
BLOCK_POINTS = 2**20
"""Points that are expanded at once: the memory of a sweep does not grow with its grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some batch sizes (rows) by all lengths (columns)."""

    batches: Ints
    cache_bytes: Ints
    """Kept on one rank."""
    read_bytes: Ints
    """Of the caches in one decode step, on one rank."""
    flops: Ints
    """Of attention and GEMMs on one rank."""
    seconds: Floats | None
    """Time bound of the step; None without a GPU."""
    fits: NDArray[np.bool_] | None
    """Cache and weights within the memory of one GPU; None without a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One model in one format on one GPU: what each length costs per sequence, and each batch besides."""

    model: str
    gpu: str | None
    kv_cache_dtype: str
    shards: str
    batches: Ints
    lengths: Ints
    rank_batches: Ints
    """Sequences of the fullest data-parallel rank, per batch size."""
    kept: Ints
    """Bytes of one sequence, per length."""
    read: Ints
    """Bytes of the cache that one sequence's decode step reads, per length."""
    flops: Ints
    """Of one sequence's attention in a decode step, per length."""
    attention_s: Floats | None
    """Time bound of one sequence's attention, per length."""
    weight_read: Ints
    """Bytes of weights that a step reads, per batch size."""
    gemm_flops: Ints
    """Of a step's products with weights, per batch size."""
    gemm_s: Floats | None
    """Time bound of these products, per batch size; None without a GPU."""
    weight_bytes: int | None
    """Of one rank; None where the spec describes the cache alone."""
    memory_bytes: int | None
    """Of one GPU, times the share that may be used."""
    calibration: str | None

    @property
    def points(self) -> int:
        return len(self.batches) * len(self.lengths)

    def block(self, start: int, stop: int) -> Block:
        """The points of batch sizes start..stop."""
        ranks = self.rank_batches[start:stop]
        kept = np.multiply.outer(ranks, self.kept)
        seconds = fits = None
        if self.attention_s is not None and self.gemm_s is not None:
            seconds = np.multiply.outer(ranks.astype(np.float64), self.attention_s)
            seconds += self.gemm_s[start:stop, None]
        if self.memory_bytes is not None:
            fits = (kept <= self.memory_bytes - (self.weight_bytes or 0)).astype(np.bool_)
        return Block(
            batches=self.batches[start:stop],
            cache_bytes=kept,
            read_bytes=np.multiply.outer(ranks, self.read),
            flops=np.multiply.outer(ranks, self.flops) + self.gemm_flops[start:stop, None],
            seconds=seconds,
            fits=fits,
        )

    def blocks(self) -> Iterator[Block]:
        """All points, a bounded number at a time."""
        rows = max(1, BLOCK_POINTS // len(self.lengths))
        for start in range(0, len(self.batches), rows):
            yield self.block(start, start + rows)


def plane(
    spec: ModelSpec,
    batches: Sequence[int],
    lengths: Sequence[int],
    *,
    hardware: HardwareSpec | None = None,
    formats: FormatChoice = BF16,
    encoder_len: int = 0,
    convention: Convention = DECODE,
    attention_dtype: str = "bf16",
    scheme: WeightScheme | None = None,
    shards: Shards = ONE_RANK,
    memory_share: Fraction = Fraction(1),
    calibration: Calibration | None = None,
) -> Plane:
    """Decode steps of every batch size with every length.

    Raises:
        KvcalcError: an empty or too large axis, or a stream that cannot be stored in the chosen format.
    """
    _check_axes(batches, lengths)
    stored = scheme or weight_scheme(spec)
    limits = ceilings(hardware, calibration) if hardware else None
    workload = Workload(batch_size=1, seq_len=1, encoder_len=encoder_len, formats=formats)
    ranks = [ceil_div(batch, shards.weights.data) for batch in batches]
    weights_of = step_weights(spec, "decode", stored, shards)
    weights = [weights_of.at(batch) for batch in batches]
    gemm_flops = [sum(part.flops for part in parts) for parts in weights]
    groups = layer_groups(spec)
    ran = tuple((group.count, kernel) for group in groups for kernel in kernels(group, "decode", convention))
    per_length = _PerLength(tuple(group.cache_group() for group in groups), ran, workload, shards)
    tokens = _tokens(per_length, lengths, max(ranks), max(gemm_flops))
    exact = tokens.dtype != np.int64

    def ints(values: Sequence[int]) -> Ints:
        return np.array(values, dtype=object if exact else np.int64)

    return Plane(
        model=spec.name,
        gpu=hardware.name if hardware else None,
        kv_cache_dtype=formats.name,
        shards=shards.name,
        batches=ints(batches),
        lengths=tokens,
        rank_batches=ints(ranks),
        kept=per_length.kept(tokens),
        read=per_length.read(tokens),
        flops=per_length.flops(tokens),
        attention_s=per_length.seconds(tokens, limits, attention_dtype) if limits else None,
        weight_read=_array([sum(part.read_bytes for part in parts) for parts in weights]),
        gemm_flops=ints(gemm_flops),
        gemm_s=_gemm_seconds(weights, limits) if limits else None,
        weight_bytes=_rank_weights(spec, stored, shards) if weights[0] else None,
        memory_bytes=int(hardware.memory.plan_bytes * memory_share) if hardware else None,
        calibration=limits.calibration if limits else None,
    )


def _check_axes(batches: Sequence[int], lengths: Sequence[int]) -> None:
    for name, axis in (("batch sizes", batches), ("lengths", lengths)):
        if not 1 <= len(axis) <= MAX_AXIS:
            raise usage_error(f"{len(axis):,} {name}: a sweep takes 1 to {MAX_AXIS:,} of each")
        if min(axis) < 1:
            raise usage_error(f"{name} must be at least 1, got {min(axis)}")
    if len(batches) * len(lengths) > MAX_POINTS:
        raise usage_error(f"{len(batches) * len(lengths):,} points: a sweep takes at most {MAX_POINTS:,}")


def _tokens(per_length: _PerLength, lengths: Sequence[int], batch: int, gemm_flops: int) -> Ints:
    """The lengths as int64 or, where a figure of the grid could pass 2^59, as Python integers.

    The same formulas on floats tell how large the figures become.
    """
    rough = np.array(lengths, dtype=np.float64)
    largest = max(
        float(np.max(figure)) for figure in (per_length.kept(rough), per_length.read(rough), per_length.flops(rough))
    )
    safe = largest * batch + gemm_flops < INT64_SAFE and max(lengths) < INT64_SAFE and batch < INT64_SAFE
    return np.array(lengths, dtype=np.int64 if safe else object)


def _array(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64 if max(values) < INT64_SAFE else object)


@dataclass(frozen=True, slots=True)
class _PerLength:
    """Figures of one sequence on one rank, all layers, for an array of lengths."""

    kept_groups: tuple[CacheGroup, ...]
    kernels: tuple[tuple[int, Kernel], ...]
    """(layers, kernel of each of them)."""
    workload: Workload
    shards: Shards

    def kept(self, tokens: Ints) -> Ints:
        """Bytes that stay in the cache."""
        parts = (
            group.count * kept_bytes(group.logical_streams, tokens, self.workload, self.shards)
            for group in self.kept_groups
        )
        return sum(parts, tokens * 0)

    def read(self, tokens: Ints) -> Ints:
        """Bytes that a decode step reads of it."""
        return sum((self._read(layers, kernel, tokens) for layers, kernel in self.kernels), tokens * 0)

    def flops(self, tokens: Ints) -> Ints:
        """FLOPs of a decode step's attention."""
        return sum((self._flops(layers, kernel, tokens) for layers, kernel in self.kernels), tokens * 0)

    def seconds(self, tokens: Ints, limits: Ceilings, dtype: str) -> Floats:
        """Bound of a decode step's attention [s]: each kernel at its own limit, one after another."""
        rate = limits.compute(dtype)[1]
        total = np.zeros(len(tokens))
        for layers, kernel in self.kernels:
            wrote = float(layers * written(kernel.streams, self.workload, self.shards))
            memory_s = (self._read(layers, kernel, tokens).astype(np.float64) + wrote) / limits.bytes_per_s
            total += np.maximum(memory_s, self._flops(layers, kernel, tokens).astype(np.float64) / rate)
        return total

    def _read(self, layers: int, kernel: Kernel, tokens: Ints) -> Ints:
        parts = (layers * read_bytes(read, "decode", tokens, self.workload, self.shards) for read in kernel.reads)
        return sum(parts, tokens * 0)

    def _flops(self, layers: int, kernel: Kernel, tokens: Ints) -> Ints:
        parts = (layers * work_flops(work, "decode", tokens, self.workload, self.shards) for work in kernel.work)
        return sum(parts, tokens * 0)


def _gemm_seconds(weights: Sequence[tuple[WeightTraffic, ...]], limits: Ceilings) -> Floats:
    """Bounds of the products with weights [s], per batch size: each component at its own limit, one after another."""
    return np.array(
        [
            sum(max(p.read_bytes / limits.bytes_per_s, p.flops / limits.compute(gemm_type(p.format))[1]) for p in parts)
            for parts in weights
        ],
        dtype=np.float64,
    )


def _rank_weights(spec: ModelSpec, scheme: WeightScheme, shards: Shards) -> int:
    return max(ledger.total for ledger in weight_bytes_per_stage(spec, scheme, shards.weights))


def parse_axis(text: str, what: str) -> tuple[int, ...]:
    """`1:256:*2` (1, 2, 4 ... 256), `1K:8K:+1K` or `1K:8K:1K` (steps), `1,8,64`; parts join by commas.

    Raises:
        KvcalcError: not such a range, or more than a million values.
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        ends = part.split(":")
        if len(ends) > 3:
            raise usage_error(f"{part[:60]!r} is no range for {what}", help="as in 1:256:*2, 1K:8K:1K or 1,8,64")
        start = parse_count(ends[0], what)
        stop = parse_count(ends[1], what) if len(ends) > 1 else start
        if stop < start:
            raise usage_error(f"{part[:60]!r} runs backwards", help=f"as in {ends[1]}:{ends[0]}:*2")
        for value in _steps(start, stop, ends[2].strip() if len(ends) == 3 else "*2", what):
            found[value] = None
            if len(found) > MAX_AXIS:
                raise usage_error(f"{text[:60]!r} gives more than {MAX_AXIS:,} values for {what}")
    return tuple(sorted(found))


def _steps(start: int, stop: int, step: str, what: str) -> Iterator[int]:
    if step.startswith("*"):
        factor, value = parse_count(step[1:], f"factor of {what}", minimum=2), start
        while value <= stop:
            yield value
            value *= factor
    else:
        yield from range(start, stop + 1, parse_count(step.removeprefix("+"), f"step of {what}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """One plane for every model, format, GPU and layout."""

    planes: tuple[Plane, ...]
    assumptions: tuple[str, ...]

    @property
    def points(self) -> int:
        return sum(each.points for each in self.planes)


def sweep(
    specs: Sequence[ModelSpec],
    batches: Sequence[int],
    lengths: Sequence[int],
    *,
    gpus: Sequence[HardwareSpec] = (),
    formats: Sequence[FormatChoice] = (BF16,),
    shards: Sequence[Shards] = (ONE_RANK,),
    encoder_len: int = 0,
    convention: Convention | None = None,
    weight_dtype: str | None = None,
    memory_share: Fraction = Fraction(1),
    calibration: Calibration | None = None,
) -> SweepReport:
    """A plane for each combination of model, GPU, format and layout.

    Raises:
        KvcalcError: an empty or too large grid, or a stream that cannot be stored in a chosen format.
    """
    machines: Sequence[HardwareSpec | None] = gpus or (None,)
    combinations = list(product(specs, machines, formats, shards))
    total = len(combinations) * len(batches) * len(lengths)
    if total > MAX_POINTS:
        raise usage_error(f"{total:,} points: a sweep takes at most {MAX_POINTS:,}")
    planes = tuple(
        plane(
            spec,
            batches,
            lengths,
            hardware=machine,
            formats=choice,
            encoder_len=encoder_len,
            convention=convention or DECODE,
            scheme=weight_scheme(spec, weight_dtype),
            shards=layout,
            memory_share=memory_share,
            calibration=calibration,
        )
        for spec, machine, choice, layout in combinations
    )
    return SweepReport(planes=planes, assumptions=tuple(_assumptions(planes, convention or DECODE, memory_share)))


def _assumptions(planes: tuple[Plane, ...], convention: Convention, memory_share: Fraction) -> Iterator[str]:
    yield f"kernels: {convention.name}; components of a step run one after another"
    if any(each.gpu for each in planes):
        yield planes[0].calibration or PEAKS
        yield f"fits: one rank's cache and weights within {float(memory_share):g} of its GPU's memory"
    if any(each.shards for each in planes):
        yield "figures of one rank, without communication between ranks"
    if any(each.weight_bytes is None for each in planes):
        yield "weights: a spec describes the cache alone, so they are left out"
