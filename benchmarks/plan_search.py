"""How long a search takes: memory, speed and verdict of 1,000 layouts at 100 (batch, length) points.

    python benchmarks/plan_search.py [--model deepseek-v3] [--gpu h200] [--layouts 1000] [--points 100]

The numbers of GPUs are those that `kvcalc plan` looks at, from the first that hold the weights on, until they have as
many layouts as asked for. Every layout is asked at every point whether it holds the batch, and how fast it is; nothing
is remembered from before.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from math import isqrt

from kvcalc.engines import find_engine
from kvcalc.plan.demand import Demand
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.request import Request
from kvcalc.plan.search import MAX_GPUS, Search, counts
from kvcalc.spec.catalog import find_model
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.weights.ledger import weight_scheme

MOST_SEQUENCES = MAX_GPUS
"""No fewer sequences than data ranks: every layout is asked at every point."""


def points(number: int) -> list[tuple[int, int]]:
    """(batch, length): batches and lengths from small to large, each as many as the other."""
    side = isqrt(number)
    return [(MOST_SEQUENCES * (1 + batch), 1000 + 3500 * length) for batch in range(side) for length in range(side)]


def numbers(search: Search, layouts: int) -> list[int]:
    """Numbers of GPUs that have this many layouts together."""
    found, total = [], 0
    for gpus in counts(search.node, MAX_GPUS):
        if total >= layouts:
            break
        if not search.below(gpus):
            found.append(gpus)
            total += len(search.layouts(gpus))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deepseek-v3")
    parser.add_argument("--gpu", default="h200")
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--layouts", type=int, default=1000)
    parser.add_argument("--points", type=int, default=100)
    arguments = parser.parse_args()
    spec, hardware = find_model(arguments.model), find_hardware(arguments.gpu)
    first = Demand(batch_size=MOST_SEQUENCES, lengths=Lengths.of(1))
    request = Request(spec=spec, engine=find_engine(arguments.engine), scheme=weight_scheme(spec), demand=first)
    search = request.search(request.job(), hardware)
    gpus = numbers(search, arguments.layouts)
    tried = sum(len(search.layouts(number)) for number in gpus)
    asked = points(arguments.points)
    before, started = time.process_time(), time.perf_counter()
    fits = 0
    for batch, length in asked:
        demand = Demand(batch_size=batch, lengths=Lengths.of(length))
        fits += len(replace(search, demand=demand).explored(gpus))
    wall, cpu = time.perf_counter() - started, time.process_time() - before
    print(f"{spec.name} on {hardware.name}, {arguments.engine}: {gpus[0]} to {gpus[-1]} GPUs")
    print(f"{tried:,} layouts x {len(asked)} points: {wall:.1f} s wall, {cpu:.1f} s CPU, {fits:,} fit")


if __name__ == "__main__":
    main()
