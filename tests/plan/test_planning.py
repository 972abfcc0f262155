"""What a plan's report says: the order of its choices, what is wasted, what people rent, and the lengths of a trace."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from planning import MIB, dense_model, gpu, moe_model, request, resolved, search

from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.layouts import Layout, Pins
from kvcalc.plan.lengths import Lengths, Trace
from kvcalc.plan.planning import EXPLORED, PROVEN, SHOWN, plan
from kvcalc.problems import KvcalcError

WEIGHTS = 64_433_664
PADDED = WEIGHTS + 2 * 24 * 768 * 2
ROW = 6 * 2 * 4 * 64 * 2


def said(**asked) -> KvcalcError:
    with pytest.raises(KvcalcError) as caught:
        plan(request(dense_model(), **asked), [gpu()])
    return caught.value


def test_one_gpu_is_enough():
    report = plan(request(dense_model(), batch=3, tokens=500), [gpu()])
    (found,) = report.plans
    assert (found.fits, found.gpus, found.nodes, found.fewest_for_memory, found.binds) == (True, 1, 1, 1, "")
    assert (found.proof, found.usual, found.nearest, found.frontier, found.lengths) == ((), None, None, (), ())
    assert (found.gpu, found.gpu_name, found.memory_basis) == ("h100-sxm", "NVIDIA H100 SXM5 80GB", "application")
    assert (found.gpu_memory_bytes, found.node_size, found.explored_gpus) == (85_017_755_648, 8, 8)
    assert [choice.label for choice in found.choices] == ["TP1"]
    assert report.fits
    assert (report.weight_bytes, report.cache_bytes) == (WEIGHTS, 3 * 500 * ROW)
    assert (report.batch_size, report.seq_len, report.mean_seq_len, report.objective) == (3, 500, 500.0, "gpus")
    assert (report.best, report.warnings, report.requests, report.rate) == (0, (), None, None)
    assert report.assumptions == (
        "times are bounds from published peaks, link volumes over link rates; no launches, no imbalance",
        "between nodes 50 GB/s per GPU",
    )


def test_a_rate_is_explained_and_a_length_beyond_the_context_warned_of():
    rate = request(dense_model(), batch=None, rate=2.0, isl=100, osl=50, tokens=150, node_link=10**9)
    report = plan(rate, [gpu()])
    assert report.assumptions[1:] == (
        "between nodes 1 GB/s per GPU",
        "sequences at once by Little's law: rate x (TTFT + OSL x (TPOT + prefills per step))",
    )
    assert (report.rate, report.isl, report.osl, report.batch_size, report.cache_bytes) == (2.0, 100, 50, None, None)
    long = plan(request(dense_model(), tokens=2001), [gpu()])
    assert long.warnings == ("2,001 tokens exceed the context of test-model (2,000)",)
    assert plan(request(dense_model(max_position_embeddings=None), tokens=2001), [gpu()]).warnings == ()


def test_where_nothing_fits_the_largest_number_with_a_layout_says_why():
    """One sequence fills TP4 x PP6 = 24 GPUs at most; 100 GiB of activations fit none of them."""
    asked = {"engine": "vllm", "overheads": {"activation": 100 * 2**30}, "max_gpus": 64}
    (found,) = plan(request(dense_model(), **asked), [gpu()]).plans
    assert [short.gpus for short in found.proof] == [64, 32, 24, 16, 8, 7, 6, 5, 4, 3]
    assert [short.gpus for short in found.proof if short.layouts] == [24, 16, 8, 6, 5, 4, 3]
    assert found.nearest_miss is not None
    assert (found.nearest_miss.gpus, found.nearest_miss.label, found.binds) == (24, "TP4 x PP6", "activation")


def test_data_ranks_without_a_sequence_are_refused():
    assert said(pins=Pins(data=4), batch=3).problems[0].message == "3 sequences cannot fill 4 data-parallel ranks"
    assert said(pins=Pins(data=2)).problems[0].help == "raise -b, or lower -dp"
    assert plan(request(dense_model(), pins=Pins(data=3), batch=3), [gpu()]).plans[0].gpus == 3


def test_more_sequences_than_an_engine_runs_at_once_are_warned_of():
    """vLLM 0.33.0 runs 1,024 on an H100 unless --max-num-seqs says otherwise, and keeps logits of as many free."""
    asked = {"engine": "vllm", "tokens": 10}
    assert plan(request(dense_model(), batch=1024, **asked), [gpu()]).warnings == ()
    (warned,) = plan(request(dense_model(), batch=1025, **asked), [gpu()]).warnings
    assert warned == (
        "1,025 sequences on a rank of h100-sxm, but vllm runs 1,024 at once (max_num_seqs):"
        " --set max_num_seqs=1025 counts what more take"
    )
    assert plan(request(dense_model(), batch=1025, options={"max_num_seqs": 1025}, **asked), [gpu()]).warnings == ()
    assert plan(request(dense_model(), batch=1025, tokens=10), [gpu()]).warnings == ()


def test_prices_of_other_gpus_are_warned_of():
    def warned(prices: dict[str, float]) -> tuple[str, ...]:
        return plan(request(dense_model(), prices=prices), [gpu(), gpu(name="l4")]).warnings

    assert warned({"h200": 2, "b200": 4}) == ("prices are given of h200, b200, but of none of h100-sxm, l4",)
    assert warned({}) == warned({"l4": 1}) == warned({"l4": 1, "h200": 2}) == ()


def test_a_length_beyond_the_engines_own_limit_is_warned_of():
    asked = {"engine": "vllm", "options": {"max_model_len": 99}}
    assert plan(request(dense_model(), tokens=99, **asked), [gpu()]).warnings == ()
    assert plan(request(dense_model(), tokens=100, **asked), [gpu()]).warnings == (
        "100 tokens exceed max_model_len (99): vllm refuses such a request",
    )


def test_an_encoder_that_is_not_counted_is_warned_of():
    def warned(text: str) -> tuple[str, ...]:
        found = resolved(text + "gpu: h200\nseq_len: 100\n")
        return plan(found.request, found.hardware).warnings

    (said,) = warned("model: t5-11b\n")
    assert said == "t5-11b has cross-attention: counted with 0 encoder tokens; give --encoder-len"
    assert warned("model: t5-11b\nencoder_len: 0\n") == warned("model: whisper-large-v2\n") == ()


def test_the_proof_is_of_the_nearest_numbers_first():
    """7 MiB a GPU: a layer of 9.75 MiB is halved at least, and TP4 x PP2 = 8 holds 7.7 MiB, TP4 x PP3 5.3."""
    report = plan(request(dense_model(), tokens=1, node=16), [gpu(7 * MIB)])
    (found,) = report.plans
    assert found.gpus == 12
    assert [short.gpus for short in found.proof] == list(range(11, 11 - PROVEN, -1))
    assert found.binds == found.proof[0].breaks
    assert found.searched == sum(
        short.layouts for short in search(dense_model(), gpu(7 * MIB), tokens=1, node=16).fewest(99).shortages
    ) + sum(len(search(dense_model(), gpu(7 * MIB), tokens=1, node=16).choices(n)[0]) for n in (*range(12, 17), 32, 48))
    assert found.explored_gpus == 12 * EXPLORED


def test_what_people_rent():
    """Three GPUs are the fewest: four are the next that people rent, and their best layout is shown too."""
    asked = {"batch": 3, "tokens": 2000}
    memory = PADDED + 2000 * ROW
    report = plan(request(dense_model(), pins=Pins(tensor=1, pipeline=1), **asked), [gpu(memory)])
    assert report.plans[0].gpus == 3
    assert report.plans[0].usual is None  # no data rank of four would have a sequence
    free = plan(request(dense_model(), tokens=2000, batch=30), [gpu(150 * MIB)]).plans[0]
    assert free.gpus == 3
    assert free.usual is not None
    assert free.usual.gpus == 4
    fours = search(dense_model(), gpu(150 * MIB), tokens=2000, batch=30).choices(4)[0]
    assert free.usual.speed.tpot_s == min(choice.speed.tpot_s for choice in fours)


def test_nothing_up_to_the_limit():
    report = plan(request(dense_model(), max_gpus=2), [gpu(20 * MIB)])
    (found,) = report.plans
    assert not report.fits
    assert (found.gpus, found.nodes, found.waste, found.capacity, found.usual, found.fewest_for_memory) == (None,) * 6
    assert (found.choices, found.fastest, found.pareto, found.explored_gpus) == ((), (), (), None)
    assert [short.gpus for short in found.proof] == [2, 1]
    assert (report.best, report.max_gpus) == (0, 2)


def test_memory_alone_may_need_fewer_than_the_speed():
    alone = search(dense_model(), tokens=100).clock.speed(Layout(), 1, 100).tpot_s
    found = plan(request(dense_model(), tokens=100, target=Target(tpot_s=alone * 0.7)), [gpu()]).plans[0]
    assert (found.fewest_for_memory, found.binds) == (1, "tpot")
    assert found.gpus == 2
    impossible = plan(request(dense_model(), tokens=100, target=Target(tpot_s=1e-12), max_gpus=4), [gpu()]).plans[0]
    assert (impossible.fits, impossible.fewest_for_memory) == (False, 1)
    assert impossible.nearest is not None


# --- objectives


def choices(objective: str, **asked):
    return plan(request(moe_model(), objective=objective, batch=64, tokens=500, **asked), [gpu(200 * MIB)]).plans[0]


def test_each_objective_orders_as_it_says():
    one = search(moe_model(), gpu(200 * MIB), batch=64, tokens=500)
    fewest = one.fewest(99).gpus
    assert fewest is not None
    every = one.explored(range(fewest, 9))
    fewest_first = choices("gpus")
    assert {choice.gpus for choice in fewest_first.choices} == {fewest}
    tpots = [choice.speed.tpot_s for choice in fewest_first.choices]
    assert tpots == sorted(tpots)
    assert len(fewest_first.choices) <= SHOWN
    fastest = choices("tpot", max_gpus=8).choices
    assert fastest[0].speed.tpot_s == min(choice.speed.tpot_s for choice in every)
    most = choices("throughput", max_gpus=8).choices
    assert most[0].tokens_per_s_per_gpu == max(choice.tokens_per_s_per_gpu for choice in every)
    cheapest = choices("cost", prices={"h100-sxm": 2.0}).choices
    assert cheapest[0].cost_per_hour == 2.0 * fewest


def test_equally_good_layouts_are_shown_simplest_first():
    shown = choices("gpus").choices
    keys = [(c.gpus, c.speed.tpot_s, c.layout.simplicity) for c in shown]
    assert keys == sorted(keys)


def test_the_fastest_of_each_number():
    found = choices("gpus", max_gpus=8)
    one = search(moe_model(), gpu(200 * MIB), batch=64, tokens=500)
    for choice in found.fastest:
        assert choice.speed.tpot_s == min(each.speed.tpot_s for each in one.choices(choice.gpus)[0])
    numbers = [choice.gpus for choice in found.fastest]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 1
    assert {id(choice) for choice in found.pareto} <= {id(choice) for choice in found.pareto if choice.gpus in numbers}


def test_the_best_of_several_kinds_of_gpu():
    asked = {"batch": 3, "tokens": 2000}
    small, large = gpu(40 * MIB), gpu(200 * MIB, "h200")
    report = plan(request(dense_model(), **asked), [small, large])
    assert report.best == 1
    assert [found.gpu for found in report.plans] == ["h100-sxm", "h200"]
    cheap = plan(
        request(dense_model(), objective="cost", prices={"h100-sxm": 0.1, "h200": 9.0}, **asked), [small, large]
    )
    assert cheap.best == 0
    assert cheap.plans[0].choices[0].cost_per_hour == pytest.approx(0.1 * (cheap.plans[0].gpus or 0))


# --- waste


def test_replicas_are_waste():
    """DP3: two more copies of the weights with padded vocabularies, and cache of 3 x 4 sequences for 10."""
    wanted = request(dense_model(), batch=10, pins=Pins(tensor=1, pipeline=1, data=3))
    (found,) = plan(wanted, [gpu()]).plans
    assert found.waste is not None
    assert found.waste.weight_bytes == WEIGHTS
    assert found.waste.replicated_weight_bytes == 3 * PADDED - WEIGHTS
    assert found.waste.cache_bytes == 10 * 2000 * ROW
    assert found.waste.replicated_cache_bytes == 2 * 2000 * ROW


def test_stages_that_end_early_are_no_waste_of_weights():
    """PP4 of six layers: 1, 2, 2, 1 are six; their cache counts as the fullest stage's on all four."""
    wanted = request(dense_model(), batch=1, pins=Pins(tensor=1, pipeline=4, data=1))
    waste = plan(wanted, [gpu()]).plans[0].waste
    assert waste is not None
    assert waste.replicated_weight_bytes == PADDED - WEIGHTS
    assert waste.replicated_cache_bytes == (4 * 2 - 6) * 2000 * ROW // 6


