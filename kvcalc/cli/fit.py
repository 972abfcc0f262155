"""kvcalc fit"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from kvcalc.cli.common import Output, OutputOption, emit, warn
from kvcalc.cli.plan_options import FIT_OPTIONS, SPEED_ALONE, DetailsOption, FileOption, Given, asked, takes


@takes(FIT_OPTIONS)
def fit(
    given: Given,
    file: FileOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the largest batch alone.")] = False,
    details: DetailsOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """How much given GPUs hold: largest batch, longest context, tokens of cache; exit 1 where nothing fits.

    Example: kvcalc fit deepseek-v3 --gpu h200 --gpus 8 -s 128K
    """
    from kvcalc.plan.fit import fit as fit_model
    from kvcalc.plan.planfile import PlanSpec
    from kvcalc.plan.resolving import length_of, resolve
    from kvcalc.problems import usage_error
    from kvcalc.render.fit import fit_document

    spec, found = asked(given, file)
    free: dict[str, Any] = {name: PlanSpec.__dataclass_fields__[name].default for name in SPEED_ALONE}
    silent = ("expect", "isl", "osl", "lengths")
    unasked = [name for name, default in free.items() if getattr(spec, name) != default and name not in silent]
    if unasked:
        warn(f"fit asks for memory alone, not for {', '.join(unasked)}")
    tokens, trace = length_of(spec, found)
    if trace is not None:
        warn(f"every sequence counts as the longest of the trace, {trace.totals.longest:,} tokens")
    spec = replace(spec, **free, seq_len=tokens)
    if len(spec.gpu_names) > 1:
        raise usage_error("fit answers for one kind of GPU", help="give one --gpu")
    resolved = resolve(replace(spec, gpus=1 if spec.gpus is None else spec.gpus), found)
    warn(*resolved.remarks)
    request = resolved.request
    demand = request.demand
    report = fit_model(request, resolved.hardware[0], request.max_gpus, demand.batch_size or 1, demand.lengths.longest)
    warn(*report.warnings)
    if quiet:
        sys.stdout.write(f"{report.lines[0].max_batch_size if report.lines else 0}\n")
    else:
        emit("fit", report, partial(fit_document, details=details), output)
    if not report.fits:
        raise typer.Exit(1)
