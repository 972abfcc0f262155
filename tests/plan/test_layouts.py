"""Layouts: all of them, those that engines take, and what is said of the others."""

from __future__ import annotations

from itertools import product

import pytest
from factories import cross, full, gated_delta_net, mamba2, model, sliding
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import dense_model, gpu, job, moe_model, search, shipped, state_model, weighted

from kvcalc.plan.layouts import (
    FREE,
    MAX_RANKS,
    Layout,
    Pins,
    Rules,
    candidates,
    check_pins,
    divisors,
    valid_layouts,
)
from kvcalc.problems import KvcalcError
from kvcalc.spec.ffn import Dense
from kvcalc.weights.ledger import weight_scheme


def rules(spec, weights: str | None = None, **more) -> Rules:
    return Rules(spec, weight_scheme(spec, weights), **more)


@given(st.integers(1, 3000))
def test_divisors_are_all_of_them_in_order(number):
    assert list(divisors(number)) == [n for n in range(1, number + 1) if number % n == 0]


@settings(max_examples=50)
@given(gpus=st.integers(1, 48), node=st.sampled_from([1, 4, 8, 72]), batch=st.integers(1, 60), moe=st.booleans())
def test_candidates_are_every_product_within_the_node_and_the_batch(gpus, node, batch, moe):
    """By brute force over all triples; DCP divides TP, EP needs experts and more than one rank to deal them to."""
    wanted = {
        Layout(tensor=t, pipeline=p, data=d, expert_parallel=whole, decode_context=share)
        for t, p, d in product(range(1, gpus + 1), repeat=3)
        if t * p * d == gpus and t <= node and d <= batch
        for share in range(1, t + 1)
        if t % share == 0
        for whole in ((False, True) if moe and t * d > 1 else (False,))
    }
    found = list(candidates(gpus, node=node, batch=batch, moe=moe))
    assert set(found) == wanted
    assert len(found) == len(wanted)


PINNED = [
    (Pins(tensor=4), lambda one: one.tensor == 4),
    (Pins(pipeline=2), lambda one: one.pipeline == 2),
    (Pins(data=3), lambda one: one.data == 3),
    (Pins(expert_parallel=False), lambda one: not one.expert_parallel),
    (Pins(expert_parallel=True), lambda one: one.expert_parallel),
    (Pins(decode_context=2), lambda one: one.decode_context == 2),
]


@pytest.mark.parametrize(("pins", "kept"), PINNED, ids=[str(i) for i in range(len(PINNED))])
def test_pins_keep_what_they_say_and_nothing_else(pins, kept):
    everything = list(candidates(24, node=8, batch=99, moe=True))
    pinned = list(candidates(24, node=8, batch=99, moe=True, pins=pins))
    assert pinned == [one for one in everything if kept(one)]
    assert 0 < len(pinned) < len(everything)


def test_tensor_parallelism_leaves_the_node_only_where_asked():
    def most(pins: Pins) -> int:
        return max(one.tensor for one in candidates(32, node=8, batch=99, moe=False, pins=pins))

    assert [most(FREE), most(Pins(tensor_across_nodes=True)), most(Pins(tensor=16))] == [8, 32, 16]


def test_labels_and_sizes():
    one = Layout(tensor=4, pipeline=2, data=3, expert_parallel=True, decode_context=2)
    assert (one.gpus, one.label) == (24, "TP4 x PP2 x DP3 + EP12 + DCP2")
    assert [Layout().label, Layout(data=8, expert_parallel=True).label, Layout(pipeline=2).label] == [
        "TP1", "TP1 x DP8 + EP8", "TP1 x PP2",
    ]  # fmt: skip
    assert (one.parallel.ranks, one.of_one_replica.ranks, one.parallel.data) == (24, 8, 3)
    assert (one.shards.decode_context, one.sharding.ranks, one.sharding.expert_parallel) == (2, 24, True)


def test_simpler_layouts_come_first():
    """Fewer kinds of parallelism; then less pipeline, data and context; then a smaller TP."""
    ordered = [
        Layout(tensor=2), Layout(tensor=8), Layout(data=8), Layout(pipeline=8), Layout(tensor=8, decode_context=2),
        Layout(tensor=8, decode_context=8), Layout(tensor=2, data=4), Layout(tensor=4, pipeline=2),
        Layout(data=8, pipeline=2, expert_parallel=True),
    ]  # fmt: skip
    mixed = ordered[5:] + ordered[:5]
    assert sorted(mixed, key=lambda one: one.simplicity) == ordered


