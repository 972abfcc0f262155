"""The memory hierarchy and one cache: what each tier holds of it, and how long one decode step's read takes from it.

Also what pays: bringing a cache back from a lower tier, or computing it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.engines.checks import longest_that_fits
from kvcalc.footprint import Workload, sequence_bytes, workload_for
from kvcalc.formats import Role, ceil_div
from kvcalc.problems import usage_error
from kvcalc.roofline import Calibration, Ceilings, ceilings, points
from kvcalc.spec.hardware import HardwareSpec, HostLink, Level, Tier
from kvcalc.spec.model import ModelSpec, layer_groups
from kvcalc.steps import Convention
from kvcalc.streams import Stream
from kvcalc.traffic import traffic
from kvcalc.units import MAX_COUNT
from kvcalc.weights.ledger import WeightScheme, weight_bytes, weight_scheme

OPERAND_BYTES = 2
"""Of bf16 and fp16: what a FlashAttention tile holds in SRAM."""
TILE_QUERIES = 64
"""Rows of one warpgroup's matrix instruction on Hopper, and of FlashMLA's query tile."""
TILE_STEP = 16
"""Inner dimension of the matrix instructions: 32 bytes of 16-bit operands (PTX ISA, wgmma .k16)."""
STAGES = 2
"""Tiles of K and V in flight: one is multiplied while the next arrives."""
FARTHEST = 2**40
"""Tokens at which a break-even is still looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierLine:
    """One tier, this cache, and one decode step's read of it."""

    name: str
    title: str
    capacity_bytes: int | None
    """Of the whole tier; None where it has no size of its own (a link, a pool) or none is known."""
    bytes_per_s: int | None
    """At which the accelerator can read from it."""
    basis: str
    """What the rate rests on: published, theory, measured, given."""
    source: str
    sequences: int | None
    """Whole sequences of the asked length that it holds."""
    tokens: int | None
    """The longest single sequence that it holds; None without an end (a cache that has stopped growing)."""
    read_s: float | None
    """One decode step's read of the whole batch's cache, by this tier's bandwidth alone."""
    tokens_per_s_bound: float | None
    """Tokens of the whole batch per second, if every step's cache came from here."""
    quoted: tuple[str, ...] = ()
    """What explanations print for this tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """A sequence's cache: brought back from a tier, or computed again."""

    name: str
    bytes_per_s: int
    restore_s: float
    """Bound, at the asked length."""
    faster: bool
    """Whether bringing back beats computing again at the asked length."""
    break_even_tokens: int | None
    """From this length on bringing back is faster; None: not below 2^40 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFit:
    """A FlashAttention tile in the SRAM of one SM, 16-bit operands."""

    label: str
    sram_bytes: int
    queries: int
    keys: int
    """Most rows of K and V per stage, in steps of 16; 0: not even one step fits."""
    bytes: int
    """Of the queries and both stages."""
    paper_rows: int
    """B_r of FlashAttention's algorithm 1: min(ceil(M / 4d), d), M and d in elements."""
    paper_columns: int
    """B_c: ceil(M / 4d)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiersReport:
    """The hierarchy of a GPU against the cache of a model."""

    model: str
    gpu: str
    gpu_name: str
    batch_size: int
    seq_len: int
    encoder_len: int
    kv_cache_dtype: str
    bytes_per_sequence: int
    cache_bytes: int
    """Of the batch: what is kept."""
    read_bytes: int
    """Of the batch: what one decode step reads."""
    weight_bytes: int | None
    """All weights, once; None where the spec describes the cache alone."""
    tiers: tuple[TierLine, ...]
    memory_left_bytes: int | None
    """Memory of one GPU without the weights: negative where they do not fit."""
    memory_left_sequences: int | None
    recompute_s: float | None
    """Prefill of one sequence at the peak rate: FLOPs alone, as it can ride along with decode steps."""
    break_even_bytes_per_s: int | None
    """A tier must be faster than this for bringing a sequence of the asked length back to pay."""
    restore: tuple[Restore, ...]
    tiles: tuple[TileFit, ...]
    calibration: str | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]


def tiers(
    spec: ModelSpec,
    hardware: HardwareSpec,
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    encoder_len: int | None = None,
    formats: FormatChoice = BF16,
    convention: Convention | None = None,
    scheme: WeightScheme | None = None,
    storage_bytes_per_s: int | None = None,
    pool_bytes_per_s: int | None = None,
    calibration: Calibration | None = None,
) -> TiersReport:
    """What each tier of `hardware` holds of the cache, and how fast one decode step could read it from there.

    Raises:
        KvcalcError: no length is known, a stream cannot be stored in the chosen format, or a rate is zero.
    """
    for name, given in (("storage", storage_bytes_per_s), ("pool", pool_bytes_per_s)):
        if given is not None and given <= 0:
            raise usage_error(f"the {name}'s rate must be more than 0 B/s", help=f"as in --{name} 7GB/s")
    workload, warnings = workload_for(
        spec, batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len, formats=formats
    )
    limits = ceilings(hardware, calibration)
    stored = scheme or weight_scheme(spec)
    counted = traffic(spec, workload, convention=convention, scheme=stored)
    kept = _kept(spec, workload, workload.seq_len)
    lines = tuple(
        _line(spec, workload, tier, kept, counted.cache_read_bytes)
        for tier in _ladder(hardware, limits, storage_bytes_per_s, pool_bytes_per_s)
    )
    weights = weight_bytes(spec, stored).total if counted.weights else None
    left = None if weights is None else hardware.memory.plan_bytes - weights
    recompute = _recompute_s(spec, workload, workload.seq_len, limits, stored) if counted.weights else None
    return TiersReport(
        model=spec.name,
        gpu=hardware.name,
        gpu_name=hardware.full_name,
        batch_size=batch_size,
        seq_len=workload.seq_len,
        encoder_len=workload.encoder_len,
        kv_cache_dtype=formats.name,
        bytes_per_sequence=kept,
        cache_bytes=batch_size * kept,
        read_bytes=counted.cache_read_bytes,
        weight_bytes=weights,
        tiers=lines,
        memory_left_bytes=left,
        memory_left_sequences=None if left is None else _sequences(left, kept),
        recompute_s=recompute,
        break_even_bytes_per_s=int(kept / recompute) if recompute else None,
        restore=tuple(_restores(spec, workload, limits, stored, lines)) if recompute else (),
        tiles=_tiles(spec, hardware),
        calibration=limits.calibration,
        assumptions=(
            limits.assumption,
            f"kernels: {counted.convention}",
        ),
        warnings=warnings,
    )


def _kept(spec: ModelSpec, workload: Workload, tokens: int) -> int:
    """Logical bytes of one sequence."""
    return sequence_bytes(spec.layout().groups, tokens, workload.formats, workload.encoder_len)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    name: str
    title: str
    capacity_bytes: int | None
    bytes_per_s: int | None
    basis: str
    source: str
    quoted: tuple[str, ...] = ()


_CACHES: Mapping[str, str] = {"sram": "SRAM", "l2": "L2 cache", "l3": "memory-side cache"}


def _ladder(hardware: HardwareSpec, limits: Ceilings, storage: int | None, pool: int | None) -> Iterator[_Rung]:
    """The levels of the hierarchy as the accelerator reads from them, nearest first."""
    for name, tier in hardware.tiers().items():
        if name in _CACHES:
            yield _rung(name, f"{_CACHES[name]}{_units(tier)}", tier)
    memory = _rung("memory", hardware.memory.technology, hardware.memory)
    if limits.calibration:
        memory = replace(memory, bytes_per_s=limits.bytes_per_s, basis="measured", source=limits.calibration)
    yield memory
    if link := hardware.scale_up:
        others = link.domain_size.exact - 1
        yield _Rung(
            name="scale_up", title=f"{others} other GPUs over {link.name}",
            capacity_bytes=others * hardware.memory.plan_bytes or None,
            bytes_per_s=link.per_direction.exact, basis="published", source=link.per_direction.source,
        )  # fmt: skip
    if hardware.host_dram:
        yield _host(hardware.host_dram, hardware.host_link)
    for name, title, given in (("storage", "storage", storage), ("pool", "remote pool", pool)):
        if given is not None:
            yield _Rung(
                name=name, title=title, capacity_bytes=None, bytes_per_s=given, basis="given", source=f"--{name}"
            )


def _rung(name: str, title: str, tier: Tier) -> _Rung:
    rate = tier.rate
    basis, source = (rate.basis, rate.source) if rate else ("", "")
    speed = rate.bytes_per_s if rate else None
    if speed is None and tier.measured:
        best = max(tier.measured, key=lambda measurement: measurement.exact)
        speed, basis, source = best.exact, "measured", best.source
    return _Rung(
        name=name, title=title, capacity_bytes=tier.total_bytes, bytes_per_s=speed, basis=basis, source=source,
        quoted=tuple(f"{quote.printed} ({quote.source})" for quote in tier.quoted),
    )  # fmt: skip


def _host(level: Level, link: HostLink | None) -> _Rung:
    """Host memory through its link: the slower of the two counts."""
    dram = _rung("host_dram", "host DRAM", level)
    if link is None or (dram.bytes_per_s is not None and dram.bytes_per_s <= link.per_direction.exact):
        return dram
    return replace(
        dram, title=f"host DRAM over {link.name}", bytes_per_s=link.per_direction.exact, basis="published",
        source=link.per_direction.source,
    )  # fmt: skip


def _units(tier: Tier) -> str:
    return f" of {tier.units.exact} {tier.unit}s" if tier.units and tier.unit else ""


def _line(spec: ModelSpec, workload: Workload, rung: _Rung, kept: int, read: int) -> TierLine:
    capacity, rate = rung.capacity_bytes, rung.bytes_per_s
    read_s = None if rate is None else read / rate
    return TierLine(
        name=rung.name,
        title=rung.title,
        capacity_bytes=capacity,
        bytes_per_s=rate,
        basis=rung.basis,
        source=rung.source,
        sequences=None if capacity is None else _sequences(capacity, kept),
        tokens=None if capacity is None else _longest(spec, workload, capacity),
        read_s=read_s,
        tokens_per_s_bound=workload.batch_size / read_s if read_s else None,
        quoted=rung.quoted,
    )


def _sequences(capacity: int, each: int) -> int | None:
    return max(0, capacity) // each if each else None


def _longest(spec: ModelSpec, workload: Workload, capacity: int) -> int | None:
    """The longest sequence whose cache fits in `capacity` bytes; None where even 2^60 tokens do."""
    groups = spec.layout().groups

    def fits(tokens: int) -> bool:
        return sequence_bytes(groups, tokens, workload.formats, workload.encoder_len) <= capacity

    return None if fits(MAX_COUNT) else longest_that_fits(fits, MAX_COUNT)


def _recompute_s(spec: ModelSpec, workload: Workload, tokens: int, limits: Ceilings, scheme: WeightScheme) -> float:
    """Arithmetic of one sequence's prefill at the peaks: its weights are read for the others' steps anyway."""
    alone = replace(workload, batch_size=1, seq_len=tokens)
    counted = traffic(spec, alone, phase="prefill", scheme=scheme)
    return sum(part.compute_s for part in points(counted, limits))


def _restores(
    spec: ModelSpec, workload: Workload, limits: Ceilings, scheme: WeightScheme, lines: tuple[TierLine, ...]
) -> Iterator[Restore]:
    below = ("scale_up", "host_dram", "storage", "pool")
    for line in lines:
        rate = line.bytes_per_s
        if line.name not in below or rate is None:
            continue

        def pays(tokens: int, rate: int = rate) -> bool:
            brought = _kept(spec, workload, tokens) / rate
            return brought < _recompute_s(spec, workload, tokens, limits, scheme)

        yield Restore(
            name=line.name,
            bytes_per_s=rate,
            restore_s=_kept(spec, workload, workload.seq_len) / rate,
            faster=pays(workload.seq_len),
            break_even_tokens=_first(pays, FARTHEST),
        )


def _first(holds: Callable[[int], bool], limit: int) -> int | None:
    """Smallest n in 1..limit from which on `holds(n)`."""
    return longest_that_fits(lambda n: not holds(n), limit) + 1 if holds(limit) else None


def _tiles(spec: ModelSpec, hardware: HardwareSpec) -> tuple[TileFit, ...]:
    """The largest tile of each kind of attention in one unit's SRAM."""
    sram = hardware.sram
    size = (sram.addressable or sram.per_unit) if sram else None
    if size is None:
        return ()
    found: dict[str, TileFit] = {}
    for group in layer_groups(spec):
        for kind in group.attention:
            rows = [s for s in kind.streams() if s.role in (Role.KEY, Role.VALUE, Role.LATENT)]
            if rows and kind.label not in found:
                found[kind.label] = _tile(kind.label, size.exact, rows)
    return tuple(found.values())


def _tile(label: str, sram: int, rows: list[Stream]) -> TileFit:
    """Rows of one head; K = V of a latent lies there once, and its streams share one tile.

    The paper's blocks: FlashAttention, arXiv 2205.14135, algorithm 1, line 1, with M and d in elements.
    """
    query = rows[0].width
    row = sum({stream.role: stream.width for stream in rows}.values())
    queries = TILE_QUERIES * query * OPERAND_BYTES
    keys = max(0, sram - queries) // (STAGES * row * OPERAND_BYTES) // TILE_STEP * TILE_STEP
    columns = ceil_div(sram // OPERAND_BYTES, 4 * query)
    return TileFit(
        label=label, sram_bytes=sram, queries=TILE_QUERIES, keys=keys,
        bytes=queries + keys * STAGES * row * OPERAND_BYTES,
        paper_rows=min(columns, query), paper_columns=columns,
    )  # fmt: skip
