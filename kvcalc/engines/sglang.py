"""SGLang: pools of token slots, one row per token and layer, paged by `page_size`.

Rules: SGLang 0.5.23 srt/model_executor/pool_configurator.py:340-536 (cell sizes), 780-860 (sliding-window pools by
ratio), srt/mem_cache/memory_pool.py:505-760 (states), 2580 and 4856 (padding page), index_key_cache.py:24-52,
srt/mem_cache/kv_cache_configurator.py:3229-3410 (state budget). DeepSeek-V4's pools are not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from kvcalc.cache_dtypes import BF16, FormatChoice, cache_dtype
from kvcalc.engines.base import Allocation, Capacity, Engine, Figure, Parallel
from kvcalc.engines.budgets import Budget, Charge, divide, outside_bytes
from kvcalc.engines.checks import StageBudgets, check_counts, check_formats, context_limit, longest_that_fits, per_stage
from kvcalc.engines.layers import (
    LayerStreams,
    Share,
    assemble,
    collect,
    compresses,
    heads_per_rank,
    layer_stages,
    layer_streams,
    logical_bytes,
    roles_of,
    state_rows,
    with_roles,
)
from kvcalc.footprint import Workload
from kvcalc.formats import STATE_ROLES, Role, ceil_div, round_up
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Encoder, Stream, Window
from kvcalc.units import GIB, MIB

NAME, VERSION = "sglang", "0.5.23"
FORMATS = ("bf16", "fp16", "fp8", "fp8_ds_mla", "mxfp8", "nvfp4")
INDEX_PAGE = 64
"""Page of models with a sparse indexer (DSA kernels); 1 otherwise."""
EVICTION_INTERVAL = 128
"""SGLANG_SWA_EVICTION_INTERVAL (srt/environ.py:730): tokens that leave a window are freed in steps of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults are SGLang 0.5.23's."""

    version: str = VERSION
    parallel: Parallel = field(default_factory=Parallel)
    """With --enable-dp-attention, `tensor` is --tp divided by --dp."""
    block_size: int | None = None
    """--page-size; None: 1, or 64 beside a sparse indexer."""
    max_model_len: int | None = None
    """--context-length."""
    swa_full_tokens_ratio: Fraction = Fraction(4, 5)
    """Slots of the sliding-window pool for each slot of the full pool (0.8; all-window models have one pool)."""
    hybrid_swa: bool = True
    """False: windows are kept in full (--disable-hybrid-swa-memory)."""
    mamba_full_memory_ratio: Fraction = Fraction(9, 10)
    """Bytes of the state pool for each byte of the token pool."""
    num_speculative_tokens: int = 0
    """Above zero, the model's extra prediction layers share the pool."""
    mla: bool = False
    """Whether attention keeps a latent; its prefill graphs take more of the budget."""

    def __post_init__(self) -> None:
        check_counts(self)


