"""kvcalc plan"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kvcalc.cli.common import Output, OutputOption, emit, warn
from kvcalc.cli.plan_options import OPTIONS, FileOption, Given, asked, takes


@takes(OPTIONS)
def plan(
    given: Given,
    file: FileOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the number of GPUs alone.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """The fewest GPUs for a batch, a length and a speed; exit 1 where none are enough.

    Example: kvcalc plan deepseek-v3 --gpu h200 -b 256 -s 8K --tpot 50ms
    """
    from kvcalc.plan.planning import plan as make_plan
    from kvcalc.plan.resolving import resolve
    from kvcalc.render.plan import plan_document

    spec, found = asked(given, file)
    resolved = resolve(spec, found.document if found and not given else None, alternatives=not quiet)
    report = make_plan(resolved.request, resolved.hardware)
    warn(*report.warnings)
    if quiet:
        best = report.plans[report.best].gpus
        if best is not None:
            sys.stdout.write(f"{best}\n")
    else:
        emit("plan", report, plan_document, output)
    if not report.fits:
        raise typer.Exit(1)
