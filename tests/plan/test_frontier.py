"""Fronts: what is left over when everything that another beats is crossed out, by brute force."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from planning import MIB, dense_model, gpu, moe_model, request, search

from kvcalc.plan.frontier import batches, frontier, largest_batch, pareto, undominated
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.planning import plan
from kvcalc.plan.search import Search


def beaten(mine: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    return any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in others)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_nothing_on_a_front_is_beaten_and_everything_else_is(points):
    front = undominated(range(len(points)), lambda index: points[index])
    left = [points[index] for index in front]
    assert left == sorted({point for point in points if not beaten(point, points)})
    assert list(front) == [points.index(point) for point in left]


def holds(one: Search, layout: Layout, each: int) -> bool:
    found = one.job.ledger(layout, one.hardware, each * layout.data, one.demand.lengths)
    return isinstance(found, Ledger) and found.fits


@given(memory=st.integers(62, 200), tokens=st.integers(1, 2000), data=st.integers(1, 3))
def test_the_largest_batch_fits_and_one_more_does_not(memory, tokens, data):
    one = search(dense_model(), gpu(memory * MIB), tokens=tokens)
    layout = Layout(data=data)
    most = largest_batch(one, layout, one.demand.lengths)
    assert most == 0 or holds(one, layout, most)
    assert not holds(one, layout, most + 1)


def test_no_step_holds_more_sequences_than_are_looked_at():
    """One token of 6,144 B: 80 GB would hold millions."""
    one = search(dense_model(), tokens=1)
    assert largest_batch(one, Layout(), Lengths.of(1)) == 65_535


def test_batches_are_powers_of_two_and_the_most():
    """61.52 MiB of weights, 1,000 x 6,144 B = 5.86 MiB a sequence: 20 fit in 180 MiB on each of two data ranks."""
    one = search(dense_model(), gpu(180 * MIB), tokens=1000)
    assert largest_batch(one, Layout(), one.demand.lengths) == 20
    assert batches(one, Layout(data=2)) == [2, 4, 8, 16, 32, 40]
    assert batches(search(dense_model(), gpu(180 * MIB), tokens=1250), Layout()) == [1, 2, 4, 8, 16]
    assert batches(search(dense_model(), gpu(60 * MIB)), Layout()) == []


def test_the_frontier_is_what_no_other_layout_and_batch_beats():
    one = search(moe_model(), gpu(1000 * MIB), tokens=500, batch=1)
    points = frontier(one, (1, 2, 4))
    every = []
    for gpus in (1, 2, 4):
        for layout in one.layouts(gpus, batch=gpus):
            for batch in batches(one, layout):
                tpot = one.clock.speed(layout, batch, 500).tpot_s
                every.append((-1 / tpot, -batch / tpot / gpus))
    assert {(-p.tokens_per_s_per_user, -p.tokens_per_s_per_gpu) for p in points} == {
        point for point in every if not beaten(point, every)
    }
    for point in points:
        assert point.tokens_per_s_per_user == 1 / point.tpot_s
        assert point.label in {layout.label for layout in one.layouts(point.gpus, batch=point.gpus)}
    users = [point.tokens_per_s_per_user for point in points]
    assert users == sorted(users, reverse=True)
    assert len(points) > 3


def test_numbers_that_cannot_hold_the_weights_have_no_points():
    one = search(dense_model(), gpu(40_000_000), tokens=1)
    assert frontier(one, (1,)) == ()
    assert frontier(one, (1, 2))


def test_a_front_of_choices():
    one = search(moe_model(), tokens=500, batch=8)
    choices = one.explored((1, 2, 4))
    figures = [(c.gpus, c.speed.tpot_s, -c.tokens_per_s_per_gpu) for c in choices]
    kept = [(c.gpus, c.speed.tpot_s, -c.tokens_per_s_per_gpu) for c in pareto(choices)]
    assert kept == sorted({point for point in figures if not beaten(point, figures)})
    simplest = {
        point: min(c.layout.simplicity for c, at in zip(choices, figures, strict=True) if at == point) for point in kept
    }
    assert [c.layout.simplicity for c in pareto(choices)] == [simplest[point] for point in kept]


def test_a_plan_has_a_frontier_where_asked():
    asked = {"batch": 4, "tokens": 500}
    without, with_it = (plan(request(dense_model(), frontier=f, **asked), [gpu()]).plans[0] for f in (False, True))
    assert without.frontier == ()
    assert {point.gpus for point in with_it.frontier} <= {1, 2, 4, 8}
    assert with_it.frontier
