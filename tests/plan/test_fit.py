"""The inverses: n fits and n + 1 does not, of sequences and of tokens, on every layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning import MIB, dense_model, gpu, moe_model, request

from kvcalc.plan.fit import fit
from kvcalc.plan.layouts import Pins
from kvcalc.plan.ledger import Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.problems import KvcalcError


def holds(wanted, hardware, line, batch: int, tokens: int) -> bool:
    found = wanted.job().ledger(line.layout, hardware, batch, Lengths.of(tokens))
    return isinstance(found, Ledger) and found.fits


@given(
    memory=st.integers(50, 400), gpus=st.sampled_from([1, 2, 4]), batch=st.integers(1, 9), tokens=st.integers(1, 2000),
    engine=st.sampled_from(["ideal", "sglang", "lmdeploy"]),
)  # fmt: skip
def test_the_largest_batch_and_the_longest_context_are_just_that(memory, gpus, batch, tokens, engine):
    wanted, hardware = request(dense_model(), engine=engine), gpu(memory * MIB)
    report = fit(wanted, hardware, gpus, batch, tokens)
    for line in report.lines:
        data = line.layout.data
        assert line.max_batch_size % data == 0
        assert holds(wanted, hardware, line, line.max_batch_size, tokens)
        assert not holds(wanted, hardware, line, line.max_batch_size + data, tokens)
        longest = line.max_seq_len
        assert longest == 0 or holds(wanted, hardware, line, batch, longest)
        assert longest == 2000 or not holds(wanted, hardware, line, batch, longest + 1)
        assert line.ledger.fits
    order = [(-line.max_batch_size, -line.max_seq_len, line.layout.simplicity) for line in report.lines]
    assert order == sorted(order)


def test_tokens_and_concurrency_are_the_engines_own():
    """vLLM on 1 GiB, all overheads 0: what is left over blocks of 16 x 6,144 B."""
    none = dict.fromkeys(("non_torch", "activation", "absorbed", "cuda_graphs"), 0)
    wanted = request(dense_model(), engine="vllm", overheads=none)
    report = fit(wanted, gpu(2**30), 2, 1, 2000)
    lines = {line.label: line for line in report.lines}
    budget = -(-(2**30 * 92) // 100) - (64_433_664 + 2 * 24 * 768 * 2)
    blocks = budget // (16 * 6144)
    assert lines["TP1 x DP2"].tokens == int(blocks / 125 * 2000) * 2
    assert lines["TP1 x DP2"].concurrency == pytest.approx(2 * blocks / 125)
    assert lines["TP1 x DP2"].log_lines[0] == f"Available KV cache memory: {budget / 2**30:.2f} GiB"
    assert report.context == 2000
    assert (report.gpus, report.gpu, report.engine, report.batch_size, report.seq_len) == (
        2,
        "h100-sxm",
        "vllm",
        1,
        2000,
    )


def test_engines_without_a_budget_have_no_tokens():
    report = fit(request(dense_model(), engine="llama.cpp"), gpu(), 1, 1, 100)
    assert [(line.tokens, line.concurrency, line.log_lines) for line in report.lines] == [(None, None, ())]


def test_nothing_fits_and_what_is_missing():
    report = fit(request(dense_model()), gpu(40 * MIB), 1, 1, 2000)
    assert not report.fits
    assert report.shortage is not None
    need = 64_433_664 + 2 * 24 * 768 * 2 + 2000 * 6144
    assert (report.shortage.short_bytes, report.shortage.breaks) == (need - 40 * MIB, "weights")


def test_a_context_that_no_spec_states_has_a_limit_all_the_same():
    report = fit(request(dense_model(max_position_embeddings=None)), gpu(), 1, 1, 100)
    (line,) = report.lines
    assert line.max_seq_len == (85_017_755_648 - 64_433_664 - 2 * 24 * 768 * 2) // 6144
    assert report.context is None


def test_more_sequences_than_anybody_has():
    """1 KiB of cache a sequence of one token, in 80 GB: the limit of what is looked at."""
    report = fit(request(dense_model(1, max_position_embeddings=10)), gpu(), 1, 1, 1)
    assert report.lines[0].max_batch_size == 16_777_216


def test_more_tokens_than_anybody_has():
    """1 KiB of cache a token, in 80 GB."""
    report = fit(request(dense_model(1, max_position_embeddings=None)), gpu(), 1, 1, 1)
    assert report.lines[0].max_seq_len == 67_108_864


@pytest.mark.parametrize(
    ("gpus", "node", "near"), [(7, 8, "5, 6, 8"), (11, 8, "8, 10, 12"), (7, 2, "2, 3, 4"), (9, 1, "1, 2")]
)
def test_numbers_that_no_layout_has_name_those_that_work(gpus, node, near):
    """6 layers, 4 KV heads; 7, 9 and 11 GPUs only as data ranks, which a pin rules out here. Two nodes are tried."""
    with pytest.raises(KvcalcError) as caught:
        fit(request(dense_model(), pins=Pins(data=1), node=node), gpu(), gpus, 1, 100)
    problem = caught.value.problems[0]
    assert problem.message == f"no layout of {gpus} GPUs is one that was asked for and that engines take"
    assert problem.help == f"numbers that work: {near}"


def test_no_number_may_work():
    with pytest.raises(KvcalcError) as caught:
        fit(request(dense_model(), pins=Pins(tensor=5)), gpu(), 5, 1, 100)
    assert caught.value.problems[0].help == "numbers that work: none"


def test_pinned_data_ranks_that_do_not_fit_say_what_is_short():
    """131 MB of weights on each of 4 ranks of 40 MiB: the shortage is of bytes, not of layouts."""
    report = fit(request(dense_model(), pins=Pins(data=4)), gpu(40 * MIB), 4, 1, 100)
    assert report.shortage is not None
    assert (report.shortage.label, report.shortage.breaks) == ("TP1 x DP4", "weights")
    assert report.shortage.short_bytes > 0


def test_a_fit_beyond_the_context_is_warned_of():
    said = fit(request(dense_model(max_position_embeddings=99), tokens=100), gpu(), 1, 1, 100).warnings
    assert said == ("100 tokens exceed the context of test-model (99)",)


def test_more_sequences_than_the_engine_runs_at_once_are_warned_of():
    """A block of 16 tokens x 6 layers x 1,024 B each: 79 GiB hold many more than the 1,024 that vLLM 0.33.0 runs."""
    asked = {"engine": "vllm", "tokens": 10}
    report = fit(request(dense_model(), **asked), gpu(), 1, 1, 10)
    most = report.lines[0].max_batch_size
    assert report.warnings == (
        f"{most:,} sequences fit a rank, but vllm runs 1,024 at once (max_num_seqs):"
        " --set max_num_seqs=N allows more, and counts what they take",
    )
    assert fit(request(dense_model(), options={"max_num_seqs": most}, **asked), gpu(), 1, 1, 10).warnings == ()
    assert fit(request(dense_model(), tokens=10), gpu(), 1, 1, 10).warnings == ()


def test_pins_hold_in_fit_too():
    labels = {line.label for line in fit(request(moe_model(), pins=Pins(tensor=2)), gpu(), 8, 8, 100).lines}
    assert labels == {"TP2 x PP4", "TP2 x DP4", "TP2 x PP2 x DP2"} | {
        f"{label} + EP{ranks}" for label, ranks in (("TP2 x DP4", 8), ("TP2 x PP2 x DP2", 4), ("TP2 x PP4", 2))
    } | {label for label in labels if "DCP2" in label}
    assert all(label.startswith("TP2") for label in labels)
