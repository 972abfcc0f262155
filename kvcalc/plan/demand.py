"""What is asked of a plan: sequences, lengths and speed."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from kvcalc.plan.layouts import Layout
from kvcalc.plan.lengths import Lengths
from kvcalc.plan.times import Clock, Speed
from kvcalc.problems import usage_error

MAX_SEQUENCES = 2**40
SETTLE = 200
"""Steps after which a queue that still grows is called unbounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Bounds that a plan must reach; None: not asked for."""

    tpot_s: float | None = None
    ttft_s: float | None = None

    @property
    def asked(self) -> bool:
        return self.tpot_s is not None or self.ttft_s is not None

    def missed(self, speed: Speed) -> str | None:
        """Which bound is already too slow: tpot, ttft or None."""
        if self.tpot_s is not None and speed.tpot_s > self.tpot_s:
            return "tpot"
        if self.ttft_s is not None and (speed.ttft_s or 0.0) > self.ttft_s:
            return "ttft"
        return None


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

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.rate is None):
            raise usage_error("give either a batch size (or --concurrency) or a --rate", help="as in -b 64")
        if self.rate is not None and (self.isl is None or self.osl is None):
            raise usage_error("--rate needs --isl and --osl", help="as in --rate 4 --isl 2000 --osl 500")

    @property
    def seq_len(self) -> int:
        """The length that times are calculated at: the mean of what is held."""
        return max(1, ceil(self.lengths.mean))

    def sequences(self, layout: Layout, clock: Clock) -> int | None:
        """Sequences at once under a layout; None where it cannot keep up with the rate."""
        if self.batch_size is not None or self.rate is None:
            return self.batch_size
        return self._little(layout, clock)

    def _little(self, layout: Layout, clock: Clock) -> int | None:
        """Little's law: sequences = rate x (TTFT + OSL x time per token), found from below.

        Each token's step also carries the prefills that start meanwhile: sequences / OSL per step.
        """
        osl, isl, rate = self.osl or 1, self.isl or 1, self.rate or 0.0
        held = layout.data
        for _ in range(SETTLE):
            speed = clock.speed(layout, held, self.seq_len, isl)
            ttft = speed.ttft_s or 0.0
            step = speed.tpot_s + held / osl * ttft / layout.data
            wanted = rate * (ttft + osl * step)
            if wanted > MAX_SEQUENCES:
                return None
            if wanted <= held:
                return held
            held = max(held + 1, ceil(wanted))
        return None
