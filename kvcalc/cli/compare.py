"""kvcalc compare"""

from __future__ import annotations

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
    warn,
    workload_of,
)


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL[@VARIANT]...", help="Models, each with its own variants if wanted.")
    ],
    variants: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="LIST", help="What-ifs of every model: mha,mqa,gqa:8,mla:512+64,window:4096,kv:int4-g32"
        ),
    ] = None,
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    encoder_len: EncoderLenOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Models side by side, or one model as if it had other heads, a latent, a window or another format.

    Example: kvcalc compare qwen-72b --as mha,gqa:8,mqa,mla:512+64,kv:int4-g32 -s 32K
    """
    from kvcalc.cli.models import find_model
    from kvcalc.comparison import compare as compare_models
    from kvcalc.render.comparison import compare_document
    from kvcalc.spec.model import ModelSpec
    from kvcalc.variants import Variant, parse_variant, split_what_if

    candidates: list[tuple[ModelSpec, Variant | None]] = []
    for model in models:
        name, own = split_what_if(model)
        spec = find_model(name)
        candidates.append((spec, None if own is None else parse_variant(own)))
        candidates += [(spec, parse_variant(text)) for text in (variants.split(",") if variants else ())]
    report = compare_models(
        candidates,
        **workload_of(batch_size, seq_len, kv_cache_dtype, encoder_len),
    )
    warn(*report.warnings)
    emit("compare", report, compare_document, output)
