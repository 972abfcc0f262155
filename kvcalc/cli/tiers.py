"""kvcalc tiers"""

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
from kvcalc.cli.speed import (
    CalibrationOption,
    ConventionOption,
    GpuOption,
    PlotOption,
    WeightDtypeOption,
    calibration_of,
    convention_of,
)


def tiers(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[@VARIANT]", help="Name, hub id, spec file or -; @gqa:8, @mla:512+64: as if.")
    ],
    gpu: GpuOption,
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    encoder_len: EncoderLenOption = None,
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="RATE", help="Read rate of local storage, as in 7GB/s.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="RATE", help="Read rate of a remote pool, as in 50GB/s.")
    ] = None,
    weight_dtype: WeightDtypeOption = None,
    convention: ConventionOption = None,
    calibration: CalibrationOption = None,
    plot: PlotOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """SRAM, caches, memory, links, DRAM: what each holds of the cache and how fast a step reads from it.

    Example: kvcalc tiers qwen-72b --gpu a100-40gb -b 8 -s 32K --storage 7GB/s
    """
    from kvcalc.cli.models import find_what_if
    from kvcalc.render.tiers import tiers_document
    from kvcalc.spec.hardware_catalog import find_hardware
    from kvcalc.tiers import tiers as model_tiers
    from kvcalc.units import parse_byte_rate
    from kvcalc.weights.ledger import weight_scheme

    spec = find_what_if(model)
    report = model_tiers(
        spec,
        find_hardware(gpu),
        **workload_of(batch_size, seq_len, kv_cache_dtype, encoder_len),
        convention=convention_of(convention),
        scheme=weight_scheme(spec, weight_dtype),
        storage_bytes_per_s=parse_byte_rate(storage) if storage else None,
        pool_bytes_per_s=parse_byte_rate(pool) if pool else None,
        calibration=calibration_of(calibration),
    )
    warn(*report.warnings)
    if plot:
        from kvcalc.render.plot import plot_tiers

        plot_tiers(report, plot)
    emit("tiers", report, tiers_document, output)
