"""Fronts: choices that no other beats, and tokens per user against tokens per GPU over all batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from kvcalc.engines.checks import longest_that_fits
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.report import Choice, Point
from kvcalc.plan.search import Search

Item = TypeVar("Item")
MOST_SEQUENCES = 2**16
"""Of one data rank: no step is that large."""


def undominated(items: Iterable[Item], figures: Callable[[Item], tuple[float, ...]]) -> tuple[Item, ...]:
    """Items of which no other is as low in every figure (the first of equal ones), sorted by their figures."""
    front: list[tuple[tuple[float, ...], Item]] = []
    for mine, item in sorted(((figures(item), item) for item in items), key=lambda pair: pair[0]):
        if not any(all(a <= b for a, b in zip(other, mine, strict=True)) for other, _ in front):
            front.append((mine, item))
    return tuple(item for _, item in front)


def pareto(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """Choices that no other beats in GPUs, TPOT and tokens per second and GPU at once."""
    simple = sorted(choices, key=lambda c: c.layout.simplicity)
    return undominated(simple, lambda c: (c.gpus, c.speed.tpot_s, -c.tokens_per_s_per_gpu))


def frontier(search: Search, numbers: Iterable[int]) -> tuple[Point, ...]:
    """Of all layouts of these numbers of GPUs, at every power of two (and the most) of sequences that they hold."""
    points = [point for gpus in numbers for layout in _layouts(search, gpus) for point in _points(search, layout)]
    return undominated(points, lambda p: (-p.tokens_per_s_per_user, -p.tokens_per_s_per_gpu))


def _layouts(search: Search, gpus: int) -> tuple[Layout, ...]:
    """Of any batch size: a data rank for each GPU is allowed."""
    return () if search.below(gpus) else search.layouts(gpus, batch=gpus)


def _points(search: Search, layout: Layout) -> Iterator[Point]:
    clock, tokens = search.clock, search.demand.seq_len
    for batch in batches(search, layout):
        speed = clock.speed(layout, batch, tokens)
        yield Point(
            label=layout.label,
            gpus=layout.gpus,
            batch_size=batch,
            tpot_s=speed.tpot_s,
            tokens_per_s_per_user=1 / speed.tpot_s,
            tokens_per_s_per_gpu=speed.tokens_per_s / layout.gpus,
        )


def batches(search: Search, layout: Layout) -> list[int]:
    """Batch sizes that fit: powers of two for each data rank, and the most."""
    most = largest_batch(search, layout, search.demand.lengths)
    powers = (2**n for n in range(most.bit_length()))
    return [each * layout.data for each in dict.fromkeys([*powers, most]) if each]


def largest_batch(search: Search, layout: Layout, lengths: Lengths) -> int:
    """Most sequences of each data rank that fit; 0: none."""

    def fits(each: int) -> bool:
        found = search.job.ledger(layout, search.hardware, each * layout.data, lengths)
        return isinstance(found, Ledger) and found.fits

    return longest_that_fits(fits, MOST_SEQUENCES - 1)
