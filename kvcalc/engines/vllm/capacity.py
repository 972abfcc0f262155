"""How many blocks, tokens and requests a budget yields in vLLM, and how large the budget is.

Rules: vLLM 0.33.0 v1/core/kv_cache_planning.py:643-735 and 1440-1560, v1/core/kv_cache_utils.py:1061-1130,
v1/worker/gpu_worker.py:641-820, v1/worker/utils.py:724.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.engines.base import Capacity
from kvcalc.engines.budgets import Budget, Charge, divide, outside_bytes
from kvcalc.engines.checks import StageBudgets, context_limit, longest_that_fits, per_stage
from kvcalc.engines.vllm.groups import Pool
from kvcalc.engines.vllm.sequence import Counter
from kvcalc.engines.vllm.settings import FIRST_V1, NAME, Settings
from kvcalc.spec.model import ModelSpec
from kvcalc.units import GIB


def capacity(spec: ModelSpec, budget_bytes: StageBudgets, settings: Settings, formats: FormatChoice) -> Capacity:
    """What `budget_bytes` of cache yield, as the start-up log prints it; the stage with the fewest blocks decides."""
    from kvcalc.engines.vllm import planned

    limit = context_limit(spec, settings.max_model_len)
    shared = planned(spec, formats, settings)
    budgets = per_stage(budget_bytes, settings.parallel.pipeline)
    blocks, budget = min(
        ((budget // size, budget) for budget, size in zip(budgets, shared.stage_block_bytes, strict=True) if size),
        default=(0, min(budgets)),
    )
    return capacity_of_blocks(spec, shared, blocks, settings, limit, budget)


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


def _charges(settings: Settings) -> tuple[Charge, ...]:
    """What machines make of them differs too much to predict: defaults with the range of published logs.

    docs/memory.md says where each figure was read.
    """
    graphs = GIB * 6 // 10 if settings.counts_graphs else 0
    return (
        Charge(
            name="non_torch", bytes=outside_bytes(settings.parallel.ranks), low=GIB // 20, high=GIB * 358 // 100,
            source="CUDA context, NCCL: 0.05 to 3.58 GiB in logs", within=True,
        ),
        Charge(
            name="activation", bytes=GIB * 13 // 10, low=GIB * 19 // 100, high=GIB * 3663 // 100,
            source="peak of the trial run: 0.19 to 36.63 GiB in logs", within=True,
        ),
        Charge(
            name="absorbed", bytes=0, high=2 * GIB, within=True,
            source="16-bit copies of a quantised kv_b_proj (MLA): 0.29 GiB for DeepSeek-R1 at TP8",
        ),
        Charge(
            name="cuda_graphs", bytes=graphs, low=GIB // 25, high=7 * GIB, within=True,
            source="estimate for captured graphs, from 0.20: 0.04 to 7 GiB in logs",
        ),
    )  # fmt: skip


def memory_budget(
    settings: Settings,
    *,
    gpu_memory_bytes: int,
    weights_bytes: int,
    utilization: Fraction | None = None,
    overheads: Mapping[str, int] | None = None,
    estimates: Mapping[str, int] | None = None,
) -> Budget:
    """Bytes left for the cache on one rank: ceil(total x utilization) - weights - overheads.

    `gpu_memory_bytes` is the total as the driver reports it; `weights_bytes` are one rank's.

    Raises:
        KvcalcError: an overhead of an unknown name.
    """
    return divide(
        NAME, gpu_memory_bytes=gpu_memory_bytes, weights_bytes=weights_bytes,
        fraction=settings.default_utilization if utilization is None else utilization,
        fraction_of="the GPU's total memory", charges=_charges(settings), given=overheads, estimates=estimates,
        weights_within=True, rounded_up=True,
    )  # fmt: skip