def test_what_the_engine_makes_of_what_is_left():
    """Ideal: whole tokens of 6,144 B in what the weights leave."""
    (found,) = plan(request(dense_model()), [gpu()]).plans
    assert found.capacity is not None
    assert found.capacity.tokens == (85_017_755_648 - PADDED) // ROW
    assert plan(request(dense_model(), engine="llama.cpp"), [gpu()]).plans[0].capacity is None


# --- a trace


def traced(*totals: int) -> Trace:
    lengths = Lengths.counted({total: totals.count(total) for total in totals})
    return Trace(
        path="t.csv", totals=lengths, held=lengths, prompts=None, mean_osl=None, mean_decoded=Fraction(lengths.mean)
    )


def test_percentiles_of_a_trace_as_if_all_were_that_long():
    """Ten sequences, most of 100 tokens, one of 2,000: 61.5 MiB of weights, 0.59 or 11.7 MiB a sequence."""
    trace = traced(*[100] * 97, 500, 1000, 2000)
    demand = Demand(lengths=trace.bucketed, batch_size=10)
    wanted = request(dense_model(), demand=demand, trace=trace)
    report = plan(wanted, [gpu(100 * MIB)])
    (found,) = report.plans
    assert report.requests == 100
    shown = {each.name: each for each in found.lengths}
    assert {name: each.seq_len for name, each in shown.items()} == {
        "p50": 100,
        "p90": 100,
        "p99": 1000,
        "longest": 2000,
    }
    for each in shown.values():
        one = search(dense_model(), gpu(100 * MIB), batch=10, tokens=each.seq_len)
        least = one.fewest_for_memory(99)
        assert least is not None
        assert (each.gpus, each.label) == (least[0], least[1].label)
    held = found.choices[0].layout
    assert held.data == 1
    assert shown["p50"].max_batch_size == (100 * MIB * held.gpus - PADDED) // (100 * ROW)
    assert shown["longest"].max_batch_size == (100 * MIB * held.gpus - PADDED) // (2000 * ROW)


