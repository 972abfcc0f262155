"""Verdicts: bytes short, times missed, answers that differ; each at its key, and with what would do."""

from __future__ import annotations

from typing import Any

import pytest
from planning import MIB, dense_model

from kvcalc.plan.demand import Target
from kvcalc.plan.planfile import Expected, PlanSpec, Slo
from kvcalc.plan.report import PlanReport
from kvcalc.plan.resolving import answer
from kvcalc.plan.search import MAX_GPUS
from kvcalc.plan.verdict import Verdict, missed_bound, verdicts

MODEL = dense_model()


def asked(**changes: Any) -> tuple[PlanSpec, PlanReport]:
    spec = PlanSpec(model="test-model", **{"gpu": "h200", "seq_len": 4096, "engine": "ideal", **changes})
    return spec, answer(spec, model=MODEL)


def of(**changes: Any) -> list[Verdict]:
    return list(verdicts(*asked(**changes)))


def the(**changes: Any) -> Verdict:
    (found,) = of(**changes)
    return found


# --- nothing to say


@pytest.mark.parametrize("expect", [None, Expected(), Expected(gpus=1), Expected(fits=True, gpus=1)])
def test_what_fits_as_asked_has_no_verdict(expect):
    assert of(expect=expect) == []


def test_what_is_not_to_fit_and_does_not_has_none():
    assert of(gpus=2, batch_size=10**6, expect=Expected(fits=False)) == []
    assert of(gpus=2, slo=Slo(tpot="1ns"), expect=Expected(fits=False)) == []


# --- memory


def test_bytes_that_are_missing_are_stated_to_the_byte():
    """100,000 sequences of 4,096 tokens, 6 layers x 2 x 4 heads x 64 x 2 B: half on each of two GPUs."""
    spec, report = asked(gpus=2, batch_size=100_000)
    (found,) = verdicts(spec, report)
    plan = report.plans[0]
    (best, *_) = plan.proof
    assert best.gpus == 2
    cache = 100_000 * 4096 * 6 * 2 * 4 * 64 * 2 // 2
    halves = best.short_bytes - cache + plan.gpu_memory_bytes
    assert 0 < halves < 40 * MIB  # weights, and no more: no overheads in `ideal`
    assert found.code == "KV506"
    assert found.loc == ("gpus",)
    assert (
        found.message
        == f"test-model does not fit on up to 2 x h200: {best.detail} ({best.short_bytes:,} B short per GPU)"
    )
    assert found.help is not None
    assert found.help.startswith("more of them: ")


def test_where_no_number_of_gpus_is_given_the_kind_is_to_blame():
    found = the(batch_size=10**9, tensor_parallel_size=4)
    assert (found.code, found.loc) == ("KV506", ("gpu",))
    assert found.message.startswith(f"test-model does not fit on up to {MAX_GPUS:,} x h200: ")


def test_several_kinds_are_named_and_the_first_in_detail():
    found = the(gpu=("h200", "h100", "a100"), gpus=2, batch_size=10**6)
    assert "on up to 2 x h200, nor on h100-sxm, nor on a100-80gb: " in found.message
    alone = the(gpus=2, batch_size=10**6)
    assert found.message.replace(", nor on h100-sxm, nor on a100-80gb", "") == alone.message


def test_no_layout_is_no_shortage_of_bytes():
    found = the(gpus=3, tensor_parallel_size=4)
    assert found.code == "KV506"
    assert found.message == "test-model does not fit on up to 3 x h200: TP4 takes 4 GPUs, or a multiple, not 3"
    assert found.help == "more of them: 4 x h200"


# --- time


@pytest.mark.parametrize(("key", "name"), [("tpot", "TPOT"), ("ttft", "TTFT")])
def test_a_missed_bound_says_how_fast_it_would_be(key, name):
    found = the(gpus=2, isl=4096, slo=Slo(**{key: "1ns"}))
    assert (found.code, found.loc) == ("KV507", ("slo", key))
    assert found.message.startswith(f"test-model is not fast enough on up to 2 x h200: {name} is at least ")
    assert found.message.endswith(", 1 ns asked for")
    assert " on 2 x h200 (TP2)" in found.message
    assert found.help == "without the speed asked for: 1 x h200"


