"""What every serving engine answers: allocated bytes with their waste, capacity of a budget, the budget itself.

Three totals are kept apart, all integers:

- `logical`: the bytes of the kept values, in the formats that the engine stores;
- `allocated`: one copy of everything the engine reserves for them (blocks, padding, windows kept beyond need);
- `per_rank`: what the fullest rank holds. per_rank x ranks = allocated + replicas + unevenness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Protocol

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.footprint import Workload
from kvcalc.formats import TOKEN_ROLES, Role, ceil_div
from kvcalc.problems import did_you_mean, usage_error
from kvcalc.spec.model import LayerEntry, ModelSpec, write_out
from kvcalc.streams import Sharding, Stream
from kvcalc.weights.sharding import even_stages

MAX_RANKS = 2**20


def check_counts(settings: Any, *, at_most: int = 2**60) -> None:
    """Every whole number among an engine's settings is at least 1 (speculative tokens: 0).

    Raises:
        KvcalcError: one is not.
    """
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        least = 0 if entry.name == "num_speculative_tokens" else 1
        if isinstance(value, int) and not isinstance(value, bool) and not least <= value <= at_most:
            raise usage_error(f"{entry.name} must be at least {least} and at most {at_most:,}, got {value:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How ranks share a model."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    """Replicas of the attention layers: each holds whole sequences."""
    decode_context: int = 1
    """Ranks (among the tensor-parallel ones) that share the tokens of a sequence."""

    def __post_init__(self) -> None:
        check_counts(self, at_most=MAX_RANKS)

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """Bytes that are reserved without holding a needed value, and why."""

    cause: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One named measure of one sequence on the fullest rank."""

    name: str
    meaning: str
    units: int
    """Blocks, pages, cells or tokens: see the allocation's `unit`."""
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What an engine reserves for a workload."""

    engine: str
    version: str
    model: str
    batch_size: int
    seq_len: int
    kv_cache_dtype: str
    """The formats that the engine stores, which may differ from those asked for."""
    logical_bytes: int
    allocated_bytes: int
    """One copy, the whole batch."""
    waste: tuple[Waste, ...]
    """Sums to allocated_bytes - logical_bytes."""
    ranks: int
    per_rank_bytes: int
    """The fullest rank."""
    per_stage_bytes: tuple[int, ...]
    """A rank of each pipeline stage."""
    sharding_waste: tuple[Waste, ...]
    """Sums to per_rank_bytes x ranks - allocated_bytes."""
    reserve: tuple[Waste, ...] = ()
    """Kept once per pool and rank, whatever the batch; not in the totals above."""
    unit: str = ""
    """What the engine counts in: block, page, cell."""
    unit_tokens: int = 0
    """Tokens of one unit; 0 where units differ."""
    unit_bytes: int = 0
    """Bytes of one unit on the fullest rank."""
    units: int = 0
    """Units that the batch holds on one rank."""
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.allocated_bytes - self.logical_bytes != sum(w.bytes for w in self.waste):
            raise AssertionError(f"waste does not add up: {self}")
        if self.per_rank_bytes * self.ranks - self.allocated_bytes != sum(w.bytes for w in self.sharding_waste):
            raise AssertionError(f"sharding waste does not add up: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a budget of bytes per rank yields."""

    engine: str
    version: str
    model: str
    budget_bytes: int
    """Per rank."""
    unit: str
    unit_tokens: int
    unit_bytes: int
    """On the fullest rank."""
    units: int
    """Blocks (or tokens) of the pool."""
    usable_units: int
    """Without what the engine keeps for itself."""
    tokens: int
    """As the engine's own log counts them."""
    max_model_len: int
    units_per_request: int
    """What one request of max_model_len tokens is charged with on admission."""
    concurrency: Fraction
    """Requests of max_model_len tokens at once."""
    max_tokens_per_request: int
    """The longest single request that fits."""
    log_lines: tuple[str, ...] = ()
    """As the engine prints them."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Memory that is not cache: an input, with a default and the range seen in published logs."""

    name: str
    bytes: int
    given: bool
    low_bytes: int
    high_bytes: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """From a GPU's memory to the bytes left for the cache, on one rank."""

    engine: str
    gpu_memory_bytes: int
    fraction: Fraction
    fraction_of: str
    """What the engine's fraction is a fraction of."""
    requested_bytes: int
    overheads: tuple[Overhead, ...]
    available_bytes: int


