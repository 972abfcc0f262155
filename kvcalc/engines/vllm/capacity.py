"""How many blocks, tokens and requests a budget yields in vLLM, and how large the budget is.

Rules: vLLM 0.33.0 v1/core/kv_cache_planning.py:643-735 and 1440-1560, v1/core/kv_cache_utils.py:1061-1130,
v1/worker/gpu_worker.py:641-820, v1/worker/utils.py:724.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.engines.base import Budget, Capacity, Overhead, longest_that_fits
from kvcalc.engines.vllm.groups import Pool
from kvcalc.engines.vllm.sequence import Counter
from kvcalc.engines.vllm.settings import FIRST_V1, NAME, Settings
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec

GIB = 2**30


def context_limit(spec: ModelSpec, settings: Settings, otherwise: int | None = None) -> int:
    """max_model_len: as given, or the model's context.

    Raises:
        KvcalcError: neither is known.
    """
    limit = settings.max_model_len or spec.max_position_embeddings or otherwise
    if limit is None:
        raise usage_error(f"{spec.name} states no context length", help="give --max-model-len")
    return limit


def capacity(spec: ModelSpec, budget_bytes: int, settings: Settings, formats: FormatChoice) -> Capacity:
    """What `budget_bytes` of cache on every rank yield, as the start-up log prints it."""
    from kvcalc.engines.vllm import planned

    limit = context_limit(spec, settings)
    shared = planned(spec, formats, settings)
    blocks = min((budget_bytes // size for size in shared.stage_block_bytes if size), default=0)
    return capacity_of_blocks(spec, shared, blocks, settings, limit, budget_bytes)


def capacity_of_blocks(
    spec: ModelSpec, shared: Pool, blocks: int, settings: Settings, limit: int, budget_bytes: int
) -> Capacity:
    """The same from the number of blocks in the pool."""
    counter = Counter(settings=settings, max_model_len=limit, encoder_len=spec.max_source_positions or 0)
    per_request = counter.admission_of(shared)
    reserved = 0 if settings.release < FIRST_V1 else 1
    usable = max(0, blocks - reserved)
    tokens, concurrency = tokens_and_concurrency(shared, blocks, per_request, settings, limit)
    notes: list[str] = []
    if per_request > usable:
        notes.append(f"a request of {limit:,} tokens needs {per_request:,} blocks: vLLM refuses to start")
    return Capacity(
        engine=NAME,
        version=settings.version,
        model=spec.name,
        budget_bytes=budget_bytes,
        unit="block",
        unit_tokens=shared.smallest_block(limit),
        unit_bytes=shared.block_bytes,
        units=blocks,
        usable_units=usable,
        tokens=tokens,
        max_model_len=limit,
        units_per_request=per_request,
        concurrency=concurrency,
        max_tokens_per_request=longest_that_fits(lambda n: counter.admission_of(shared, n) <= usable, limit),
        log_lines=_log_lines(settings, blocks, tokens, limit, concurrency, budget_bytes),
        notes=tuple(notes),
    )


def tokens_and_concurrency(
    shared: Pool, blocks: int, per_request: int, settings: Settings, limit: int
) -> tuple[int, Fraction]:
    """What the log says of `blocks` blocks, where a request of `limit` tokens is charged with `per_request`."""
    concurrency = Fraction(blocks, per_request) if per_request else Fraction(0)
    if settings.tokens_by_concurrency:
        return int(concurrency * limit), concurrency
    groups, block = max(1, len(shared.groups)), shared.smallest_block(limit)
    return blocks // groups * block * settings.parallel.decode_context, concurrency


def _log_lines(
    settings: Settings, blocks: int, tokens: int, limit: int, concurrency: Fraction, budget_bytes: int
) -> tuple[str, ...]:
    times = f"{float(concurrency):.2f}x"
    if settings.release < FIRST_V1:
        return (f"# GPU blocks: {blocks}", f"Maximum concurrency for {limit} tokens per request: {times}")
    memory = f"Available KV cache memory: {budget_bytes / GIB:.2f} GiB"
    size, most = (
        f"GPU KV cache size: {tokens:,} tokens",
        f"Maximum concurrency for {limit:,} tokens per request: {times}",
    )
    return (memory, f"{size}, {most}") if settings.tokens_by_concurrency else (memory, size, most)


_OVERHEADS = (
    ("non_torch", "NCCL, CUDA context and other memory outside PyTorch", 0.6, 0.10, 3.58,
     "vllm issue 12330 (0.10), PR 14447 (0.20), PR 10511 (1.79; 3.58 with TP 2)"),
    ("activation", "peak of the forward pass that the profiler runs", 1.3, 0.37, 36.63,
     "vllm PR 14447 (0.37), PR 10511 (1.26), issue 12330 (9.37), PR 12126 (36.63, vision)"),
    ("cuda_graphs", "estimate for captured graphs (from 0.21)", 0.36, 0.17, 7.0,
     "club-3090 issue 127 (0.17), vllm PR 11349 (0.21), gpustack/runner PR 251 (0.36); vllm issue 45178: 3x fewer"
     " tokens by the estimate; issue 53013: 118.65 by a defect"),
)  # fmt: skip
"""(name, what, default, lowest and highest in published logs in GiB, where): machines differ too much to predict."""


def memory_budget(
    settings: Settings,
    *,
    gpu_memory_bytes: int,
    weights_bytes: int,
    utilization: Fraction | None = None,
    overheads: dict[str, int] | None = None,
) -> Budget:
    """Bytes left for the cache on one rank: ceil(total x utilization) - weights - overheads.

    `gpu_memory_bytes` is the total as the driver reports it; `weights_bytes` are one rank's.

    Raises:
        KvcalcError: an overhead of an unknown name.
    """
    given = overheads or {}
    known = [name for name, *_ in _OVERHEADS]
    for name in given:
        if name not in known:
            raise usage_error(f"vLLM has no overhead {name[:30]!r}", help=f"it has {', '.join(known)}")
    fraction = settings.default_utilization if utilization is None else utilization
    requested = ceil(gpu_memory_bytes * fraction)
    items = [
        Overhead(
            name="weights", bytes=weights_bytes, given=True, low_bytes=weights_bytes, high_bytes=weights_bytes,
            source="one rank's share of the checkpoint",
        )
    ]  # fmt: skip
    for name, _, default, low, high, source in _OVERHEADS:
        usual = 0 if name == "cuda_graphs" and not settings.tokens_by_concurrency else int(default * GIB)
        items.append(
            Overhead(
                name=name, bytes=given.get(name, usual), given=name in given, low_bytes=int(low * GIB),
                high_bytes=int(high * GIB), source=source,
            )
        )  # fmt: skip
    return Budget(
        engine=NAME,
        gpu_memory_bytes=gpu_memory_bytes,
        fraction=fraction,
        fraction_of="the GPU's total memory",
        requested_bytes=requested,
        overheads=tuple(items),
        available_bytes=max(0, requested - sum(item.bytes for item in items)),
    )
