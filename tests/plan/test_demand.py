"""What is asked of a plan: a batch, or a rate by Little's law, solved here by trying every number of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import dense_model, moe_model, search

from kvcalc.plan.demand import Demand, Load, Overload, Target
from kvcalc.plan.layouts import Layout
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.times import Speed
from kvcalc.problems import KvcalcError

LAYOUTS = [
    Layout(), Layout(tensor=2), Layout(pipeline=2), Layout(data=2), Layout(data=3, expert_parallel=True),
    Layout(tensor=2, pipeline=2, data=2),
]  # fmt: skip


def speed(tpot: float = 1.0, ttft: float | None = None) -> Speed:
    return Speed(
        tpot_s=tpot, serial_tpot_s=tpot, ttft_s=ttft, tokens_per_s=1.0, memory_s=0.0, compute_s=0.0,
        communication_s=0.0, bound_by="memory",
    )  # fmt: skip


# --- a batch


def test_a_batch_is_the_load_of_every_layout():
    one = search(dense_model(), batch=7)
    assert [one.demand.load(layout, one.clock) for layout in LAYOUTS] == [Load(batch_size=7)] * len(LAYOUTS)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"batch_size": 1}, 100),
        ({"batch_size": 1, "isl": 70}, 100),
        ({"batch_size": 1, "isl": 70, "osl": 20}, 80),
        ({"batch_size": 1, "isl": 70, "osl": 21}, 81),
        ({"batch_size": 1, "isl": 70, "osl": 20, "decoded": 33}, 33),
    ],
)
def test_steps_are_timed_at_a_prompt_and_half_its_answer(fields, tokens):
    assert Demand(lengths=Lengths.of(100), **fields).seq_len == tokens


def test_of_several_lengths_the_mean_counts():
    assert Demand(lengths=Lengths(((10, 1), (21, 2))), batch_size=1).seq_len == 17
    assert Demand(lengths=Lengths(((0, 9), (1, 1))), batch_size=1).seq_len == 1


@pytest.mark.parametrize(
    ("fields", "message", "hint"),
    [
        ({}, "give either a batch size (or --concurrency) or a --rate", "as in -b 64"),
        ({"batch_size": 1, "rate": 1.0}, "give either a batch size (or --concurrency) or a --rate", "as in -b 64"),
        ({"rate": 1.0, "isl": 5}, "--rate needs --isl and --osl", "as in --rate 4 --isl 2000 --osl 500"),
        ({"rate": 1.0, "osl": 5}, "--rate needs --isl and --osl", "as in --rate 4 --isl 2000 --osl 500"),
    ],
)
def test_demands_that_say_too_little_or_too_much(fields, message, hint):
    with pytest.raises(KvcalcError) as caught:
        Demand(lengths=Lengths.of(100), **fields)
    assert (caught.value.problems[0].message, caught.value.problems[0].help) == (message, hint)


# --- a rate


@dataclass(frozen=True)
class Hands:
    """A clock whose steps take `step` seconds and `each` more per sequence of a data rank; a prompt, its tokens."""

    step: float = 0.0
    each: float = 0.0
    prompt: float = 0.0
    busy: float = 0.0

    def speed(self, layout: Layout, batch: int, seq_len: int) -> Speed:
        assert batch >= layout.data
        return speed(self.step + self.each * batch / layout.data)

    def prefill_s(self, layout: Layout, isl: int) -> float:
        return self.prompt * isl

    def prefill_busy_s(self, layout: Layout, isl: int) -> float:
        return self.busy * isl


@pytest.mark.parametrize(
    ("clock", "data", "rate", "isl", "osl", "found"),
    [
        # rate x (prompt + (osl - 1) x step) sequences: 2 x (1 + 2 x (1 + n / 8)) = 6 + n / 2 <= n from 12 on
        (Hands(1.0, 0.125, 1.0), 1, 2.0, 1, 3, Load(batch_size=12, step_s=2.5)),
        # 8 + n / 2 from 16 on, 7 + n / 2 from 14 on; 7.25 + n / 2 from 14.5 on, so at 15 (14.75 of them)
        (Hands(1.0, 0.125, 2.0), 1, 2.0, 1, 3, Load(batch_size=16, step_s=3.0)),
        (Hands(1.0, 0.125, 0.75), 1, 2.0, 2, 3, Load(batch_size=14, step_s=2.75)),
        (Hands(1.0, 0.125, 1.625), 1, 2.0, 1, 3, Load(batch_size=15, step_s=2.875)),
        # as many as one, two and three, or fewer
        (Hands(1.0), 1, 1.0, 1, 2, Load(batch_size=1, step_s=1.0)),
        (Hands(0.25, 0.25), 1, 1.0, 1, 2, Load(batch_size=1, step_s=0.5)),
        (Hands(2.0), 1, 1.0, 1, 2, Load(batch_size=2, step_s=2.0)),
        (Hands(3.0), 1, 1.0, 1, 2, Load(batch_size=3, step_s=3.0)),
        # 9 on two ranks are 5 and 4; 2 on four would leave ranks without one
        (Hands(9.0), 2, 1.0, 1, 2, Load(batch_size=9, step_s=9.0)),
        (Hands(0.0, 2.0), 4, 1.0, 1, 2, Load(batch_size=4, step_s=2.0)),
        # prompts take 2 / 4 of the time of each of two ranks: steps take twice as long
        (Hands(1.0, 0.0, 0.0, 0.25), 2, 2.0, 2, 3, Load(batch_size=8, step_s=2.0)),
        # all of it, by prompts alone or with the decoding of 2 x 2 x (2^30 + n) / n, at n = 2^30
        (Hands(0.0, 0.0, 0.0, 0.25), 1, 2.0, 2, 1, Overload(times=1.0)),
        (Hands(2.0**30, 1.0, 0.0, 0.25), 1, 2.0, 2, 3, Overload(times=1.0 + 8.0)),
        (Hands(2.0**30, 1.0, 0.0, 0.125), 1, 2.0, 2, 3, Overload(times=0.5 + 8.0)),
        # a step grows as its batch does: just enough, or ever too little
        (Hands(0.0, 0.5), 1, 1.0, 1, 3, Load(batch_size=1, step_s=0.5)),
        (Hands(0.0, 1.0), 1, 1.0, 1, 3, Overload(times=2.0)),
        (Hands(2.0**30, 0.0), 1, 1.0, 1, 2, Load(batch_size=2**30, step_s=2.0**30)),
        # no answer is one of one token, no prompt one of one; no request leaves its ranks their one sequence each
        (Hands(1.0, 0.0, 3.0), 1, 1.0, 1, 0, Load(batch_size=3, step_s=1.0)),
        (Hands(1.0, 0.0, 3.0), 1, 1.0, 0, 1, Load(batch_size=3, step_s=1.0)),
        (Hands(1.0, 0.0, 3.0, 0.5), 2, 0.0, 1, 2, Load(batch_size=2, step_s=1.0)),
    ],
)
def test_littles_law_by_hand(clock, data, rate, isl, osl, found):
    demand = Demand(lengths=Lengths.of(100), rate=rate, isl=isl, osl=osl)
    hands: Any = clock
    assert demand.load(Layout(data=data), hands) == found


def little(one, layout: Layout) -> Load | None:
    """Every number of sequences of a data rank from one on, until it is enough for those that it keeps waiting.

    None where prefills alone fill all time.
    """
    demand, clock, data = one.demand, one.clock, layout.data
    busy = demand.rate * clock.prefill_busy_s(layout, demand.isl) / data
    if busy >= 1:
        return None
    for each in range(1, 5000):
        step = clock.speed(layout, each * data, demand.seq_len).tpot_s / (1 - busy)
        wanted = demand.rate * (clock.prefill_s(layout, demand.isl) + (demand.osl - 1) * step)
        if wanted <= each * data:
            return Load(batch_size=max(data, ceil(wanted)), step_s=step)
    raise AssertionError("more sequences than this test looks at")


@settings(max_examples=60)
@given(
    layout=st.sampled_from(LAYOUTS), rate=st.floats(0.01, 3000), isl=st.integers(1, 500), osl=st.integers(1, 300),
)  # fmt: skip
def test_littles_law_is_solved_as_by_trying_every_number(layout, rate, isl, osl):
    spec = moe_model() if layout.expert_parallel else dense_model()
    one = search(spec, batch=None, rate=rate, isl=isl, osl=osl, tokens=isl + osl)
    found = one.demand.load(layout, one.clock)
    assert found == little(one, layout) or isinstance(found, Overload)
    assert isinstance(found, Overload) == (little(one, layout) is None)


@settings(max_examples=40)
@given(layout=st.sampled_from(LAYOUTS), rate=st.floats(1e4, 1e9), isl=st.integers(1, 5000), osl=st.integers(1, 3000))
def test_an_overload_is_what_arrives_over_what_can_be_served(layout, rate, isl, osl):
    """Prefills and decoding share the time: so many times fewer requests are served, and hardly more are not."""
    spec = moe_model() if layout.expert_parallel else dense_model()
    lengths = {"isl": isl, "osl": osl, "tokens": isl + osl}
    found = search(spec, batch=None, rate=rate, **lengths).demand.load(layout, search(spec).clock)
    if isinstance(found, Overload):
        kept = search(spec, batch=None, rate=0.99 * rate / found.times, **lengths)
        lost = search(spec, batch=None, rate=1.01 * rate / found.times, **lengths)
        assert isinstance(kept.demand.load(layout, kept.clock), Load)
        assert isinstance(lost.demand.load(layout, lost.clock), Overload)


def test_an_answer_of_one_token_is_prefill_alone():
    one = search(dense_model(), batch=None, rate=5.0, isl=100, osl=1, tokens=101)
    load = one.demand.load(Layout(), one.clock)
    assert isinstance(load, Load)
    assert load.batch_size == ceil(5.0 * one.clock.prefill_s(Layout(), 100)) == 1


def test_prefills_that_fill_all_time_overload():
    one = search(dense_model(), batch=None, rate=1e7, isl=400, osl=1, tokens=401)
    load = one.demand.load(Layout(data=2), one.clock)
    assert load == Overload(times=1e7 * one.clock.prefill_busy_s(Layout(data=2), 400) / 2)
    assert load.times > 1


def test_twice_the_ranks_halve_an_overload():
    """As two replicas serve twice as much; prefills that fill all time by themselves do not hide the decoding."""
    one = search(dense_model(), batch=None, rate=1e7, isl=400, osl=4000, tokens=4400)
    single, double = (one.demand.load(Layout(data=n), one.clock) for n in (1, 2))
    assert single.times == pytest.approx(2 * double.times)
    assert single.times > 2 * 1e7 * one.clock.prefill_busy_s(Layout(), 400)


def test_decoding_that_never_catches_up_overloads():
    """Every sequence adds its own reads to a step, so past a point a larger batch serves no more per second."""
    free = search(dense_model(), batch=None, rate=1.0, isl=1, osl=2000, tokens=2001)
    at_most = 2**30 / free.clock.speed(Layout(), 2**30, free.demand.seq_len).tpot_s / 1999
    for share, kept in ((0.8, True), (1.5, False)):
        one = search(dense_model(), batch=None, rate=at_most * share, isl=1, osl=2000, tokens=2001)
        found = one.demand.load(Layout(), one.clock)
        assert isinstance(found, Load) == kept
        if isinstance(found, Overload):
            assert found.times == pytest.approx(share, rel=0.2)


# --- targets


def test_targets():
    assert not Target().asked
    assert Target(tpot_s=1.0).asked
    assert Target(ttft_s=1.0).asked
    both = Target(tpot_s=2.0, ttft_s=4.0)
    assert both.excess(speed(1.0, 4.0)) == (1.0, "ttft")
    assert both.excess(speed(3.0, 4.0)) == (1.5, "tpot")
    assert both.missed(speed(2.0, 4.0)) is None
    assert both.missed(speed(2.1, 4.0)) == "tpot"
    assert both.missed(speed(2.1, 4.9)) == "ttft"
    assert Target(ttft_s=1.0).missed(speed(9.0, None)) is None
    assert Target(ttft_s=0.5).excess(speed(9.0, None)) == (0.0, "ttft")
    assert Target().excess(speed(9.0, 9.0)) == (0.0, "")
