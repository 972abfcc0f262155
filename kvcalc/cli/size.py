"""kvcalc size"""

from __future__ import annotations

import sys
from typing import Annotated

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


def size(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Catalogue name, hub id, spec file or -.")],
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    max_model_len: Annotated[
        str | None, typer.Option("--max-model-len", metavar="TOKENS", help="Treat this as the model's context.")
    ] = None,
    encoder_len: EncoderLenOption = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="One line per layer.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the bytes of the batch and nothing else.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """How many bytes of cache: exact, per layer group and in all.

    Example: kvcalc size qwen-72b --batch-size 8 --seq-len 32K
    """
    from dataclasses import replace

    from kvcalc.cache_dtypes import parse_kv_cache_dtype
    from kvcalc.problems import usage_error
    from kvcalc.sizing import size as size_models
    from kvcalc.spec.catalog import find_layout

    batch = parsed_count(batch_size, "--batch-size") or 1
    context = parsed_count(max_model_len, "--max-model-len")
    tokens = parsed_count(seq_len, "--seq-len")
    encoder = parsed_count(encoder_len, "--encoder-len", minimum=0)
    formats = parse_kv_cache_dtype(kv_cache_dtype)
    if quiet and len(models) > 1:
        raise usage_error("--quiet prints one figure, but several models are named", help="name one, or use -o csv")
    layouts = [find_layout(model) for model in models]
    if context is not None:
        layouts = [replace(layout, context=context) for layout in layouts]
    report = size_models(layouts, batch_size=batch, seq_len=tokens, encoder_len=encoder, formats=formats)
    warn(*report.warnings)
    if quiet:
        sys.stdout.write(f"{report.models[0].logical_bytes}\n")
        return
    from kvcalc.render.footprints import per_layer_document, size_document

    emit("size", report, per_layer_document if per_layer else size_document, output)
