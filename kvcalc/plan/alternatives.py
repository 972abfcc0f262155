"""What would take fewer GPUs, or reach what nothing reaches: other formats, shorter sequences, other accelerators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.report import Alternative
from kvcalc.plan.request import Request
from kvcalc.plan.search import Minimum, Search
from kvcalc.problems import KvcalcError
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import list_hardware
from kvcalc.weights.ledger import weight_scheme

NODES = 4
"""Where nothing fits, alternatives are sought in up to this many nodes."""
MORE = 16
"""... and more of the same in up to this many."""
OTHERS = 3


def alternatives(request: Request, search: Search, found: Minimum) -> Iterator[Alternative]:
    """Changes with which fewer GPUs do what is asked, speed included."""
    fewest, hardware = found.gpus, search.hardware
    most = min(request.max_gpus, NODES * search.node) if fewest is None else fewest - 1

    def ask(change: str, changed: Request, on: HardwareSpec, limit: int) -> Iterator[Alternative]:
        try:
            same = changed.formats == request.formats and changed.scheme == request.scheme
            job = search.job if same else changed.job()
            best = changed.search(job, on).fewest(limit)
        except KvcalcError:
            return
        if best.gpus is not None:
            label = min(best.choices, key=lambda c: (c.speed.tpot_s, c.layout.simplicity)).label
            yield Alternative(change=change, gpu=on.name, gpus=best.gpus, label=label)

    if request.target.asked:
        slower = replace(request, target=type(request.target)())
        yield from ask("without the speed asked for", slower, hardware, most)
    if fewest is None and request.max_gpus < MORE * search.node:
        yield from ask("more of them", request, hardware, MORE * search.node)
    if fewest == 1:
        return
    if "fp8" not in request.formats.name:
        yield from ask("fp8 cache", replace(request, formats=parse_kv_cache_dtype("fp8")), hardware, most)
    if request.scheme.default.element_bits > 8:
        lighter = replace(request, scheme=weight_scheme(request.spec, "fp8"))
        yield from ask("fp8 weights", lighter, hardware, most)
    half = request.demand.lengths.longest // 2
    if half and request.demand.batch_size is not None and request.demand.isl is None:
        shorter = replace(request.demand, lengths=Lengths.of(half), decoded=None)
        yield from ask(f"half the length ({half:,} tokens)", replace(request, demand=shorter), hardware, most)
    larger = [
        spec
        for spec in list_hardware()
        if not spec.announced and spec.vendor == hardware.vendor and spec.memory.plan_bytes > hardware.memory.plan_bytes
    ]
    others = [a for spec in larger for a in ask("another GPU", request, spec, most)]
    yield from sorted(others, key=lambda a: (a.gpus, a.gpu))[:OTHERS]