REFUSED = [
    (dense_model(), Layout(pipeline=7), "6 layers cannot fill 7 pipeline stages"),
    (
        dense_model(),
        Layout(tensor=2, expert_parallel=True),
        "a model without routed experts has nothing to deal out by",
    ),
    (moe_model(), Layout(data=17, expert_parallel=True), "16 experts cannot be dealt out over 17 ranks"),
    (dense_model(), Layout(tensor=3), "3 ranks cannot share the 1,000 rows of embed_tokens.weight, padded to 1,024"),
    (dense_model(vocab_size=576), Layout(tensor=9), "9 ranks cannot share the 12 units of q_proj.weight"),
    (dense_model(vocab_size=576), Layout(tensor=6), "6 ranks cannot share the 4 units of k_proj.weight"),
    (moe_model(), Layout(data=5), "5 ranks cannot share the 384 units of experts.gate_proj.weight"),
    (dense_model(), Layout(tensor=4, decode_context=3), "DCP 3 does not divide TP 4"),
    (dense_model(), Layout(tensor=4, decode_context=2), "4 KV heads over TP 4 leave at most DCP 1, not 2"),
    (moe_model(), Layout(tensor=4, decode_context=3), "DCP 3 does not divide TP 4"),
    (
        weighted(
            model(sliding(num_attention_heads=8, num_key_value_heads=4, head_dim=64)), Dense(intermediate_size=64)
        ),
        Layout(tensor=2, decode_context=2),
        "no cache grows with the tokens, so DCP shares nothing",
    ),
]


@pytest.mark.parametrize(("spec", "layout", "why"), REFUSED, ids=[why[:50] for *_, why in REFUSED])
def test_engines_refuse(spec, layout, why):
    assert (rules(spec).refusal(layout) or "").startswith(why)


TAKEN = [
    (dense_model(), Layout(pipeline=6)),
    (moe_model(), Layout(data=16, expert_parallel=True)),
    (moe_model(), Layout(data=6, expert_parallel=True)),
    (moe_model(), Layout(tensor=2, data=3)),
    (moe_model(), Layout(tensor=4, decode_context=4)),
    (moe_model(), Layout(data=5, expert_parallel=True)),
    (state_model(vocab_size=640), Layout(tensor=5)),
    # 16 query heads, 2 KV heads: 8 ranks hold each KV head four times, and DCP may share the tokens among those.
    (weighted(model(full(num_attention_heads=16, num_key_value_heads=2, head_dim=64)), Dense(intermediate_size=64)),
     Layout(tensor=8, decode_context=4)),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "layout"), TAKEN, ids=[layout.label for _, layout in TAKEN])
def test_engines_take(spec, layout):
    assert rules(spec).refusal(layout) is None


def test_an_engine_that_deals_experts_evenly():
    assert rules(moe_model(), even_experts=True).refusal(Layout(data=8, expert_parallel=True)) is None
    said = rules(moe_model(), even_experts=True).refusal(Layout(data=6, expert_parallel=True))
    assert said == "16 experts cannot be dealt out evenly over 6 ranks"
    assert job(moe_model(), engine="sglang").rules.even_experts
    assert not job(moe_model(), engine="vllm").rules.even_experts


def test_a_gated_delta_net_is_cut_by_its_key_heads():
    """5 key heads and 10 value heads: 10 ranks would hold a key head twice; vLLM does so with Mamba-2's groups."""
    refused = rules(state_model(vocab_size=640)).refusal(Layout(tensor=10))
    assert refused == "10 ranks cannot share the 5 units of in_proj.q_k.weight"
    groups = weighted(model(mamba2(mamba_num_heads=16, n_groups=2)), Dense(intermediate_size=1600))
    assert rules(groups).refusal(Layout(tensor=8)) is None
    assert rules(shipped("qwen3-next-80b-a3b")).refusal(Layout(tensor=32)) is not None


def test_most_heads_that_context_parallel_ranks_share():
    """Growing streams count: latents as one head, encoders and windows not at all."""
    both = model(full(num_key_value_heads=3), cross(num_key_value_heads=6), max_source_positions=100)
    assert rules(both).context_heads == 3
    assert rules(moe_model()).context_heads == 1
    assert rules(model(sliding())).context_heads == 0
    assert rules(model(gated_delta_net())).context_heads == 0
    assert rules(shipped("deepseek-v3.2")).context_heads == 1


def test_blocks_of_a_quantised_matrix_are_not_cut():
    """fp8 in blocks of 128: 1,536 / 8 = 192 rows of gate_proj and 192 columns of down_proj are no whole blocks."""
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 128}
    spec = weighted(model(full(**heads)), Dense(intermediate_size=1536), vocab_size=1024)
    said = rules(spec, "fp8_block128").refusal(Layout(tensor=8))
    assert said == (
        "192 of 1,536 rows of gate_proj.weight on each of 8 ranks are no whole blocks of 128 (fp8_block128)"
    )
    assert rules(spec, "fp8_block128").refusal(Layout(tensor=4)) is None
    assert rules(spec, "fp8").refusal(Layout(tensor=8)) is None
    wide = weighted(model(full(**{**heads, "num_attention_heads": 20, "num_key_value_heads": 20})), Dense(
        intermediate_size=1000), vocab_size=640)  # fmt: skip
    # 1,000 is no whole number of blocks before it is cut, so nothing is lost by cutting it; 2,560 / 5 = 4 blocks.
    assert rules(wide, "fp8_block128").refusal(Layout(tensor=5)) is None


