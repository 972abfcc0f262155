"""Times at their bounds: ties, one and two ranks, hops between nodes, and what costs nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from factories import full, mla, model, sliding
from planning import dense_model, gpu, moe_model, search, weighted

from kvcalc.plan.layouts import Layout
from kvcalc.plan.times import Clock, Network
from kvcalc.roofline import Calibration
from kvcalc.spec.ffn import Dense, Moe

BANDWIDTH, PEAK, NVLINK, NODE = 3.35e12, 989e12, 450e9, 50e9
HIDDEN, BF16 = 768, 2


def near(seconds: float) -> object:
    return pytest.approx(seconds, rel=1e-12)


def measured(bytes_per_s: int, flops_per_s: int, node_link: int = 1, layers: int = 1) -> Clock:
    """Of dense_model on GPUs in nodes of one, at these rates."""
    ceilings = Calibration(label="a test", bytes_per_s=bytes_per_s, flops_per_s={"bf16": flops_per_s})
    one = gpu()
    return Clock(search(dense_model(layers)).job, one, Network(one, 1, node_link), ceilings)


def test_where_memory_and_arithmetic_take_as_long_memory_binds():
    """One layer, 2,000 tokens: 2,000 rows of 1,024 B that are read and one that is written take a second, and so do
    4 x 12 heads x 64 FLOPs for each of 2,000 tokens. Weights have 2 FLOPs for 2 B, so memory binds them."""
    rows, flops = 2001 * 1024, 2000 * 4 * 12 * 64
    assert measured(rows, flops).speed(Layout(), 1, 2000).compute_s == 0
    assert measured(rows, flops - 1).speed(Layout(), 1, 2000).compute_s == near(flops / (flops - 1))


def test_where_links_take_as_long_as_the_ranks_memory_is_named():
    """TP2 of one layer at 2^20 B/s: half its matrices, its norms, one row of the embedding, half the head, the final
    norm, and 756 rows of 512 B are 6 x 2^20 B; two all-reduces of 1,536 B at 512 B/s take six seconds, too."""
    own = 5_111_808 + 2 * HIDDEN * BF16 + HIDDEN * BF16 + 1024 * HIDDEN * BF16 // 2 + HIDDEN * BF16
    assert own + 756 * 512 == 6 * 2**20
    speed = measured(2**20, 10**15, 512).speed(Layout(tensor=2), 1, 755)
    assert (speed.memory_s, speed.compute_s, speed.communication_s) == (6, 0, 6)
    assert (speed.bound_by, speed.tpot_s, speed.serial_tpot_s) == ("memory", 6, 12)
    assert measured(2**20, 10**15, 511).speed(Layout(tensor=2), 1, 755).bound_by == "communication"


def test_the_slowest_stage_says_what_binds():
    """512 sequences in each of two micro-batches: the stage that sees one token each waits for arithmetic, the other
    one reads 512 x 2,000 rows."""
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64}
    layers = (sliding(sliding_window=1, **heads), full(**heads))
    for order in (layers, layers[::-1]):
        spec = weighted(model(*order), Dense(intermediate_size=1536))
        speed = search(spec).clock.speed(Layout(pipeline=2), 1024, 2000)
        assert speed.bound_by == "memory"
        assert speed.compute_s > 0


@pytest.mark.parametrize("sequences", [1, 3])
@pytest.mark.parametrize("drafts", [0, 1])
def test_attention_that_arithmetic_binds_grows_with_sequences_and_drafts(sequences, drafts):
    """256 heads over a latent of 160 + 32: 2 x 256 x (160 + 32 + 160) FLOPs for each of 1,000 tokens more, twice."""
    spec = weighted(model((2, mla(num_attention_heads=256))), Dense(intermediate_size=1536), vocab_size=1024)
    clock = search(spec, engine="vllm", options={"num_speculative_tokens": drafts} if drafts else {}).clock
    short, long = (clock.speed(Layout(), sequences, tokens).compute_s for tokens in (2000, 3000))
    more = 2 * sequences * (1 + drafts) * 1000 * 2 * 256 * (160 + 32 + 160)
    assert long - short == pytest.approx(more / PEAK, rel=1e-9)


# --- what ranks send each other


@pytest.mark.parametrize(("share", "node", "link"), [(2, 8, NVLINK), (4, 8, NVLINK), (2, 1, NODE), (4, 1, NODE)])
def test_queries_and_sums_that_decode_context_ranks_lack(share, node, link):
    """A rank has 3 of 12 heads' queries of 160 + 32 and sums of 160 at TP4, and lacks those of the others that share
    its tokens; between nodes of one GPU all of that comes from elsewhere."""
    clock = search(moe_model(), engine="vllm", node=node).clock
    alone, shared = (clock.speed(Layout(tensor=4, decode_context=n), 3, 2000) for n in (1, share))
    extra = 5 * 3 * (share - 1) * 3 * (160 + 32 + 160) * BF16 / link
    assert shared.communication_s - alone.communication_s == pytest.approx(extra, rel=1e-9)


def test_prompts_share_no_queries():
    clock = search(moe_model(), engine="vllm").clock
    alone, shared = (clock.prefill_s(Layout(tensor=4, decode_context=n), 100) for n in (1, 2))
    assert shared <= alone


def test_stages_of_several_data_ranks_hop_over_the_network():
    """DP2 x PP2 in nodes of two: each stage fills one."""
    inside, outside = (
        search(dense_model(), node=size).clock.speed(Layout(data=2, pipeline=2), 2, 2000) for size in (4, 2)
    )
    assert inside.communication_s == near(HIDDEN * BF16 / NVLINK)
    assert outside.communication_s == near(HIDDEN * BF16 / NODE)


SENT = [("bf16", 2), ("fp8", 1), ("int8", 1), ("nvfp4", 0.5), ("int4_g128", 2)]


@pytest.mark.parametrize(("weights", "size"), SENT)
def test_bytes_of_an_activation_on_its_way_to_an_expert(weights, size):
    """DP2 of five layers, slices of experts: the other rank's token comes in as that, and sums of 16 bit go back."""
    speed = search(moe_model(), weights=weights).clock.speed(Layout(data=2), 2, 2000)
    assert speed.communication_s == near(5 * HIDDEN * (size + 2) / NVLINK)


def test_an_only_expert_is_an_expert_too():
    """Two ranks hold a half of it each: both need all tokens."""
    spec = replace(moe_model(), ffn={"mlp": Moe(num_experts=1, num_experts_per_tok=1, moe_intermediate_size=384)})
    speed = search(spec).clock.speed(Layout(data=2), 2, 2000)
    assert speed.communication_s == near(5 * HIDDEN * (2 + 2) / NVLINK)


def test_what_a_clock_remembers_is_not_shown():
    used, fresh = search(dense_model()).clock, search(dense_model()).clock
    used.speed(Layout(), 1, 100)
    assert "_cost" not in repr(used)
    assert "_cost" not in repr(fresh)