def test_of_two_bounds_the_one_that_is_missed_by_more():
    """TPOT 100 times too slow, TTFT twice; and the other way round."""
    _, free = asked(gpus=1, isl=4096)
    speed = free.plans[0].choices[0].speed
    tpot, ttft = round(speed.tpot_s * 10**9), round((speed.ttft_s or 0) * 10**9)
    assert the(gpus=1, isl=4096, slo=Slo(tpot=f"{tpot // 100}ns", ttft=f"{ttft // 2}ns")).loc == ("slo", "tpot")
    assert the(gpus=1, isl=4096, slo=Slo(tpot=f"{tpot // 2}ns", ttft=f"{ttft // 100}ns")).loc == ("slo", "ttft")
    assert of(gpus=1, isl=4096, slo=Slo(tpot=f"{tpot + 1}ns", ttft=f"{ttft + 1}ns")) == []


def test_a_rate_that_no_layout_keeps_up_with():
    found = the(gpus=2, seq_len=None, rate=10**6, isl=2000, osl=2000)
    assert (found.code, found.loc) == ("KV507", ("rate",))
    assert "on up to 2 x h200: requests arrive " in found.message
    assert found.message.endswith(" times as fast as they can be served at most")


def test_a_kind_with_enough_memory_is_spoken_of_before_one_without():
    """One H200 holds the sequences, and is too slow; an H100 does not."""
    sequences = 100 * 2**30 // (4096 * 6 * 2 * 4 * 64 * 2)
    found = the(gpu=("h100", "h200"), gpus=1, batch_size=sequences, slo=Slo(tpot="1ns"))
    assert found.code == "KV507"
    assert "on up to 1 x h200, nor on h100-sxm: TPOT is at least " in found.message
    assert the(gpu=("h100", "h200"), gpus=1, batch_size=2 * sequences, slo=Slo(tpot="1ns")).code == "KV506"


def test_memory_that_suffices_is_no_missed_bound():
    _, report = asked(gpus=2, batch_size=100_000)
    assert missed_bound(report.plans[0], report) is None
    _, late = asked(gpus=2, slo=Slo(tpot="1ns"))
    assert missed_bound(late.plans[0], late) is not None
    assert late.tpot_s == Target(tpot_s=1e-9).tpot_s


# --- what is expected


def test_what_fits_and_is_expected_not_to():
    found = the(expect=Expected(fits=False))
    assert (found.code, found.loc, found.help) == ("KV508", ("expect", "fits"), None)
    assert found.message == "test-model fits on 1 x h200 (TP1); expected not to"


def test_another_number_than_expected():
    found = the(expect=Expected(gpus=2000))
    assert (found.code, found.loc, found.help) == ("KV508", ("expect", "gpus"), None)
    assert found.message == "test-model takes 1 x h200 (TP1), not the expected 2,000"


def test_the_answer_is_the_first_choice():
    """200 GiB of cache on two H200s: TP2 halves the reads of the weights too, which DP2 and PP2 do not."""
    sequences = 200 * 2**30 // (4096 * 6 * 2 * 4 * 64 * 2)
    found = the(batch_size=sequences, expect=Expected(gpus=1))
    assert found.message == "test-model takes 2 x h200 (TP2), not the expected 1"


def test_what_does_not_fit_is_not_also_another_number():
    assert the(gpus=2, batch_size=10**6, expect=Expected(gpus=2)).code == "KV506"


def test_of_several_kinds_the_best_answers():
    """The H100 takes two, the H200 one: one is expected, whichever is named first."""
    sequences = 100 * 2**30 // (4096 * 6 * 2 * 4 * 64 * 2)
    assert of(gpu=("h100", "h200"), batch_size=sequences, expect=Expected(gpus=1)) == []
    assert of(gpu=("h100", "h200"), gpus=1, batch_size=sequences) == []
    found = the(gpu=("h100", "h200"), batch_size=sequences, expect=Expected(gpus=2))
    assert found.message == "test-model takes 1 x h200 (TP1), not the expected 2"


# --- what would do


def test_at_most_three_changes_are_named():
    spec, report = asked(gpus=1, batch_size=9_000)
    (found,) = verdicts(spec, report)
    would = [f"{near.change}: {near.gpus:,} x {near.gpu}" for near in report.plans[0].alternatives if near.gpus]
    assert found.help == "; ".join(would[:3])
    assert len(would) >= 2