class Settings(Protocol):
    """An engine's own frozen settings; every engine has these."""

    @property
    def version(self) -> str: ...
    @property
    def parallel(self) -> Parallel: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One serving engine, as the command line and the planner meet it."""

    name: str
    version: str
    """The version whose rules are followed unless another is asked for."""
    summary: str
    source: str
    settings: type[Any]
    allocate: Callable[[ModelSpec, Workload, Any], Allocation]
    capacity: Callable[[ModelSpec, int, Any, FormatChoice], Capacity] | None = None
    """(spec, budget bytes per rank, settings, formats)"""
    budget: Callable[..., Budget] | None = None

    def configure(self, **options: Any) -> Any:
        """Settings from the options that were given (None: not given).

        Raises:
            KvcalcError: an option that this engine does not have.
        """
        known = {f.name for f in fields(self.settings)}
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in known:
                near = did_you_mean(name, known)
                raise usage_error(f"{self.name} has no setting {name.replace('_', '-')!r}", help=near)
        return self.settings(**({"version": self.version} | given))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStreams:
    """One layer of the stack and what it keeps; `draft` marks an extra prediction layer."""

    index: int
    streams: tuple[Stream, ...]
    parts: tuple[tuple[Stream, ...], ...]
    """The same, one tuple per attention module of the layer."""
    draft: bool = False


_RECENT: dict[tuple[int, bool], tuple[ModelSpec, tuple[LayerStreams, ...]]] = {}
"""By identity (specs are not hashable); holding the spec keeps its id from being given to another."""
_MOST_RECENT = 16


def layer_streams(spec: ModelSpec, *, draft_layers: bool = False) -> tuple[LayerStreams, ...]:
    """Every layer of the decoder in order; with `draft_layers` the extra prediction layers behind them."""
    key = (id(spec), draft_layers)
    if key not in _RECENT:
        while len(_RECENT) >= _MOST_RECENT:
            _RECENT.pop(next(iter(_RECENT)))
        _RECENT[key] = (spec, _layer_streams(spec, draft_layers))
    return _RECENT[key][1]


def _layer_streams(spec: ModelSpec, draft_layers: bool) -> tuple[LayerStreams, ...]:
    found: list[LayerStreams] = []
    stacks: list[tuple[tuple[LayerEntry, ...], bool]] = [(spec.layers, False)]
    if draft_layers:
        stacks.append((spec.mtp_layers, True))
    kept = {name: kind.resolve(spec.attention).streams() for name, kind in spec.attention.items()}
    for entries, draft in stacks:
        for use in write_out(entries):
            parts = tuple(kept[name] for name in use.attention)
            streams = tuple(s for part in parts for s in part)
            found.append(LayerStreams(index=len(found), streams=streams, parts=parts, draft=draft))
    return tuple(found)


def stage_of_layers(layers: tuple[LayerStreams, ...], partition: tuple[int, ...]) -> tuple[int, ...]:
    """The pipeline stage of every layer; draft layers run on the last one."""
    stages = [stage for stage, count in enumerate(partition) for _ in range(count)]
    return tuple(len(partition) - 1 if layer.draft else stages[layer.index] for layer in layers)


def heads_per_rank(stream: Stream, tensor: int, engine: str) -> int:
    """Heads of a stream on one tensor-parallel rank: an even share, or one replica where ranks outnumber them.

    Raises:
        KvcalcError: neither divides the other; such engines refuse to load the model.
    """
    if stream.sharding is Sharding.REPLICATED or tensor == 1:
        return stream.heads
    if stream.heads % tensor == 0:
        return stream.heads // tensor
    if tensor % stream.heads == 0:
        return 1
    raise usage_error(
        f"{engine} cannot split {stream.heads} {stream.name} heads over {tensor} tensor-parallel ranks",
        help=f"choose -tp so that it divides {stream.heads}, or is a multiple of it",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one stream (or one layer) takes, for the whole batch."""

    stage: int
    logical: int
    allocated: int
    """One copy."""
    rank: int
    """The fullest rank of the stage."""
    total: int
    """All ranks."""
    waste: tuple[tuple[str, int], ...] = ()
    """(cause, bytes): sums to allocated - logical."""


