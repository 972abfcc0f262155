"""What `plan` and `fit` answer."""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.engines.base import Capacity
from kvcalc.plan.layouts import Layout
from kvcalc.plan.ledger import Ledger
from kvcalc.plan.times import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A layout that holds the workload."""

    gpu: str
    label: str
    layout: Layout
    gpus: int
    nodes: int
    batch_size: int
    rank_batch: int
    """Sequences of each data rank."""
    ledger: Ledger
    speed: Speed
    loaded_tpot_s: float | None
    """TPOT while the prompts that arrive are prefilled in between; None where no rate says how many."""
    tokens_per_s_per_gpu: float
    """Decoded at most; with a rate: what is served of it."""
    cost_per_hour: float | None
    """By the price given."""
    cost_per_million_tokens: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """The best layout of a number of GPUs that is not enough."""

    gpus: int
    label: str | None
    """None: no layout of this many GPUs is one that engines take."""
    layouts: int
    """How many were tried."""
    short_bytes: int
    """Per GPU; 0 where memory suffices and speed does not."""
    breaks: str
    """The term that no longer fits, or the bound that is missed."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """What replication costs, over all GPUs together."""

    weight_bytes: int
    """Whole model, once."""
    replicated_weight_bytes: int
    cache_bytes: int
    """Logical, once."""
    replicated_cache_bytes: int
    """Allocated on all GPUs beyond it: replicas, blocks, unevenness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A change, and how many GPUs it would take."""

    change: str
    gpu: str
    gpus: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLength:
    """Fewest GPUs for one length of a trace."""

    name: str
    seq_len: int
    gpus: int | None
    label: str | None
    max_batch_size: int | None
    """Sequences of this length that the first choice holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One layout at one batch size, whatever the batch that was asked for."""

    label: str
    gpus: int
    batch_size: int
    tpot_s: float
    tokens_per_s_per_user: float
    """At most."""
    tokens_per_s_per_gpu: float
    """At most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuPlan:
    """The answer for one kind of GPU."""

    gpu: str
    gpu_name: str
    gpu_memory_bytes: int
    memory_basis: str
    node_size: int
    fits: bool
    gpus: int | None
    """Of the first choice."""
    nodes: int | None
    fewest_for_memory: int | None
    """GPUs that hold it, whatever the speed."""
    usual: Choice | None
    """The first choice of the next power of two (or whole nodes) where the answer is none; else None."""
    nearest: Choice | None
    """Where nothing reaches the target: the layout that misses it least."""
    binds: str
    """What one GPU fewer breaks: a term of the memory, layout, tpot, ttft or rate; empty where one GPU does."""
    choices: tuple[Choice, ...]
    """Best first; the best 32."""
    searched: int
    """Layouts that were looked at."""
    explored_gpus: int | None
    """Most GPUs that were looked at beyond the fewest."""
    proof: tuple[Shortage, ...]
    """Smaller numbers of GPUs, and why each is not enough; most GPUs first. Where nothing fits and the largest numbers
    have no layout: the largest and the smallest of those, then the largest that have one."""
    waste: Waste | None
    capacity: Capacity | None
    """What the engine makes of the memory that is left."""
    alternatives: tuple[Alternative, ...]
    lengths: tuple[AtLength, ...]
    """Of a trace."""
    fastest: tuple[Choice, ...]
    """Of each number of GPUs from the fewest on: the layout with the lowest TPOT."""
    pareto: tuple[Choice, ...]
    """No other layout has as few GPUs, as low a TPOT and as many tokens per second and GPU."""
    frontier: tuple[Point, ...]
    """Where asked for: no other layout and batch size gives each user, and each GPU, as many tokens per second."""

    @property
    def nearest_miss(self) -> Shortage | None:
        """Where nothing fits: why the largest number of GPUs that has a layout is not enough."""
        return next((short for short in self.proof if short.layouts), self.proof[0] if self.proof else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """Plans for one workload, one per kind of GPU."""

    model: str
    engine: str
    engine_version: str
    batch_size: int | None
    seq_len: int
    """The longest sequence that is held."""
    mean_seq_len: float
    encoder_len: int
    """Encoder tokens of each."""
    rate: float | None
    isl: int | None
    osl: int | None
    tpot_s: float | None
    ttft_s: float | None
    kv_cache_dtype: str
    weight_format: str
    weight_bytes: int
    """Of the whole model, once."""
    cache_bytes: int | None
    """Logical, of the batch, once; None where a rate leaves the batch to the layout."""
    requests: int | None
    """Of a trace."""
    max_gpus: int
    """No more than these were to be looked at."""
    objective: str
    plans: tuple[GpuPlan, ...]
    best: int
    """Index of the plan that serves the objective best."""
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return any(plan.fits for plan in self.plans)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLine:
    """What one layout of given GPUs holds."""

    label: str
    layout: Layout
    max_batch_size: int
    """At `seq_len` tokens."""
    max_seq_len: int
    """At `batch_size` sequences; 0: not one token."""
    tokens: int | None
    """Of the whole cache, all data ranks together, as the engine counts them."""
    concurrency: float | None
    """Requests of `seq_len` tokens at once, as the engine's log counts them."""
    ledger: Ledger
    """At one sequence of `seq_len` tokens per data rank."""
    log_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What given GPUs hold of a model."""

    model: str
    gpu: str
    gpu_name: str
    gpus: int
    node_size: int
    engine: str
    engine_version: str
    batch_size: int
    seq_len: int
    encoder_len: int
    """Encoder tokens of each sequence."""
    context: int | None
    """The model's own limit."""
    kv_cache_dtype: str
    weight_format: str
    lines: tuple[FitLine, ...]
    """Most sequences first."""
    shortage: Shortage | None
    """Where no layout holds even one sequence."""
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return bool(self.lines)
