"""kvcalc sweep"""

from __future__ import annotations

from typing import Annotated

import typer

from kvcalc.cli.common import EncoderLenOption, Output, OutputOption, parsed_count
from kvcalc.cli.speed import (
    CalibrationOption,
    ContextOption,
    ConventionOption,
    DataOption,
    ExpertOption,
    PlotOption,
    WeightDtypeOption,
    calibration_of,
    convention_of,
    shards_of,
)


def sweep(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL[@VARIANT]...", help="Name, hub id, spec file or -; @gqa:8, @mla:512+64: as if."),
    ],
    batch_size: Annotated[
        str, typer.Option("--batch-size", "-b", metavar="RANGE", help="1:256:*2 (doubling), 8:64:8 (steps), 1,4,32.")
    ] = "1:256:*2",
    seq_len: Annotated[
        str, typer.Option("--seq-len", "-s", metavar="RANGE", help="1K:128K:*2 (doubling), 1K:8K:1K (steps), 4K,32K.")
    ] = "1K:128K:*2",
    gpu: Annotated[
        str | None, typer.Option("--gpu", metavar="GPU,...", help="For times and what fits; see `list gpus`.")
    ] = None,
    kv_cache_dtype: Annotated[
        list[str] | None,
        typer.Option("--kv-cache-dtype", metavar="FORMAT", help="As for `size`; may be repeated."),
    ] = None,
    encoder_len: EncoderLenOption = None,
    weight_dtype: WeightDtypeOption = None,
    convention: ConventionOption = None,
    tensor_parallel_size: Annotated[
        str, typer.Option("--tensor-parallel-size", "-tp", metavar="N,...", help="Ranks that share each layer.")
    ] = "1",
    data_parallel_size: DataOption = "1",
    enable_expert_parallel: ExpertOption = False,
    decode_context_parallel_size: ContextOption = "1",
    gpu_memory_utilization: Annotated[
        str, typer.Option("--gpu-memory-utilization", metavar="SHARE", help="Share of the memory that may be used.")
    ] = "0.9",
    calibration: CalibrationOption = None,
    plot: PlotOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The whole plane of batch sizes and lengths: cache, traffic, time bounds, and where it stops fitting.

    Example: kvcalc sweep qwen-72b -b 1:256:*2 -s 1K:128K:*2 --gpu h200 -o csv
    """
    from kvcalc.cache_dtypes import parse_kv_cache_dtype
    from kvcalc.cli.models import find_what_if
    from kvcalc.engines.sizing import parse_fraction
    from kvcalc.render.sweep import write_sweep
    from kvcalc.spec.hardware_catalog import find_hardware
    from kvcalc.sweep import parse_axis
    from kvcalc.sweep import sweep as sweep_planes

    report = sweep_planes(
        [find_what_if(model) for model in models],
        parse_axis(batch_size, "--batch-size"),
        parse_axis(seq_len, "--seq-len"),
        gpus=[find_hardware(name) for name in gpu.split(",")] if gpu else [],
        formats=[parse_kv_cache_dtype(text) for text in kv_cache_dtype or ["bf16"]],
        shards=[
            shards_of(tensor, data_parallel_size, enable_expert_parallel, decode_context_parallel_size)
            for tensor in tensor_parallel_size.split(",")
        ],
        encoder_len=parsed_count(encoder_len, "--encoder-len", minimum=0) or 0,
        convention=convention_of(convention),
        weight_dtype=weight_dtype,
        memory_share=parse_fraction(gpu_memory_utilization, "--gpu-memory-utilization"),
        calibration=calibration_of(calibration),
    )
    if plot:
        from kvcalc.render.plot import plot_sweep

        plot_sweep(report, plot)
    write_sweep(report, output.value)
