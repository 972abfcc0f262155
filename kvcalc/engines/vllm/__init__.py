"""vLLM: what its paged pool really takes. See pages, groups, sequence and capacity for the rules."""

from __future__ import annotations

from collections import Counter as CountOf
from collections.abc import Iterator

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.engines.base import Allocation, Engine, Figure, Waste
from kvcalc.engines.checks import check_formats, context_limit
from kvcalc.engines.layers import collect, layer_stages, layer_streams, logical_bytes
from kvcalc.engines.vllm.capacity import capacity, memory_budget
from kvcalc.engines.vllm.groups import Group, Pool, pool
from kvcalc.engines.vllm.pages import Keep, Page, check_context_parallel, engine_formats, model_pages
from kvcalc.engines.vllm.sequence import Counter
from kvcalc.engines.vllm.settings import FIRST_V1, NAME, VERSION, Settings, gpu_defaults
from kvcalc.footprint import Workload
from kvcalc.formats import Role, ceil_div
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Window

FORMATS = ("bf16", "fp16", "fp32", "fp8", "fp8_", "int8_per", "int4_per", "nvfp4", "mxfp8_ds", "turboquant_",
           "ultraquant_", "octave_")  # fmt: skip
"""What --kv-cache-dtype takes (config/cache.py:30-70): names or their beginnings."""


def allocate(spec: ModelSpec, workload: Workload, settings: Settings) -> Allocation:
    """Blocks, bytes and waste of `workload` in vLLM's pool.

    Raises:
        KvcalcError: a format or a sharding that vLLM refuses.
    """
    check_formats(NAME, workload.formats, FORMATS)
    shared = planned(spec, workload.formats, settings)
    stored = engine_formats(spec, workload.formats, settings)
    limit = max(context_limit(spec, settings.max_model_len, workload.seq_len), workload.seq_len)
    counter = Counter(settings=settings, max_model_len=limit, encoder_len=workload.encoder_len)
    parallel, batch = settings.parallel, workload.batch_size
    held = {id(g): counter.highest(g.first, workload.seq_len) for g in shared.groups}
    blocks = sum(held.values())
    here = ceil_div(batch, parallel.data)
    per_stage = tuple(blocks * size for size in shared.stage_block_bytes)
    kinds = tuple((group, page, count) for group in shared.groups for page, count in group.kinds)
    logical = sum(count * _logical(page, workload) for _, page, count in kinds)
    replicas = sum(
        count * held[id(group)] * (parallel.tensor * page.rank_bytes - _copies(page, settings) * page.whole_bytes)
        for group, page, count in kinds
    )
    total = parallel.tensor * sum(per_stage)
    per_rank = max(per_stage) * here
    sizes = {page.block_size for page in _all(shared)}
    waste = collect(item for g in shared.groups for item in _waste(g, held[id(g)], workload, settings, shared))
    return Allocation(
        engine=NAME,
        version=settings.version,
        model=spec.name,
        batch_size=batch,
        seq_len=workload.seq_len,
        kv_cache_dtype=stored.name,
        logical_bytes=logical * batch,
        allocated_bytes=(total - replicas) * batch,
        waste=tuple(Waste(cause=w.cause, bytes=w.bytes * batch) for w in waste),
        ranks=parallel.ranks,
        per_rank_bytes=per_rank,
        per_stage_bytes=tuple(size * here for size in per_stage),
        sharding_waste=collect(
            [
                ("replicas over tensor-parallel ranks", replicas * batch),
                ("uneven ranks", per_rank * parallel.ranks - total * batch),
            ]
        ),
        reserve=_reserve(shared, settings),
        unit="block",
        unit_tokens=next(iter(sizes)) if len(sizes) == 1 else 0,
        unit_bytes=shared.block_bytes,
        units=blocks * here,
        figures=_figures(counter, shared, workload.seq_len),
        notes=tuple(_notes(shared, workload.formats, stored)),
    )


def planned(spec: ModelSpec, formats: FormatChoice, settings: Settings) -> Pool:
    """The pool that vLLM plans for a model."""
    layers = layer_streams(spec, draft_layers=True)  # behind the others: where they do not run, nothing asks for theirs
    stages = layer_stages(layers, settings.parallel)
    pages = model_pages(spec, formats, settings)
    shared = pool(pages, settings, stages)
    check_context_parallel(_all(shared), settings)
    return shared


