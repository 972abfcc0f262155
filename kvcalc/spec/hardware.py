"""An accelerator as a spec file describes it: memory, on-chip tiers, links, peaks; each figure with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt, Le

from kvcalc.fields import STRICT, Name, Text
from kvcalc.problems import KvcalcError
from kvcalc.spec.document import Fault, Loc
from kvcalc.spec.figures import (
    ByteRate,
    ByteSize,
    Count,
    Evidence,
    Frequency,
    Measurement,
    OpRate,
    Power,
    Quote,
    figures,
)
from kvcalc.units import format_bytes, parse_byte_rate, parse_bytes

Dtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
"""Inputs of the matrix units (vector units for fp32 where the vendor prints only those)."""
Basis = Literal["application", "driver", "vendor"]
Factor = Literal["memory_bandwidth", "compute", "scale_up", "host_link"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A bandwidth to calculate with, and on what it rests."""

    bytes_per_s: int
    basis: Literal["published", "theory"]
    kind: Evidence | Literal["theory"]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A level that data streams from. Published, theoretical and measured bandwidths never share a field."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    unit: Name | None = None
    """What there are several of: SM, CU, channel, XCD."""
    units: Count | None = None
    bytes_per_clock: Count | None = None
    """Of one unit (of the whole tier where there are no units)."""
    clock: Frequency | None = None
    """Highest clock at which `bytes_per_clock` can move, or transfers per second."""
    bandwidth: ByteRate | None = None
    """As published, of the whole tier."""
    measured: tuple[Measurement, ...] = ()
    quoted: tuple[Quote, ...] = ()
    note: Text | None = None

    @property
    def theoretical_bytes_per_s(self) -> int | None:
        """units x bytes/clk x clock (A100: 108 SMs x 128 B/clk x 1.41 GHz = 19.49 TB/s), in B/s."""
        if self.bytes_per_clock is None or self.clock is None:
            return None
        return self._count * self.bytes_per_clock.exact * self.clock.exact

    @property
    def theory(self) -> str | None:
        """`theoretical_bytes_per_s` with its numbers put in."""
        if self.bytes_per_clock is None or self.clock is None:
            return None
        units = f"{self._count} {self.unit or 'units'} x " if self.units else ""
        return f"{units}{self.bytes_per_clock.exact} B/clk x {self.clock.value}"

    @property
    def rate(self) -> Rate | None:
        """The published bandwidth; where none is, the theoretical one."""
        if self.bandwidth is not None:
            return Rate(
                bytes_per_s=self.bandwidth.exact,
                basis="published",
                kind=self.bandwidth.kind,
                source=self.bandwidth.source,
            )
        theory = self.theoretical_bytes_per_s
        if theory is None or self.theory is None:
            return None
        return Rate(bytes_per_s=theory, basis="theory", kind="theory", source=self.theory)

    @property
    def total_bytes(self) -> int | None:
        """Capacity of the whole tier; None where it is not known."""
        return None

    @property
    def _count(self) -> int:
        return self.units.exact if self.units else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Level(Tier):
    """A cache, a scratchpad, or the host's memory."""

    capacity: ByteSize | None = None
    """Of the whole tier; left out where it is `units x per_unit`."""
    per_unit: ByteSize | None = None
    addressable: ByteSize | None = None
    """The part of `per_unit` that a kernel can address (NVIDIA: shared memory of one SM)."""

    @property
    def total_bytes(self) -> int | None:
        """Capacity of the whole tier (A100 SRAM: 108 SMs x 192 KiB = 20.25 MiB)."""
        if self.capacity is not None:
            return self.capacity.exact
        return self._count * self.per_unit.exact if self.per_unit else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory(Tier):
    """The accelerator's own memory (HBM, GDDR, or LPDDR shared with the CPU)."""

    technology: Name
    vendor: ByteSize
    """As printed; vendors write GB where they mean GiB, so the driver's figure is often larger than 10^9 x this."""
    driver: ByteSize | None = None
    """As nvidia-smi, rocm-smi, hl-smi or npu-smi prints the total."""
    application: ByteSize | None = None
    """As the driver gives it to a program (cudaMemGetInfo): what --gpu-memory-utilization is a fraction of."""

    @property
    def plan_basis(self) -> Basis:
        """Which of the three figures plans use: the closest to what a program can allocate."""
        return "application" if self.application else "driver" if self.driver else "vendor"

    @property
    def plan_bytes(self) -> int:
        """The memory that plans divide, in bytes."""
        return (self.application or self.driver or self.vendor).exact

    @property
    def total_bytes(self) -> int | None:
        """What plans divide."""
        return self.plan_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLink:
    """The way to the host's memory."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Name
    per_direction: ByteRate
    measured: tuple[Measurement, ...] = ()
    note: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleUp(HostLink):
    """The links among accelerators of one domain; `per_direction` is one accelerator's sum over its links."""

    domain_size: Count
    """Accelerators that reach each other without leaving these links."""
    topology: Literal["switch", "mesh", "torus", "bridge"]
    per_peer: ByteRate | None = None
    """One direction, to one neighbour: less than the sum in a mesh or a torus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """The share of a peak that is reached in practice. Peaks stay peaks: this is applied by name, or not at all."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    value: Annotated[float, Gt(0), Le(1)]
    source: Text


