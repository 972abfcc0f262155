"""A model's layers as engines meet them: the streams of each, its pipeline stage, and what ranks hold of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.engines.base import Allocation, Capacity, Parallel, Settings, Waste
from kvcalc.engines.checks import StageBudgets, context_limit, longest_that_fits, per_stage
from kvcalc.footprint import Workload
from kvcalc.formats import STATE_ROLES, Role, ceil_div
from kvcalc.problems import usage_error
from kvcalc.spec.model import LayerEntry, ModelSpec, write_out
from kvcalc.streams import Sharding, Stream, Strided
from kvcalc.weights.sharding import even_stages


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStreams:
    """One layer of the stack and what it keeps; `draft` marks an extra prediction layer."""

    index: int
    streams: tuple[Stream, ...]
    parts: tuple[tuple[Stream, ...], ...]
    """The same, one tuple per attention module of the layer."""
    draft: bool


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


def roles_of(layers: Iterable[LayerStreams]) -> frozenset[Role]:
    """What the layers keep, by role."""
    return frozenset(stream.role for layer in layers for stream in layer.streams)


def compresses(layers: Iterable[LayerStreams]) -> bool:
    """Whether any layer keeps a row for a whole stride of tokens (DeepSeek-V4)."""
    return any(isinstance(stream.extent, Strided) for layer in layers for stream in layer.streams)


def stage_of_layers(layers: tuple[LayerStreams, ...], partition: tuple[int, ...]) -> tuple[int, ...]:
    """The pipeline stage of every layer; draft layers run on the last one."""
    stages = [stage for stage, count in enumerate(partition) for _ in range(count)]
    return tuple(len(partition) - 1 if layer.draft else stages[layer.index] for layer in layers)


def heads_per_rank(stream: Stream, tensor: int, engine: str) -> int:
    """Heads of a stream on one tensor-parallel rank: an even share, or one replica where ranks outnumber them.

    Raises:
        KvcalcError: neither divides the other; such engines refuse to load the model.
    """
    if stream.sharding is Sharding.REPLICATED:
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


def whole_sequences(
    stage: int, parallel: Parallel, batch: int, *, logical: int, allocated: int, rank: int, cause: str = "",
) -> Share:  # fmt: skip
    """The share of a stream from what one sequence takes of it: every replica holds whole sequences.

    `rank` are its bytes on one tensor-parallel rank; `cause` says what `allocated` holds beyond `logical`.
    """
    return Share(
        stage=stage, logical=logical * batch, allocated=allocated * batch, rank=rank * ceil_div(batch, parallel.data),
        total=rank * parallel.tensor * batch, waste=((cause, (allocated - logical) * batch),) if cause else (),
    )  # fmt: skip


def assemble(
    engine: str, spec: ModelSpec, workload: Workload, settings: Settings, formats: FormatChoice,
    shares: Iterable[Share], **extra: Any,
) -> Allocation:  # fmt: skip
    """An allocation out of its shares; `extra` are further fields of it."""
    parallel = settings.parallel
    shares = tuple(shares)
    stages = staged(((share.stage, share.rank) for share in shares), parallel.pipeline)
    allocated, total = sum(s.allocated for s in shares), sum(s.total for s in shares)
    per_rank = max(stages)
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
        per_stage_bytes=stages,
        sharding_waste=collect([("replicas over tensor-parallel ranks", total - allocated), ("uneven ranks", uneven)]),
        **extra,
    )


def layer_stages(layers: tuple[LayerStreams, ...], parallel: Parallel) -> tuple[int, ...]:
    """The pipeline stage of every layer, split as vLLM and SGLang do."""
    main = sum(1 for layer in layers if not layer.draft)
    return stage_of_layers(layers, even_stages(main, parallel.pipeline))


def state_rows(stream: Stream) -> int:
    """Rows of a state or a convolution, whatever the tokens."""
    return stream.extent.rows(0, 0)


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


def block_capacity(
    engine: str, spec: ModelSpec, budget: StageBudgets, settings: Settings, stage_sizes: tuple[int, ...],
    block_size: int, max_model_len: int | None,
) -> Capacity:  # fmt: skip
    """Blocks and tokens of a budget, where a block of every layer of a stage takes `stage_sizes` bytes.

    Raises:
        KvcalcError: no layer keeps tokens, or the context is unknown.
    """
    limit = context_limit(spec, max_model_len)
    held = [pair for pair in zip(per_stage(budget, len(stage_sizes)), stage_sizes, strict=True) if pair[1]]
    if not held:
        raise usage_error(f"{spec.name} keeps no tokens: the state cache of {engine} is not budgeted here")
    blocks, mine, size = min((mine // size, mine, size) for mine, size in held)
    one = ceil_div(limit, block_size)
    return Capacity(
        engine=engine, version=settings.version, model=spec.name, budget_bytes=mine, unit="block",
        unit_tokens=block_size, unit_bytes=size, units=blocks, usable_units=blocks, tokens=blocks * block_size,
        max_model_len=limit, units_per_request=one, concurrency=Fraction(blocks, one),
        max_tokens_per_request=longest_that_fits(lambda n: ceil_div(n, block_size) <= blocks, limit),
    )  # fmt: skip


def block_bytes_per_stage(
    layers: tuple[LayerStreams, ...], parallel: Parallel, size: Callable[[Stream], int]
) -> tuple[int, ...]:
    """Bytes of a block of all layers on a rank of each pipeline stage, by its `size` in one stream.

    States are paid for apart.
    """
    kept = (
        (stage, size(stream))
        for layer, stage in zip(layers, layer_stages(layers, parallel), strict=True)
        for stream in layer.streams
        if stream.role not in STATE_ROLES
    )
    return staged(kept, parallel.pipeline)


def staged(sizes: Iterable[tuple[int, int]], stages: int) -> tuple[int, ...]:
    """(stage, bytes) added up by stage."""
    sums = [0] * stages
    for stage, size in sizes:
        sums[stage] += size
    return tuple(sums)
