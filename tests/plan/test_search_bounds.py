"""The search at its bounds: exactly enough, one byte less, equally good ones, numbers that no layout has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planning import dense_model, gpu, moe_model, search

from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.layouts import Layout, Pins
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.report import Shortage
from kvcalc.plan.search import MAX_GPUS, Minimum, Search, node_size, usual

WEIGHTS = 64_433_664
"""Of dense_model, once."""
ROW = 6 * 2 * 4 * 64 * 2
"""Bytes of one token in all its layers."""


# --- numbers of GPUs


@pytest.mark.parametrize(("reached", "size"), [(7, 8), (8, 8), (9, 9), (72, 72), (73, 8)])
def test_a_node_has_8_to_72_gpus(reached, size):
    one = gpu(name="gb200")
    assert one.scale_up is not None
    domain = replace(one.scale_up.domain_size, value=reached)
    assert node_size(replace(one, scale_up=replace(one.scale_up, domain_size=domain))) == size


@pytest.mark.parametrize(("node", "rented"), [(1, [1, 2, 3, 4, 5, 6]), (4, [1, 2, 4]), (5, [1, 2, 4, 5])])
def test_what_people_rent_up_to_six(node, rented):
    """Powers of two within a node, and whole nodes."""
    assert [n for n in range(1, 7) if usual(n, node)] == rented
    assert MAX_GPUS == 1024


# --- what is cached


def test_cached_values_are_the_batch_times_the_mean_sequence():
    """Eight sequences, of 100 tokens or (three times as often) of 300: 8 x (100 + 3 x 300) / 4 tokens."""
    demand = Demand(lengths=Lengths(((100, 1), (300, 3))), batch_size=8)
    assert search(dense_model(), demand=demand).cached_values == 2000 * ROW
    assert search(dense_model(), batch=3, tokens=101).cached_values == 303 * ROW


def test_cached_values_of_an_engine_that_sizes_pools():
    """SGLang's slots for requests are no values: three times one sequence's tokens are."""
    assert search(dense_model(), batch=3, tokens=100, engine="sglang").cached_values == 300 * ROW


def test_cached_values_that_are_not_known_count_as_none():
    """A rate leaves the batch open; llama.cpp has no cache for compressed attention."""
    assert search(dense_model(), batch=None, rate=1.0, isl=10, osl=10, tokens=20).cached_values == 0
    assert search("deepseek-v4-pro", engine="llama.cpp").cached_values == 0


@pytest.mark.parametrize(("missing", "hopeless"), [(0, False), (1, True)])
def test_memory_that_is_exactly_enough_is_tried(missing, hopeless):
    """Two GPUs of half the weights and half of 10 x 1,000 rows each."""
    one = search(dense_model(), gpu(WEIGHTS // 2 + 5000 * ROW - missing), batch=10, tokens=1000)
    assert (one.hopeless(2), one.hopeless(1)) == (hopeless, True)


# --- why smaller numbers are not enough


def short(gpus: int, layouts: int, breaks: str = "cache") -> Shortage:
    return Shortage(gpus=gpus, label=None, layouts=layouts, short_bytes=0, breaks=breaks, detail="")


NONE = [short(n, 0, "layout") for n in range(9)]
SOME = [short(n, n) for n in range(9)]
HOPELESS, REFUSED = short(1, 0, "weights"), short(2, 3, "layout")
PROOFS = [
    ([], False, 9, []),
    ([SOME[1], SOME[2]], False, 9, [2, 1]),
    ([SOME[1], SOME[2]], False, 1, [2]),
    ([SOME[1], SOME[2], NONE[3]], False, 1, [3, 2]),
    ([SOME[1], NONE[2], NONE[3]], False, 9, [3, 2, 1]),
    ([SOME[1], NONE[2], NONE[3], NONE[4], NONE[5]], False, 9, [5, 2, 1]),
    ([SOME[1], NONE[2], NONE[3], NONE[4]], True, 2, [4, 3]),
    ([NONE[1], NONE[2]], False, 9, [2, 1]),
    ([SOME[1], NONE[2], SOME[3], NONE[4]], False, 9, [4, 3, 2, 1]),
    # what weights alone exceed, or what an engine refuses of the layouts there are, is a reason of its own
    ([HOPELESS, NONE[2]], False, 9, [2, 1]),
    ([HOPELESS, REFUSED, NONE[3]], False, 0, [3]),
    ([HOPELESS, REFUSED], False, 1, [2]),
]  # fmt: skip


@pytest.mark.parametrize(("shortages", "found", "most", "shown"), PROOFS, ids=[str(i) for i in range(len(PROOFS))])
def test_a_proof_shows_the_first_and_the_last_number_without_a_layout_then_those_that_have_one(
    shortages, found, most, shown
):
    """Where something fits, simply the last ones."""
    choices = tuple(search(dense_model(), tokens=1).choices(1)[0] if found else ())
    minimum = Minimum(choices=choices, shortages=tuple(shortages), nearest=None)
    assert [each.gpus for each in minimum.proof(most)] == shown
    assert minimum.gpus == (1 if found else None)


def pool(**asked) -> Search:
    """30 sequences of 2,000 tokens are 368,640,000 B, with the weights 433,073,664 B: more than six GPUs have."""
    return search(dense_model(), gpu(65_000_000), batch=30, tokens=2000, **asked)


def test_numbers_that_the_values_alone_exceed_name_no_layout_unless_the_proof_shows_them():
    told = [
        [bool(each.layouts) for each in pool().fewest(8, proven=proven).shortages] for proven in (0, 1, 2, 6, 7, 99)
    ]
    assert [flags.count(True) for flags in told] == [1, 1, 2, 6, 7, 7]
    assert told[2] == [False] * 5 + [True] * 2
    assert told[3] == [False] + [True] * 6
    assert pool().fewest(6).shortages[-1].layouts == 0
    assert [each.gpus for each in pool(pins=Pins(data=2)).fewest(7).shortages] == [1, 2, 3, 4, 5, 6, 7]


def test_the_proof_ends_at_the_number_below_the_first_that_does():
    """DP2: of 7 (and 5) GPUs there is no layout; six have one that is told of, though they hold too little."""
    found = pool(pins=Pins(data=2)).fewest(8, proven=2)
    assert found.gpus == 8
    assert [each.breaks for each in found.shortages] == ["cache"] * 6 + ["layout"]
    assert [bool(each.layouts) for each in found.shortages] == [False] * 5 + [True, False]


def test_where_nothing_fits_numbers_behind_the_last_with_a_layout_are_not_proven():
    nothing = pool(pins=Pins(data=2)).fewest(7, proven=1)
    assert nothing.gpus is None
    assert [bool(each.layouts) for each in nothing.shortages] == [False] * 5 + [True, False]


def test_what_is_missing_to_weights_and_values():
    """433,073,664 B are 413 MiB; 65,000,000 B are 61.99 MiB; 433,073,664 - 130,000,000 B are missing to two."""
    two = pool().fewest(8).shortages[1]
    assert two.detail == "weights and cached values alone: 413 MiB in 2 x 61.99 MiB"
    assert (two.gpus, two.short_bytes, two.breaks, two.layouts) == (2, 303_073_664 // 2, "cache", 0)


WITHOUT = [
    (1, {"pins": Pins(expert_parallel=True)}, "no layout of one GPU is one that was asked for and that engines take"),
    (2, {"pins": Pins(pipeline=2, expert_parallel=True)},
     "no layout of 2 GPUs is one that was asked for and that engines take"),
    (5, {"node": 5}, "5 ranks cannot share the 1,000 rows of embed_tokens.weight, padded to 1,024"),
    (6, {"node": 5}, "no layout of 6 GPUs is one that engines take"),
    (1, {"hardware": gpu(name="m3-max"), "pins": Pins(tensor=2)}, "TP2 takes 2 GPUs, or a multiple, not 1"),
]  # fmt: skip


@pytest.mark.parametrize(("gpus", "asked", "said"), WITHOUT, ids=[str(i) for i in range(len(WITHOUT))])
def test_why_a_number_has_no_layout(gpus, asked, said):
    spec = moe_model() if "expert" in str(asked) and asked["pins"].expert_parallel else dense_model(layers=2)
    assert search(spec, **asked).no_layout(gpus) == said


# --- the nearest of several


def test_of_equally_short_layouts_the_first_is_shown():
    """Whole experts or slices of them: two ranks hold the same bytes of moe_model, and slices are tried first."""
    one = search(moe_model(), gpu(20_000_000), batch=2, tokens=100, pins=Pins(tensor=2, decode_context=1))
    assert [layout.label for layout in one.layouts(2)] == ["TP2", "TP2 + EP2"]
    ledgers = [one.job.ledger(layout, one.hardware, 2, one.demand.lengths) for layout in one.layouts(2)]
    assert ledgers[0].free_bytes == ledgers[1].free_bytes < 0
    assert one.fitting(2)[1].label == "TP2"


def test_of_equally_late_layouts_the_first_is_shown():
    """Of 1e9 requests per second a prompt's share counts: EP sends the same bytes that two slices add up."""
    asked = {"batch": None, "rate": 1e9, "isl": 100, "osl": 1, "tokens": 101, "pins": Pins(tensor=2, decode_context=1)}
    one = search(moe_model(), **asked)
    found, shortage = one.loads(2)
    assert found == []
    assert (shortage.label, shortage.layouts, shortage.short_bytes, shortage.breaks) == ("TP2", 2, 0, "rate")


