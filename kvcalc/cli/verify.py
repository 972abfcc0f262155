"""kvcalc verify"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kvcalc.cli.common import Output, OutputOption, emit


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL...]", help="Models whose caches are allocated whole. Default: all shipped."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="cuda|cpu", help="Default: CUDA if there.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Bytes and meaning only: no timing.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random data.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Keep the report here too.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Prove the numbers on this machine: allocate, decode, time.

    Every kind's cache is stored for real in every format; its bytes must be the predicted integer, and decoding
    from it right. On an NVIDIA GPU the streaming kernels are timed against the machine's own measured ceilings.

    Example: kvcalc verify --quick deepseek-v3
    """
    from kernels_ref import obstacle

    if (problem := obstacle(device)) is not None:
        raise problem
    from kernels_ref.verify import verify as run
    from kernels_ref.view import verify_document
    from kvcalc.files import write_whole
    from kvcalc.render.machine import render_json
    from kvcalc.render.problems import print_remark

    report = run(
        models=models or None,
        device=device,
        quick=quick,
        seed=seed,
        command=" ".join(["kvcalc", *sys.argv[1:]]),
        say=lambda message: print_remark(f"  {message}"),
    )
    emit("verify", report, verify_document, output)  # first: an answer that took minutes survives a full disk
    if json_file is not None:
        write_whole(str(json_file), render_json("verify", report).encode())
    if report.disagreements:
        raise typer.Exit(1)
