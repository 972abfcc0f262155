"""Time bounds of a step: bytes against bandwidth, FLOPs against a peak rate, and which of the two binds.

A bound is what no kernel can beat on that machine; it is never called a prediction. With a calibration the ceilings
are measured ones, and the report says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.footprint import Workload, workload_for
from kvcalc.problems import usage_error
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec
from kvcalc.steps import Convention, Phase
from kvcalc.traffic import Traffic, kept_bytes, traffic
from kvcalc.units import format_rate
from kvcalc.weight_traffic import ONE_RANK, Shards
from kvcalc.weights.formats import WEIGHT_FORMATS
from kvcalc.weights.ledger import WeightScheme, weight_bytes_per_stage, weight_scheme

PEAKS = "published peaks: times are bounds, never predictions"
"""What times rest on without a calibration."""
BoundBy = Literal["memory", "compute"]

FALLBACKS: Mapping[str, tuple[str, ...]] = {
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "int8": ("bf16", "fp16", "fp32"),
    "fp4": ("bf16", "fp16", "fp32"),
    "tf32": ("fp32",),
    "fp32": (),
}
"""Where the accelerator has no unit for a type, operands are widened and multiplied in the next."""


BEYOND = 1.05
"""No memory is read so much faster than its published rate: what claims it is another GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Ceilings measured on a machine, to use in place of published peaks."""

    label: str
    """Machine, date and command, as in `calibrated on NVIDIA H200, 2026-11-24`."""
    bytes_per_s: int | None = None
    """Read bandwidth of the memory."""
    flops_per_s: Mapping[str, int] = field(default_factory=dict)
    """GEMM rate per type of the operands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """What times are calculated with."""

    gpu: str
    bytes_per_s: int
    bytes_source: str
    flops_per_s: Mapping[str, int]
    calibration: str | None = None
    """None: published (or theoretical) peaks, so times are bounds."""

    def compute(self, dtype: str) -> tuple[str, int]:
        """(type that is really multiplied, operations per second).

        Raises:
            KvcalcError: no rate is known for it.
        """
        for name in (dtype, *FALLBACKS.get(dtype, ())):
            if name in self.flops_per_s:
                return name, self.flops_per_s[name]
        known = ", ".join(self.flops_per_s)
        raise usage_error(f"{self.gpu} states no peak for {dtype}", help=f"it has: {known}")

    @property
    def assumption(self) -> str:
        """What times under these ceilings rest on."""
        return self.calibration or PEAKS

    def ridge(self, dtype: str) -> Fraction:
        """FLOP/B at which memory and arithmetic take equally long."""
        return Fraction(self.compute(dtype)[1], self.bytes_per_s)


def ceilings(hardware: HardwareSpec, calibration: Calibration | None = None) -> Ceilings:
    """The accelerator's peaks times its named efficiencies (1.0 unless its file gives one), or measured ceilings.

    Raises:
        KvcalcError: the spec gives no memory bandwidth, or the calibration is of a faster memory.
    """
    rate = hardware.memory.rate
    measured = calibration.bytes_per_s if calibration else None
    if rate is None and measured is None:
        raise usage_error(f"{hardware.name} states no memory bandwidth", help="add memory.bandwidth to its file")
    published = rate.bytes_per_s if rate else 0
    if calibration and measured and published and measured > BEYOND * published:
        found, states = (format_rate(each, "B/s") for each in (measured, published))
        message = f"{calibration.label} reads {found}, but {hardware.name} {states} at most"
        raise usage_error(message, help="a calibration holds for the kind of GPU that it was measured on")
    memory = _share(published, hardware.efficiency_of("memory_bandwidth").value)
    compute = hardware.efficiency_of("compute").value
    peaks = {str(dtype): _share(peak.exact, compute) for dtype, peak in hardware.peak.items()}
    return Ceilings(
        gpu=hardware.name,
        bytes_per_s=measured or memory,
        bytes_source=calibration.label if calibration and measured else rate.source if rate else "",
        flops_per_s=peaks | dict(calibration.flops_per_s if calibration else {}),
        calibration=calibration.label if calibration else None,
    )


