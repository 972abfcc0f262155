"""Layouts: all of them, those that engines take, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from factories import cross, full, gated_delta_net, mamba2, model, sliding
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import (
    dense_model,
    gpu,
    headed_model,
    job,
    moe_model,
    paired_model,
    rules,
    search,
    shipped,
    state_model,
    weighted,
)

from kvcalc.plan.layouts import (
    FREE,
    Layout,
    Pins,
    candidates,
    divisors,
    valid_layouts,
)
from kvcalc.spec.ffn import Dense, Moe
from kvcalc.spec.model import LayerEntry


@given(st.integers(1, 3000))
def test_divisors_are_all_of_them_in_order(number):
    assert list(divisors(number)) == [n for n in range(1, number + 1) if number % n == 0]


FEW = [
    (1, {"node": 8, "batch": 9, "moe": True}, "TP1"),
    (2, {"node": 8, "batch": 2, "moe": True},
     "TP1 x DP2, TP1 x DP2 + EP2, TP1 x PP2, TP2, TP2 + DCP2, TP2 + EP2, TP2 + EP2 + DCP2"),
    (2, {"node": 8, "batch": 2, "moe": False}, "TP1 x DP2, TP1 x PP2, TP2, TP2 + DCP2"),
    (2, {"node": 2, "batch": 1, "moe": False}, "TP1 x PP2, TP2, TP2 + DCP2"),
    (2, {"node": 1, "batch": 2, "moe": False}, "TP1 x DP2, TP1 x PP2"),
    (48, {"node": 8, "batch": 1, "moe": False, "pins": Pins(tensor=24, decode_context=1)}, "TP24 x PP2"),
]  # fmt: skip


@pytest.mark.parametrize(("gpus", "asked", "labels"), FEW, ids=[str(i) for i in range(len(FEW))])
def test_candidates_written_out(gpus, asked, labels):
    assert ", ".join(one.label for one in candidates(gpus, **asked)) == labels


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
    (paired_model(), Layout(tensor=4, decode_context=4), "2 KV heads over TP 4 leave at most DCP 2, not 4"),
    # Two ranks would share each head, and two more the third's: no rank has another's tokens of all its heads.
    (headed_model(24, 3), Layout(tensor=8, decode_context=2), "3 KV heads over TP 8 leave at most DCP 1, not 2"),
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
    assert rules(model(full(num_key_value_heads=3), full(num_key_value_heads=6))).context_heads == 6
    assert rules(moe_model()).context_heads == 1
    assert rules(model(sliding())).context_heads == 0
    assert rules(model(gated_delta_net())).context_heads == 0
    assert rules(shipped("deepseek-v3.2")).context_heads == 1


def test_the_layer_with_the_fewest_experts_counts():
    few, many = (Moe(num_experts=n, num_experts_per_tok=4, moe_intermediate_size=384) for n in (8, 16))
    entries = tuple(LayerEntry(attention="layer0", ffn=name) for name in ("few", "many"))
    spec = replace(moe_model(), ffn={"few": few, "many": many}, layers=entries)
    assert (rules(spec).experts, rules(moe_model()).experts, rules(dense_model()).experts) == (8, 16, 0)


def test_what_rules_remember_is_no_part_of_them():
    asked, fresh = rules(dense_model()), rules(dense_model())
    assert asked.refusal(Layout(tensor=3))
    assert (asked == fresh, repr(asked) == repr(fresh)) == (True, True)


def test_no_more_than_1024_ranks_share_a_layer():
    """Two ranks for each of 512 KV heads are 1,024; five for each of 205 would be 1,025."""
    assert rules(headed_model(1024, 512)).least_tensor(2) == 1024
    assert rules(headed_model(1025, 205)).least_tensor(5) is None


def test_a_search_for_tensor_parallelism_counts_whole_experts_too():
    """fp8 in blocks of 128: 384 / 4 = 96 rows of an expert are no whole block, but four ranks may take 4 of 16 each."""
    ffn = Moe(num_experts=16, num_experts_per_tok=4, moe_intermediate_size=384)
    known = rules(replace(moe_model(), ffn={"mlp": ffn}), "fp8_block128")
    assert known.refusal(Layout(tensor=4, decode_context=4)) is not None
    assert known.refusal(Layout(tensor=4, decode_context=4, expert_parallel=True)) is None
    assert known.least_tensor(4) == 4


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