NOT_MEASURED = Efficiency(value=1.0, source="not measured: the peak itself, so times are bounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareSpec:
    """One accelerator: what one device id of the driver stands for, unless `notes` says otherwise."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Name
    full_name: Name
    aliases: tuple[Name, ...] = ()
    vendor: Name
    architecture: Name
    compute_capability: Name | None = None
    announced: bool = False
    """Figures of an announcement: nobody could check them on a device."""
    memory: Memory
    sram: Level | None = None
    l2: Level | None = None
    l3: Level | None = None
    """A memory-side cache (AMD Infinity Cache)."""
    host_dram: Level | None = None
    """Of a typical host, whole: all accelerators of the node share it."""
    peak: Mapping[Dtype, OpRate]
    """Dense: without structured sparsity."""
    scale_up: ScaleUp | None = None
    host_link: HostLink | None = None
    tdp: Power | None = None
    efficiency: Mapping[Factor, Efficiency] | None = None
    notes: Text | None = None

    @property
    def linked(self) -> bool:
        """Whether a link to others of its kind is stated: directly, or over the host."""
        return self.scale_up is not None or self.host_link is not None

    def efficiency_of(self, factor: Factor) -> Efficiency:
        """A named factor; 1.0, called not measured, unless the spec gives one."""
        return (self.efficiency or {}).get(factor, NOT_MEASURED)

    def tiers(self) -> Mapping[str, Tier]:
        """The levels that the spec has, nearest to the arithmetic first."""
        levels = {"sram": self.sram, "l2": self.l2, "l3": self.l3, "memory": self.memory, "host_dram": self.host_dram}
        return {name: tier for name, tier in levels.items() if tier is not None}

    def peak_ops_per_s(self, dtype: str) -> int | None:
        """Dense operations per second on inputs of `dtype`; None where the accelerator prints no such rate."""
        return next((rate.exact for name, rate in self.peak.items() if name == dtype), None)


def contradictions(spec: HardwareSpec) -> Iterator[Fault]:
    """Figures that cannot be read, or cannot stand together."""
    unreadable = list(_unreadable(spec))
    yield from unreadable
    if unreadable:
        return
    memory = spec.memory
    ceiling = memory.vendor.exact if memory.vendor.value.endswith("iB") else memory.vendor.exact * 2**30 // 10**9
    if memory.driver and memory.driver.exact > ceiling:
        message = f"driver: {memory.driver.value} is more than the vendor's {memory.vendor.value}, even read as GiB"
        yield ("memory", "driver"), message, "the driver reports what is left of the printed capacity"
    total = memory.driver.exact if memory.driver else ceiling
    if memory.application and memory.application.exact > total:
        message = f"application: {memory.application.value} is more than the device's {format_bytes(total)}"
        yield ("memory", "application"), message, None
    for name, tier in spec.tiers().items():
        if isinstance(tier, Level) and tier.addressable and tier.per_unit:
            yield from _at_most((name, "addressable"), tier.addressable, tier.per_unit)
        if tier.units and not tier.unit:
            yield (name, "units"), "units: `unit` must say of what", "as in `unit: SM`"
    if spec.scale_up and spec.scale_up.per_peer:
        yield from _at_most(("scale_up", "per_peer"), spec.scale_up.per_peer, spec.scale_up.per_direction)


def _at_most(place: Loc, part: ByteSize | ByteRate, whole: ByteSize | ByteRate) -> Iterator[Fault]:
    if part.exact > whole.exact:
        yield place, f"{place[-1]}: {part.value} is more than the {whole.value} it is part of", None


def _unreadable(spec: HardwareSpec) -> Iterator[Fault]:
    for place, figure in figures(spec):
        yield from _unread((*place, "value"), str(place[-1]), partial(getattr, figure, "exact"))
    for name, tier in spec.tiers().items():
        for index, quote in enumerate(tier.quoted):
            place = (name, "quoted", index)
            if quote.capacity:
                yield from _unread((*place, "capacity"), "capacity", partial(parse_bytes, quote.capacity))
            if quote.bandwidth:
                yield from _unread((*place, "bandwidth"), "bandwidth", partial(parse_byte_rate, quote.bandwidth))


def _unread(place: Loc, name: str, read: Callable[[], int]) -> Iterator[Fault]:
    try:
        if read() == 0:
            yield place, f"{name}: must be more than 0", "leave it out where it is not known"
    except KvcalcError as error:
        problem = error.problems[0]
        yield place, f"{name}: {problem.message}", problem.help