def _all(shared: Pool) -> tuple[Page, ...]:
    return tuple(p for g in shared.groups for p in g.pages)


def _copies(page: Page, settings: Settings) -> int:
    """Blocks of different tokens that the tensor-parallel ranks hold for one block of the table."""
    return settings.parallel.decode_context if page.keep is Keep.FULL else 1


def _logical(page: Page, workload: Workload) -> int:
    return sum(logical_bytes(s, workload, page.formats) for s in page.streams)


def _waste(group: Group, held: int, workload: Workload, settings: Settings, shared: Pool) -> Iterator[tuple[str, int]]:
    """Why one sequence's blocks of a group hold more than its logical bytes, over all tensor-parallel ranks."""
    tensor = settings.parallel.tensor
    for page, count in group.kinds:
        content = _content_waste(page, held * _copies(page, settings) * page.whole_bytes, workload)
        yield from ((cause, count * size) for cause, size in content)
        padding = "state pages padded to attention pages" if page.keep is Keep.STATE else "page alignment"
        yield padding, count * held * tensor * (page.page_bytes - page.rank_bytes)
    for stage, size in enumerate(shared.stage_block_bytes):
        yield "blocks of short groups", held * tensor * (size - group.page_bytes(stage, shared.stages))


def _content_waste(page: Page, content: int, workload: Workload) -> Iterator[tuple[str, int]]:
    logical = _logical(page, workload)
    first, *_ = page.streams
    windowed = isinstance(first.extent, Window)
    if first.role is Role.BUFFER:
        yield "compressor buffers", content
    elif page.keep is Keep.STATE:
        yield "states of speculative tokens", content - logical
    elif page.keep is Keep.FULL and windowed:
        yield "windows kept in full", content - logical
    elif page.keep in (Keep.WINDOW, Keep.CHUNK):
        whole = ceil_div(min(workload.seq_len, page.span), page.block_size) * page.whole_bytes
        yield "block rounding", whole - logical
        yield "blocks that straddle the window", content - whole
    else:
        yield "block rounding", content - logical


def _reserve(shared: Pool, settings: Settings) -> tuple[Waste, ...]:
    if settings.release < FIRST_V1:
        return ()
    return collect([("null block", shared.block_bytes)])


def _figures(counter: Counter, shared: Pool, tokens: int) -> tuple[Figure, ...]:
    counted = (
        ("steady", "while the next token is computed", counter.steady(shared.groups, tokens)),
        (
            "prefill_peak",
            f"highest while prefilled in steps of {counter.settings.max_num_batched_tokens:,} tokens",
            counter.peak(shared.groups, tokens),
        ),
        (
            "admission",
            f"charged for a request of {counter.max_model_len:,} tokens; the log's concurrency divides by it",
            counter.admission_of(shared),
        ),
    )
    return tuple(
        Figure(name=name, meaning=meaning, units=blocks, bytes=blocks * shared.block_bytes)
        for name, meaning, blocks in counted
    )


def _notes(shared: Pool, asked: FormatChoice, stored: FormatChoice) -> Iterator[str]:
    if asked.name != stored.name:
        yield f"vLLM stores {stored.name} where {asked.name} is asked for"
    if shared.padding_layers:
        yield f"groups are filled up with {shared.padding_layers} padding layers"
    kinds = CountOf((len(g.pages), g.first.keep.value, g.first.block_size, g.page_bytes()) for g in shared.groups)
    for (layers, keep, block, size), number in kinds.items():
        tokens = f"blocks of {block:,} tokens" if block else "one block per request"
        groups = "1 group" if number == 1 else f"{number} groups"
        yield f"{groups} of {layers} x {keep}: {tokens}, pages of {size:,} B together on a rank"


ENGINE = Engine(
    name=NAME,
    version=VERSION,
    summary="paged pool of blocks, shared by groups of layers",
    source="vLLM 0.33.0 v1/kv_cache_interface.py, v1/core/kv_cache_planning.py, single_type_kv_cache_manager.py",
    settings=Settings,
    allocate=allocate,
    capacity=capacity,
    budget=memory_budget,
    gpu_defaults=gpu_defaults,
)

__all__ = ["ENGINE", "Settings", "allocate", "capacity", "memory_budget", "planned"]
