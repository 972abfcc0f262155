"""Known truths, and laws of ledgers and minima."""

from __future__ import annotations

from typing import Any

import pytest

from kvcalc.engines import find_engine
from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.fit import fit
from kvcalc.plan.layouts import Layout, Pins, candidates
from kvcalc.plan.ledger import Ledger
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.planning import plan
from kvcalc.plan.request import Request
from kvcalc.problems import KvcalcError
from kvcalc.roofline import roofline
from kvcalc.spec.catalog import find_model
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.weights.ledger import weight_scheme


def request(
    model: str, *, batch: int = 1, tokens: int = 8192, weights: str | None = None, engine: str = "vllm", **changes: Any
) -> Request:
    spec = find_model(model)
    demand = Demand(batch_size=batch, lengths=Lengths.of(tokens))
    fields = {"alternatives": False, **changes}
    return Request(spec=spec, engine=find_engine(engine), scheme=weight_scheme(spec, weights), demand=demand, **fields)


def fits(model: str, gpu: str, gpus: int, **asked: Any) -> bool:
    wanted = request(model, **asked)
    return bool(wanted.search(wanted.job(), find_hardware(gpu)).fitting(gpus)[0])


def test_qwen_72b_needs_its_640_gib() -> None:
    """2 x 80 layers x 64 heads x 128 x 2 B x 32,768 x 8 = 640 GiB; 72,287,920,128 parameters x 2 B = 134.6 GiB.

    774.6 GiB exceed 8 x 79.2 GiB and not 8 x 139.8 GiB.
    """
    assert 2 * 80 * 64 * 128 * 2 * 32768 * 8 == 640 * 2**30
    assert request("qwen-72b").job().total_weights == 72_287_920_128 * 2
    assert not fits("qwen-72b", "h100", 8, batch=8, tokens=32768)
    assert fits("qwen-72b", "h200", 8, batch=8, tokens=32768)


def test_llama_405b() -> None:
    """405,853,388,800 x 2 B = 756 GiB exceed 8 x 79.2 GiB; in fp8 it is what Meta serves on one node."""
    assert not fits("llama-3.1-405b", "h100", 8)
    assert fits("llama-3.1-405b", "h100", 8, weights="fp8")


def test_deepseek_v3() -> None:
    """671 GB in fp8: more than 8 x 85 GB, less than 8 x 150 GB."""
    assert fits("deepseek-v3", "h200", 8)
    assert not fits("deepseek-v3", "h100", 8)


def test_a_replicated_latent_holds_few_long_sequences() -> None:
    """Every TP rank holds the whole latent: 70,272 B x 131,072 = 8.58 GiB a sequence; DP and DCP multiply them.

    With small steps: data parallel ranks gather each other's tokens, and 8 x 8,192 x 8 experts x 2 x 7,168 x 2 B
    are 14 GiB.
    """
    options = {"max_num_batched_tokens": 1024}
    report = fit(request("deepseek-v3", options=options), find_hardware("h200"), 8, 1, 131072)
    most = {line.label: line.max_batch_size for line in report.lines}
    left = next(line.ledger.free_bytes for line in report.lines if line.label == "TP8")
    assert most["TP8"] == 1 + left // (70_272 * 131_072)
    assert most["TP8"] < 8 < 3 * most["TP8"] < most["TP1 x DP8 + EP8"] < most["TP8 + DCP8"]


@pytest.mark.parametrize("engine", ["ideal", "vllm", "sglang"])
def test_ledgers_add_up_and_the_minimum_is_minimal(engine: str) -> None:
    wanted = request("deepseek-v2-lite", batch=64, tokens=20_000, engine=engine)
    report = plan(wanted, [find_hardware("rtx-4090")]).plans[0]
    assert report.gpus is not None
    for choice in report.choices:
        ledger = choice.ledger
        assert sum(term.bytes for term in ledger.terms) + ledger.free_bytes == ledger.gpu_memory_bytes
        assert choice.layout.tensor * choice.layout.pipeline * choice.layout.data == report.gpus
    for fewer in range(1, report.gpus):
        assert not fits("deepseek-v2-lite", "rtx-4090", fewer, batch=64, tokens=20_000, engine=engine)


