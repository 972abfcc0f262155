"""kvcalc fit"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kvcalc.cli.common import BatchOption, DtypeOption, Output, OutputOption, SeqLenOption, emit, parsed_count
from kvcalc.cli.engine_options import SetOption
from kvcalc.cli.speed import GpuOption, WeightDtypeOption


def fit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Catalogue name, hub id, spec file or -.")],
    gpu: GpuOption,
    gpus: Annotated[str, typer.Option("--gpus", metavar="N", help="How many.")] = "1",
    batch_size: BatchOption = "1",
    seq_len: SeqLenOption = None,
    engine: Annotated[str, typer.Option("--engine", metavar="NAME[@VERSION]", help="Whose rules.")] = "vllm",
    kv_cache_dtype: DtypeOption = "bf16",
    weight_dtype: WeightDtypeOption = None,
    utilization: Annotated[str | None, typer.Option("--gpu-memory-utilization", metavar="F")] = None,
    overhead: Annotated[list[str] | None, typer.Option("--overhead", metavar="NAME=SIZE")] = None,
    settings: SetOption = None,
    tensor: Annotated[int | None, typer.Option("--tensor-parallel-size", "-tp", min=1)] = None,
    pipeline: Annotated[int | None, typer.Option("--pipeline-parallel-size", "-pp", min=1)] = None,
    data: Annotated[int | None, typer.Option("--data-parallel-size", "-dp", min=1)] = None,
    context: Annotated[int | None, typer.Option("--decode-context-parallel-size", "-dcp", min=1)] = None,
    node: Annotated[int | None, typer.Option("--node-size", metavar="N", min=1, help="GPUs of a node.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the largest batch alone.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """How much given GPUs hold: largest batch, longest context, tokens of cache; exit 1 where nothing fits.

    Example: kvcalc fit deepseek-v3 --gpu h200 --gpus 8 -s 128K
    """
    from kvcalc.cli.plan import _request
    from kvcalc.plan.demand import Demand
    from kvcalc.plan.fit import fit as fit_model
    from kvcalc.plan.layouts import Pins, check_pins
    from kvcalc.plan.lengths import Lengths
    from kvcalc.plan.planning import Request
    from kvcalc.problems import usage_error
    from kvcalc.render.plan import fit_document
    from kvcalc.spec.hardware_catalog import find_hardware

    request = _request(model, engine, kv_cache_dtype, weight_dtype, utilization, overhead, settings)
    tokens = parsed_count(seq_len, "--seq-len") or request[0].max_position_embeddings
    if tokens is None:
        raise usage_error("no length is known", help="give --seq-len")
    batch = parsed_count(batch_size, "--batch-size") or 1
    asked = Request(
        spec=request[0], engine=request[1], scheme=request[2], formats=request[3], utilization=request[4],
        overheads=request[5], options=request[6], node=node,
        demand=Demand(lengths=Lengths.of(tokens), batch_size=batch),
        pins=Pins(tensor=tensor, pipeline=pipeline, data=data, decode_context=context),
    )  # fmt: skip
    check_pins(asked.job().rules, asked.pins)
    report = fit_model(asked, find_hardware(gpu), parsed_count(gpus, "--gpus") or 1, batch, tokens)
    if quiet:
        sys.stdout.write(f"{report.lines[0].max_batch_size if report.lines else 0}\n")
    else:
        emit("fit", report, fit_document, output)
    if not report.fits:
        raise typer.Exit(1)