def _share(peak: int, efficiency: float) -> int:
    return int(peak * Fraction(str(efficiency)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One component of a step on the roofline."""

    name: str
    what: Literal["attention", "gemm"]
    layers: int | None
    bytes: Fraction
    flops: int
    dtype: str
    """Type of the operands that are multiplied."""
    intensity: float | None
    """FLOP/B; None where nothing is read."""
    ridge: float
    memory_s: float
    compute_s: float
    seconds: float
    """The longer of the two: a bound."""
    bound_by: BoundBy


def point(
    name: str,
    what: Literal["attention", "gemm"],
    size: Fraction | int,
    flops: int,
    limits: Ceilings,
    dtype: str,
    layers: int | None = None,
) -> Point:
    """Times of `size` bytes and `flops` FLOPs under the ceilings."""
    chosen, rate = limits.compute(dtype)
    memory_s, compute_s = float(Fraction(size) / limits.bytes_per_s), flops / rate
    return Point(
        name=name,
        what=what,
        layers=layers,
        bytes=Fraction(size),
        flops=flops,
        dtype=chosen,
        intensity=float(flops / Fraction(size)) if size else None,
        ridge=float(limits.ridge(dtype)),
        memory_s=memory_s,
        compute_s=compute_s,
        seconds=max(memory_s, compute_s),
        bound_by="compute" if compute_s > memory_s else "memory",
    )


def gemm_type(weight_format: str) -> str:
    """Type of the operands of a product with weights in this format (a name in `WEIGHT_FORMATS`)."""
    return WEIGHT_FORMATS[weight_format].operands


def points(counted: Traffic, limits: Ceilings, attention_dtype: str = "bf16") -> tuple[Point, ...]:
    """Every component of a step: layer groups' attention, then the weights."""
    attention = (
        point(kernel.label, "attention", kernel.bytes, kernel.flops, limits, attention_dtype, kernel.layers)
        for group in counted.groups
        for kernel in group.kernels
    )
    gemms = (
        point(_gemm_name(w.component, w.format), "gemm", w.read_bytes, w.flops, limits, gemm_type(w.format))
        for w in counted.weights
    )
    return (*attention, *gemms)


def _gemm_name(component: str, stored: str) -> str:
    return f"{component} weights ({stored})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Time bounds of one step on one rank, without communication between ranks."""

    seconds: float
    """Components one after another, each at its own limit."""
    overlapped_seconds: float
    """All bytes and all FLOPs at once: what even perfect overlap cannot beat."""
    attention_seconds: float
    gemm_seconds: float
    bound_by: BoundBy
    """What the larger part of `seconds` waits for."""


def step_time(parts: Iterable[Point]) -> StepTime:
    """The time bound of a step from its components'."""
    parts = tuple(parts)
    total = sum(part.seconds for part in parts)
    compute = sum(part.compute_s for part in parts if part.bound_by == "compute")
    return StepTime(
        seconds=total,
        overlapped_seconds=max(sum(part.memory_s for part in parts), sum(part.compute_s for part in parts)),
        attention_seconds=sum(part.seconds for part in parts if part.what == "attention"),
        gemm_seconds=sum(part.seconds for part in parts if part.what == "gemm"),
        bound_by="compute" if compute > total - compute else "memory",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineReport:
    """Where each component of a step stands under the roofline of a GPU."""

    gpu: str
    traffic: Traffic
    attention_dtype: str
    bytes_per_s: int
    bytes_source: str
    flops_per_s: Mapping[str, int]
    ridges: Mapping[str, float]
    """FLOP/B per type of the operands."""
    points: tuple[Point, ...]
    time: StepTime
    tokens_per_s_bound: float
    """Of the whole batch: decoded (or prefilled) tokens per second at most."""
    needed_bytes: int | None
    """Weights and cache of the fullest rank; None where the spec describes the cache alone."""
    memory_bytes: int
    """Of one GPU, as a program can allocate it."""
    calibration: str | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def roofline(
    spec: ModelSpec,
    hardware: HardwareSpec,
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    encoder_len: int | None = None,
    formats: FormatChoice = BF16,
    phase: Phase = "decode",
    convention: Convention | None = None,
    attention_dtype: str = "bf16",
    scheme: WeightScheme | None = None,
    shards: Shards = ONE_RANK,
    calibration: Calibration | None = None,
) -> RooflineReport:
    """One step of `spec` on `hardware`: what each component moves and computes, and which of the two binds.

    Raises:
        KvcalcError: no length is known, a stream cannot be stored in the chosen format, or the GPU states no peak.
    """
    workload, warnings = workload_for(
        spec, batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len, formats=formats
    )
    stored = scheme or weight_scheme(spec)
    counted = traffic(spec, workload, phase=phase, convention=convention, scheme=stored, shards=shards)
    limits = ceilings(hardware, calibration)
    parts = points(counted, limits, attention_dtype)
    time = step_time(parts)
    types = {part.dtype for part in parts}
    tokens = batch_size * (1 if phase == "decode" else workload.seq_len)
    return RooflineReport(
        gpu=hardware.name,
        traffic=counted,
        attention_dtype=limits.compute(attention_dtype)[0],
        bytes_per_s=limits.bytes_per_s,
        bytes_source=limits.bytes_source,
        flops_per_s=limits.flops_per_s,
        ridges={dtype: float(limits.ridge(dtype)) for dtype in limits.flops_per_s if dtype in types},
        points=parts,
        time=time,
        tokens_per_s_bound=tokens / time.seconds if time.seconds else 0.0,
        needed_bytes=_needed(spec, counted, workload, stored, shards) if counted.weights else None,
        memory_bytes=hardware.memory.plan_bytes,
        calibration=limits.calibration,
        assumptions=(*_assumptions(counted, limits), *counted.assumptions),
        warnings=warnings,
    )


def _needed(spec: ModelSpec, counted: Traffic, workload: Workload, scheme: WeightScheme, shards: Shards) -> int:
    """Weights and cache of the fullest rank."""
    weights = max(ledger.total for ledger in weight_bytes_per_stage(spec, scheme, shards.weights))
    kept = sum(
        group.count * kept_bytes(group.logical_streams, workload.seq_len, workload, shards)
        for group in spec.layout().groups
    )
    return weights + counted.rank_batch * kept


def _assumptions(counted: Traffic, limits: Ceilings) -> tuple[str, ...]:
    found = [limits.assumption, f"kernels: {counted.convention}; components run one after another"]
    if counted.shards:
        found.append(f"one rank of {counted.shards}, without communication between ranks")
    return tuple(found)
