"""LMDeploy: blocks of 64 tokens; the PyTorch backend rounds every tensor of a layer's block up to 256 bytes.

Rules: lmdeploy 0.18.0 pytorch/engine/cache_engine/schema.py:34-160, layout.py:54-76, plan.py:73-115 (K, V, and the
scales of each are tensors of their own), pytorch/backends/cuda/nsa.py (packed indexer rows); TurboMind:
InternLM/lmdeploy 1263d5c src/turbomind/kernels/attention/block.h:130-200 (no rounding). Windows are kept in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from kvcalc.cache_dtypes import BF16, FormatChoice, cache_dtype
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
    with_roles,
)
from kvcalc.footprint import Workload
from kvcalc.formats import STATE_ROLES, Role, RowFormat, ceil_div, round_up
from kvcalc.problems import usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Encoder, Sharding, Stream, Strided, Window
from kvcalc.units import GIB

NAME, VERSION = "lmdeploy", "0.18.0"
FORMATS = ("bf16", "fp16", "fp8", "lmdeploy_")
TENSOR_ALIGNMENT = 256
USUAL_VOCABULARY = 128_256
"""Llama-3's, where neither the user nor the spec says."""
POLICIES = {"int8": "lmdeploy_int8", "int4": "lmdeploy_int4", "turbo_quant": "lmdeploy_turbo_quant"}
"""--quant-policy's words -> formats with LMDeploy's scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults are LMDeploy's."""

    version: str = VERSION
    parallel: Parallel = field(default_factory=Parallel)
    block_size: int = 64
    """cache_block_seq_len."""
    backend: Literal["pytorch", "turbomind"] = "pytorch"
    max_model_len: int | None = None
    """session_len."""
    vocab_size: int | None = None
    """For the budget: run-time buffers hold logits."""
    max_prefill_token_num: int = 8192
    max_batch_size: int = 128
    """Default of most GPUs; 384 on an A100, 1024 on an H100 or H200 (utils.py)."""
    num_speculative_tokens: int = 0

    def __post_init__(self) -> None:
        check_counts(self)


def engine_formats(spec: ModelSpec, asked: FormatChoice) -> FormatChoice:
    """int8 and int4 carry LMDeploy's scales; indexer keys are packed fp8 rows, and fp8 beside them is DeepSeek's."""
    roles = roles_of(layer_streams(spec, draft_layers=True))
    name = POLICIES.get(asked.default.name, asked.default.name)
    if Role.INDEX in roles and name == "fp8":
        name = "fp8_ds_mla"
    extra = {Role.INDEX: cache_dtype("fp8_ds_mla")} if Role.INDEX in roles else {}
    extra |= {Role.CONV: BF16.default} if roles & STATE_ROLES else {}
    return with_roles(replace(asked, default=cache_dtype(name)), extra)


def _tensors(stream: Stream, heads: int, formats: FormatChoice, settings: Settings) -> tuple[int, int]:
    """(content, allocated) bytes of one block of a stream: its data and its scales, each rounded up."""
    block = settings.block_size
    content = stream.rows_bytes(block, formats, heads=heads)
    if settings.backend == "turbomind":
        return content, content
    stored, parts = formats.format(stream.role, stream.width, stream.dtype), [content]
    if isinstance(stored, RowFormat) and stored.name.startswith("lmdeploy_"):
        (segment,) = stored.segments
        data = block * heads * stream.width * segment.bits // 8
        parts = [data, content - data]
    return content, sum(round_up(part, TENSOR_ALIGNMENT) for part in parts)


def _blocks(stream: Stream, workload: Workload, settings: Settings) -> int:
    tokens = workload.encoder_len if isinstance(stream.extent, Encoder) else workload.seq_len
    return ceil_div(tokens, settings.block_size)


def _heads(stream: Stream, settings: Settings) -> int:
    tensor = settings.parallel.tensor
    if stream.sharding is Sharding.HEADS and stream.role not in STATE_ROLES and stream.heads % tensor:
        raise usage_error(
            f"LMDeploy cannot split {stream.heads} KV heads over {tensor} ranks", help="-tp must divide the KV heads"
        )
    return heads_per_rank(stream, tensor, NAME)


def allocate(spec: ModelSpec, workload: Workload, settings: Settings) -> Allocation:
    """Blocks of every layer and stream.

    Raises:
        KvcalcError: a format, a sharding or a kind that LMDeploy (as modelled) does not have.
    """
    stored = engine_formats(spec, workload.formats)
    check_formats(NAME, stored, FORMATS)
    if settings.parallel.decode_context > 1:
        raise usage_error("LMDeploy's context parallelism is not modelled", help="use -dcp 1")
    layers = layer_streams(spec, draft_layers=settings.num_speculative_tokens > 0)
    parallel, batch = settings.parallel, workload.batch_size
    shares = [
        _share(stream, stage, workload, stored, settings)
        for layer, stage in zip(layers, layer_stages(layers, parallel), strict=True)
        for stream in layer.streams
    ]
    here, blocks = ceil_div(batch, parallel.data), ceil_div(workload.seq_len, settings.block_size)
    size = max(block_bytes(spec, stored, settings))
    one = Figure(name="sequence", meaning="whole blocks of one sequence", units=blocks, bytes=blocks * size)
    return assemble(
        NAME, spec, workload, settings, stored, shares, unit="block", unit_tokens=settings.block_size,
        unit_bytes=size, units=blocks * here, figures=(one,),
    )  # fmt: skip


