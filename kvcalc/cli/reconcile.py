"""kvcalc reconcile"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kvcalc.cli.common import Output, OutputOption, emit, parsed_count
from kvcalc.cli.engine_options import (
    BatchedTokensOption,
    BlockOption,
    ContextOption,
    DataOption,
    HybridOption,
    PipelineOption,
    SetOption,
    SpeculativeOption,
    TensorOption,
)


def reconcile(
    log: Annotated[str, typer.Argument(metavar="LOG", help="A start-up log of vLLM, SGLang or llama.cpp, or -.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="The model; default: the one that the log names.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="NAME[@VERSION]", help="Default: told from the log.")
    ] = None,
    kv_cache_dtype: Annotated[
        str | None, typer.Option("--kv-cache-dtype", metavar="FORMAT", help="Default: the log's, or auto.")
    ] = None,
    max_model_len: Annotated[
        str | None, typer.Option("--max-model-len", metavar="TOKENS", help="Default: the log's.")
    ] = None,
    tensor: TensorOption = None,
    pipeline: PipelineOption = None,
    data: DataOption = None,
    context_parallel: ContextOption = None,
    block_size: BlockOption = None,
    max_num_batched_tokens: BatchedTokensOption = None,
    num_speculative_tokens: SpeculativeOption = None,
    disable_hybrid: HybridOption = False,
    settings: SetOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Does a server's log agree with the prediction? If not, which setting would explain it?

    Exit codes: 0 agrees, 1 disagrees, 2 not understood.

    Example: kvcalc reconcile server.log --model gemma-3-27b
    """
    from kvcalc.cli.models import find_model
    from kvcalc.reconcile import model_named
    from kvcalc.reconcile import reconcile as reconcile_log
    from kvcalc.reconcile.logs import read_log
    from kvcalc.render.reconciliation import reconcile_document

    name, content = read_log(log)
    given = {"tensor": tensor, "pipeline": pipeline, "data": data, "decode_context": context_parallel}
    options: dict[str, Any] = {
        "max_model_len": parsed_count(max_model_len, "--max-model-len"),
        "block_size": parsed_count(block_size, "--block-size"),
        "max_num_batched_tokens": parsed_count(max_num_batched_tokens, "--max-num-batched-tokens"),
        "num_speculative_tokens": parsed_count(num_speculative_tokens, "--num-speculative-tokens", minimum=0),
        "hybrid_kv_cache_manager": False if disable_hybrid else None,
    }
    options = {key: value for key, value in options.items() if value is not None}
    report = reconcile_log(
        content,
        model_named(content, name) if model is None else find_model(model),
        name=name,
        engine=engine,
        dtype=kv_cache_dtype,
        sharding={key: count for key, count in given.items() if count is not None},
        options=_checked(engine, content, options, settings or []),
    )
    emit("reconcile", report, reconcile_document, output)
    if not report.agrees:
        raise typer.Exit(1)


def _checked(engine: str | None, content: bytes, options: dict[str, Any], pairs: list[str]) -> dict[str, Any]:
    """Options that the log's engine has, its own settings among them."""
    from kvcalc.engines import find_engine
    from kvcalc.engines.sizing import parse_settings
    from kvcalc.reconcile.logs import parse_log

    named = engine or parse_log(content).engine
    if named is None:
        return options
    found = find_engine(named)
    found.configure(**options)
    return {**options, **parse_settings(found, pairs)}
