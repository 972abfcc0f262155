"""TensorRT-LLM: blocks of 32 tokens; KV heads are rounded up to a whole number per rank.

Rules: NVIDIA/TensorRT-LLM main (stored copy), tensorrt_llm/_torch/pyexecutor/resource_manager.py:
KVCacheManager.__init__, get_cache_bytes_per_token. Read, not executed. Its pre-allocation estimator instead divides
heads x head_dim by tp and under-counts where ranks outnumber the heads. Windows are kept in full unless
--max-attention-window is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.engines.base import Allocation, Capacity, Engine, Figure, Parallel
from kvcalc.engines.budgets import Budget, Charge, divide, outside_bytes
from kvcalc.engines.checks import StageBudgets, check_counts, check_formats
from kvcalc.engines.layers import (
    Share,
    assemble,
    block_bytes_per_stage,
    block_capacity,
    heads_per_rank,
    layer_stages,
    layer_streams,
    logical_bytes,
    roles_of,
    state_rows,
    whole_sequences,
    with_roles,
)
from kvcalc.footprint import Workload
from kvcalc.formats import STATE_ROLES, Role, ceil_div, round_up
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Encoder, Sharding, Stream, Strided, Window
from kvcalc.units import GIB

NAME, VERSION = "tensorrt-llm", "1.2.1"
FORMATS = ("bf16", "fp16", "fp8", "int8", "nvfp4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults are TensorRT-LLM's (PyTorch backend)."""

    version: str = VERSION
    parallel: Parallel = field(default_factory=Parallel)
    block_size: int = 32
    """tokens_per_block."""
    max_model_len: int | None = None
    window_blocks: bool = False
    """True: max_attention_window is set to the model's windows."""
    num_speculative_tokens: int = 0

    def __post_init__(self) -> None:
        check_counts(self)


def _formats(spec: ModelSpec, asked: FormatChoice) -> FormatChoice:
    states = roles_of(layer_streams(spec, draft_layers=True)) & STATE_ROLES
    return with_roles(asked, {Role.CONV: BF16.default} if states else {})


def _heads(stream: Stream, settings: Settings) -> int:
    """KV heads are rounded up; states must divide."""
    if stream.sharding is Sharding.REPLICATED:
        return stream.heads
    if stream.role in STATE_ROLES:
        return heads_per_rank(stream, settings.parallel.tensor, NAME)
    return ceil_div(stream.heads, settings.parallel.tensor)


def _rows(stream: Stream, workload: Workload, settings: Settings) -> int:
    """Rows of whole blocks of one sequence."""
    if stream.role in STATE_ROLES:
        return state_rows(stream)
    rows, block = workload.seq_len, settings.block_size
    if isinstance(stream.extent, Encoder):
        rows = workload.encoder_len
    elif isinstance(stream.extent, Window) and settings.window_blocks:
        # A window that has moved straddles one block more.
        kept = min(rows, stream.extent.size)
        return (ceil_div(kept, block) + (rows > kept)) * block
    return round_up(rows, block)


def allocate(spec: ModelSpec, workload: Workload, settings: Settings) -> Allocation:
    """Blocks of every layer.

    Raises:
        KvcalcError: a format or a kind that TensorRT-LLM (as modelled) does not have.
    """
    check_formats(NAME, workload.formats, FORMATS)
    if settings.parallel.decode_context > 1:
        raise usage_error("TensorRT-LLM's context parallelism is not modelled", help="use -dcp 1")
    stored = _formats(spec, workload.formats)
    layers = layer_streams(spec, draft_layers=settings.num_speculative_tokens > 0)
    parallel, batch = settings.parallel, workload.batch_size
    shares: list[Share] = []
    for layer, stage in zip(layers, layer_stages(layers, parallel), strict=True):
        for stream in layer.streams:
            if stream.role is Role.BUFFER or isinstance(stream.extent, Strided):
                raise usage_error("TensorRT-LLM's caches for compressed attention are not modelled", help="use vllm")
            rows = _rows(stream, workload, settings)
            in_full = isinstance(stream.extent, Window) and not settings.window_blocks
            logical = logical_bytes(stream, workload, stored)
            content = stream.rows_bytes(rows, stored)
            rank = stream.rows_bytes(rows, stored, heads=_heads(stream, settings))
            cause = "windows kept in full" if in_full else "block rounding"
            shares.append(
                whole_sequences(stage, parallel, batch, logical=logical, allocated=content, rank=rank, cause=cause)
            )
    here = ceil_div(batch, parallel.data)
    blocks = ceil_div(workload.seq_len, settings.block_size)
    answer = assemble(
        NAME, spec, workload, settings, stored, shares, unit="block", unit_tokens=settings.block_size,
        unit_bytes=max(_block_bytes(spec, stored, settings)), units=blocks * here,
    )  # fmt: skip
    one = Figure(name="sequence", meaning="whole blocks of one sequence", units=blocks,
                 bytes=answer.per_rank_bytes // here)  # fmt: skip
    return replace(answer, figures=(one,))


def _block_bytes(spec: ModelSpec, formats: FormatChoice, settings: Settings) -> tuple[int, ...]:
    """Bytes of a block of all layers on a rank of each pipeline stage."""
    layers = layer_streams(spec, draft_layers=settings.num_speculative_tokens > 0)
    return block_bytes_per_stage(
        layers, settings.parallel,
        lambda stream: stream.rows_bytes(settings.block_size, formats, heads=_heads(stream, settings)),
    )  # fmt: skip


def capacity(spec: ModelSpec, budget_bytes: StageBudgets, settings: Settings, formats: FormatChoice) -> Capacity:
    """Blocks and tokens of a budget."""
    sizes = _block_bytes(spec, _formats(spec, formats), settings)
    found = block_capacity(NAME, spec, budget_bytes, settings, sizes, settings.block_size, settings.max_model_len)
    line = (
        f"[MemUsageChange] Allocated {found.units * found.unit_bytes / GIB:.2f} GiB for max tokens in paged KV cache"
        f" ({found.tokens})."
    )
    return replace(found, log_lines=(line,))


def memory_budget(
    settings: Settings, *, gpu_memory_bytes: int, weights_bytes: int, utilization: Fraction | None = None,
    overheads: Mapping[str, int] | None = None, estimates: Mapping[str, int] | None = None,
) -> Budget:  # fmt: skip
    """free_gpu_memory_fraction (0.9) of what is free once the weights are loaded and a forward pass has run."""
    runtime = Charge(
        name="runtime", bytes=GIB + outside_bytes(settings.parallel.ranks), low=GIB // 2,
        high=8 * GIB, source="CUDA context, engine buffers, activations: 1.75 GiB for Qwen3-Reranker-0.6B on an H100",
    )  # fmt: skip
    return divide(
        NAME, gpu_memory_bytes=gpu_memory_bytes, weights_bytes=weights_bytes,
        fraction=Fraction(9, 10) if utilization is None else utilization,
        fraction_of="the memory that is free after loading and a trial run", charges=(runtime,), given=overheads,
        estimates=estimates,
    )  # fmt: skip


ENGINE = Engine(
    name=NAME,
    version=VERSION,
    summary="blocks of 32 tokens, KV heads rounded up per rank",
    source="TensorRT-LLM main, _torch/pyexecutor/resource_manager.py (read, not executed)",
    settings=Settings,
    allocate=allocate,
    capacity=capacity,
    budget=memory_budget,
)
