"""What every serving engine answers: allocated bytes with their waste, capacity of a budget, the budget itself.

Three totals are kept apart, all integers:

- `logical`: the bytes of the kept values, in the formats that the engine stores;
- `allocated`: one copy of everything the engine reserves for them (blocks, padding, windows kept beyond need);
- `per_rank`: what the fullest rank holds. per_rank x ranks = allocated + replicas + unevenness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Protocol

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.engines.budgets import Budget
from kvcalc.engines.checks import StageBudgets, check_counts
from kvcalc.footprint import Workload
from kvcalc.problems import did_you_mean, usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.weights.sharding import check_decode_context

MAX_RANKS = 2**20
"""Of each way to share a model: far beyond any installation, and small enough to list what each rank holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How ranks share a model."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    """Replicas of the attention layers: each holds whole sequences."""
    decode_context: int = 1
    """Ranks (among the tensor-parallel ones) that share the tokens of a sequence."""

    def __post_init__(self) -> None:
        check_counts(self, at_most=MAX_RANKS)
        check_decode_context(self.tensor, self.decode_context)

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Waste:
    """Bytes that are reserved without holding a needed value, and why."""

    cause: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One named measure of one sequence on the fullest rank."""

    name: str
    meaning: str
    units: int
    """Blocks, pages, cells or tokens: see the allocation's `unit`."""
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What an engine reserves for a workload."""

    engine: str
    version: str
    model: str
    batch_size: int
    seq_len: int
    kv_cache_dtype: str
    """The formats that the engine stores, which may differ from those asked for."""
    logical_bytes: int
    allocated_bytes: int
    """One copy, the whole batch."""
    waste: tuple[Waste, ...]
    """Sums to allocated_bytes - logical_bytes."""
    ranks: int
    per_rank_bytes: int
    """The fullest rank."""
    per_stage_bytes: tuple[int, ...]
    """A rank of each pipeline stage."""
    sharding_waste: tuple[Waste, ...]
    """Sums to per_rank_bytes x ranks - allocated_bytes."""
    reserve: tuple[Waste, ...] = ()
    """Kept once per pool and rank, whatever the batch; not in the totals above."""
    unit: str = ""
    """What the engine counts in: block, page, cell."""
    unit_tokens: int = 0
    """Tokens of one unit; 0 where units differ."""
    unit_bytes: int = 0
    """Bytes of one unit on the fullest rank."""
    units: int = 0
    """Units that the batch holds on one rank."""
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.allocated_bytes - self.logical_bytes != sum(w.bytes for w in self.waste):
            raise AssertionError(f"waste does not add up: {self}")
        if self.per_rank_bytes * self.ranks - self.allocated_bytes != sum(w.bytes for w in self.sharding_waste):
            raise AssertionError(f"sharding waste does not add up: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a budget of bytes per rank yields."""

    engine: str
    version: str
    model: str
    budget_bytes: int
    """Per rank (of the pipeline stage that ends first)."""
    unit: str
    unit_tokens: int
    unit_bytes: int
    """On the fullest rank."""
    units: int
    """Blocks (or tokens) of the pool."""
    usable_units: int
    """Without what the engine keeps for itself."""
    tokens: int
    """As the engine's own log counts them."""
    max_model_len: int
    units_per_request: int
    """What one request of max_model_len tokens is charged with on admission."""
    concurrency: Fraction
    """Requests of max_model_len tokens at once."""
    max_tokens_per_request: int
    """The longest single request that fits."""
    log_lines: tuple[str, ...] = ()
    """As the engine prints them."""
    notes: tuple[str, ...] = ()


class Settings(Protocol):
    """An engine's own frozen settings; every engine has these."""

    @property
    def version(self) -> str: ...
    @property
    def parallel(self) -> Parallel: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One serving engine, as the command line and the planner meet it."""

    name: str
    version: str
    """The version whose rules are followed unless another is asked for."""
    summary: str
    source: str
    settings: type[Any]
    allocate: Callable[[ModelSpec, Workload, Any], Allocation]
    capacity: Callable[[ModelSpec, StageBudgets, Any, FormatChoice], Capacity] | None = None
    """(spec, budget bytes of every rank or of each stage's, settings, formats)"""
    budget: Callable[..., Budget] | None = None
    gpu_defaults: Callable[[str, int, str], Mapping[str, int]] | None = None
    """(version, bytes of a GPU's memory, its name) -> the settings that the engine chooses by them."""
    batch_scales: bool = True
    """Whether n sequences of a replica hold n times the bytes of one."""
    dense_over_data: bool = False
    """Whether data-parallel attention leaves dense blocks and the head split over all ranks of a stage."""
    even_experts: bool = False
    """Whether expert parallelism needs as many experts on every rank."""

    def configure(self, **options: Any) -> Any:
        """Settings from the options that were given (None: not given).

        Raises:
            KvcalcError: an option that this engine does not have.
        """
        known = {f.name for f in fields(self.settings)}
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in known:
                near = did_you_mean(name, known)
                raise usage_error(f"{self.name} has no setting {name.replace('_', '-')!r}", help=near)
        return self.settings(**({"version": self.version} | given))
