"""What is asked of a plan: sequences, lengths and speed."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import ceil

from kvcalc.plan.layouts import Layout
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.times import Clock, Speed
from kvcalc.problems import usage_error

MANY = 2**30
"""Sequences of one data rank: whoever falls behind even there never catches up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Bounds that a plan must reach; None: not asked for."""

    tpot_s: float | None = None
    ttft_s: float | None = None

    @property
    def asked(self) -> bool:
        return self.tpot_s is not None or self.ttft_s is not None

    def excess(self, speed: Speed) -> tuple[float, str]:
        """(how many times too slow, which bound): at most 1 where the target is reached."""
        pairs = [("tpot", speed.tpot_s, self.tpot_s), ("ttft", speed.ttft_s or 0.0, self.ttft_s)]
        return max(((took / asked, name) for name, took, asked in pairs if asked), default=(0.0, ""))

    def missed(self, speed: Speed) -> str | None:
        """Which bound is already too slow: tpot, ttft or None."""
        excess, name = self.excess(speed)
        return name if excess > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a layout has to do at once."""

    batch_size: int
    step_s: float | None = None
    """Between two tokens of a sequence while other prompts are prefilled; None where no rate says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """A rate that a layout cannot keep up with, however many sequences it holds."""

    times: float
    """What arrives over what it can serve at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Sequences at once, or requests per second; and how long they are."""

    lengths: Lengths
    """What each sequence holds: its length at the end."""
    batch_size: int | None = None
    """None: by Little's law from `rate`."""
    rate: float | None = None
    """Requests per second."""
    isl: int | None = None
    osl: int | None = None
    decoded: int | None = None
    """Tokens that a sequence holds on average while it is decoded, where a trace says so."""

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.rate is None):
            raise usage_error("give either a batch size (or --concurrency) or a --rate", help="as in -b 64")
        if self.rate is not None and (self.isl is None or self.osl is None):
            raise usage_error("--rate needs --isl and --osl", help="as in --rate 4 --isl 2000 --osl 500")

    @property
    def seq_len(self) -> int:
        """The length that decode steps are timed at: a prompt and half its answer, or the mean of what is held."""
        if self.decoded is not None:
            return self.decoded
        if self.isl is not None and self.osl is not None:
            return self.isl + (self.osl + 1) // 2
        return max(1, int(self.lengths.mean))

    def load(self, layout: Layout, clock: Clock) -> Load | Overload:
        """Sequences at once under a layout, or by how much it cannot keep up with the rate."""
        if self.batch_size is not None:
            return Load(batch_size=self.batch_size)
        return self._little(layout, clock)

    def _little(self, layout: Layout, clock: Clock) -> Load | Overload:
        """Little's law (1961): sequences = rate x (TTFT + (OSL - 1) x step), the fewest that satisfy it.

        Prefills keep a share r = rate x (time per prompt) / data ranks of every GPU busy, so step = TPOT / (1 - r).
        A step grows less than its batch does, so once a batch is enough, every larger one is.
        In the largest batch decoding takes its least share of the time; above 1 with r, their sum is the overload.
        """
        osl, isl, rate, data = self.osl or 1, self.isl or 1, self.rate or 0.0, layout.data
        busy = rate * clock.prefill_busy_s(layout, isl) / data
        decoding = rate * (osl - 1) * clock.speed(layout, MANY * data, self.seq_len).tpot_s / (MANY * data)
        if busy >= 1:
            return Overload(times=busy + decoding)
        ttft = clock.prefill_s(layout, isl)

        def wanted(each: int) -> tuple[float, float]:
            """(sequences, step) where each data rank holds `each` sequences."""
            step = clock.speed(layout, each * data, self.seq_len).tpot_s / (1 - busy)
            return rate * (ttft + (osl - 1) * step), step

        def enough(each: int) -> bool:
            return wanted(each)[0] <= each * data

        if not enough(MANY):
            return Overload(times=busy + decoding)
        most = 1
        while not enough(most):
            most *= 2
        sequences, step = wanted(bisect_left(range(most), True, 1, key=enough))
        return Load(batch_size=max(data, ceil(sequences)), step_s=step)