def test_an_independent_sum_of_a_dense_model() -> None:
    """Llama-3.1-8B without rounding or overheads: weights and 131,072 B a token on one GPU."""
    wanted = request("llama-3.1-8b", batch=3, tokens=1000, engine="ideal")
    ledger = wanted.job().ledger(Layout(), find_hardware("h100"), 3, Lengths.of(1000))
    assert isinstance(ledger, Ledger)
    assert ledger.group_bytes("weights") == 8_030_261_248 * 2
    assert ledger.group_bytes("cache") == 3 * 1000 * 131_072


def test_less_to_hold_or_more_memory_never_needs_more_gpus() -> None:
    def fewest(gpu: str = "h100", **asked: Any) -> int:
        found = plan(request("llama-3.1-70b", batch=32, **asked), [find_hardware(gpu)]).plans[0].gpus
        assert found is not None
        return found

    assert fewest(weights="fp8") <= fewest() <= fewest(tokens=32768)
    assert fewest(gpu="h200", tokens=32768) <= fewest(tokens=32768)


def test_one_gpu_is_as_fast_as_its_roofline() -> None:
    wanted = request("llama-3.1-8b", batch=7, tokens=5000)
    search = wanted.search(wanted.job(), find_hardware("h100"))
    alone = roofline(wanted.spec, find_hardware("h100"), batch_size=7, seq_len=5000)
    assert search.clock.speed(Layout(), 7, 5000).tpot_s == pytest.approx(alone.time.seconds, rel=1e-12)


def test_rings_by_hand() -> None:
    """Llama-3.1-8B, TP2: 32 layers x 2 all-reduces x 2 x 1/2 x 7 tokens x 4096 x 2 B over 450 GB/s."""
    wanted = request("llama-3.1-8b", batch=7)
    speed = wanted.search(wanted.job(), find_hardware("h100")).clock.speed(Layout(tensor=2), 7, 5000)
    assert speed.communication_s == pytest.approx(64 * 7 * 4096 * 2 / 450e9, rel=1e-12)


def test_a_speed_that_memory_alone_cannot_give_takes_more_gpus() -> None:
    slow = plan(request("llama-3.1-70b", weights="fp8"), [find_hardware("h100")]).plans[0]
    fast = plan(request("llama-3.1-70b", weights="fp8", target=Target(tpot_s=0.006)), [find_hardware("h100")]).plans[0]
    assert slow.gpus is not None
    assert fast.gpus is not None
    assert fast.gpus > slow.gpus
    assert fast.binds == "tpot"
    assert fast.choices[0].speed.tpot_s <= 0.006


def test_layouts_are_written_out() -> None:
    found = list(candidates(4, node=8, batch=8, moe=False))
    assert {(layout.tensor, layout.pipeline, layout.data) for layout in found} == {
        (1, 1, 4), (1, 2, 2), (1, 4, 1), (2, 1, 2), (2, 2, 1), (4, 1, 1),
    }  # fmt: skip


def test_blocks_of_quantised_experts_are_not_cut() -> None:
    """1536 / 8 = 192 rows are no whole blocks of 128: vLLM refuses Qwen3-235B-A22B-FP8 at TP8 without EP."""
    rules = request("qwen3-235b-a22b", weights="fp8_block128").job().rules
    assert "192 of 1,536" in (rules.refusal(Layout(tensor=8)) or "")
    assert rules.refusal(Layout(tensor=8, expert_parallel=True)) is None
    assert rules.refusal(Layout(tensor=4)) is None


def test_a_size_that_cannot_divide_names_what_works() -> None:
    with pytest.raises(KvcalcError) as caught:
        plan(request("llama-3.1-8b", pins=Pins(tensor=3)), [find_hardware("h100")])
    assert "2, 4" in (caught.value.problems[0].help or "")