def test_columns_are_blocks_too():
    """gptq groups of 128 run along the input: 1,536 / 8 = 192 columns of down_proj."""
    spec = weighted(
        model(full(num_attention_heads=16, num_key_value_heads=16, head_dim=128)), Dense(intermediate_size=1536),
        vocab_size=1024,
    )  # fmt: skip
    said = rules(spec, "int4_g128").refusal(Layout(tensor=8))
    assert said == "192 of 1,536 columns of down_proj.weight on each of 8 ranks are no whole blocks of 128 (int4_g128)"


@given(gpus=st.integers(1, 24), batch=st.integers(1, 24))
def test_valid_layouts_are_the_candidates_that_are_not_refused(gpus, batch):
    known = rules(moe_model())
    found = valid_layouts(gpus, known, node=8, batch=batch)
    every = candidates(gpus, node=8, batch=batch, moe=True)
    assert list(found) == [one for one in every if known.refusal(one) is None]
    assert all(one.data <= batch for one in found)


def test_a_search_has_no_rank_without_a_sequence():
    found = search(moe_model(), batch=3)
    assert max(one.data for one in found.layouts(16)) == 2
    assert max(one.data for one in found.layouts(16, batch=16)) == 16
    by_rate = search(moe_model(), batch=None, rate=1.0, isl=10, osl=10)
    assert max(one.data for one in by_rate.layouts(16)) == 16
    assert found.hardware == gpu()


# --- pins that no number of GPUs makes valid


def paired_model():
    """12 query heads over 2 of K and V."""
    kind = full(num_attention_heads=12, num_key_value_heads=2, head_dim=64)
    return weighted(model((2, kind)), Dense(intermediate_size=1536))


BAD_PINS = [
    (dense_model(), Pins(tensor=0), "a parallel size is 1 to 65,536, not 0", None),
    (dense_model(), Pins(data=MAX_RANKS + 1), "a parallel size is 1 to 65,536, not 65537", None),
    (dense_model(), Pins(tensor=3), "test-model on TP3: 3 ranks cannot share", "nearest -tp that works: 1, 2, 4"),
    (dense_model(), Pins(tensor=64), "test-model on TP64: 64 ranks cannot share", "nearest -tp that works: 1, 2, 4"),
    (
        dense_model(),
        Pins(pipeline=7),
        "test-model on TP1 x PP7: 6 layers cannot fill 7",
        "-pp is 6 at most",
    ),
    (
        dense_model(),
        Pins(expert_parallel=True),
        "test-model on TP1 + EP1: a model without routed experts",
        "leave out --enable-expert-parallel",
    ),
    (
        dense_model(),
        Pins(tensor=4, decode_context=4),
        "test-model on TP4 + DCP4: 4 KV heads over TP 4",
        "leave out -dcp",
    ),
    # 12 query heads and 4 of K and V: TP 8, whose pairs of ranks hold the same K and V, cuts query heads.
    (dense_model(), Pins(decode_context=2), "test-model on TP2 + DCP2: 4 KV heads over TP 2", "leave out -dcp"),
    (
        paired_model(),
        Pins(tensor=2, decode_context=2),
        "test-model on TP2 + DCP2: 2 KV heads over TP 2",
        "leave out -dcp, or give -tp 4",
    ),
    (moe_model(), Pins(data=40, expert_parallel=True), "test-model on TP1 x DP40 + EP40: 16 experts", None),
]


@pytest.mark.parametrize(("spec", "pins", "message", "hint"), BAD_PINS, ids=[said[:40] for *_, said, _ in BAD_PINS])
def test_a_pin_that_cannot_be_says_why_and_what_works(spec, pins, message, hint):
    with pytest.raises(KvcalcError) as caught:
        check_pins(rules(spec), pins)
    problem = caught.value.problems[0]
    assert problem.message.startswith(message)
    if hint:
        assert problem.help == hint


@pytest.mark.parametrize("pins", [FREE, Pins(tensor=4), Pins(pipeline=6), Pins(decode_context=4), Pins(data=100)])
def test_a_pin_that_some_number_of_gpus_makes_valid_is_taken(pins):
    check_pins(rules(moe_model() if pins.decode_context else dense_model()), pins)
