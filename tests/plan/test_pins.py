"""Pins: those that no number of GPUs makes valid, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning import dense_model, headed_model, moe_model, paired_model, rules, shipped

from kvcalc.plan.layouts import FREE, MAX_RANKS, Pins, check_pins
from kvcalc.problems import KvcalcError
from kvcalc.spec.ffn import Moe
from kvcalc.spec.model import ModelSpec

REASONS = [
    (paired_model(), Pins(decode_context=2), 3, "DCP2 takes TP4 at least, but a node has 3 GPUs: pin that TP"),
    (paired_model(), Pins(decode_context=2), 4, None),
    (paired_model(), Pins(decode_context=2, tensor=4), 3, None),
    (paired_model(), Pins(decode_context=2, tensor_across_nodes=True), 3, None),
    (dense_model(), Pins(decode_context=2), 3, None),
    (dense_model(), FREE, 3, None),
    (dense_model(), Pins(tensor=4, pipeline=3, data=1), 3, None),
    (dense_model(), Pins(tensor=4, pipeline=3, data=2), 3, "TP4 x PP3 x DP2 takes 24 GPUs, not 12"),
    (dense_model(), Pins(tensor=2, pipeline=3, data=1), 3, "TP2 x PP3 x DP1 takes 6 GPUs, not 12"),
    (dense_model(), Pins(tensor=2, pipeline=3), 3, None),
    (dense_model(), Pins(data=5), 3, "DP5 takes 5 GPUs, or a multiple, not 12"),
]


@pytest.mark.parametrize(("spec", "pins", "node", "why"), REASONS, ids=[str(i) for i in range(len(REASONS))])
def test_why_twelve_gpus_have_no_layout_that_was_asked_for(spec, pins, node, why):
    """Where sizes alone say it: 12 = 4 x 3 x 1; DCP 2 of two KV heads takes TP4."""
    assert pins.refusal(rules(spec), 12, node) == why


def odd_experts() -> ModelSpec:
    """Of 5 x 7 x 11 channels."""
    return replace(moe_model(), ffn={"mlp": Moe(num_experts=16, num_experts_per_tok=4, moe_intermediate_size=385)})


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
    (
        moe_model(),
        Pins(data=40, expert_parallel=True),
        "test-model on TP1 x DP40 + EP40: 16 experts",
        "nearest -dp that works: 14, 15, 16",
    ),
    # 384 = 2^7 x 3 channels of an expert
    (moe_model(), Pins(data=5, expert_parallel=False), "test-model on TP1 x DP5: 5", "nearest -dp that works: 3, 4, 6"),
    (
        odd_experts(),
        Pins(data=3, expert_parallel=False),
        "test-model on TP1 x DP3: 3",
        "nearest -dp that works: 1, 5, 7",
    ),
    (moe_model(), Pins(data=17), "test-model on TP1 x DP17: 17 ranks", "nearest -dp that works: 12, 16, 24"),
    (dense_model(), Pins(tensor=3, data=2), "test-model on TP3 x DP2: 3 ranks", "nearest -tp that works: 1, 2, 4"),
    (dense_model(), Pins(tensor=3, pipeline=6), "test-model on TP3 x PP6: 3", "nearest -tp that works: 1, 2, 4"),
    (
        dense_model(),
        Pins(tensor=3, expert_parallel=True),
        "test-model on TP3 + EP3: a model without",
        "nearest -tp that works: 1, 2, 4",
    ),
    (
        headed_model(1024, 1024),
        Pins(tensor=1023),
        "test-model on TP1023: 1023 ranks",
        "nearest -tp that works: 256, 512, 1024",
    ),
    # 1,025 = 5^2 x 41 is beyond what is looked at
    (
        headed_model(1025, 1025),
        Pins(tensor=1026),
        "test-model on TP1026: 1026 ranks",
        "nearest -tp that works: 25, 41, 205",
    ),
]


@pytest.mark.parametrize(("spec", "pins", "message", "hint"), BAD_PINS, ids=[said[:40] for *_, said, _ in BAD_PINS])
def test_a_pin_that_cannot_be_says_why_and_what_works(spec, pins, message, hint):
    with pytest.raises(KvcalcError) as caught:
        check_pins(rules(spec), pins)
    problem = caught.value.problems[0]
    assert problem.message.startswith(message)
    assert problem.help == hint


GOOD_PINS = [
    (dense_model(), FREE),
    (dense_model(), Pins(tensor=4)),
    (dense_model(), Pins(pipeline=6)),
    (dense_model(), Pins(data=MAX_RANKS)),
    (moe_model(), Pins(decode_context=4)),
    (paired_model(), Pins(decode_context=2)),  # TP4
    # 5 ranks cannot slice an expert's 384 channels, but may hold 3 or 4 whole experts each
    (moe_model(), Pins(data=5)),
    (moe_model(), Pins(data=5, expert_parallel=True)),
]


@pytest.mark.parametrize(("spec", "pins"), GOOD_PINS, ids=[str(i) for i in range(len(GOOD_PINS))])
def test_a_pin_that_some_number_of_gpus_makes_valid_is_taken(spec, pins):
    check_pins(rules(spec), pins)


def test_a_pin_of_tensor_parallelism_leaves_whole_experts_free():
    """vLLM refuses to cut Qwen3-235B-A22B-FP8's experts at TP8 (1,536 / 8 = 192), and takes TP8 + EP8."""
    known = rules(shipped("qwen3-235b-a22b"), "fp8_block128")
    check_pins(known, Pins(tensor=8))
    with pytest.raises(KvcalcError):
        check_pins(known, Pins(tensor=8, expert_parallel=False))
