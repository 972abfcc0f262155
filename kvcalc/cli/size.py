"""kvcalc size"""

from __future__ import annotations

import sys
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
    from kvcalc.cache_dtypes import FormatChoice
    from kvcalc.engines.base import Engine
    from kvcalc.engines.sizing import Memory


def size(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Name, hub id, spec, config.json, .gguf or -."),
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

    from kvcalc.cache_dtypes import parse_kv_cache_dtype
    from kvcalc.cli.models import find_layout
    from kvcalc.problems import usage_error
    from kvcalc.sizing import size as size_models

    batch = parsed_count(batch_size, "--batch-size") or 1
    context = parsed_count(max_model_len, "--max-model-len")
    tokens = parsed_count(seq_len, "--seq-len")
    encoder = parsed_count(encoder_len, "--encoder-len", minimum=0)
    formats = parse_kv_cache_dtype(kv_cache_dtype)
    if quiet and len(models) > 1:
        raise usage_error("--quiet prints one figure, but several models are named", help="name one, or use -o csv")
    parallel = {"tensor": tensor, "pipeline": pipeline, "data": data, "decode_context": context_parallel}
    about_memory = any((gpu_memory, utilization, cache_memory, overhead))
    if engine is not None or any(parallel.values()) or per_rank or about_memory or settings:
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
        _in_engine(models, chosen, (batch, tokens, encoder, formats), memory, context, (quiet, per_rank), output)
        return
    for name, given in (("--block-size", block_size), ("--max-num-batched-tokens", max_num_batched_tokens)):
        if given is not None:
            raise usage_error(f"{name} is an engine's", help="name one, as in --engine vllm")
    layouts = [find_layout(model, assume=assume, hub=hub) for model in models]
    if context is not None:
        layouts = [replace(layout, context=context) for layout in layouts]
    report = size_models(layouts, batch_size=batch, seq_len=tokens, encoder_len=encoder, formats=formats)
    warn(*report.warnings)
    if quiet:
        sys.stdout.write(f"{report.models[0].logical_bytes}\n")
        return
    from kvcalc.render.footprints import per_layer_document, size_document

    emit("size", report, per_layer_document if per_layer else size_document, output)


def _in_engine(
    models: list[str],
    chosen: tuple[Engine, Any],
    work: tuple[int, int | None, int | None, FormatChoice],
    memory: Memory,
    context: int | None,
    figure: tuple[bool, bool],
    output: Output,
) -> None:
    """What an engine reserves; `figure` is (alone, of a rank)."""
    from dataclasses import replace

    from kvcalc.cli.models import find_model
    from kvcalc.engines.sizing import size_in_engine

    engine, settings = chosen
    batch, tokens, encoder, formats = work
    specs = [find_model(model) for model in models]
    if context is not None:
        specs = [replace(spec, max_position_embeddings=context) for spec in specs]
    report = size_in_engine(
        specs, engine, settings, batch_size=batch, seq_len=tokens, encoder_len=encoder, formats=formats, memory=memory
    )
    warn(*report.warnings)
    alone, of_rank = figure
    if alone:
        found = report.models[0].allocation
        sys.stdout.write(f"{found.per_rank_bytes if of_rank else found.allocated_bytes}\n")
        return
    from kvcalc.render.allocations import allocation_document

    emit("allocation", report, allocation_document, output)