def engine_formats(spec: ModelSpec, asked: FormatChoice) -> FormatChoice:
    """fp8 beside an indexer is DeepSeek's packed row; indexer keys are always fp8 with a scale; states fp32."""
    roles = roles_of(layer_streams(spec, draft_layers=True))
    if Role.INDEX in roles and asked.default.name == "fp8":
        asked = replace(asked, default=cache_dtype("fp8_ds_mla"))
    extra = {Role.INDEX: cache_dtype("fp8_ds_mla")} if Role.INDEX in roles else {}
    if roles & STATE_ROLES:
        extra |= {Role.CONV: BF16.default, Role.STATE: cache_dtype("fp32")}
    return with_roles(asked, extra)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Bytes of one slot on a rank of the fullest stage: a token of the full pool, of the window pool, a state."""

    full: int
    window: int
    state: int
    index: int
    """Of `full`: indexer keys, which live in pages of their own."""


def _is_window(stream: Stream, settings: Settings) -> bool:
    return settings.hybrid_swa and isinstance(stream.extent, Window)


def _rank_row(stream: Stream, formats: FormatChoice, settings: Settings) -> int:
    """Bytes of one token (or of a state) of one layer on one rank.

    Context-parallel ranks share the tokens; indexer keys are on all of them, so one of the latent's slots pays for
    several.
    """
    share = settings.parallel.decode_context if stream.role not in STATE_ROLES else 1
    heads = heads_per_rank(stream, settings.parallel.tensor // share, NAME)
    rows = state_rows(stream) if stream.role in STATE_ROLES else 1
    row = stream.rows_bytes(rows, formats, heads=heads)
    return row * share if stream.role is Role.INDEX else row


def page_size(layers: tuple[LayerStreams, ...], settings: Settings) -> int:
    """Tokens of a page."""
    if settings.block_size is not None:
        return settings.block_size
    return INDEX_PAGE if Role.INDEX in roles_of(layers) else 1


def _layers(spec: ModelSpec, settings: Settings) -> tuple[LayerStreams, ...]:
    layers = layer_streams(spec, draft_layers=settings.num_speculative_tokens > 0)
    if compresses(layers):
        raise usage_error("SGLang's pools for compressed attention (DeepSeek-V4) are not modelled", help="use vllm")
    return layers


def pools(spec: ModelSpec, formats: FormatChoice, settings: Settings) -> Pools:
    """The cell sizes, of the fullest pipeline stage."""
    layers, stored = _layers(spec, settings), engine_formats(spec, formats)
    sums = [[0, 0, 0, 0] for _ in range(settings.parallel.pipeline)]
    for layer, stage in zip(layers, layer_stages(layers, settings.parallel), strict=True):
        for stream in layer.streams:
            size = _rank_row(stream, stored, settings)
            where = 2 if stream.role in STATE_ROLES else 1 if _is_window(stream, settings) else 0
            sums[stage][where] += size
            sums[stage][3] += size if stream.role is Role.INDEX else 0
    full, window, state, index = (max(column) for column in zip(*sums, strict=True))
    return Pools(full=full, window=window, state=state, index=index)


def pool_bytes(cells: Pools, page: int, *, tokens: int = 0, window_tokens: int = 0, states: int = 0) -> int:
    """Bytes of the buffers of a rank: every pool keeps a page (or a slot) more than it hands out."""
    size = (tokens + page) * (cells.full - cells.index) if tokens else 0
    size += (tokens + page + 1) // page * page * cells.index if tokens else 0
    size += (window_tokens + page) * cells.window if window_tokens else 0
    return size + ((states + 1) * cells.state if states else 0)


def window_need(span: int, tokens: int, page: int) -> int:
    """Slots that one sequence of `tokens` (whole pages) keeps of a window until tokens are freed.

    Source: compute_swa_request_cap: window + eviction interval + a page that is not yet full + the page being written.
    """
    return min(tokens, round_up(span + EVICTION_INTERVAL + 2 * page, page))


def _pool_tokens(layers: tuple[LayerStreams, ...], tokens: int, batch: int, settings: Settings) -> tuple[int, int, int]:
    """(full slots, window slots, window slots in use) of pools that just hold `batch` sequences of whole pages."""
    page = page_size(layers, settings)
    spans = [s.extent.size for layer in layers for s in layer.streams if isinstance(s.extent, Window)]
    if not spans or not settings.hybrid_swa:
        return (batch * tokens,) * 3
    need = batch * window_need(max(spans), tokens, page)
    if not any(s.extent.grows for layer in layers for s in layer.streams):
        return need, need, need
    ratio = settings.swa_full_tokens_ratio
    full = max(batch * tokens, round_up(ceil_div(need * ratio.denominator, ratio.numerator), page))
    return full, int(full * ratio) // page * page, need


def allocate(spec: ModelSpec, workload: Workload, settings: Settings) -> Allocation:
    """Slots that a batch ties up, in pools whose sizes follow SGLang's ratio.

    Raises:
        KvcalcError: a format, a sharding or a kind that SGLang (as modelled) does not have.
    """
    check_formats(NAME, workload.formats, FORMATS)
    layers, stored = _layers(spec, settings), engine_formats(spec, workload.formats)
    page = page_size(layers, settings)
    tokens = round_up(workload.seq_len, page)
    counts = _counts(workload.batch_size, settings.parallel.data)
    sizes = {count: _pool_tokens(layers, tokens, count, settings) for count in counts}
    shares = [
        _share(stream, stage, tokens, page, sizes, workload, stored, settings)
        for layer, stage in zip(layers, layer_stages(layers, settings.parallel), strict=True)
        for stream in layer.streams
    ]
    cells = pools(spec, workload.formats, settings)
    per_rank_tokens = ceil_div(tokens, settings.parallel.decode_context)
    return assemble(
        NAME, spec, workload, settings, stored, shares,
        reserve=collect([("padding page", page * (cells.full + cells.window)), ("padding state slot", cells.state)]),
        unit="token", unit_tokens=1, unit_bytes=cells.full,
        units=per_rank_tokens * ceil_div(workload.batch_size, settings.parallel.data),
        figures=(Figure(name="sequence", meaning="whole pages of one sequence in the full pool", units=tokens,
                        bytes=per_rank_tokens * cells.full),),
        notes=tuple(_notes(workload.formats, stored)),
    )  # fmt: skip


def _notes(asked: FormatChoice, stored: FormatChoice) -> Iterator[str]:
    if asked.name != stored.name:
        yield f"SGLang stores {stored.name} where {asked.name} is asked for"


def _counts(batch: int, replicas: int) -> dict[int, int]:
    """Sequences on a data-parallel replica -> how many replicas hold that many."""
    few, more = divmod(batch, replicas)
    counts = {few + 1: more, few: replicas - more}
    return {count: number for count, number in counts.items() if number}


def _share(
    stream: Stream, stage: int, tokens: int, page: int, sizes: Mapping[int, tuple[int, int, int]], workload: Workload,
    formats: FormatChoice, settings: Settings,
) -> Share:  # fmt: skip
    """One stream's part; `sizes` are the pools' tokens by the sequences that they hold."""
    parallel, batch = settings.parallel, workload.batch_size
    counts = _counts(batch, parallel.data)
    logical = logical_bytes(stream, workload, formats) * batch
    rank_row = _rank_row(stream, formats, settings)
    if stream.role in STATE_ROLES:
        return Share(stage=stage, logical=logical, allocated=logical, rank=rank_row * max(counts),
                     total=rank_row * parallel.tensor * batch)  # fmt: skip
    row = stream.rows_bytes(1, formats)
    rows = stream.extent.rows(workload.seq_len, workload.encoder_len)
    whole_pages = round_up(rows, page)

    def slots(count: int) -> tuple[int, int]:
        """Slots of the pool, and those in use, for `count` sequences."""
        if isinstance(stream.extent, Encoder):
            return count * whole_pages, count * whole_pages
        full, window, need = sizes[count]
        return (window, need) if _is_window(stream, settings) else (full, count * tokens)

    def rank(count: int) -> int:
        return ceil_div(slots(count)[0], parallel.decode_context) * rank_row

    pool = sum(slots(count)[0] * number for count, number in counts.items())
    used = sum(slots(count)[1] * number for count, number in counts.items())
    promoted = isinstance(stream.extent, Window) and not _is_window(stream, settings)
    exact = whole_pages * batch
    waste = (
        ("page rounding", exact * row - logical),
        ("windows kept in full" if promoted else "window slots kept until freed", (used - exact) * row),
        ("pools sized by their ratio", (pool - used) * row),
    )
    return Share(stage=stage, logical=logical, allocated=pool * row, rank=rank(max(counts)),
                 total=sum(rank(count) * number for count, number in counts.items()) * parallel.tensor,
                 waste=waste)  # fmt: skip


def capacity(spec: ModelSpec, budget_bytes: StageBudgets, settings: Settings, formats: FormatChoice) -> Capacity:
    """Slots of each pool, as the start-up log prints them; the tightest stage's budget counts for every stage."""
    limit = context_limit(spec, settings.max_model_len)
    layers = _layers(spec, settings)
    page, cells = page_size(layers, settings), pools(spec, formats, settings)
    budget = min(per_stage(budget_bytes, settings.parallel.pipeline))
    states, rest = 0, budget
    if cells.state:
        ratio = settings.mamba_full_memory_ratio
        states = max(0, (int(budget * ratio / (1 + ratio)) - cells.state) // cells.state)
        rest -= (states + 1) * cells.state
    ratio = settings.swa_full_tokens_ratio if cells.full else Fraction(1)
    cell = cells.full + ratio * cells.window
    tokens = int(rest // cell) // page * page if cell else 0
    window_tokens = int(tokens * ratio) // page * page if cells.window else 0
    stored = engine_formats(spec, formats)
    of_all_ranks, one = tokens * settings.parallel.decode_context, round_up(limit, page)
    return Capacity(
        engine=NAME,
        version=settings.version,
        model=spec.name,
        budget_bytes=budget,
        unit="token",
        unit_tokens=1,
        unit_bytes=int(cell),
        units=tokens,
        usable_units=tokens,
        tokens=of_all_ranks,
        max_model_len=limit,
        units_per_request=one,
        concurrency=Fraction(of_all_ranks, one),
        max_tokens_per_request=longest_that_fits(lambda n: round_up(n, page) <= of_all_ranks, limit),
        log_lines=tuple(log_lines(spec, stored, settings, tokens, window_tokens, states)),
        notes=(f"{states:,} state slots",) if states else (),
    )


def log_lines(
    spec: ModelSpec, stored: FormatChoice, settings: Settings, tokens: int, window_tokens: int, states: int
) -> Iterator[str]:
    """What the pools say of themselves; the "GB" are GiB."""
    layers = _layers(spec, settings)
    page = page_size(layers, settings)
    cells = pools(spec, stored, settings)
    if window_tokens:
        both = pool_bytes(cells, page, tokens=tokens, window_tokens=window_tokens) / GIB
        yield f"SWAKVPool mem usage: {both:.2f} GB, swa size: {window_tokens}, full size: {tokens}"
    elif tokens:
        key, value = (side / GIB for side in side_bytes(spec, stored, settings, tokens + page))
        both = pool_bytes(cells, page, tokens=tokens) / GIB
        size = f"K size: {key:.2f} GB, V size: {value:.2f} GB" if value else f"KV size: {both:.2f} GB"
        yield f"KV Cache is allocated. #tokens: {tokens}, {size}"
    if states:
        yield f"Mamba Cache is allocated. max_mamba_cache_size: {states}"


def side_bytes(spec: ModelSpec, stored: FormatChoice, settings: Settings, slots: int) -> tuple[int, int]:
    """Bytes of K and of V (latents count as K) of `slots` slots of the full pool on a rank."""
    layers = _layers(spec, settings)
    stages = layer_stages(layers, settings.parallel)
    sums = [[0, 0] for _ in range(settings.parallel.pipeline)]
    for layer, stage in zip(layers, stages, strict=True):
        for stream in layer.streams:
            if stream.role not in STATE_ROLES and not _is_window(stream, settings):
                sums[stage][stream.role is Role.VALUE] += slots * _rank_row(stream, stored, settings)
    return max(s[0] for s in sums), max(s[1] for s in sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Defaults of GPUs below a size (arg_groups/memory_hook.py handle_gpu_memory_settings)."""

    below: float
    """MiB as the driver reports them."""
    chunked_prefill: int
    graphs: tuple[int, int]
    """Largest batch of the decode graphs: TP below 4, and from 4."""


TIERS = (
    Tier(below=20 * 1024, chunked_prefill=2048, graphs=(8, 8)),
    Tier(below=35 * 1024, chunked_prefill=4096, graphs=(48, 160)),
    Tier(below=60 * 1024, chunked_prefill=4096, graphs=(32, 160)),
    Tier(below=160 * 1024, chunked_prefill=8192, graphs=(256, 512)),
    Tier(below=float("inf"), chunked_prefill=16384, graphs=(512, 512)),
)
PREFILL_GRAPHS = (*range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64),
                  *range(1280, 4097, 256), *range(4608, 16385, 512))  # fmt: skip
"""Tokens of the captured prefills (arg_groups/cuda_graph_hook.py)."""


def default_fraction(settings: Settings, gpu_memory_bytes: int) -> Fraction:
    """mem_fraction_static unless given.

    MiB kept free = 512 + 1.5 x chunked_prefill_size + 1024 x tp x pp / 8 + 2 x largest decode graph (with DP
    attention 3 or 4.5 x dp more) + 8 x prefill graphs (MLA: 1536 for all). SGLang's floor of 10 GiB, for GPUs above
    60 GiB, is never met there: 1.5 x 8192 alone is more.
    """
    mib = gpu_memory_bytes / MIB
    tier = next(tier for tier in TIERS if mib < tier.below)
    parallel = settings.parallel
    ranks = parallel.tensor * parallel.data
    largest = tier.graphs[ranks >= 4]
    kept = 512 + 1.5 * tier.chunked_prefill + 128 * ranks * parallel.pipeline + 2 * largest
    if parallel.data > 1:
        kept += largest * parallel.data * (4.5 if largest > 300 else 3)
    kept += 1536 if settings.mla else 8 * sum(size <= tier.chunked_prefill for size in PREFILL_GRAPHS)
    return Fraction(round(1000 * (mib - kept) / mib), 1000)


def memory_budget(
    settings: Settings, *, gpu_memory_bytes: int, weights_bytes: int, utilization: Fraction | None = None,
    overheads: Mapping[str, int] | None = None, estimates: Mapping[str, int] | None = None,
) -> Budget:  # fmt: skip
    """free after loading - (1 - mem_fraction_static) x free before loading.

    The fraction is of the memory that is free before the weights are loaded, not of the total; activations and CUDA
    graphs live in the rest (mem_cache/kv_cache_configurator.py _profile_available_bytes).
    """
    before = Charge(
        name="before_loading", bytes=outside_bytes(settings.parallel.ranks), high=4 * GIB,
        source="CUDA context, NCCL and other processes before the weights are loaded",
    )  # fmt: skip
    return divide(
        NAME, gpu_memory_bytes=gpu_memory_bytes, weights_bytes=weights_bytes,
        fraction=default_fraction(settings, gpu_memory_bytes) if utilization is None else utilization,
        fraction_of="the memory that is free before the weights are loaded", charges=(before,), given=overheads,
        estimates=estimates, weights_within=True,
    )  # fmt: skip


ENGINE = Engine(
    name=NAME,
    version=VERSION,
    summary="pools of token slots, a ratio between window and full slots, state slots",
    source="SGLang 0.5.23 model_executor/pool_configurator.py, mem_cache/memory_pool.py",
    settings=Settings,
    allocate=allocate,
    batch_scales=False,
    capacity=capacity,
    budget=memory_budget,
    dense_over_data=True,
    even_experts=True,
)
