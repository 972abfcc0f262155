"""The memory of one GPU, summed up again from first principles: own loops over layers and ranks, no code of kvcalc.

Models are those of tests/planning.py: hidden size 768, a vocabulary of 1,000 (padded to 1,024), bf16 weights and cache.
"""

from __future__ import annotations

from math import ceil

import pytest
from factories import full, model
from hypothesis import given
from hypothesis import strategies as st
from planning import dense_model, gpu, job, moe_model, state_model, weighted, window_model

from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Job, Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.problems import KvcalcError
from kvcalc.spec.ffn import Dense

HIDDEN, PADDED, BF16 = 768, 1024, 2
ENDS = {"embedding": PADDED * HIDDEN * BF16, "head": PADDED * HIDDEN * BF16, "final norm": HIDDEN * BF16}


def ledger(
    work: Job, layout: Layout, batch: int = 1, tokens: int | Lengths = 2000, memory: int | None = None
) -> Ledger:
    lengths = Lengths.of(tokens) if isinstance(tokens, int) else tokens
    found = work.ledger(layout, gpu(memory), batch, lengths)
    assert isinstance(found, Ledger)
    return found


def dense_layer(tp: int) -> int:
    """Q and O of 12 heads x 64, K and V of 4 (one at least), SwiGLU of 1,536, two norms."""
    projections = 2 * (12 // tp) * 64 * HIDDEN + 2 * max(1, 4 // tp) * 64 * HIDDEN
    return (projections + 3 * (1536 // tp) * HIDDEN + 2 * HIDDEN) * BF16


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize(("stages", "counts"), [(1, (6,)), (2, (3, 3)), (4, (1, 2, 2, 1))])
def test_dense_gqa(tp: int, stages: int, counts: tuple[int, ...]):
    """Six layers over four stages: what is left over goes to the stages before the last, from behind (vLLM)."""
    per_stage = []
    for stage, layers in enumerate(counts):
        weights = layers * dense_layer(tp)
        weights += ENDS["embedding"] // tp if stage == 0 else 0
        weights += ENDS["head"] // tp + ENDS["final norm"] if stage == stages - 1 else 0
        cache = 3 * layers * 2 * max(1, 4 // tp) * 64 * BF16 * 2000
        per_stage.append((weights, cache))
    fullest = max(range(stages), key=lambda stage: sum(per_stage[stage]))
    found = ledger(job(dense_model()), Layout(tensor=tp, pipeline=stages), batch=3)
    assert (found.group_bytes("weights"), found.group_bytes("cache")) == per_stage[fullest]
    assert found.stage == fullest
    assert found.free_bytes == gpu().memory.plan_bytes - sum(per_stage[fullest])


def test_kv_heads_are_held_twice_where_ranks_outnumber_them():
    """16 query heads and 2 KV heads on 8 ranks: 2 query heads and one KV head each, in weights and in cache."""
    spec = weighted(
        model((4, full(num_attention_heads=16, num_key_value_heads=2, head_dim=64))), Dense(intermediate_size=1536)
    )
    found = ledger(job(spec), Layout(tensor=8), batch=5, tokens=101)
    attention = 4 * (2 * 2 * 64 * HIDDEN + 2 * 1 * 64 * HIDDEN) * BF16
    assert next(term.bytes for term in found.terms if term.name == "attention") == attention
    assert found.group_bytes("cache") == 5 * 101 * 4 * 2 * 1 * 64 * BF16


def moe_rank(tp: int, data: int, expert_parallel: bool) -> dict[str, int]:
    """One rank of one stage of five layers of MLA (12 heads, 96 + 32 and 80, latent 160 + 32) and 16 experts of 384."""
    heads, ranks = 12 // tp, tp * data
    attention = heads * (96 + 32) * HIDDEN + (160 + 32) * HIDDEN + 160 + heads * (96 + 80) * 160 + HIDDEN * heads * 80
    experts = ceil(16 / ranks) * 3 * 384 * HIDDEN if expert_parallel else 16 * 3 * (384 // ranks) * HIDDEN
    return {
        "embedding": PADDED // tp * HIDDEN * BF16,
        "attention": 5 * attention * BF16,
        "routed_experts": 5 * experts * BF16,
        "shared_experts": 5 * 3 * (384 // tp) * HIDDEN * BF16,
        "router": 5 * 16 * HIDDEN * BF16,
        "norm": (5 * 2 + 1) * HIDDEN * BF16,
        "head": PADDED // tp * HIDDEN * BF16,
    }


@pytest.mark.parametrize(
    ("tp", "data", "expert_parallel"),
    [
        (1, 1, False),
        (2, 1, False),
        (4, 1, True),
        (2, 3, True),
        (2, 3, False),
        (1, 8, True),
        (1, 6, False),
        (1, 12, False),
    ],
)
def test_mla_and_experts(tp: int, data: int, expert_parallel: bool):
    """16 experts over 6 ranks: 3 whole ones on the fullest, or 64 of 384 columns of every one; the latent is whole."""
    found = ledger(job(moe_model()), Layout(tensor=tp, data=data, expert_parallel=expert_parallel), batch=7)
    shown = {term.name: term.bytes for term in found.terms if term.group == "weights"}
    assert shown == moe_rank(tp, data, expert_parallel)
    assert found.group_bytes("cache") == ceil(7 / data) * 5 * (160 + 32) * BF16 * 2000


def test_dense_blocks_are_split_over_data_ranks_where_the_engine_does():
    """SGLang's DP attention: shared experts over all 6 ranks of a stage, attention and embedding over TP alone."""
    layout = Layout(tensor=2, data=3, expert_parallel=True)
    parts = {term.name: term.bytes for term in ledger(job(moe_model(), engine="sglang"), layout).terms}
    alone = moe_rank(2, 3, True)
    assert parts["shared_experts"] == 5 * 3 * (384 // 6) * HIDDEN * BF16
    assert parts["head"] == ceil(PADDED / 6) * HIDDEN * BF16
    assert {name: parts[name] for name in ("attention", "embedding", "routed_experts")} == {
        name: alone[name] for name in ("attention", "embedding", "routed_experts")
    }
    without_experts = {
        term.name: term.bytes for term in ledger(job(dense_model(), engine="sglang"), layout_of(2, 3)).terms
    }
    assert without_experts["dense_ffn"] == 6 * 3 * (1536 // 2) * HIDDEN * BF16


def layout_of(tp: int, data: int) -> Layout:
    return Layout(tensor=tp, data=data)


def test_windows_and_full_layers():
    """Ideal: 10 x min(S, 100) rows and 2 x S of 4 heads x 64, K and V."""
    row = 2 * 4 * 64 * BF16
    found = ledger(job(window_model()), Layout(), batch=3, tokens=2000)
    assert found.group_bytes("cache") == 3 * (10 * 100 + 2 * 2000) * row
    assert ledger(job(window_model()), Layout(), tokens=63).group_bytes("cache") == 12 * 63 * row


def test_states_and_a_full_layer():
    """Ideal: 3 x (3 columns of 2 x 5 x 24 + 10 x 36 channels in bf16, 10 x 36 x 24 in fp32), and S rows of 10."""
    state = 3 * (3 * (2 * 5 * 24 + 10 * 36) * BF16 + 10 * 36 * 24 * 4)
    for tokens in (1, 2000):
        found = ledger(job(state_model()), Layout(), batch=3, tokens=tokens)
        assert found.group_bytes("cache") == 3 * (state + 2 * 10 * 64 * BF16 * tokens)
    halved = ledger(job(state_model()), Layout(tensor=5), batch=3)
    assert halved.group_bytes("cache") == 3 * (state + 2 * 10 * 64 * BF16 * 2000) // 5


# --- vLLM: whole blocks, the null block, admission


def window_blocks(tokens: int, window: int, size: int = 16) -> int:
    """The most that a decoding sequence holds at any length so far, counted at every one."""
    return max(ceil(length / size) - max(0, length - 1 - window + 1) // size for length in range(1, tokens + 1))


@pytest.mark.parametrize("tp", [1, 2])
def test_vllm_rounds_to_blocks_and_keeps_a_null_block(tp: int):
    """Dense: 6 layers x 16 tokens x K and V of 4 / tp heads; 2,001 tokens are 126 blocks."""
    block = 6 * 16 * 2 * (4 // tp) * 64 * BF16
    found = ledger(job(dense_model(), engine="vllm"), Layout(tensor=tp), batch=3, tokens=2001)
    assert [(t.name, t.bytes) for t in found.terms if t.group == "cache"] == [
        ("cache", 3 * 126 * block),
        ("null block", block),
    ]


@pytest.mark.parametrize(("batch", "admits"), [(3, True), (8, False)])
def test_vllm_admits_one_request_of_the_full_length(batch: int, admits: bool):
    """Five groups of two windows and one of two full layers; a request is charged for its whole prompt in flight.

    Admission: 5 x (ceil(2000 / 16) + 1) + 125 = 755 blocks; three sequences hold 3 x (5 x 8 + 125) = 495 at most.
    """
    block = 2 * 16 * 2 * 4 * 64 * BF16
    assert window_blocks(2000, 100) == 8
    held = batch * (5 * window_blocks(2000, 100) + 125)
    admission = 5 * (ceil(2000 / 16) + 1) + 125
    found = ledger(job(window_model(), engine="vllm"), Layout(), batch=batch, tokens=2000)
    cache = next(term for term in found.terms if term.name == "cache")
    assert cache.bytes == max(held, admission) * block
    assert (cache.source == "vllm 0.33.0: one request of the full length, bf16") == admits
    assert (cache.source == "vllm 0.33.0: cache of the batch, bf16") == (not admits)


def test_decode_context_shares_the_tokens_of_a_latent():
    """MLA at TP4: DCP4 leaves each rank a quarter of the 32 blocks of 64 tokens (vLLM)."""
    spec = moe_model()
    whole = ledger(job(spec, engine="vllm"), Layout(tensor=4), batch=1, tokens=2000)
    shared = ledger(job(spec, engine="vllm"), Layout(tensor=4, decode_context=4), batch=1, tokens=2000)
    block = 5 * 64 * (160 + 32) * BF16
    cache = [next(t.bytes for t in found.terms if t.name == "cache") for found in (whole, shared)]
    assert cache == [32 * block, 8 * block]
    assert whole.group_bytes("weights") == shared.group_bytes("weights")


# --- mixed lengths


def test_mixed_lengths_count_by_their_shares():
    """Ideal: two of three sequences of 100 tokens, one of 1,000: 4 sequences hold 4 x 1,200 / 3 tokens, rounded up."""
    mix = Lengths(((100, 2), (1000, 1)))
    per_token = 6 * 2 * 4 * 64 * BF16
    found = ledger(job(dense_model()), Layout(), batch=4, tokens=mix)
    assert found.group_bytes("cache") == ceil(4 * (2 * 100 + 1000) * per_token / 3)
    in_blocks = ledger(job(dense_model(), engine="vllm"), Layout(), batch=4, tokens=mix)
    cache = next(term for term in in_blocks.terms if term.name == "cache")
    assert cache.bytes == ceil(4 * (2 * 7 + 63) * 16 * per_token / 3)
    assert "cache of the batch" in cache.source


# --- overheads and what breaks


def test_terms_are_in_order_and_the_first_that_no_longer_fits_is_named():
    work = job(dense_model(), engine="ideal", overheads={"activation": 10**6})
    weights, cache = 64_433_664, 6 * 2 * 4 * 64 * BF16 * 2000
    need = 10**6 + weights + 2 * 24 * HIDDEN * BF16 + cache  # the vocabulary is padded by 24 rows, twice
    exact = ledger(work, Layout(), memory=need)
    assert (exact.free_bytes, exact.breaks, exact.fits) == (0, None, True)
    for memory, breaks in ((need - 1, "cache"), (need - cache - 1, "weights"), (10**6 - 1, "activation")):
        found = ledger(work, Layout(), memory=memory)
        assert (found.free_bytes, found.breaks, found.fits) == (memory - need, breaks, False)
    shown = {term.name: term for term in ledger(work, Layout()).terms}
    assert (shown["activation"].bytes, shown["activation"].given) == (10**6, True)
    assert not any(shown[name].given for name in ("framework", "attention", "cache"))


def test_utilisation_keeps_a_share_back():
    """0.9 of 1,000,000,007 B, rounded up, are divided; the rest is the reserve."""
    from fractions import Fraction

    found = ledger(job(dense_model(), utilization=Fraction(9, 10)), Layout(), memory=1_000_000_007)
    assert (found.terms[0].name, found.terms[0].bytes) == ("reserve", 1_000_000_007 - 900_000_007)
    assert found.terms[0].source == "engine keeps 10 % of the GPU's total memory"
    charged = job(dense_model(), utilization=Fraction(9, 10), overheads={"framework": 10**6})
    assert ledger(charged, Layout(), memory=1_000_000_007).terms[0].bytes == found.terms[0].bytes
    weights = found.group_bytes("weights")
    assert charged.cache_budgets(Layout(), gpu(1_000_000_007), 2000) == (900_000_007 - 10**6 - weights,)
    assert charged.cache_budgets(Layout(), gpu(weights + 10**6), 2000) == (0,)


def test_an_overhead_that_the_engine_does_not_have():
    with pytest.raises(KvcalcError) as caught:
        ledger(job(dense_model(), overheads={"activations": 5}), Layout())
    problem = caught.value.problems[0]
    assert "ideal has no overhead 'activations'" in problem.message
    assert "activation" in (problem.help or "")


def test_an_engine_refuses_as_a_reason_not_as_an_error():
    """LMDeploy cannot split 4 KV heads over 3 ranks, and llama.cpp has no budget to divide."""
    work = job(dense_model(), engine="lmdeploy")
    assert "4 KV heads over 3" in str(work.ledger(Layout(tensor=3), gpu(), 1, Lengths.of(100)))
    assert work.capacity(Layout(tensor=3), gpu(), 100) is None
    assert job(dense_model(), engine="llama.cpp").capacity(Layout(), gpu(), 100) is None


def test_a_ledger_that_does_not_add_up_cannot_be_made():
    with pytest.raises(AssertionError, match="does not add up"):
        Ledger(stage=0, gpu_memory_bytes=10, terms=(), free_bytes=9, breaks=None)


def test_prediction_layers_count_where_they_run():
    """DeepSeek-V3's one extra layer runs with --set num_speculative_tokens=1: weights and one more layer of cache."""
    plain, drafting = (
        job("deepseek-v3", engine="vllm", options=options) for options in ({}, {"num_speculative_tokens": 1})
    )
    names = [{term.name: term.bytes for term in ledger(work, Layout(tensor=8)).terms} for work in (plain, drafting)]
    assert "prediction layers" not in names[0]
    assert names[1]["prediction layers"] > 0
    assert names[1]["cache"] * 61 == names[0]["cache"] * 62


@given(
    tp=st.sampled_from([1, 2, 4]), stages=st.integers(1, 6), batch=st.integers(1, 400), tokens=st.integers(1, 2000),
    memory=st.integers(10**6, 10**10), engine=st.sampled_from(["ideal", "vllm", "sglang", "tensorrt-llm", "lmdeploy"]),
)  # fmt: skip
def test_terms_and_what_is_left_sum_to_the_memory(tp, stages, batch, tokens, memory, engine):
    found = ledger(job(dense_model(), engine=engine), Layout(tensor=tp, pipeline=stages), batch, tokens, memory)
    assert sum(term.bytes for term in found.terms) + found.free_bytes == memory
    assert all(term.bytes >= 0 for term in found.terms)
    assert found.group_bytes("weights") > 0
    assert found.group_bytes("cache") > 0
    assert found.fits == (found.breaks is None)


@given(
    tp=st.sampled_from([1, 2, 3, 4, 6, 12]), data=st.integers(1, 8), whole=st.booleans(), batch=st.integers(1, 99),
)  # fmt: skip
def test_no_rank_ever_holds_nothing_and_all_together_hold_everything(tp, data, whole, batch):
    work, layout = job(moe_model()), Layout(tensor=tp, data=data, expert_parallel=whole)
    if work.rules.refusal(layout) is not None:
        return
    shown = {term.name: term.bytes for term in ledger(work, layout, batch).terms}
    once = {term.name: term.bytes for term in ledger(work, Layout(), 1).terms}
    for name in ("attention", "routed_experts", "shared_experts", "embedding", "head", "cache"):
        assert shown[name] > 0
    assert shown["routed_experts"] * tp * data >= once["routed_experts"]
    assert shown["attention"] * tp >= once["attention"]
    assert shown["cache"] * data >= batch * once["cache"]
