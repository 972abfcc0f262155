"""Times of layouts, by hand: bytes over 3.35 TB/s, FLOPs over 989 TFLOP/s, and what an H100's links must carry.

Models are those of tests/planning.py: hidden size 768, a vocabulary of 1,000 (1,024 rows are read), all in bf16.
"""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest
from planning import dense_model, gpu, moe_model, search

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.plan.layouts import Layout
from kvcalc.spec.ffn import Dense, Moe
from kvcalc.spec.model import LayerEntry

BANDWIDTH, PEAK, NVLINK, NODE = 3.35e12, 989e12, 450e9, 50e9
HIDDEN, BF16 = 768, 2
ALONE = Layout()
PROJECTIONS = (2 * 12 * 64 + 2 * 4 * 64) * HIDDEN
MATRICES = PROJECTIONS + 3 * 1536 * HIDDEN
"""Parameters of a layer's matrices."""
LAYER = (MATRICES + 2 * HIDDEN) * BF16
HEAD = 1024 * HIDDEN * BF16
ROW = 2 * 4 * 64 * BF16
"""K and V of one token in one layer."""


def near(seconds: float) -> object:
    return pytest.approx(seconds, rel=1e-12)


def stage_bytes(layers: int, first: bool, last: bool, sequences: int = 1, tokens: int = 2000) -> int:
    """Read by a decode step: weights, one embedding row per sequence, every row of the cache, and the row written."""
    ends = first * sequences * HIDDEN * BF16 + last * (HEAD + HIDDEN * BF16)
    return layers * LAYER + ends + sequences * layers * ROW * (tokens + 1)


def test_limits_are_those_of_the_gpu():
    limits = search(dense_model()).clock.limits
    assert (limits.bytes_per_s, limits.compute("bf16")[1]) == (BANDWIDTH, PEAK)


@pytest.mark.parametrize("batch", [1, 7])
def test_one_gpu(batch: int):
    speed = search(dense_model()).clock.speed(Layout(), batch, 2000)
    seconds = stage_bytes(6, True, True, batch) / BANDWIDTH
    assert (speed.tpot_s, speed.memory_s) == (near(seconds), near(seconds))
    assert (speed.compute_s, speed.communication_s, speed.ttft_s, speed.bound_by) == (0, 0, None, "memory")
    assert speed.tokens_per_s == near(batch / seconds)
    assert speed.serial_tpot_s == speed.tpot_s


