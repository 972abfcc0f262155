"""An engine without rounding: exactly the logical bytes, sharded as evenly as heads and layers allow."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from operator import le

from kvcalc.cache_dtypes import FormatChoice
from kvcalc.engines.base import Allocation, Capacity, Engine, Parallel
from kvcalc.engines.checks import StageBudgets, check_counts, context_limit, longest_that_fits, per_stage
from kvcalc.engines.layers import assemble, layer_stages, layer_streams, logical_bytes, whole_sequences
from kvcalc.footprint import Workload
from kvcalc.formats import ceil_div
from kvcalc.spec.model import ModelSpec
from kvcalc.streams import Sharding, Stream

NAME = "ideal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an engine without rules of its own can be told."""

    version: str = "1"
    parallel: Parallel = field(default_factory=Parallel)
    max_model_len: int | None = None
    num_speculative_tokens: int = 0
    """Above zero, the model's extra prediction layers cache too."""

    def __post_init__(self) -> None:
        check_counts(self)


def _rank_bytes(stream: Stream, workload: Workload, formats: FormatChoice, parallel: Parallel) -> int:
    """Context parallel ranks share the tokens of what grows; the heads are shared by the groups that remain."""
    share = parallel.decode_context if stream.extent.grows else 1
    heads = stream.heads
    if stream.sharding is Sharding.HEADS:
        heads = ceil_div(heads, parallel.tensor // share)
    rows = ceil_div(stream.extent.rows(workload.seq_len, workload.encoder_len), share)
    return stream.rows_bytes(rows, formats, heads=heads)


def allocate(spec: ModelSpec, workload: Workload, settings: Settings) -> Allocation:
    """Logical bytes and nothing else; sharding alone can waste."""
    parallel, formats, batch = settings.parallel, workload.formats, workload.batch_size
    layers = layer_streams(spec, draft_layers=settings.num_speculative_tokens > 0)
    shares = []
    for layer, stage in zip(layers, layer_stages(layers, parallel), strict=True):
        for stream in layer.streams:
            kept = logical_bytes(stream, workload, formats)
            if kept:
                rank = _rank_bytes(stream, workload, formats, parallel)
                shares.append(whole_sequences(stage, parallel, batch, logical=kept, allocated=kept, rank=rank))
    return assemble(NAME, spec, workload, settings, formats, shares, unit="token", unit_tokens=1)


def capacity(spec: ModelSpec, budget_bytes: StageBudgets, settings: Settings, formats: FormatChoice) -> Capacity:
    """The longest single sequence, and how many of max_model_len fit; the stage that ends first decides.

    Raises:
        KvcalcError: the context is unknown.
    """
    limit = context_limit(spec, settings.max_model_len)
    budgets = per_stage(budget_bytes, settings.parallel.pipeline)

    def taken(tokens: int) -> tuple[int, ...]:
        one = Workload(batch_size=1, seq_len=tokens, encoder_len=spec.max_source_positions or 0, formats=formats)
        return allocate(spec, one, settings).per_stage_bytes

    longest = longest_that_fits(lambda n: all(map(le, taken(n), budgets)), limit)
    concurrency, budget = min(
        ((Fraction(mine, size), mine) for mine, size in zip(budgets, taken(limit), strict=True) if size),
        default=(Fraction(0), min(budgets)),
    )
    return Capacity(
        engine=NAME,
        version=settings.version,
        model=spec.name,
        budget_bytes=budget,
        unit="token",
        unit_tokens=1,
        unit_bytes=0,
        units=int(concurrency * limit),
        usable_units=int(concurrency * limit),
        tokens=int(concurrency * limit),
        max_model_len=limit,
        units_per_request=limit,
        concurrency=concurrency * settings.parallel.data,
        max_tokens_per_request=longest,
    )


ENGINE = Engine(
    name=NAME,
    version="1",
    summary="no rounding at all: the logical bytes, sharded",
    source="the definition of the logical bytes",
    settings=Settings,
    allocate=allocate,
    capacity=capacity,
)
