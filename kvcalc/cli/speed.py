"""Options that the commands about speed share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kvcalc.roofline import Calibration
    from kvcalc.steps import Convention
    from kvcalc.weight_traffic import Shards

GpuOption = Annotated[
    str, typer.Option("--gpu", metavar="GPU", help="Catalogue name, alias or YAML file; see `list gpus`.")
]
ConventionOption = Annotated[
    str | None,
    typer.Option(
        "--convention",
        metavar="WORDS",
        help="How kernels work: grouped or expanded heads, absorbed or mla-expanded latents.",
    ),
]
WeightDtypeOption = Annotated[
    str | None,
    typer.Option("--weight-dtype", metavar="FORMAT", help="Weight format; default: as the spec says."),
]
CalibrationOption = Annotated[
    str | None,
    typer.Option("--calibration", metavar="FILE", help="Measured ceilings: a report of `verify -o json`."),
]
PlotOption = Annotated[
    str | None, typer.Option("--plot", metavar="FILE", help="Also draw it: .png, .svg or .pdf (needs kvcalc[plot]).")
]
TensorOption = Annotated[
    str, typer.Option("--tensor-parallel-size", "-tp", metavar="N", help="Ranks that share each layer.")
]
DataOption = Annotated[str, typer.Option("--data-parallel-size", "-dp", metavar="N", help="Replicas of the attention.")]
ExpertOption = Annotated[
    bool, typer.Option("--enable-expert-parallel", "-ep", help="Deal whole experts out over all ranks.")
]
ContextOption = Annotated[
    str,
    typer.Option(
        "--decode-context-parallel-size",
        "-dcp",
        metavar="N",
        help="Ranks, among the tensor-parallel ones, that share a sequence's tokens.",
    ),
]


def calibration_of(path: str | None) -> Calibration | None:
    """The measured ceilings of a report, where one is given."""
    from kvcalc.calibration import load_calibration

    return load_calibration(path) if path else None


def convention_of(text: str | None) -> Convention | None:
    """The kernel convention, where one is given."""
    from kvcalc.steps import parse_convention

    return parse_convention(text) if text else None


def shards_of(tensor: str, data: str, expert_parallel: bool, context: str) -> Shards:
    """How ranks share a step.

    Raises:
        KvcalcError: no counts, or a context split that does not divide the tensor-parallel ranks.
    """
    from kvcalc.units import parse_count
    from kvcalc.weight_traffic import Shards
    from kvcalc.weights.sharding import WeightSharding

    sharding = WeightSharding(
        tensor=parse_count(tensor, "--tensor-parallel-size"),
        data=parse_count(data, "--data-parallel-size"),
        expert_parallel=expert_parallel,
    )
    return Shards(weights=sharding, decode_context=parse_count(context, "--decode-context-parallel-size"))
