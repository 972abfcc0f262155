"""What a plan, or a fit, warns of: what neither model nor engine takes as it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kvcalc.engines.base import Parallel
from kvcalc.plan.ledger import Job
from kvcalc.plan.report import FitLine, GpuPlan
from kvcalc.plan.request import Request
from kvcalc.spec.hardware import HardwareSpec

AT_ONCE = ("max_num_seqs", "max_batch_size")
"""Settings of engines that say how many sequences a data rank runs at once; more wait."""


def of_lengths(request: Request) -> Iterator[str]:
    """Of sequences that are longer than what may be, or whose encoder is not counted."""
    yield from request.remarks
    context, longest = request.spec.max_position_embeddings, request.demand.lengths.longest
    if context is not None and longest > context:
        yield f"{longest:,} tokens exceed the context of {request.spec.name} ({context:,})"
    limit = request.options.get("max_model_len")
    if limit is not None and longest > limit:
        yield f"{longest:,} tokens exceed max_model_len ({limit:,}): {request.engine.name} refuses such a request"


def of_prices(request: Request, gpus: Sequence[HardwareSpec]) -> Iterator[str]:
    """Of prices that are of none of the GPUs: then no cost is told."""
    if request.prices and not any(hardware.name in request.prices for hardware in gpus):
        yield f"prices are given of {', '.join(request.prices)}, but of none of {', '.join(h.name for h in gpus)}"


def of_calibration(request: Request, gpus: Sequence[HardwareSpec]) -> Iterator[str]:
    """Of ceilings of a machine that no name of the GPU fits: h100 (of h100-sxm) is a word of NVIDIA H100 80GB HBM3."""
    if request.calibration is not None:
        words = set(re.findall(r"[a-z0-9]+", request.calibration.label.lower()))
        for hardware in gpus:
            names = (name.lower().split("-") for name in (hardware.name, *hardware.aliases))
            if words.isdisjoint(next((part for part in name if _numbered(part)), "") for name in names):
                yield f"{request.calibration.label}: is that a {hardware.name}?"


def _numbered(part: str) -> bool:
    return any(map(str.isdigit, part))


def of_batches(request: Request, job: Job, gpus: Sequence[HardwareSpec], plans: Sequence[GpuPlan]) -> Iterator[str]:
    """Of more sequences on a rank than its engine runs at once: the plan sizes them all, the engine lets some wait."""
    for hardware, found in zip(gpus, plans, strict=True):
        if not found.choices:
            continue
        batch = found.choices[0].rank_batch
        for name, most in _at_once(request, job, hardware):
            if batch > most:
                yield (
                    f"{batch:,} sequences on a rank of {hardware.name}, but {request.engine.name} runs {most:,} at once"
                    f" ({name}): --set {name}={batch} counts what more take"
                )


def of_fit(request: Request, job: Job, hardware: HardwareSpec, lines: Sequence[FitLine]) -> Iterator[str]:
    """Of more sequences that fit a rank than its engine runs at once."""
    for first in lines[:1]:
        batch = first.max_batch_size // first.layout.data
        for name, most in _at_once(request, job, hardware):
            if batch > most:
                yield (
                    f"{batch:,} sequences fit a rank, but {request.engine.name} runs {most:,} at once ({name}):"
                    f" --set {name}=N allows more, and counts what they take"
                )


def _at_once(request: Request, job: Job, hardware: HardwareSpec) -> Iterator[tuple[str, int]]:
    """(setting, sequences that a rank runs at once, whatever the layout), where the engine has such a setting."""
    settings = job.settings(Parallel(), request.demand.lengths.longest, job.gpu_defaults(hardware))
    for name in AT_ONCE:
        if hasattr(settings, name):
            yield name, getattr(settings, name)
