"""kvcalc size"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvcalc.cli.common import (
    BatchOption,
    DtypeOption,
    EncoderLenOption,
    Output,
    OutputOption,
    SeqLenOption,
    emit,
    parsed_count,
    warn,
    workload_of,
)
from kvcalc.cli.engine_options import (
    ENGINE_PANEL,
    BatchedTokensOption,
    BlockOption,
    CacheMemoryOption,
    ContextOption,
    DataOption,
    EngineOption,
    GpuMemoryOption,
    HybridOption,
    OverheadOption,
    PipelineOption,
    SetOption,
    SpeculativeOption,
    TensorOption,
    UtilizationOption,
    chosen_engine,
    given_memory,
)
from kvcalc.cli.models import AssumeOption, HubOption

if TYPE_CHECKING:
    from kvcalc.api.arguments import Asked
    from kvcalc.engines.base import Engine
    from kvcalc.engines.sizing import Memory
    from kvcalc.layout import CacheLayout
    from kvcalc.spec.model import ModelSpec


def size(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL[@VARIANT]...",
            help="Name, hub id, spec, config.json, .gguf or -; @gqa:8, @mla:512+64: as if.",
        ),
    ],
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    max_model_len: Annotated[
        str | None, typer.Option("--max-model-len", metavar="TOKENS", help="Treat this as the model's context.")
    ] = None,
    encoder_len: EncoderLenOption = None,
    engine: EngineOption = None,
    tensor: TensorOption = None,
    pipeline: PipelineOption = None,
    data: DataOption = None,
    context_parallel: ContextOption = None,
    block_size: BlockOption = None,
    max_num_batched_tokens: BatchedTokensOption = None,
    num_speculative_tokens: SpeculativeOption = None,
    disable_hybrid: HybridOption = False,
    settings: SetOption = None,
    gpu_memory: GpuMemoryOption = None,
    utilization: UtilizationOption = None,
    cache_memory: CacheMemoryOption = None,
    overhead: OverheadOption = None,
    per_rank: Annotated[
        bool, typer.Option("--per-rank", help="With -q: the bytes of the fullest rank.", rich_help_panel=ENGINE_PANEL)
    ] = False,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One line per layer.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the bytes of the batch and nothing else.")
    ] = False,
    assume: AssumeOption = None,
    hub: HubOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """How many bytes of cache: exact, per layer group and in all.

    Example: kvcalc size qwen-72b --batch-size 8 --seq-len 32K
    """
    from dataclasses import replace

    from kvcalc.cli.models import find_layout, find_what_if
    from kvcalc.problems import usage_error

    context = parsed_count(max_model_len, "--max-model-len")
    workload = workload_of(batch_size, seq_len, kv_cache_dtype, encoder_len)
    if quiet and len(models) > 1:
        raise usage_error("--quiet prints one figure, but several models are named", help="name one, or use -o csv")
    parallel = {"tensor": tensor, "pipeline": pipeline, "data": data, "decode_context": context_parallel}
    about_memory = any((gpu_memory, utilization, cache_memory, overhead))
    if engine is not None or any(parallel.values()) or per_rank or about_memory or settings:
        if per_layer:
            raise usage_error("--per-layer lists logical bytes", help="leave out the engine, the ranks and the memory")
        memory = given_memory(gpu_memory, utilization, cache_memory, overhead)
        chosen = chosen_engine(
            engine,
            settings,
            parallel,
            max_model_len=context,
            block_size=parsed_count(block_size, "--block-size"),
            max_num_batched_tokens=parsed_count(max_num_batched_tokens, "--max-num-batched-tokens"),
            num_speculative_tokens=parsed_count(num_speculative_tokens, "--num-speculative-tokens", minimum=0),
            hybrid_kv_cache_manager=False if disable_hybrid else None,
        )
        specs = [find_what_if(model, assume=assume, hub=hub) for model in models]
        if context is not None:
            specs = [replace(spec, max_position_embeddings=context) for spec in specs]
        _show_allocated(specs, chosen, workload, memory, quiet=quiet, per_rank=per_rank, output=output)
        return
    for name, given in (
        ("--block-size", block_size), ("--max-num-batched-tokens", max_num_batched_tokens),
        ("--num-speculative-tokens", num_speculative_tokens), ("--disable-hybrid-kv-cache-manager", disable_hybrid),
    ):  # fmt: skip
        if given:
            raise usage_error(f"{name} is an engine's", help="name one, as in --engine vllm")
    layouts = [find_layout(model, assume=assume, hub=hub) for model in models]
    if context is not None:
        layouts = [replace(layout, context=context) for layout in layouts]
    _show_logical(layouts, workload, quiet=quiet, per_layer=per_layer, output=output)


def _show_logical(
    layouts: Sequence[CacheLayout], workload: Asked, *, quiet: bool, per_layer: bool, output: Output
) -> None:
    from kvcalc.sizing import size as size_models

    report = size_models(layouts, **workload)
    warn(*report.warnings)
    if quiet:
        sys.stdout.write(f"{report.models[0].logical_bytes}\n")
        return
    from kvcalc.render.footprints import per_layer_document, size_document

    emit("size", report, per_layer_document if per_layer else size_document, output)


def _show_allocated(
    specs: Sequence[ModelSpec],
    chosen: tuple[Engine, Any],
    workload: Asked,
    memory: Memory,
    *,
    quiet: bool,
    per_rank: bool,
    output: Output,
) -> None:
    """What an engine reserves; `chosen` is (engine, its settings)."""
    from kvcalc.engines.sizing import size_in_engine

    report = size_in_engine(specs, *chosen, memory=memory, **workload)
    warn(*report.warnings)
    if quiet:
        found = report.models[0].allocation
        sys.stdout.write(f"{found.per_rank_bytes if per_rank else found.allocated_bytes}\n")
        return
    from kvcalc.render.allocations import allocation_document

    emit("allocation", report, allocation_document, output)