# --- targets


def test_a_target_that_is_reached_exactly_is_reached():
    free = search(dense_model(), tokens=100)
    took = free.clock.speed(Layout(), 1, 100).tpot_s
    (choice,), _, nearest = search(dense_model(), tokens=100, target=Target(tpot_s=took)).choices(1)
    assert (choice.label, choice.speed.tpot_s, nearest) == ("TP1", took, None)


def test_the_fastest_of_the_slow_layouts_is_the_nearest_and_says_by_how_much():
    """TP2 halves what is read; PP2 and DP2 do not. A prompt of 2,000 tokens is timed too."""
    demand = Demand(lengths=Lengths.of(2000), batch_size=2, isl=2000)
    pins = Pins(decode_context=1)
    one = search(dense_model(), demand=demand, target=Target(tpot_s=1e-9), pins=pins)
    assert [layout.label for layout in one.layouts(2)] == ["TP1 x DP2", "TP1 x PP2", "TP2"]
    found, shortage, nearest = one.choices(2)
    assert (found, nearest and nearest.label) == ([], "TP2")
    assert (shortage.label, shortage.layouts, shortage.breaks, shortage.short_bytes) == ("TP2", 3, "tpot", 0)
    assert shortage.detail.endswith(", 1 ns asked for")


def test_a_time_to_the_first_token_that_is_missed_is_said():
    """2,000 tokens x 2 FLOPs of 6 layers' 5,111,808 weights, and 4 x 12 x 64 for each pair of tokens, at 989 TFLOP/s;
    norms, embedding and head, and the final norm, at 3.35 TB/s."""
    matrices, attention = 2 * 2000 * 6 * 5_111_808, 6 * 4 * 12 * 64 * 2000 * 2001 // 2
    memory = 6 * 2 * 768 * 2 + 768 * 2 + 2 * 1024 * 768 * 2
    took = (matrices + attention) / 989e12 + memory / 3.35e12
    demand = Demand(lengths=Lengths.of(2000), batch_size=1, isl=2000)
    one = search(dense_model(), demand=demand, target=Target(tpot_s=1.0, ttft_s=1e-9))
    assert one.choices(1)[1].detail == f"TTFT is at least {took * 1e6:.1f} us, 1 ns asked for"


def test_what_a_batch_serves_is_what_is_decoded_whatever_the_lengths_of_prompts():
    demand = Demand(lengths=Lengths.of(2000), batch_size=4, isl=1500, osl=500)
    one = search(dense_model(), demand=demand)
    choice = one.choices(1)[0][0]
    assert choice.tokens_per_s_per_gpu == choice.speed.tokens_per_s


def test_progress_names_the_last_number():
    told: list[tuple[int, int]] = []
    search(dense_model(), tokens=1).explored((1, 2, 3), lambda at, most: told.append((at, most)))
    assert told == [(1, 3), (2, 3), (3, 3)]