def test_percentiles_where_nothing_holds_the_trace():
    trace = traced(100, 2000)
    wanted = request(dense_model(), demand=Demand(lengths=trace.bucketed, batch_size=1), trace=trace, max_gpus=1)
    (found,) = plan(wanted, [gpu(20 * MIB)]).plans
    assert [(each.gpus, each.label, each.max_batch_size) for each in found.lengths] == [(None, None, None)] * 4


def test_percentiles_at_a_rate_use_the_answers_own_batch():
    trace = traced(150, 150)
    demand = Demand(lengths=trace.bucketed, rate=200.0, isl=100, osl=50)
    (found,) = plan(request(dense_model(), demand=demand, trace=trace), [gpu(100 * MIB)]).plans
    one = search(dense_model(), gpu(100 * MIB), batch=found.choices[0].batch_size, tokens=150)
    least = one.fewest_for_memory(99)
    assert found.lengths[0].gpus == (least and least[0])


# --- bad input


def test_no_gpu():
    with pytest.raises(KvcalcError) as caught:
        plan(request(dense_model()), [])
    assert caught.value.problems[0].message == "no GPU is named"


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_a_price_is_a_number_above_0(price):
    problem = said(prices={"h100-sxm": price}).problems[0]
    assert problem.message == "a price is more than 0"
    assert problem.help == "per GPU and hour, as in --price h200=2.50"


def test_cost_needs_a_price_of_every_kind():
    problem = said(objective="cost", prices={"h200": 2.0}).problems[0]
    assert (problem.message, problem.help) == ("no price of h100-sxm", "as in --price h100-sxm=2.50")


def test_a_size_that_cannot_be_is_refused_before_the_search():
    assert "nearest -tp that works: 1, 2, 4" in (said(pins=Pins(tensor=3)).problems[0].help or "")


def test_a_model_without_weights_cannot_be_planned():
    from factories import full, model

    with pytest.raises(KvcalcError) as caught:
        plan(request(model(full())), [gpu()])
    assert caught.value.problems[0].code == "KV102"
    assert "hidden_size and vocab_size and ffn not given" in caught.value.problems[0].message
