"""kvcalc plan"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from kvcalc.cli.common import Output, OutputOption, emit, warn
from kvcalc.cli.plan_options import OPTIONS, DetailsOption, FileOption, Given, asked, takes
from kvcalc.cli.speed import PlotOption

if TYPE_CHECKING:
    from kvcalc.plan.planfile import PlanFile, PlanSpec
    from kvcalc.plan.report import PlanReport


@takes(OPTIONS)
def plan(
    given: Given,
    file: FileOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the number of GPUs alone.")] = False,
    details: DetailsOption = False,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Also the Pareto fronts: speed of a user against that of a GPU.")
    ] = False,
    plot: PlotOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The fewest GPUs for a batch, a length and a speed; exit 1 where none are enough.

    Example: kvcalc plan deepseek-v3 --gpu h200 -b 256 -s 8K --tpot 50ms
    """
    from kvcalc.plan.planning import plan as make_plan
    from kvcalc.plan.resolving import resolve
    from kvcalc.render.plan import plan_document
    from kvcalc.render.progress import progress

    spec, found = asked(given, file)
    if found is not None and "expect" in found.changed:
        warn("flags change what the plan asks: its `expect` is not held against the answer")
    resolved = resolve(spec, found)
    request = replace(resolved.request, frontier=frontier or plot is not None)
    if plot:
        from kvcalc.render.plot import picture_kind, plot_plan

        picture_kind(plot)
    with progress("GPUs") as advance:
        report = make_plan(request, resolved.hardware, advance)
    warn(*resolved.remarks, *report.warnings)
    if plot:
        plot_plan(report, plot)
    if quiet:
        best = report.plans[report.best].gpus
        if best is not None:
            sys.stdout.write(f"{best}\n")
    else:
        emit("plan", report, partial(plan_document, details=details, fronts=frontier), output)
    if not _as_asked(spec, found, report, quiet):
        raise typer.Exit(1)


def _as_asked(spec: PlanSpec, file: PlanFile | None, report: PlanReport, quiet: bool) -> bool:
    """Whether the answer is the one asked for; if not, why not on standard error, where the report has not said it."""
    from kvcalc.plan.verdict import verdicts
    from kvcalc.problems import Problem
    from kvcalc.render.problems import print_problems

    unmet = list(verdicts(spec, report))
    if file is not None:
        print_problems([file.problem(v.code, v.loc, v.message, help=v.help) for v in unmet])
    elif quiet:
        print_problems([Problem(code=v.code, message=v.message, help=v.help) for v in unmet])
    return not unmet
