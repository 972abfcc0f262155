"""What a plan is made for, and what makes one choice better than another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.engines.base import Engine
from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.layouts import FREE, Pins
from kvcalc.plan.ledger import Job
from kvcalc.plan.lengths import Trace
from kvcalc.plan.report import Choice
from kvcalc.plan.search import MAX_GPUS, Search, node_size
from kvcalc.plan.times import NODE_LINK, Clock, Network
from kvcalc.roofline import Calibration
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec
from kvcalc.weights.ledger import WeightScheme

Objective = Literal["gpus", "tpot", "throughput", "cost"]
OBJECTIVES: Mapping[str, Callable[[Choice], Any]] = {
    "gpus": lambda c: (c.gpus, c.speed.tpot_s, c.layout.simplicity),
    "tpot": lambda c: (c.speed.tpot_s, c.gpus, c.layout.simplicity),
    "throughput": lambda c: (-c.tokens_per_s_per_gpu, c.gpus, c.speed.tpot_s, c.layout.simplicity),
    "cost": lambda c: (c.cost_per_hour or 0.0, c.speed.tpot_s, c.layout.simplicity),
}
"""Objective -> figures of a choice, the lower the better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a plan is made for."""

    spec: ModelSpec
    engine: Engine
    scheme: WeightScheme
    demand: Demand
    formats: FormatChoice = BF16
    target: Target = field(default_factory=Target)
    options: Mapping[str, Any] = field(default_factory=dict)
    encoder_len: int = 0
    utilization: Fraction | None = None
    overheads: Mapping[str, int] = field(default_factory=dict)
    node: int | None = None
    node_link: int = NODE_LINK
    pins: Pins = FREE
    max_gpus: int = MAX_GPUS
    objective: Objective = "gpus"
    prices: Mapping[str, float] = field(default_factory=dict)
    """GPU -> price of one per hour."""
    calibration: Calibration | None = None
    trace: Trace | None = None
    alternatives: bool = True
    frontier: bool = False
    """Whether to look at all batch sizes too: tokens per user against tokens per GPU."""
    remarks: tuple[str, ...] = ()
    """What was assumed of the workload."""

    def job(self) -> Job:
        return Job(
            self.spec, self.engine, self.scheme, self.formats, self.options, self.encoder_len, self.utilization,
            self.overheads,
        )  # fmt: skip

    def search(self, job: Job, hardware: HardwareSpec) -> Search:
        node = self.node or node_size(hardware)
        clock = Clock(job, hardware, Network(hardware, node, self.node_link), self.calibration)
        price = self.prices.get(hardware.name)
        return Search(job, hardware, clock, self.demand, self.target, node, self.pins, price)