def _share(stream: Stream, stage: int, workload: Workload, formats: FormatChoice, settings: Settings) -> Share:
    parallel, batch = settings.parallel, workload.batch_size
    if isinstance(stream.extent, Strided) or stream.role is Role.BUFFER:
        raise usage_error("LMDeploy's caches for compressed attention are not modelled", help="use vllm")
    logical = logical_bytes(stream, workload, formats)
    heads = _heads(stream, settings)
    if stream.role in STATE_ROLES:
        whole = logical
        rank = stream.rows_bytes(state_rows(stream), formats, heads=heads)
        waste: tuple[tuple[str, int], ...] = ()
        total = rank * parallel.tensor
    else:
        blocks = _blocks(stream, workload, settings)
        content = blocks * stream.rows_bytes(settings.block_size, formats)
        mine, padded = _tensors(stream, heads, formats, settings)
        rank, total = blocks * padded, blocks * padded * parallel.tensor
        padding = blocks * (padded - mine) * parallel.tensor
        whole = content + padding
        cause = "windows kept in full" if isinstance(stream.extent, Window) else "block rounding"
        waste = ((cause, (content - logical) * batch), ("tensors rounded up to 256 B", padding * batch))
    return Share(
        stage=stage, logical=logical * batch, allocated=whole * batch, rank=rank * ceil_div(batch, parallel.data),
        total=total * batch, waste=waste,
    )  # fmt: skip


def block_bytes(spec: ModelSpec, formats: FormatChoice, settings: Settings) -> tuple[int, ...]:
    """Bytes of a block of all layers on a rank of each pipeline stage."""
    layers = layer_streams(spec, draft_layers=settings.num_speculative_tokens > 0)
    return block_bytes_per_stage(
        layers, settings.parallel, lambda stream: _tensors(stream, _heads(stream, settings), formats, settings)[1]
    )


def capacity(spec: ModelSpec, budget_bytes: StageBudgets, settings: Settings, formats: FormatChoice) -> Capacity:
    """Blocks and tokens of a budget."""
    sizes = block_bytes(spec, engine_formats(spec, formats), settings)
    return block_capacity(NAME, spec, budget_bytes, settings, sizes, settings.block_size, settings.max_model_len)


def memory_budget(
    settings: Settings, *, gpu_memory_bytes: int, weights_bytes: int, utilization: Fraction | None = None,
    overheads: Mapping[str, int] | None = None, estimates: Mapping[str, int] | None = None,
) -> Budget:  # fmt: skip
    """cache_max_entry_count (0.8) of what is free once the weights are loaded and run-time buffers are set aside.

    Buffers: (max_prefill_token_num + 2 x max_batch_size) x vocabulary x 2 B (pytorch/engine/executor/base.py).
    """
    rows = settings.max_prefill_token_num + 2 * settings.max_batch_size
    buffers = rows * (settings.vocab_size or USUAL_VOCABULARY) * 2
    charges = (
        Charge(
            name="before_loading", bytes=outside_bytes(settings.parallel.ranks), high=4 * GIB,
            source="CUDA context, NCCL and other processes",
        ),
        Charge(
            name="runtime", bytes=buffers, high=8 * GIB,
            source="lmdeploy 0.18.0: (max_prefill_token_num + 2 x max_batch_size) x vocabulary x 2 B",
        ),
    )  # fmt: skip
    return divide(
        NAME, gpu_memory_bytes=gpu_memory_bytes, weights_bytes=weights_bytes,
        fraction=Fraction(4, 5) if utilization is None else utilization,
        fraction_of="the memory that is free after loading, less run-time buffers", charges=charges, given=overheads,
        estimates=estimates,
    )  # fmt: skip


def gpu_defaults(version: str, memory_bytes: int, name: str) -> dict[str, int]:
    """The largest batch by the GPU's name (lmdeploy 0.18.0 utils.py get_max_batch_size)."""
    sizes = {"a100": 384, "a800": 384, "h100": 1024, "h800": 1024, "h200": 1024}
    return {"max_batch_size": next((size for word, size in sizes.items() if word in name.lower()), 128)}


ENGINE = Engine(
    name=NAME,
    version=VERSION,
    summary="blocks of 64 tokens, tensors rounded up to 256 bytes",
    source="lmdeploy 0.18.0 pytorch/engine/cache_engine; TurboMind kernels/attention/block.h",
    settings=Settings,
    allocate=allocate,
    capacity=capacity,
    budget=memory_budget,
    gpu_defaults=gpu_defaults,
)
