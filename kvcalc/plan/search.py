"""The exact minimum: GPU counts from below, every layout of each, and why the smaller counts are not enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import dropwhile

from kvcalc.formats import ceil_div
from kvcalc.plan.demand import Demand, Load, Target
from kvcalc.plan.layouts import FREE, Layout, Pins, Rules, valid_layouts
from kvcalc.plan.ledger import Job, Ledger
from kvcalc.plan.lengths import Lengths
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
    return max(DEFAULT_NODE, reached) if reached <= LARGEST_NODE else DEFAULT_NODE


def counts(node: int, most: int, least: int = 1) -> Iterator[int]:
    """Numbers of GPUs that are looked at: every one within a node, then whole nodes."""
    yield from range(least, min(node, most) + 1)
    yield from range(max(2, ceil_div(least, node)) * node, most + 1, node)


def usual(gpus: int, node: int) -> bool:
    """Whether a number of GPUs is one that people rent: a power of two within a node, or whole nodes."""
    return gpus & (gpus - 1) == 0 if gpus < node else gpus % node == 0


@dataclass(frozen=True, slots=True)
class Fitting:
    """A layout that holds the workload."""

    layout: Layout
    load: Load
    ledger: Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """The smallest number of GPUs that does, and what was seen on the way there."""

    choices: tuple[Choice, ...]
    """Of that number; empty where none up to the limit does."""
    shortages: tuple[Shortage, ...]
    """Why each smaller number does not."""
    nearest: Choice | None
    """Of those that hold the workload and miss the target: the one that misses it least."""

    @property
    def gpus(self) -> int | None:
        return next((choice.gpus for choice in self.choices), None)

    def proof(self, most: int) -> tuple[Shortage, ...]:
        """Why the last numbers are not enough, most GPUs first: `most` of those before the ones without any layout."""
        seen = self.shortages if self.choices else with_layout(self.shortages)
        beyond = self.shortages[len(seen) :][::-1]
        return (*beyond[:1], *beyond[1:][-1:], *seen[::-1][:most])


def with_layout(shortages: Sequence[Shortage]) -> tuple[Shortage, ...]:
    """All up to the last that has a layout which engines take (and that was asked for), or needs none to be refused."""
    rest = dropwhile(lambda short: short.breaks == "layout" and not short.layouts, reversed(shortages))
    return tuple(rest)[::-1]


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

    def layouts(self, gpus: int, batch: int | None = None) -> tuple[Layout, ...]:
        """Valid layouts of this many GPUs that have no rank without one of `batch` sequences (as asked for)."""
        if gpus > 1 and not self.hardware.linked:
            return ()
        most = batch or self.demand.batch_size or gpus
        return valid_layouts(gpus, self.rules, node=self.node, batch=most, pins=self.pins)

    @property
    def rules(self) -> Rules:
        return self.job.rules

    def below(self, gpus: int) -> bool:
        """Whether the weights alone exceed the memory of all: then no layout can hold them."""
        return self.job.total_weights > gpus * self.hardware.memory.plan_bytes

    @cached_property
    def cached_values(self) -> int:
        """Bytes of what the batch caches, as the engine stores it but without what it wastes; 0 where not known."""
        if self.demand.batch_size is None:
            return 0
        total, defaults = 0, self.job.gpu_defaults(self.hardware)
        for tokens, count in self.demand.lengths.mix:
            held = self.job.held(Layout(), 1, Lengths.of(tokens), defaults)
            if isinstance(held, str):
                return 0
            total += count * held.allocation.logical_bytes
        return self.demand.batch_size * total // self.demand.lengths.count

    def hopeless(self, gpus: int) -> bool:
        """Whether weights and cached values alone exceed the memory of all: no layout needs to be tried then."""
        return self.job.total_weights + self.cached_values > gpus * self.hardware.memory.plan_bytes

    def loads(self, gpus: int) -> tuple[list[tuple[Layout, Load]], Shortage]:
        """(layouts that keep up with what is asked, the one of the others that is nearest to it)."""
        found: list[tuple[Layout, Load]] = []
        late: list[tuple[float, Layout]] = []
        for layout in self.layouts(gpus):
            load = self.demand.load(layout, self.clock)
            if isinstance(load, Load):
                found.append((layout, load))
            else:
                late.append((load.times, layout))
        tried = len(found) + len(late)
        if late:
            return found, _overloaded(gpus, tried, *min(late, key=lambda pair: pair[0]))
        return found, _refused(gpus, tried, self.no_layout(gpus))

    def fitting(self, gpus: int) -> tuple[list[Fitting], Shortage]:
        """(layouts that hold the workload, the nearest of the others)."""
        loads, shortage = self.loads(gpus)
        return self._held(gpus, loads, shortage)

    def _held(
        self, gpus: int, loads: Sequence[tuple[Layout, Load]], shortage: Shortage, *, first: bool = False
    ) -> tuple[list[Fitting], Shortage]:
        """(layouts that hold their load, all or the first; the nearest of the others)."""
        found: list[Fitting] = []
        small: list[tuple[Layout, Ledger]] = []
        refused: str | None = None
        for layout, load in loads:
            ledger = self.job.ledger(layout, self.hardware, load.batch_size, self.demand.lengths)
            if isinstance(ledger, str):
                refused = refused or ledger  # of the least tensor parallelism, which engines refuse for its own sake
            elif ledger.fits:
                found.append(Fitting(layout, load, ledger))
                if first:
                    break
            else:
                small.append((layout, ledger))
        if small:
            return found, _short(gpus, len(loads), *max(small, key=lambda pair: pair[1].free_bytes))
        return found, _refused(gpus, len(loads), refused) if refused else shortage

    def no_layout(self, gpus: int) -> str:
        """Why this many GPUs have none."""
        if gpus > 1 and not self.hardware.linked:
            return alone(self.hardware)
        none = "no layout of one GPU" if gpus == 1 else f"no layout of {gpus:,} GPUs"
        if self.pins != FREE:
            reason = self.pins.refusal(self.rules, gpus, self.node)
            return reason or f"{none} is one that was asked for and that engines take"
        reason = self.rules.refusal(Layout(tensor=gpus)) if gpus <= self.node else None
        return reason or f"{none} is one that engines take"

    def choices(self, gpus: int) -> tuple[list[Choice], Shortage, Choice | None]:
        """(layouts that hold the workload and reach the target, why there are none, the nearest that misses it).

        Speed costs less to know than memory: of layouts that are too slow only the fastest that fits is looked for.
        """
        loads, shortage = self.loads(gpus)
        if self.target.asked:
            slow = sorted(((self.excess(*each), each) for each in loads), key=lambda pair: pair[0])
            quick = [each for excess, each in slow if excess <= 1]
            found, _ = self._held(gpus, quick, shortage)
            if not found:
                rest, shortage = self._held(gpus, [each for _, each in slow], shortage, first=True)
                if rest:
                    nearest = self.choice(*rest)
                    return [], self._too_slow(len(loads), nearest), nearest
            return [self.choice(each) for each in found], shortage, None
        found, shortage = self._held(gpus, loads, shortage)
        return [self.choice(each) for each in found], shortage, None

    def excess(self, layout: Layout, load: Load) -> float:
        """How many times too slow a layout is; at most 1 where it reaches the target."""
        demand = self.demand
        return self.target.excess(self.clock.speed(layout, load.batch_size, demand.seq_len, demand.isl))[0]

    def _too_slow(self, tried: int, choice: Choice) -> Shortage:
        missed = self.target.missed(choice.speed) or "tpot"
        took, asked = (getattr(bounds, f"{missed}_s") for bounds in (choice.speed, self.target))
        detail = f"{missed.upper()} is at least {format_seconds(took)}, {format_seconds(asked)} asked for"
        return Shortage(
            gpus=choice.gpus, label=choice.label, layouts=tried, short_bytes=0, breaks=missed, detail=detail
        )

    def choice(self, fitting: Fitting) -> Choice:
        """A layout with its speed and cost."""
        layout, load = fitting.layout, fitting.load
        demand, hourly = self.demand, None if self.price is None else self.price * layout.gpus
        speed = self.clock.speed(layout, load.batch_size, demand.seq_len, demand.isl)
        served = speed.tokens_per_s
        if demand.rate is not None and demand.osl is not None:
            served = demand.rate * demand.osl
        return Choice(
            gpu=self.hardware.name,
            label=layout.label,
            layout=layout,
            gpus=layout.gpus,
            nodes=ceil_div(layout.gpus, self.node),
            batch_size=load.batch_size,
            rank_batch=ceil_div(load.batch_size, layout.data),
            ledger=fitting.ledger,
            speed=speed,
            loaded_tpot_s=load.step_s,
            tokens_per_s_per_gpu=served / layout.gpus,
            cost_per_hour=hourly,
            cost_per_million_tokens=None if hourly is None or not served else hourly / 3600 / served * 10**6,
        )

    def fewest(self, most: int, progress: Progress | None = None, *, proven: int = 0) -> Minimum:
        """Every number of GPUs from below is looked at, but those whose memory cannot hold weights and cached values.

        Args:
            proven: so many of the last shortages name the layout that comes nearest, hopeless as it may be.
        """
        shortages: list[Shortage] = []
        nearest: Choice | None = None
        choices: list[Choice] = []
        for gpus in counts(self.node, most if self.hardware.linked else 1):
            if progress:
                progress(gpus, most)
            if self.hopeless(gpus):
                shortages.append(self._values_alone(gpus))
                continue
            choices, shortage, missed = self.choices(gpus)
            if choices:
                nearest = None
                break
            shortages.append(shortage)
            both = [choice for choice in (nearest, missed) if choice]
            nearest = min(both, key=lambda choice: self.target.excess(choice.speed), default=None)
        end = len(shortages if choices else with_layout(shortages))
        first = max(0, end - proven)
        shown = [s if s.layouts or self.below(s.gpus) else self.choices(s.gpus)[1] for s in shortages[first:end]]
        told = (*shortages[:first], *shown, *shortages[end:])
        return Minimum(choices=tuple(choices), shortages=told, nearest=nearest)

    def _values_alone(self, gpus: int) -> Shortage:
        """Why a hopeless number of GPUs is one."""
        each, weights, cache = self.hardware.memory.plan_bytes, self.job.total_weights, self.cached_values
        what, needed = f"weights alone: {format_bytes(weights)}", weights
        if not self.below(gpus):
            what, needed = f"weights and cached values alone: {format_bytes(weights + cache)}", weights + cache
        return Shortage(
            gpus=gpus, label=None, layouts=0, short_bytes=ceil_div(needed - gpus * each, gpus),
            breaks="weights" if self.below(gpus) else "cache", detail=f"{what} in {gpus} x {format_bytes(each)}",
        )  # fmt: skip

    def fewest_for_memory(self, most: int) -> tuple[int, Layout] | None:
        """The smallest number of GPUs that holds the workload, whatever the speed, and its simplest layout."""
        for gpus in counts(self.node, most):
            if not self.hopeless(gpus):
                fitting, _ = self.fitting(gpus)
                if fitting:
                    return gpus, min((each.layout for each in fitting), key=lambda layout: layout.simplicity)
        return None

    def explored(self, numbers: Iterable[int], progress: Progress | None = None) -> list[Choice]:
        """All choices of the given numbers of GPUs."""
        found: list[Choice] = []
        numbers = tuple(numbers)
        for gpus in numbers:
            if progress:
                progress(gpus, numbers[-1])
            if not self.hopeless(gpus):
                found += self.choices(gpus)[0]
        return found

    def without_target(self) -> Search:
        """The same, whatever the speed."""
        return replace(self, target=Target())


def alone(hardware: HardwareSpec) -> str:
    """Of a GPU that has no link to others."""
    return f"{hardware.name} states no link to others of its kind: one alone is planned"


def _short(gpus: int, tried: int, layout: Layout, ledger: Ledger) -> Shortage:
    short, term = -ledger.free_bytes, ledger.breaks or "cache"
    parts = ", ".join(
        f"{name} {format_bytes(size)}"
        for name in dict.fromkeys(term.group for term in ledger.terms)
        if (size := ledger.group_bytes(name))
    )
    return Shortage(
        gpus=gpus, label=layout.label, layouts=tried, short_bytes=short, breaks=term,
        detail=f"{format_bytes(short)} short per GPU: {parts} of {format_bytes(ledger.gpu_memory_bytes)}",
    )  # fmt: skip


def _refused(gpus: int, tried: int, detail: str) -> Shortage:
    return Shortage(gpus=gpus, label=None, layouts=tried, short_bytes=0, breaks="layout", detail=detail)


def _overloaded(gpus: int, tried: int, times: float, layout: Layout) -> Shortage:
    detail = f"requests arrive {times:.3g} times as fast as they can be served at most"
    return Shortage(gpus=gpus, label=layout.label, layouts=tried, short_bytes=0, breaks="rate", detail=detail)
