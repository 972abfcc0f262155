"""Start-up logs of real servers (tests/plan/startup_logs.json), and what kvcalc says of the same servers."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.engines import find_engine
from kvcalc.engines.base import Capacity
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Job
from kvcalc.spec.catalog import find_model
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.weights.ledger import weight_scheme

FILE = Path(__file__).resolve().parents[2] / "tests" / "plan" / "startup_logs.json"
DATA: Mapping[str, Any] = json.loads(FILE.read_text("utf-8"))
GIB = 2**30
ROUNDING = Fraction(5, 1000)
"""GiB that a printed figure of two decimals may be off."""
GOOD = 10
"""Per cent that a predicted budget may be off."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A server that states its model, GPU, TP and utilisation, and the budget that it printed."""

    sample: str
    """`used`: looked at when a default was chosen; `unused`: found later."""
    engine: str
    checkpoint: str
    model: str
    gpu: str
    tp: int
    ep: bool = False
    dcp: int = 1
    weights: str | None = None
    kv: str = "bf16"
    utilization: str
    max_model_len: int
    block_size: int | None = None
    settings: Mapping[str, int] = field(default_factory=dict)
    weights_gib: float | None = None
    kv_gib: float
    tokens: int | None = None
    concurrency: str | None = None
    source: str
    note: str = ""
    """Why the budget is off."""
    tokens_note: str = ""
    """Why the tokens do not follow from the printed budget."""

    @cached_property
    def hardware(self) -> HardwareSpec:
        return find_hardware(self.gpu)

    @cached_property
    def layout(self) -> Layout:
        return Layout(tensor=self.tp, expert_parallel=self.ep, decode_context=self.dcp)

    @cached_property
    def job(self) -> Job:
        spec, options = find_model(self.model), dict(self.settings)
        if self.block_size:
            options["block_size"] = self.block_size
        return Job(
            spec, find_engine(self.engine), weight_scheme(spec, self.weights), parse_kv_cache_dtype(self.kv), options,
            utilization=Fraction(self.utilization),
        )  # fmt: skip

    @cached_property
    def predicted_weights(self) -> int:
        return max(stage.total for stage in self.job.weights(self.layout))

    @cached_property
    def predicted(self) -> int:
        """Bytes of the budget with default overheads."""
        return min(self.job.cache_budgets(self.layout, self.hardware, self.max_model_len))

    @property
    def error(self) -> float | None:
        """Per cent; None where the server printed that nothing is left."""
        return None if self.kv_gib <= 0 else 100 * (self.predicted / GIB / self.kv_gib - 1)

    @property
    def good(self) -> bool:
        return self.error is not None and abs(self.error) <= GOOD

    def capacity(self, budget: int) -> Capacity:
        """What the engine makes of a budget."""
        found = self.job.capacity(self.layout, self.hardware, self.max_model_len, budget)
        if found is None:
            raise AssertionError(f"{self.engine} has no capacity for {self.model}")
        return found

    @cached_property
    def exact(self) -> bool:
        """Whether a number of blocks whose bytes round to the printed budget gives every other printed figure."""
        size = self.capacity(0).unit_bytes
        low, high = (int((Fraction(str(self.kv_gib)) + off) * GIB) // size for off in (-ROUNDING, ROUNDING))
        numbers = range(low, high + 1)
        first, behind = (
            find(numbers, self.tokens, key=lambda number: self.capacity(number * size).tokens)
            for find in (bisect_left, bisect_right)
        )
        agreeing = (self.capacity(number * size) for number in numbers[first:behind])
        return any(self.concurrency in (None, f"{float(found.concurrency):.2f}") for found in agreeing)


ROWS = tuple(Row(**row) for row in DATA["rows"])
OWN_TERMS: tuple[Mapping[str, Any], ...] = tuple(DATA["own_terms"])
"""Logs that print every term of the budget beside it."""
LEFT_OUT: tuple[Mapping[str, str], ...] = tuple(DATA["left_out"])
"""Logs of which something lacks, and what."""
