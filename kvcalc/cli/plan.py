"""kvcalc plan"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvcalc.cli.common import DtypeOption, Output, OutputOption, SeqLenOption, emit, parsed_count, warn
from kvcalc.cli.engine_options import SetOption
from kvcalc.cli.speed import WeightDtypeOption

if TYPE_CHECKING:
    from fractions import Fraction

    from kvcalc.cache_dtypes import FormatChoice
    from kvcalc.engines.base import Engine
    from kvcalc.spec.model import ModelSpec
    from kvcalc.weights.ledger import WeightScheme


def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Catalogue name, hub id, spec file or -.")],
    gpu: Annotated[list[str], typer.Option("--gpu", metavar="GPU", help="Repeat it to set GPUs side by side.")],
    batch_size: Annotated[
        str | None, typer.Option("--batch-size", "-b", "--concurrency", metavar="N", help="Sequences at once.")
    ] = None,
    seq_len: SeqLenOption = None,
    isl: Annotated[str | None, typer.Option("--isl", metavar="TOKENS", help="Prompt.")] = None,
    osl: Annotated[str | None, typer.Option("--osl", metavar="TOKENS", help="Answer.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", metavar="R", help="Requests per second.")] = None,
    lengths: Annotated[str | None, typer.Option("--lengths", metavar="CSV", help="Trace of real requests.")] = None,
    tpot: Annotated[str | None, typer.Option("--tpot", metavar="TIME", help="As in 50ms.")] = None,
    ttft: Annotated[str | None, typer.Option("--ttft", metavar="TIME", help="Needs --isl.")] = None,
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
    max_gpus: Annotated[str, typer.Option("--max-gpus", metavar="N", help="Look no further.")] = "1024",
    node: Annotated[int | None, typer.Option("--node-size", metavar="N", min=1, help="GPUs of a node.")] = None,
    objective: Annotated[str, typer.Option("--objective", help="gpus, tpot, throughput or cost.")] = "gpus",
    price: Annotated[list[str] | None, typer.Option("--price", metavar="GPU=PRICE", help="Per GPU and hour.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the number of GPUs alone.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """The fewest GPUs for a batch, a length and a speed; exit 1 where none are enough.

    Example: kvcalc plan deepseek-v3 --gpu h200 -b 256 -s 8K --tpot 50ms
    """
    from kvcalc.plan.demand import Demand, Target
    from kvcalc.plan.layouts import Pins
    from kvcalc.plan.lengths import Lengths, load_trace
    from kvcalc.plan.planning import OBJECTIVES
    from kvcalc.plan.planning import plan as make_plan
    from kvcalc.problems import usage_error
    from kvcalc.render.plan import plan_document
    from kvcalc.spec.hardware_catalog import find_hardware

    if objective not in OBJECTIVES:
        raise usage_error(f"unknown objective {objective[:30]!r}", help=f"one of {', '.join(OBJECTIVES)}")
    prompt, answer = parsed_count(isl, "--isl"), parsed_count(osl, "--osl")
    tokens = parsed_count(seq_len, "--seq-len")
    if ttft is not None and prompt is None:
        raise usage_error("--ttft needs the length of the prompt", help="give --isl")
    if prompt is not None and answer is not None and tokens is None:
        tokens = prompt + answer
    trace = load_trace(lengths) if lengths else None
    if rate is not None and not 0 < rate < 10**9:
        raise usage_error("--rate is more than 0", help="requests per second, as in --rate 4")
    request = _request(model, engine, kv_cache_dtype, weight_dtype, utilization, overhead, settings)
    tokens = tokens or request[0].max_position_embeddings
    if tokens is None and trace is None:
        raise usage_error("no length is known", help="give --seq-len, or --isl and --osl")
    held = trace.bucketed if trace else Lengths.of(tokens or 1)
    sequences = parsed_count(batch_size, "--batch-size") if batch_size or rate is not None else 1
    from kvcalc.plan.planning import Request

    report = make_plan(
        Request(
            spec=request[0], engine=request[1], scheme=request[2], formats=request[3], utilization=request[4],
            overheads=request[5], options=request[6], trace=trace, node=node,
            demand=Demand(lengths=held, batch_size=sequences, rate=rate, isl=prompt, osl=answer),
            target=Target(tpot_s=_seconds(tpot, "--tpot"), ttft_s=_seconds(ttft, "--ttft")),
            pins=Pins(tensor=tensor, pipeline=pipeline, data=data, decode_context=context),
            max_gpus=parsed_count(max_gpus, "--max-gpus") or 1, objective=objective,  # type: ignore[arg-type]
            prices=_prices(price or []), alternatives=not quiet,
        ),
        [find_hardware(name) for name in gpu],
    )  # fmt: skip
    warn(*report.warnings)
    if quiet:
        best = report.plans[report.best].gpus
        if best is not None:
            sys.stdout.write(f"{best}\n")
    else:
        emit("plan", report, plan_document, output)
    if not report.fits:
        raise typer.Exit(1)


def _request(
    model: str,
    engine: str,
    dtype: str,
    weights: str | None,
    utilization: str | None,
    overheads: list[str] | None,
    pairs: list[str] | None,
) -> tuple[ModelSpec, Engine, WeightScheme, FormatChoice, Fraction | None, dict[str, int], dict[str, Any]]:
    """(spec, engine, scheme, formats, utilization, overheads, options)"""
    from kvcalc.cache_dtypes import parse_kv_cache_dtype
    from kvcalc.engines import find_engine
    from kvcalc.engines.sizing import parse_fraction, parse_settings
    from kvcalc.problems import usage_error
    from kvcalc.spec.catalog import find_model
    from kvcalc.units import parse_bytes
    from kvcalc.weights.ledger import weight_scheme

    spec, found = find_model(model), find_engine(engine)
    sizes: dict[str, int] = {}
    for pair in overheads or []:
        name, equals, size = pair.partition("=")
        if not equals:
            raise usage_error(f"{pair[:60]!r} is no overhead", help="write it like activation=1.5GiB")
        sizes[name.strip()] = parse_bytes(size)
    fraction = parse_fraction(utilization, "--gpu-memory-utilization") if utilization else None
    return (
        spec, found, weight_scheme(spec, weights), parse_kv_cache_dtype(dtype), fraction, sizes,
        parse_settings(found, pairs or []),
    )  # fmt: skip


def _seconds(text: str | None, what: str) -> float | None:
    from kvcalc.problems import usage_error
    from kvcalc.units import parse_duration_ns

    if text is None:
        return None
    found = parse_duration_ns(text)
    if found <= 0:
        raise usage_error(f"{what} is more than 0", help="as in 50ms")
    return found / 10**9


def _prices(pairs: list[str]) -> dict[str, float]:
    from kvcalc.problems import usage_error
    from kvcalc.spec.hardware_catalog import find_hardware

    found: dict[str, float] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if not text.replace(".", "", 1).isdecimal() or not text.isascii() or not float(text) > 0:
            raise usage_error(f"{pair[:60]!r} is no price above 0", help="per GPU and hour, as in h200=2.50")
        found[find_hardware(name).name] = float(text)
    return found