def assemble(
    engine: str, spec: ModelSpec, workload: Workload, settings: Settings, formats: FormatChoice,
    shares: Iterable[Share], **extra: Any,
) -> Allocation:  # fmt: skip
    """An allocation out of its shares; `extra` are further fields of it."""
    parallel = settings.parallel
    shares = tuple(shares)
    per_stage = [0] * parallel.pipeline
    for share in shares:
        per_stage[share.stage] += share.rank
    allocated, total = sum(s.allocated for s in shares), sum(s.total for s in shares)
    per_rank = max(per_stage)
    uneven = per_rank * parallel.ranks - total
    return Allocation(
        engine=engine,
        version=settings.version,
        model=spec.name,
        batch_size=workload.batch_size,
        seq_len=workload.seq_len,
        kv_cache_dtype=formats.name,
        logical_bytes=sum(s.logical for s in shares),
        allocated_bytes=allocated,
        waste=collect(item for s in shares for item in s.waste),
        ranks=parallel.ranks,
        per_rank_bytes=per_rank,
        per_stage_bytes=tuple(per_stage),
        sharding_waste=collect([("replicas over tensor-parallel ranks", total - allocated), ("uneven ranks", uneven)]),
        **extra,
    )


def layer_stages(spec: ModelSpec, layers: tuple[LayerStreams, ...], parallel: Parallel) -> tuple[int, ...]:
    """The pipeline stage of every layer, split as vLLM and SGLang do."""
    main = sum(1 for layer in layers if not layer.draft)
    return stage_of_layers(layers, even_stages(main, parallel.pipeline))


def rows_bytes(stream: Stream, rows: int, formats: FormatChoice, *, heads: int | None = None) -> int:
    """Bytes of `rows` rows of a stream (with `heads` of its heads)."""
    stored = stream.format(formats)
    return ceil_div(stored.bits(rows, stream.heads if heads is None else heads, stream.width), 8)


def logical_bytes(stream: Stream, workload: Workload, formats: FormatChoice) -> int:
    """Logical bytes of one layer's stream for one sequence; engines' buffers count nothing."""
    if stream.role is Role.BUFFER:
        return 0
    return stream.bytes(workload.seq_len, formats, workload.encoder_len)


def collect(items: Iterable[tuple[str, int]]) -> tuple[Waste, ...]:
    """Bytes added up by cause, in the order of first mention, without zeros."""
    sums: dict[str, int] = {}
    for cause, size in items:
        sums[cause] = sums.get(cause, 0) + size
    return tuple(Waste(cause=cause, bytes=size) for cause, size in sums.items() if size)


def with_roles(formats: FormatChoice, extra: Mapping[Role, Any]) -> FormatChoice:
    """`formats` with an engine's own formats for roles that the user left open."""
    return FormatChoice(default=formats.default, by_role={**extra, **formats.by_role})


def version_key(version: str) -> tuple[int, int, int]:
    """`0.20.1rc1` -> (0, 20, 1).

    Raises:
        KvcalcError: not a version.
    """
    parts: list[int] = []
    for part in version.removeprefix("v").split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits or len(digits) > 6:
            break
        parts.append(int(digits))
    if not parts:
        raise usage_error(f"{version[:40]!r} is not a version", help="write it like 0.33.0")
    major, minor, patch = (*parts, 0, 0)[:3]
    return major, minor, patch


def check_context_parallel(parallel: Parallel) -> None:
    """Decode context parallelism divides the tensor-parallel ranks."""
    if parallel.tensor % parallel.decode_context:
        raise usage_error(
            f"-dcp {parallel.decode_context} does not divide -tp {parallel.tensor}",
            help="decode context parallelism shares the tensor-parallel ranks",
        )


def longest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """Largest n in 0..limit for which `fits(n)` holds (it holds for all smaller ones too)."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def check_formats(engine: str, formats: FormatChoice, accepted: Iterable[str]) -> None:
    """Refuse formats that an engine does not have; `accepted` are names or their beginnings.

    Raises:
        KvcalcError: the default, or a format given for keys, values, latents or indexer keys.
    """
    beginnings = tuple(accepted)
    asked = [formats.default, *(dtype for role, dtype in formats.by_role.items() if role in TOKEN_ROLES)]
    for dtype in asked:
        if not dtype.name.startswith(beginnings):
            raise usage_error(
                f"{engine} cannot store {dtype.name}", help=f"it has {', '.join(name + '*' for name in beginnings)}"
            )
