"""How many (batch, length) points kvcalc answers per second in one process, with the memory that it takes.

    python benchmarks/throughput.py [--runs 9] [--json FILE]

10,000 points: 100 batch sizes by 100 lengths, every figure of every block, cache, reads, FLOPs and time bounds.
10 million: 2,500 by 4,000, block by block, so that memory does not grow with the plane. Medians of the runs; memory is
the highest that each run allocates, by tracemalloc, in a run of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from kvcalc.spec.catalog import find_model
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.sweep import plane

MODELS = ("qwen-72b", "gemma-3-27b", "deepseek-v3", "qwen3-next-80b-a3b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    batches: int
    lengths: int
    most_s: float
    """The promise."""

    @property
    def points(self) -> int:
        return self.batches * self.lengths


SIZES = (Size(batches=100, lengths=100, most_s=0.020), Size(batches=2500, lengths=4000, most_s=2.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    model: str
    points: int
    seconds: float
    most_s: float
    peak_mib: float


def swept(model: str, size: Size) -> Callable[[], None]:
    """The work: one plane and all its blocks."""
    spec, gpu = find_model(model), find_hardware("h200")
    batches, lengths = range(1, size.batches + 1), range(1000, 1000 + 31 * size.lengths, 31)

    def run() -> None:
        seen = sum(block.cache_bytes.size for block in plane(spec, batches, lengths, hardware=gpu).blocks())
        assert seen == size.points

    return run


def timed(model: str, size: Size, runs: int) -> Timed:
    run = swept(model, size)
    run()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Timed(
        model=model, points=size.points, seconds=median(spent), most_s=size.most_s, peak_mib=peak / 2**20
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = [timed(model, size, options.runs) for size in SIZES for model in MODELS]
    print("| model | points | ms | at most | peak [MiB] |\n|---|---:|---:|---:|---:|")
    for each in found:
        spent = f"{1000 * each.seconds:.1f} | {1000 * each.most_s:,.0f} | {each.peak_mib:.1f}"
        print(f"| {each.model} | {each.points:,} | {spent} |")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n", encoding="utf-8")
    if any(each.seconds > each.most_s for each in found):
        sys.exit("a promise is broken")


if __name__ == "__main__":
    main()
