"""The minimum is minimal: proven by brute force over all layouts, and never raised by more memory or less to hold."""

from __future__ import annotations

from itertools import product

import pytest
from factories import full, model, sliding
from hypothesis import given
from hypothesis import strategies as st
from planning import MIB, dense_model, gpu, job, moe_model, request, search, weighted

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.layouts import Layout, Pins
from kvcalc.plan.ledger import Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.planning import plan
from kvcalc.plan.search import Search, counts, node_size, usual
from kvcalc.spec.ffn import Dense, Moe


def small_models(layers, heads, kv_heads, width, experts, window):
    kinds = {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": width}
    kind = sliding(sliding_window=window, **kinds) if window else full(**kinds)
    ffn = Moe(num_experts=experts, num_experts_per_tok=2, moe_intermediate_size=96) if experts else Dense(
        intermediate_size=384
    )  # fmt: skip
    return weighted(model((layers, kind)), ffn)


MODELS = st.builds(
    small_models, layers=st.integers(1, 5), heads=st.sampled_from([4, 8, 12]), kv_heads=st.sampled_from([1, 2, 4]),
    width=st.sampled_from([32, 64]), experts=st.sampled_from([0, 0, 6, 8]), window=st.sampled_from([0, 0, 50]),
)  # fmt: skip
ENGINES = st.sampled_from(["ideal", "vllm", "sglang"])


def by_brute_force(one: Search, gpus: int) -> bool:
    """Whether any layout at all holds the workload: every product of sizes, asked one by one."""
    work, batch = one.job, one.demand.batch_size or 1
    for tensor, pipeline, data, share in product(range(1, gpus + 1), repeat=4):
        if tensor * pipeline * data != gpus or tensor % share or data > batch or tensor > one.node:
            continue
        for whole in (False, True):
            layout = Layout(tensor=tensor, pipeline=pipeline, data=data, expert_parallel=whole, decode_context=share)
            if (whole and tensor * data == 1) or work.rules.refusal(layout) is not None:
                continue
            found = work.ledger(layout, one.hardware, batch, one.demand.lengths)
            if isinstance(found, Ledger) and found.free_bytes >= 0:
                return True
    return False


@given(spec=MODELS, engine=ENGINES, memory=st.integers(3, 60), batch=st.integers(1, 40), tokens=st.integers(1, 2000))
def test_no_fewer_gpus_hold_it(spec, engine, memory, batch, tokens):
    options = {"max_num_batched_tokens": 16, "max_num_seqs": 16} if engine == "vllm" else {}
    overheads = {"non_torch": 0, "cuda_graphs": 0} if engine == "vllm" else {}
    one = search(
        spec, gpu(memory * MIB), batch=batch, tokens=tokens, engine=engine, options=options, overheads=overheads,
        node=4,
    )  # fmt: skip
    least = next((n for n in (1, 2, 3, 4, 8) if by_brute_force(one, n)), None)
    found = one.fewest(8)
    assert found.gpus == least
    seen = [short.gpus for short in found.shortages]
    assert seen == [n for n in (1, 2, 3, 4, 8) if least is None or n < least]
    assert all(short.short_bytes > 0 or short.breaks == "layout" for short in found.shortages)
    for choice in found.choices:
        assert choice.ledger.fits
        assert choice.layout.gpus == least


@given(spec=MODELS, memory=st.integers(5, 60), batch=st.integers(1, 40), tokens=st.integers(2, 2000), data=st.data())
def test_less_to_hold_or_more_to_hold_it_never_takes_more_gpus(spec, memory, batch, tokens, data):
    """Memory, sequences, length, the cache's dtype, the weights' dtype, one at a time."""

    def fewest(**changes) -> int:
        asked = {"memory": memory, "batch": batch, "tokens": tokens, "weights": "bf16", "cache": "bf16", **changes}
        size, cache = asked.pop("memory"), asked.pop("cache")
        one = search(spec, gpu(size * MIB), formats=parse_kv_cache_dtype(cache), node=4, **asked)
        return one.fewest(16).gpus or 99

    base = fewest()
    assert fewest(memory=data.draw(st.integers(memory, 100))) <= base
    assert fewest(batch=data.draw(st.integers(1, batch))) <= base
    assert fewest(tokens=data.draw(st.integers(1, tokens))) <= base
    assert fewest(cache="fp8") <= base
    assert fewest(weights="fp8") <= base


@given(spec=MODELS, tokens=st.integers(1, 2000), batch=st.integers(1, 64))
def test_whatever_fits_on_some_gpus_fits_on_a_whole_multiple(spec, tokens, batch):
    """n GPUs hold it as a replica of PP or TP: so 2 n hold it as two replicas, where there are two sequences."""
    one = search(spec, gpu(40 * MIB), batch=batch, tokens=tokens)
    for gpus in (1, 2, 4):
        if one.fitting(gpus)[0] and batch >= 2:
            assert one.fitting(2 * gpus)[0]


@given(spec=MODELS, memory=st.integers(5, 60), batch=st.integers(1, 40), tokens=st.integers(1, 2000))
def test_the_fewest_for_memory_alone_is_that_of_a_plan_without_a_target(spec, memory, batch, tokens):
    one = search(spec, gpu(memory * MIB), batch=batch, tokens=tokens, node=4)
    found = one.fewest_for_memory(16)
    assert (found and found[0]) == one.fewest(16).gpus
    if found:
        held = [each.layout for each in one.fitting(found[0])[0]]
        assert found[1] == min(held, key=lambda layout: layout.simplicity)


def test_a_number_that_holds_the_values_but_no_layout_is_passed_over():
    """A layer takes (2 x 768 x 768 + 2 x 256 x 768 + 3 x 768 x 1,536 + 2 x 768) x 2 B = 10,226,688 B, five and both
    ends 54 MB: two GPUs of 29 MiB (30,408,704 B) are enough for that, but not one of them for three layers."""
    one = search(dense_model(5), gpu(29 * MIB), batch=1, tokens=1, pins=Pins(tensor=1))
    assert not one.hopeless(2)
    assert one.fewest_for_memory(8) == (3, Layout(pipeline=3))


# --- numbers of GPUs


@given(node=st.integers(1, 72), most=st.integers(1, 300), least=st.integers(1, 300))
def test_every_number_within_a_node_then_whole_nodes(node, most, least):
    wanted = [n for n in range(least, most + 1) if n <= node or (n % node == 0 and n >= 2 * node)]
    assert list(counts(node, most, least)) == wanted


def test_numbers_that_people_rent():
    assert [n for n in range(1, 33) if usual(n, 8)] == [1, 2, 4, 8, 16, 24, 32]
    assert [n for n in range(1, 10) if usual(n, 6)] == [1, 2, 4, 6]


@pytest.mark.parametrize(("name", "size"), [("h100", 8), ("l4", 8), ("gb200", 72), ("rtx-3090", 8), ("tpu-v5p", 8)])
def test_a_node_is_what_the_links_reach_from_8_to_72(name, size):
    """An RTX 3090's NVLink bridge reaches 2, a TPU v5p's torus 8,960: neither is a node."""
    assert node_size(gpu(name=name)) == size


# --- why fewer are not enough


def test_shortages_say_what_is_missing_to_the_byte():
    """64,433,664 B of weights and 24 padded rows twice; ideal, 3 sequences of 2,000 tokens x 6,144 B."""
    need = 64_433_664 + 2 * 24 * 768 * 2 + 3 * 2000 * 6 * 2 * 4 * 64 * 2
    one = search(dense_model(), gpu(need - 5), batch=3)
    (short,) = [s for s in one.fewest(8).shortages if s.gpus == 1]
    assert (short.short_bytes, short.label, short.breaks, short.layouts) == (5, "TP1", "cache", 1)
    assert short.detail == "5 B short per GPU: weights 61.52 MiB, cache 35.16 MiB of 96.68 MiB"
    assert search(dense_model(), gpu(need), batch=3).fewest(8).gpus == 1


def test_weights_that_exceed_all_memories_together_need_no_layout():
    """64,433,664 B in 2 x 20,000,000: 24,433,664 B too much, half of it on each."""
    one = search(dense_model(), gpu(20_000_000), tokens=1)
    found = {short.gpus: short for short in one.fewest(8).shortages}
    assert (found[2].short_bytes, found[2].layouts, found[2].label, found[2].breaks) == (12_216_832, 0, None, "weights")
    assert found[2].detail == "weights alone: 61.45 MiB in 2 x 19.07 MiB"
    assert [one.below(n) for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert not search(dense_model(), gpu(64_433_664)).below(1)


def test_a_number_that_no_layout_has_says_so():
    """Of 5 GPUs: TP5 cuts heads, PP5 needs 5 layers, DP5 needs 5 sequences."""
    spec = dense_model(layers=2)
    one = search(spec, gpu(50 * MIB), batch=1)
    _, shortage = one.fitting(5)
    assert (shortage.gpus, shortage.label, shortage.breaks, shortage.short_bytes) == (5, None, "layout", 0)
    assert shortage.detail == "5 ranks cannot share the 1,000 rows of embed_tokens.weight, padded to 1,024"
    _, beyond = one.fitting(16)
    assert beyond.detail == "no layout of 16 GPUs is one that engines take"
    pinned = search(spec, gpu(50 * MIB), pins=Pins(tensor=2))
    assert pinned.fitting(1)[1].detail == "TP2 takes 2 GPUs, or a multiple, not 1"


def test_pins_that_only_some_numbers_can_hold_say_which():
    """Of moe_model one latent is cached, so any TP may share its tokens; of 8 KV heads TP16 is the first."""
    reasons = {
        (2, Pins(tensor=2, pipeline=3)): "TP2 x PP3 takes 6 GPUs, or a multiple, not 2",
        (12, Pins(tensor=2, pipeline=3, data=1)): "TP2 x PP3 x DP1 takes 6 GPUs, not 12",
        (8, Pins(decode_context=2)): "DCP2 takes TP16 at least, but a node has 8 GPUs: pin that TP",
    }
    for (gpus, pins), said in reasons.items():
        assert search("qwen3-8b", engine="vllm", pins=pins).no_layout(gpus) == said
    pinned = search("qwen3-8b", engine="vllm", pins=Pins(decode_context=2, tensor=16))
    assert [one.label for one in pinned.layouts(16)] == ["TP16 + DCP2"]


def test_a_gpu_without_links_is_planned_alone():
    """An Apple M3 Max has no others to send to: one that is enough is an answer, and two are none."""
    one = search(dense_model(), gpu(name="m3-max"))
    assert one.fewest(4).gpus == 1
    two = search(dense_model(), gpu(memory=60 * MIB, name="m3-max")).fewest(4)
    assert two.gpus is None
    assert [short.breaks for short in two.shortages] == ["weights"]
    assert one.no_layout(2) == "m3-max states no link to others of its kind: one alone is planned"
    assert one.layouts(2) == ()
    assert plan(request(dense_model()), [gpu(name="m3-max")]).assumptions[1:] == (one.no_layout(2),)


def test_what_the_engine_refuses_first_is_the_reason():
    """llama.cpp splits layers alone, so TP is refused as well: what one device lacks is said, not that."""
    one = search(dense_model(), gpu(), batch=8, tokens=2000, engine="llama.cpp", options={"n_ctx": 8192})
    _, shortage = one.fitting(2)
    assert (shortage.breaks, shortage.label) == ("layout", None)
    assert "splits layers" not in shortage.detail


def test_what_the_engine_refuses_is_a_reason_too():
    """LMDeploy has no DCP for MLA: pinned, no number of GPUs is one that it takes."""
    one = search(moe_model(), engine="lmdeploy", pins=Pins(tensor=2, decode_context=2))
    found, shortage = one.fitting(2)
    assert not found
    assert shortage.breaks == "layout"
    assert "context parallelism is not modelled" in shortage.detail


def test_the_nearest_layout_is_shown_of_those_that_are_too_small():
    one = search(dense_model(), gpu(40 * MIB), batch=4, tokens=2000)
    found, shortage = one.fitting(2)
    assert not found
    frees = {
        layout.label: job(dense_model()).ledger(layout, one.hardware, 4, Lengths.of(2000)) for layout in one.layouts(2)
    }
    best = max(frees, key=lambda label: frees[label].free_bytes)
    assert (shortage.label, shortage.short_bytes) == (best, -frees[best].free_bytes)
    assert shortage.layouts == len(frees)


# --- targets


def test_a_target_takes_more_gpus_and_the_proof_says_by_how_much_fewer_miss_it():
    """Each GPU reads its share of 61 MiB of weights at 3.35 TB/s: halving the time of one takes more than one."""
    free = search(dense_model(layers=24), tokens=100)
    alone = free.choice(free.fitting(1)[0][0]).speed.tpot_s
    one = search(dense_model(layers=24), tokens=100, target=Target(tpot_s=alone / 1.5))
    found = one.fewest(8)
    assert found.gpus == 2
    (short,) = found.shortages
    assert (short.gpus, short.breaks, short.short_bytes, short.label) == (1, "tpot", 0, "TP1")
    assert short.detail.startswith("TPOT is at least ")
    assert all(choice.speed.tpot_s <= alone / 1.5 for choice in found.choices)
    assert found.nearest is None


def test_nothing_reaches_an_impossible_target_and_the_nearest_is_kept():
    one = search(dense_model(), tokens=100, target=Target(tpot_s=1e-12))
    found = one.fewest(8)
    assert found.choices == ()
    assert found.gpus is None
    every = [one.choice(each) for gpus in range(1, 9) for each in one.fitting(gpus)[0]]
    assert found.nearest is not None
    assert found.nearest.speed.tpot_s == min(choice.speed.tpot_s for choice in every)
    assert {short.gpus: short.breaks for short in found.shortages} == {
        gpus: "tpot" if one.layouts(gpus) else "layout" for gpus in range(1, 9)
    }


def test_a_time_to_the_first_token_is_named():
    one = search(
        dense_model(), target=Target(ttft_s=1e-9), demand=Demand(lengths=Lengths.of(200), batch_size=1, isl=100)
    )
    shorts = one.fewest(2).shortages
    assert [short.breaks for short in shorts] == ["ttft", "ttft"]
    assert shorts[0].detail.endswith("1 ns asked for")
    assert shorts[0].detail.startswith("TTFT is at least ")


def test_memory_is_what_breaks_where_nothing_fits_whatever_the_target():
    one = search(dense_model(), gpu(70 * MIB), batch=4, target=Target(tpot_s=1.0))
    shorts = one.fewest(1).shortages
    assert (shorts[0].breaks, shorts[0].short_bytes > 0) == ("cache", True)


def test_a_rate_beyond_what_can_be_served_says_how_many_times():
    """Prefills alone keep a GPU busy for longer than there is: more ranks are needed, not more memory."""
    one = search(dense_model(), batch=None, rate=1e9, isl=1000, osl=10, tokens=1010)
    _, shortage = one.fitting(1)
    busy = one.demand.load(Layout(), one.clock).times
    assert busy > 1e9 * one.clock.prefill_busy_s(Layout(), 1000)
    assert (shortage.breaks, shortage.label) == ("rate", "TP1")
    assert shortage.detail == f"requests arrive {busy:.3g} times as fast as they can be served at most"
    _, nearest = one.fitting(8)
    wanted = min(one.demand.load(layout, one.clock).times for layout in one.layouts(8))
    assert nearest.detail == f"requests arrive {wanted:.3g} times as fast as they can be served at most"


def test_a_choice_carries_its_cost_and_what_is_served():
    one = search(dense_model(), batch=10)
    priced = Search(one.job, one.hardware, one.clock, one.demand, price=2.5)
    fitting = priced.fitting(2)[0][0]
    choice = priced.choice(fitting)
    assert choice.cost_per_hour == 5.0
    served = choice.speed.tokens_per_s
    assert choice.tokens_per_s_per_gpu == pytest.approx(served / 2)
    assert choice.cost_per_million_tokens == pytest.approx(5.0 / 3600 / served * 1e6)
    assert (choice.nodes, choice.gpus, choice.gpu) == (1, 2, "h100-sxm")
    free = one.choice(fitting)
    assert (free.cost_per_hour, free.cost_per_million_tokens) == (None, None)


def test_what_a_rate_serves_is_the_rate():
    one = search(dense_model(), batch=None, rate=3.0, isl=100, osl=50, tokens=150)
    choice = one.choice(one.fitting(2)[0][0])
    assert choice.tokens_per_s_per_gpu == pytest.approx(3.0 * 50 / 2)
    assert choice.loaded_tpot_s is not None
    assert choice.rank_batch == -(-choice.batch_size // choice.layout.data)


def test_progress_is_told_at_every_number():
    told: list[tuple[int, int]] = []
    search(dense_model(), gpu(20_000_000)).fewest(3, lambda at, most: told.append((at, most)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    search(dense_model()).explored((2, 5), lambda at, most: told.append((at, most)))
    assert told == [(2, 5), (5, 5)]


def test_explored_numbers_skip_those_that_cannot_hold_the_weights():
    one = search(dense_model(), gpu(40_000_000), tokens=1)
    found = one.explored(range(1, 5))
    assert {choice.gpus for choice in found} == {2, 3, 4} - {n for n in (2, 3, 4) if not one.fitting(n)[0]}
    assert all(choice.gpus > 1 for choice in found)
    assert plan(request(dense_model()), [gpu()]).plans[0].gpus == 1


def test_numbers_of_gpus_that_cannot_hold_the_values_are_not_tried():
    one = search(dense_model(), gpu(40 * MIB), batch=2**40, tokens=2000)
    found = one.fewest(1024, proven=2)
    assert found.gpus is None
    assert [bool(short.layouts) for short in found.shortages[-3:]] == [False, True, True]
    assert found.shortages[-3].detail.startswith("weights and cached values alone: ")
    assert {short.breaks for short in found.shortages} <= {"weights", "cache"}
