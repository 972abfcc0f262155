"""A plan's report at its bounds: which choice counts, what is wasted where nothing is, and what stands for a trace."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction

import pytest
from factories import full, model, sliding
from planning import MIB, dense_model, gpu, moe_model, request, weighted

from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.layouts import Pins
from kvcalc.plan.lengths import Lengths, Trace
from kvcalc.plan.planning import EXPLORED, MOST_BESIDE, PROVEN, SHOWN, plan
from kvcalc.problems import KvcalcError
from kvcalc.spec.ffn import Dense
from kvcalc.spec.model import LayerEntry

PADDED = 64_433_664 + 2 * 24 * 768 * 2
"""dense_model on one GPU."""
ROW = 6 * 2 * 4 * 64 * 2


def test_the_first_choice_of_each_kind_is_compared():
    """Five layers: an H100 of 30 MB takes TP2 alone, 27.2 MB a step at 3.35 TB/s; an H200 also TP1, 54.3 MB at 4.8
    TB/s, which is its last choice and slower than that. Its TP2 is faster."""
    asked = request(dense_model(5), tokens=1, objective="tpot", max_gpus=2, pins=Pins(pipeline=1))
    report = plan(asked, [gpu(30_000_000), gpu(name="h200")])
    small, large = report.plans
    assert [choice.label for choice in small.choices] == ["TP2"]
    assert [choice.label for choice in large.choices] == ["TP2", "TP1"]
    assert (large.gpus, large.nodes, report.best) == (2, 1, 1)
    assert large.choices[-1].speed.tpot_s > small.choices[0].speed.tpot_s > large.choices[0].speed.tpot_s


def test_one_kind_that_fits_is_enough():
    reports = [
        plan(request(dense_model(), tokens=1, max_gpus=1), kinds) for kinds in ([gpu(10**7), gpu()], [gpu(10**7)])
    ]
    assert [[found.fits for found in report.plans] for report in reports] == [[False, True], [False]]
    assert [(report.fits, report.best) for report in reports] == [(True, 1), (False, 0)]


@pytest.mark.parametrize(
    ("batch", "ranks", "said"),
    [(1, 2, "1 sequence cannot fill 2 data-parallel ranks"), (2, 3, "2 sequences cannot fill 3 data-parallel ranks")],
)
def test_fewer_sequences_than_data_ranks(batch, ranks, said):
    with pytest.raises(KvcalcError) as caught:
        plan(request(dense_model(), batch=batch, pins=Pins(data=ranks)), [gpu()])
    assert caught.value.problems[0].message == said


def test_how_much_a_report_holds():
    """32 choices of each kind of GPU, eight numbers in the proof, four times as many GPUs as suffice, 16 beside."""
    assert (SHOWN, PROVEN, EXPLORED, MOST_BESIDE) == (32, 8, 4, 16)
    many = plan(request(moe_model(), batch=64, tokens=100, objective="throughput"), [gpu(200 * MIB)]).plans[0]
    assert (len(many.choices), many.explored_gpus) == (32, 8)


def test_people_rent_the_next_usual_number_not_just_the_next():
    """Nine layers of 10.2 MB: five stages have two at most, four have three; six and seven hold them too."""
    asked = request(dense_model(9), tokens=1, pins=Pins(tensor=1, data=1))
    found = plan(asked, [gpu(23_000_000)]).plans[0]
    assert {5, 6, 7, 8} <= {choice.gpus for choice in found.fastest}
    assert (found.gpus, found.usual and found.usual.gpus) == (5, 8)


# --- waste


def test_nothing_is_wasted_on_one_gpu():
    """1,024 words need no padding, and the ideal engine wastes none."""
    waste = plan(request(dense_model(vocab_size=1024), batch=3), [gpu()]).plans[0].waste
    assert waste is not None
    assert (waste.replicated_weight_bytes, waste.replicated_cache_bytes) == (0, 0)


def test_the_fullest_stage_may_hold_less_cache_than_its_share():
    """PP2: the second stage has ten times the ffn and a window of one token; the first has all rows of the cache."""
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64}
    spec = weighted(model(full(**heads), sliding(sliding_window=1, **heads)), Dense(intermediate_size=1536))
    entries = (LayerEntry(attention="layer0", ffn="small"), LayerEntry(attention="layer1", ffn="large"))
    sizes = {"small": Dense(intermediate_size=1536), "large": Dense(intermediate_size=15360)}
    asked = request(replace(spec, ffn=sizes, layers=entries), pins=Pins(tensor=1, pipeline=2, data=1))
    waste = plan(asked, [gpu()]).plans[0].waste
    assert waste is not None
    assert (waste.cache_bytes, waste.replicated_cache_bytes) == (2001 * 1024, 0)


# --- a trace


def traced(*totals: int) -> Trace:
    lengths = Lengths.counted({total: totals.count(total) for total in totals})
    return Trace(
        path="t.csv", totals=lengths, held=lengths, prompts=None, mean_osl=None, mean_decoded=Fraction(lengths.mean)
    )


def longest(memory: int, **asked) -> int | None:
    """GPUs for the longest sequence of a trace of 2,000 tokens, at a rate."""
    trace = traced(2000)
    demand = Demand(lengths=trace.bucketed, **{"rate": 0.001, "isl": 1000, "osl": 1000, **asked.pop("demand", {})})
    (found,) = plan(request(dense_model(), demand=demand, trace=trace, **asked), [gpu(memory)]).plans
    return found.lengths[-1].gpus


def test_where_no_layout_answers_a_rate_one_sequence_stands_for_it():
    """No GPU is that fast. One sequence fits one GPU exactly, and with a byte less takes two."""
    never = {"target": Target(tpot_s=1e-12), "max_gpus": 2, "pins": Pins(data=1)}
    assert longest(PADDED + 2000 * ROW, **never) == 1
    assert longest(PADDED + 2000 * ROW - 1, **never) == 2


def test_a_rate_is_held_at_the_batch_of_its_own_answer():
    """200 requests per second, each of 1,000 tokens of some 23 us, are several sequences; a GPU holds one."""
    asked = {"demand": {"rate": 200.0}, "pins": Pins(data=1)}
    assert longest(PADDED + 2000 * ROW, **asked) == 2


def test_sequences_of_a_length_are_those_of_all_data_ranks():
    """Two ranks, each with room for 7 sequences of 100 tokens beside its weights."""
    trace = traced(100)
    demand = Demand(lengths=trace.bucketed, batch_size=2)
    asked = request(dense_model(), demand=demand, trace=trace, pins=Pins(tensor=1, pipeline=1, data=2))
    (found,) = plan(asked, [gpu(PADDED + 799 * ROW)]).plans
    assert {each.max_batch_size for each in found.lengths} == {14}


# --- the frontier


def test_a_frontier_is_drawn_up_to_a_node_where_nothing_fits():
    """No layout is that fast: still 1, 2, 4 and 8 GPUs are looked at, or as many as there are.

    Four heads of K and V: TP4 is the fastest, and 8 GPUs are no better than two of it.
    """
    never = request(dense_model(), target=Target(tpot_s=1e-12), frontier=True)
    found = plan(replace(never, max_gpus=64), [gpu()]).plans[0]
    assert (found.fits, found.explored_gpus, max(point.gpus for point in found.frontier)) == (False, None, 4)
    assert max(point.gpus for point in plan(replace(never, max_gpus=2), [gpu()]).plans[0].frontier) == 2


def test_a_frontier_is_drawn_as_far_as_choices_are():
    """12 GPUs of 7 MiB are the fewest: up to 48 in nodes of 16 are looked at, of which 16 and more are rented."""
    asked = request(dense_model(), tokens=1, node=16, frontier=True)
    found = plan(asked, [gpu(7 * MIB)]).plans[0]
    assert found.explored_gpus == 48
    assert {point.gpus for point in found.frontier} <= {8, 16, 32, 48}
    assert max(point.gpus for point in found.frontier) > 16


def test_more_gpus_than_the_fewest_are_looked_at_evenly_spread(monkeypatch):
    """Of 13 to 16, 32 and 48, three: 14, 16 and 48. Where the fastest comes first, all; 13 to 15 have no layout."""
    monkeypatch.setattr(sys.modules[plan.__module__], "MOST_BESIDE", 3)
    found = [
        plan(request(dense_model(), batch=4, tokens=1, node=16, objective=objective), [gpu(7 * MIB)]).plans[0].fastest
        for objective in ("gpus", "tpot")
    ]
    assert [[choice.gpus for choice in fastest] for fastest in found] == [[12, 16, 48], [12, 16, 32, 48]]