def test_tensor_parallel_ranks_read_halves_and_add_up_twice_a_layer():
    """TP2: half of every matrix and of the KV heads, norms whole; an all-reduce of 3 x 768 x 2 B behind each block."""
    speed = search(dense_model()).clock.speed(Layout(tensor=2), 3, 2000)
    read = 6 * (MATRICES // 2 + 2 * HIDDEN) * BF16 + 3 * HIDDEN * BF16 + HEAD // 2 + HIDDEN * BF16
    read += 3 * 6 * ROW // 2 * 2001
    sent = 6 * 2 * 3 * HIDDEN * BF16 / NVLINK
    assert (speed.memory_s, speed.communication_s) == (near(read / BANDWIDTH), near(sent))
    assert speed.tpot_s == near(read / BANDWIDTH)
    assert speed.serial_tpot_s == near(read / BANDWIDTH + sent)


def test_one_sequence_goes_through_all_stages():
    """PP2: two halves one after the other, and a hop of 768 x 2 B between them."""
    speed = search(dense_model()).clock.speed(Layout(pipeline=2), 1, 2000)
    hop = HIDDEN * BF16 / NVLINK
    both = (stage_bytes(3, True, False) + stage_bytes(3, False, True)) / BANDWIDTH
    assert (speed.memory_s, speed.communication_s) == (near(both), near(hop))
    assert speed.tpot_s == near(both + hop)


def test_as_many_micro_batches_as_stages_go_round_through_the_slowest():
    """PP2 and two sequences: each of the two waits for both to pass the second stage, which has the head."""
    speed = search(dense_model()).clock.speed(Layout(pipeline=2), 2, 2000)
    assert speed.tpot_s == near(2 * stage_bytes(3, False, True) / BANDWIDTH)


def test_uneven_micro_batches():
    """PP2 and five sequences, in micro-batches of three and two: three pass both stages, or both pass the slower one.

    With short sequences the head makes the second stage the slower one, and both passing it takes longer.
    """
    for tokens in (2000, 1):
        speed = search(dense_model()).clock.speed(Layout(pipeline=2), 5, tokens)
        first, second, small = (
            stage_bytes(3, True, False, 3, tokens), stage_bytes(3, False, True, 3, tokens),
            stage_bytes(3, False, True, 2, tokens),
        )  # fmt: skip
        through, around = (first + second) / BANDWIDTH + 3 * HIDDEN * BF16 / NVLINK, (small + second) / BANDWIDTH
        assert (through > around) == (tokens == 2000)
        assert speed.tpot_s == near(max(through, around))
        assert speed.memory_s == near((first + second) / BANDWIDTH)


def test_more_stages_than_sequences_stand_idle():
    """PP6 and two sequences: the way through all stages is longer than two rounds through the slowest."""
    speed = search(dense_model()).clock.speed(Layout(pipeline=6), 2, 2000)
    through = stage_bytes(1, True, False) + 4 * stage_bytes(1, False, False) + stage_bytes(1, False, True)
    assert speed.tpot_s == near(through / BANDWIDTH + 5 * HIDDEN * BF16 / NVLINK)


def test_data_ranks_share_the_sequences():
    """DP3: seven sequences are three on the fullest rank; dense ranks send each other nothing."""
    speed = search(dense_model()).clock.speed(Layout(data=3), 7, 2000)
    assert speed.tpot_s == near(stage_bytes(6, True, True, 3) / BANDWIDTH)
    assert speed.communication_s == 0
    assert speed.tokens_per_s == near(7 / speed.tpot_s)


def test_stages_in_two_nodes_hop_over_the_network():
    """TP2 x PP2 in nodes of two: the hop of half a row leaves the node."""
    inside, outside = (
        search(dense_model(), node=size).clock.speed(Layout(tensor=2, pipeline=2), 1, 2000) for size in (4, 2)
    )
    assert outside.tpot_s - inside.tpot_s == pytest.approx(HIDDEN * BF16 / 2 * (1 / NODE - 1 / NVLINK), rel=1e-6)


# --- prefill


def prefill_flops(tokens: int, layers: int) -> tuple[int, int]:
    """(attention, matrices): 2 FLOPs a weight and token; 4 x 12 heads x 64 for each token that another one sees."""
    return layers * 4 * 12 * 64 * tokens * (tokens + 1) // 2, layers * 2 * MATRICES * tokens


ROWS = 1024 * HIDDEN * BF16
"""Of the embedding: 2,000 tokens read every row once."""


def test_a_prompt_on_one_gpu():
    """2,000 tokens: attention and matrices at the peak; norms, embedding and the logits of one token in memory time."""
    speed = search(dense_model()).clock.speed(Layout(), 1, 2000, 2000)
    attention, matrices = prefill_flops(2000, 6)
    memory = 6 * 2 * HIDDEN * BF16 + HIDDEN * BF16 + HEAD + ROWS
    assert speed.ttft_s == near((attention + matrices) / PEAK + memory / BANDWIDTH)


def test_chunks_of_a_prompt_run_in_all_stages_at_once():
    """PP2: the half with final norm and head is the slower one by that norm; one token through the other; one hop."""
    clock = search(dense_model()).clock
    attention, matrices = prefill_flops(2000, 3)
    slower = (attention + matrices) / PEAK + (3 * 2 * HIDDEN * BF16 + HIDDEN * BF16 + HEAD) / BANDWIDTH
    other = stage_bytes(3, True, False, 1, 1) / BANDWIDTH
    found = clock.prefill_s(Layout(pipeline=2), 2000)
    assert found == near(slower + other + HIDDEN * BF16 / NVLINK)
    assert clock.speed(Layout(pipeline=2), 1, 2000, 2000).ttft_s == found
    assert clock.prefill_busy_s(Layout(pipeline=2), 2000) == near(slower)
    assert clock.prefill_busy_s(Layout(), 2000) == clock.prefill_s(Layout(), 2000)


# --- experts


def missed(share: int) -> float:
    """4 of 16 experts chosen: the chance that none is among `share` of them."""
    return comb(16 - share, 4) / comb(16, 4)


@pytest.mark.parametrize("batch", [8, 20])
def test_whole_experts_are_reached_by_all_to_all(batch: int):
    """DP8 + EP8: a token (16 bit there and back) to each of 7 others that hold one of its 4 experts, in five layers."""
    speed = search(moe_model()).clock.speed(Layout(data=8, expert_parallel=True), batch, 2000)
    here = -(-batch // 8)
    sent = 5 * here * HIDDEN * (2 + 2) * 7 * (1 - missed(2)) / NVLINK
    assert speed.communication_s == near(sent)


def test_tensor_ranks_send_a_share_of_their_tokens_each():
    """TP2 x DP2 + EP4, 6 sequences: 3 on a replica, half of them from each rank; all-reduce behind attention."""
    speed = search(moe_model()).clock.speed(Layout(tensor=2, data=2, expert_parallel=True), 6, 2000)
    experts = 5 * 3 / 2 * HIDDEN * (2 + 2) * 3 * (1 - missed(4)) / NVLINK
    assert speed.communication_s == near(experts + 5 * 3 * HIDDEN * BF16 / NVLINK)


def test_slices_of_experts_need_all_tokens_on_all_ranks():
    """DP8 without EP: every rank lacks 7 / 8 of the tokens, and sums go back as far."""
    speed = search(moe_model()).clock.speed(Layout(data=8), 8, 2000)
    assert speed.communication_s == near(5 * 7 * HIDDEN * (2 + 2) / NVLINK)


def test_one_replica_adds_up_its_experts():
    """TP4 of one replica: two all-reduces a layer, as with dense blocks, whether its experts are whole or cut."""
    for whole in (False, True):
        speed = search(moe_model()).clock.speed(Layout(tensor=4, expert_parallel=whole), 3, 2000)
        assert speed.communication_s == near(5 * 2 * 3 * HIDDEN * BF16 / NVLINK)


def test_a_prompt_alone_is_new_to_all_other_ranks():
    """DP8 without EP: its 100 tokens go to seven ranks that have none of them."""
    clock = search(moe_model()).clock
    sent = 5 * 100 * HIDDEN * (2 + 2) / NVLINK
    layout = Layout(data=8)
    whole = clock.prefill_s(layout, 100)
    assert whole >= sent
    fast = search(moe_model(), node_link=10**9, node=1).clock.prefill_s(layout, 100)
    # Nodes of one GPU at 1 GB/s: 7 / 8 of the 100 tokens come from elsewhere.
    assert fast == near(5 * 100 * HIDDEN * (2 + 2) * 7 / 8 / 1e9)


def test_fp8_experts_are_sent_fp8_tokens():
    """One byte there, two back."""
    speed = search(moe_model(), weights="fp8").clock.speed(Layout(data=8, expert_parallel=True), 8, 2000)
    assert speed.communication_s == near(5 * HIDDEN * (1 + 2) * 7 * (1 - missed(2)) / NVLINK)


def test_dense_blocks_over_all_ranks_gather_first():
    """SGLang's DP attention, DP4, one dense layer before an expert layer: 3 of 4 tokens gathered, 16 bit, and back."""
    both = {
        "mlp": Dense(intermediate_size=1536),
        "moe": Moe(num_experts=16, num_experts_per_tok=4, moe_intermediate_size=384),
    }
    layers = (LayerEntry(count=1, attention="layer0", ffn="mlp"), LayerEntry(count=1, attention="layer0", ffn="moe"))
    spec = replace(dense_model(), ffn=both, layers=layers)
    layout = Layout(data=4, expert_parallel=True)
    apart, together = (search(spec, engine=name).clock.speed(layout, 4, 2000) for name in ("ideal", "sglang"))
    experts = HIDDEN * (2 + 2) * 3 * (1 - missed(4)) / NVLINK
    assert apart.communication_s == near(experts)
    assert together.communication_s == near(experts + 3 * HIDDEN * 2 * BF16 / NVLINK)
    assert together.memory_s < apart.memory_s


def test_the_slowest_resource_is_named():
    """Ranks in nodes of one GPU at 1 MB/s wait for the network; a batch of 4,096 short sequences for arithmetic."""
    slow = search(dense_model(), node=1, node_link=10**6).clock
    speed = slow.speed(Layout(tensor=2), 1, 2000)
    assert speed.bound_by == "communication"
    assert speed.tpot_s == speed.communication_s
    assert speed.serial_tpot_s == near(speed.communication_s + speed.memory_s)
    many = search(dense_model()).clock.speed(Layout(), 4096, 1)
    assert many.bound_by == "compute"
    assert many.compute_s > many.memory_s


def test_decode_context_sends_queries_and_sums():
    """TP4 + DCP4 of an absorbed latent: a rank lacks 3 heads' queries of 160 + 32 and sends 3 heads' sums of 160."""
    clock = search(moe_model(), engine="vllm").clock
    alone, shared = (clock.speed(Layout(tensor=4, decode_context=n), 3, 2000) for n in (1, 4))
    extra = 5 * 3 * (4 - 1) * 3 * (160 + 32 + 160) * BF16 / NVLINK
    assert shared.communication_s - alone.communication_s == pytest.approx(extra, rel=1e-9)
    assert shared.memory_s < alone.memory_s


def drafting(spec, batch, tokens, layout: Layout = ALONE):
    """(plain, with one draft per step) on an H100."""
    clocks = [search(spec, engine="vllm", options=o).clock for o in ({}, {"num_speculative_tokens": 1})]
    assert [clock.tokens_per_step for clock in clocks] == [1, 2]
    return [clock.speed(layout, batch, tokens) for clock in clocks]


def test_a_draft_is_checked_in_the_same_step_which_reads_cache_and_weights_once():
    """Two tokens a step; of the embedding each of the three sequences reads one more row of 768 x 2 B."""
    plain, drafts = drafting(dense_model(), 3, 2000)
    assert drafts.bound_by == "memory"
    assert drafts.memory_s - plain.memory_s == pytest.approx(3 * 768 * BF16 / BANDWIDTH, rel=1e-6)
    assert drafts.tpot_s == near((drafts.memory_s + drafts.compute_s) / 2)


def test_a_checked_draft_costs_the_flops_of_a_token():
    """Where arithmetic binds, drafts give no more tokens per second than the peak allows."""
    plain, drafts = drafting(dense_model(), 2**20, 1)
    assert (plain.bound_by, drafts.bound_by) == ("compute", "compute")
    assert drafts.compute_s == near(2 * plain.compute_s)
    assert drafts.tokens_per_s == pytest.approx(plain.tokens_per_s, rel=0.05)


def test_drafts_meet_more_experts():
    """4 of 16 experts for one token, 16 x (1 - 0.75^2) = 7 for two: 3 more, of 3 matrices of 768 x 384, in 5 layers."""
    plain, drafts = drafting(moe_model(), 1, 2000)
    more = 5 * 3 * 3 * 768 * 384 * BF16 + 768 * BF16
    assert drafts.memory_s - plain.memory_s == pytest.approx(more / BANDWIDTH, rel=1e-6)


def test_drafts_are_sent_as_tokens_are():
    plain, drafts = drafting(dense_model(), 4, 2000, Layout(tensor=4))
    assert drafts.communication_s == near(2 * plain.communication_s)


def test_a_prompt_takes_no_longer_with_drafts():
    for layout in (ALONE, Layout(pipeline=3)):
        clocks = [search(dense_model(), engine="vllm", options=o).clock for o in ({}, {"num_speculative_tokens": 3})]
        assert clocks[0].prefill_s(layout, 500) == clocks[1].prefill_s(layout, 500)


def test_an_eight_bit_cache_may_be_multiplied_as_such():
    """128 heads over one latent are bound by arithmetic on one GPU: at 1,979 TFLOP/s in fp8, 989.5 in bf16."""

    def attention_s(cache: str) -> float:
        asked = search("deepseek-v3", gpu(name="h200"), formats=parse_kv_cache_dtype(cache)).clock
        both = [asked.speed(Layout(), 1, tokens).compute_s for tokens in (8192, 16384)]
        return both[1] - both[0]

    assert attention_s("bf16") / attention_s("fp8") == pytest.approx(2, rel=0.01)
    assert attention_s("fp8") > 0


def test_speeds_are_remembered():
    clock = search(dense_model()).clock
    assert clock.speed(Layout(), 3, 2000) is clock.speed(Layout(), 3, 2000)
