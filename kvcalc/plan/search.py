"""The exact minimum: GPU counts from below, every layout of each, and why the smaller counts are not enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from kvcalc.formats import ceil_div
from kvcalc.plan.demand import Demand, Target
from kvcalc.plan.layouts import FREE, Layout, Pins, Rules, valid_layouts
from kvcalc.plan.ledger import Job, Ledger
from kvcalc.plan.report import Choice, Shortage
from kvcalc.plan.times import Clock
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.units import format_bytes, format_seconds

DEFAULT_NODE = 8
LARGEST_NODE = 72
MAX_GPUS = 1024

Progress = Callable[[int, int], None]
"""(GPUs looked at, most GPUs)"""


def node_size(hardware: HardwareSpec) -> int:
    """GPUs of a node unless given: those that the GPU's links reach, from 8 to 72."""
    link = hardware.scale_up
    reached = link.domain_size.exact if link else DEFAULT_NODE
    return reached if DEFAULT_NODE <= reached <= LARGEST_NODE else DEFAULT_NODE


def counts(node: int, most: int) -> Iterator[int]:
    """Numbers of GPUs that are looked at: every one within a node, then whole nodes."""
    yield from range(1, min(node, most) + 1)
    yield from range(2 * node, most + 1, node)


@dataclass(frozen=True)
class Search:
    """One workload on one kind of GPU."""

    job: Job
    hardware: HardwareSpec
    clock: Clock
    demand: Demand
    target: Target = field(default_factory=Target)
    node: int = DEFAULT_NODE
    pins: Pins = FREE
    price: float | None = None

    def layouts(self, gpus: int) -> tuple[Layout, ...]:
        """Valid layouts of this many GPUs that have no rank without a sequence."""
        most = self.demand.batch_size or gpus
        return valid_layouts(gpus, self.rules, node=self.node, batch=most, pins=self.pins)

    @property
    def rules(self) -> Rules:
        return self.job.rules

    def below(self, gpus: int) -> bool:
        """Whether the weights alone exceed the memory of all: then no layout can hold them."""
        return self.job.total_weights > gpus * self.hardware.memory.plan_bytes

    def fitting(self, gpus: int) -> tuple[list[tuple[Layout, int, Ledger]], Shortage]:
        """(layouts that hold the workload with their batch and ledger, the best of the others)."""
        found: list[tuple[Layout, int, Ledger]] = []
        nearest: tuple[Layout, Ledger] | None = None
        reason = ""
        tried = self.layouts(gpus)
        for layout in tried:
            batch = self.demand.sequences(layout, self.clock)
            if batch is None:
                reason = reason or "rate"
                continue
            ledger = self.job.ledger(layout, self.hardware, batch, self.demand.lengths)
            if isinstance(ledger, str):
                reason = ledger
            elif ledger.fits:
                found.append((layout, batch, ledger))
            elif nearest is None or ledger.free_bytes > nearest[1].free_bytes:
                nearest = (layout, ledger)
        return found, self._shortage(gpus, len(tried), nearest, reason)

    def _shortage(self, gpus: int, tried: int, nearest: tuple[Layout, Ledger] | None, reason: str) -> Shortage:
        if nearest is None:
            if reason == "rate":
                detail, breaks = "no layout keeps up with the rate: its queue grows without end", "rate"
            else:
                detail, breaks = reason or self._no_layout(gpus), "layout"
            return Shortage(gpus=gpus, label=None, layouts=tried, short_bytes=0, breaks=breaks, detail=detail)
        layout, ledger = nearest
        short, term = -ledger.free_bytes, ledger.breaks or "cache"
        parts = ", ".join(
            f"{name} {format_bytes(size)}"
            for name in ("reserve", "overhead", "weights", "cache")
            if (size := ledger.group_bytes(name))
        )
        return Shortage(
            gpus=gpus, label=layout.label, layouts=tried, short_bytes=short, breaks=term,
            detail=f"{format_bytes(short)} short per GPU: {parts} of {format_bytes(ledger.gpu_memory_bytes)}",
        )  # fmt: skip

    def _no_layout(self, gpus: int) -> str:
        reason = self.rules.refusal(Layout(tensor=gpus)) if gpus <= self.node else None
        return reason or f"no layout of {gpus} GPUs is one that engines take (or that was asked for)"

    def choices(self, gpus: int) -> tuple[list[Choice], Shortage]:
        """(layouts that hold the workload and reach the target, why there are none)."""
        fitting, shortage = self.fitting(gpus)
        found: list[Choice] = []
        closest: tuple[float, Choice, str] | None = None
        for layout, batch, ledger in fitting:
            choice = self.choice(layout, batch, ledger)
            missed = self.target.missed(choice.speed)
            if missed is None:
                found.append(choice)
                continue
            took, asked = _bound(choice, self.target, missed)
            if closest is None or took / asked < closest[0]:
                closest = (took / asked, choice, missed)
        if not found and closest is not None:
            shortage = self._too_slow(gpus, len(fitting), closest[1], closest[2])
        return found, shortage

    def _too_slow(self, gpus: int, tried: int, choice: Choice, missed: str) -> Shortage:
        took, asked = _bound(choice, self.target, missed)
        detail = f"{missed.upper()} is at least {format_seconds(took)}, {format_seconds(asked)} asked for"
        return Shortage(gpus=gpus, label=choice.label, layouts=tried, short_bytes=0, breaks=missed, detail=detail)

    def choice(self, layout: Layout, batch: int, ledger: Ledger) -> Choice:
        """A layout with its speed and cost."""
        speed = self.clock.speed(layout, batch, self.demand.seq_len, self.demand.isl)
        hourly = None if self.price is None else self.price * layout.gpus
        rate = speed.tokens_per_s
        return Choice(
            gpu=self.hardware.name,
            label=layout.label,
            layout=layout,
            gpus=layout.gpus,
            nodes=ceil_div(layout.gpus, self.node),
            batch_size=batch,
            rank_batch=ceil_div(batch, layout.data),
            ledger=ledger,
            speed=speed,
            tokens_per_s_per_gpu=rate / layout.gpus,
            cost_per_hour=hourly,
            cost_per_million_tokens=None if hourly is None or not rate else hourly / 3600 / rate * 10**6,
        )

    def fewest(self, most: int, progress: Progress | None = None) -> tuple[list[Choice], list[Shortage]]:
        """(choices of the smallest number of GPUs that has any, why each smaller number has none).

        Every number is looked at, but those whose memory together does not even hold the weights.
        """
        shortages: list[Shortage] = []
        for gpus in counts(self.node, most):
            if progress:
                progress(gpus, most)
            if self.below(gpus):
                shortages.append(self._weights_alone(gpus))
                continue
            found, shortage = self.choices(gpus)
            if found:
                return found, shortages
            shortages.append(shortage)
        return [], shortages

    def _weights_alone(self, gpus: int) -> Shortage:
        memory, weights = gpus * self.hardware.memory.plan_bytes, self.job.total_weights
        detail = f"weights alone: {format_bytes(weights)} in {gpus} x {format_bytes(self.hardware.memory.plan_bytes)}"
        short = ceil_div(weights - memory, gpus)
        return Shortage(gpus=gpus, label=None, layouts=0, short_bytes=short, breaks="weights", detail=detail)

    def fewest_for_memory(self, most: int) -> tuple[int, Layout] | None:
        """The smallest number of GPUs that holds the workload, whatever the speed, and its simplest layout."""
        for gpus in counts(self.node, most):
            if not self.below(gpus):
                fitting, _ = self.fitting(gpus)
                if fitting:
                    return gpus, min((layout for layout, _, _ in fitting), key=lambda layout: layout.simplicity)
        return None

    def explored(self, counts_of: Iterator[int]) -> list[Choice]:
        """All choices of the given numbers of GPUs."""
        return [choice for gpus in counts_of if not self.below(gpus) for choice in self.choices(gpus)[0]]

    def without_target(self) -> Search:
        """The same, whatever the speed."""
        return replace(self, target=Target())


def _bound(choice: Choice, target: Target, missed: str) -> tuple[float, float]:
    if missed == "tpot":
        return choice.speed.tpot_s, target.tpot_s or 0.0
    return choice.speed.ttft_s or 0.0, target.ttft_s or 0.0
