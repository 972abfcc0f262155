"""kvcalc roofline"""

from __future__ import annotations

from enum import StrEnum
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
    ContextOption,
    ConventionOption,
    DataOption,
    ExpertOption,
    GpuOption,
    PlotOption,
    TensorOption,
    WeightDtypeOption,
    calibration_of,
    convention_of,
    shards_of,
)


class Phase(StrEnum):
    """The two kinds of step."""

    DECODE = "decode"
    PREFILL = "prefill"


def roofline(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[@VARIANT]", help="Name, hub id, spec file or -; @gqa:8, @mla:512+64: as if.")
    ],
    gpu: GpuOption,
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    kv_cache_dtype: DtypeOption = "bf16",
    encoder_len: EncoderLenOption = None,
    phase: Annotated[Phase, typer.Option("--phase", help="One decode step, or the prefill of the batch.")] = (
        Phase.DECODE
    ),
    convention: ConventionOption = None,
    compute_dtype: Annotated[
        str, typer.Option("--compute-dtype", metavar="TYPE", help="Operands of attention: bf16, fp8, ...")
    ] = "bf16",
    weight_dtype: WeightDtypeOption = None,
    tensor_parallel_size: TensorOption = "1",
    data_parallel_size: DataOption = "1",
    enable_expert_parallel: ExpertOption = False,
    decode_context_parallel_size: ContextOption = "1",
    calibration: CalibrationOption = None,
    plot: PlotOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Memory or arithmetic: what each part of a step moves and computes, and which of the two binds it.

    Example: kvcalc roofline deepseek-v3 --gpu h200 -b 64 -s 8K
    """
    from kvcalc.cli.models import find_what_if
    from kvcalc.render.roofline import roofline_document
    from kvcalc.roofline import roofline as model_roofline
    from kvcalc.spec.hardware_catalog import find_hardware
    from kvcalc.weights.ledger import weight_scheme

    spec = find_what_if(model)
    report = model_roofline(
        spec,
        find_hardware(gpu),
        **workload_of(batch_size, seq_len, kv_cache_dtype, encoder_len),
        phase="decode" if phase is Phase.DECODE else "prefill",
        convention=convention_of(convention),
        attention_dtype=compute_dtype,
        scheme=weight_scheme(spec, weight_dtype),
        shards=shards_of(
            tensor_parallel_size, data_parallel_size, enable_expert_parallel, decode_context_parallel_size
        ),
        calibration=calibration_of(calibration),
    )
    warn(*report.warnings)
    if plot:
        from kvcalc.render.plot import plot_roofline

        plot_roofline(report, plot)
    emit("roofline", report, roofline_document, output)
