"""The answer of `kvcalc size --engine`: what an engine reserves for a workload, and what a budget yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, get_args

from kvcalc.cache_dtypes import BF16, FormatChoice
from kvcalc.engines.base import Allocation, Capacity, Engine
from kvcalc.engines.budgets import Budget
from kvcalc.footprint import workload_for
from kvcalc.problems import did_you_mean, usage_error
from kvcalc.spec.model import ModelSpec
from kvcalc.units import parse_count, parse_decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The memory of one GPU, or the cache's share of it, as the user gives it (bytes)."""

    gpu_bytes: int | None = None
    cache_bytes: int | None = None
    """Given outright: no budget is made."""
    utilization: Fraction | None = None
    weights_bytes: int | None = None
    """One rank's; None: counted from the spec."""
    overheads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSize:
    """One model in one engine."""

    allocation: Allocation
    """Its logical bytes are in the formats that the engine stores, which may differ from those asked for."""
    budget: Budget | None
    capacity: Capacity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSizeReport:
    """Each model in the engine, and what was assumed on the way."""

    models: tuple[EngineSize, ...]
    warnings: tuple[str, ...]


def size_in_engine(
    specs: Sequence[ModelSpec],
    engine: Engine,
    settings: Any,
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    encoder_len: int | None = None,
    formats: FormatChoice = BF16,
    memory: Memory | None = None,
) -> EngineSizeReport:
    """Allocation of every model, and the capacity of `memory` where it is given.

    Raises:
        KvcalcError: the engine refuses the model, the format or the sharding, or has no budget.
    """
    found: list[EngineSize] = []
    warnings: list[str] = []
    for spec in specs:
        workload, said = workload_for(
            spec, batch_size=batch_size, seq_len=seq_len, encoder_len=encoder_len, formats=formats
        )
        warnings += said
        budget, capacity = _capacity(spec, engine, settings, formats, memory or Memory())
        found.append(
            EngineSize(
                allocation=engine.allocate(spec, workload, settings),
                budget=budget,
                capacity=capacity,
            )
        )
    return EngineSizeReport(models=tuple(found), warnings=tuple(warnings))


def _capacity(
    spec: ModelSpec, engine: Engine, settings: Any, formats: FormatChoice, memory: Memory
) -> tuple[Budget | None, Capacity | None]:
    if memory.gpu_bytes is None and memory.cache_bytes is None:
        return None, None
    if engine.capacity is None:
        raise usage_error(
            f"{engine.name} has no memory budget: its cache is as large as the context",
            help="leave out the GPU's memory, or set the context with --set n_ctx=N",
        )
    if memory.cache_bytes is not None:
        return None, engine.capacity(spec, memory.cache_bytes, settings, formats)
    if engine.budget is None:
        raise usage_error(f"{engine.name} has no rule for its share of the memory", help="give --kv-cache-memory-bytes")
    weights = memory.weights_bytes if memory.weights_bytes is not None else _weights(spec, settings)
    budget = engine.budget(
        settings,
        gpu_memory_bytes=memory.gpu_bytes,
        weights_bytes=weights,
        utilization=memory.utilization,
        overheads=dict(memory.overheads),
    )
    return budget, engine.capacity(spec, budget.available_bytes, settings, formats)


def _weights(spec: ModelSpec, settings: Any) -> int:
    """Weights of the fullest rank, in the formats that the spec states."""
    from kvcalc.weights import WeightSharding, weight_bytes_per_stage, weight_scheme

    parallel = settings.parallel
    sharding = WeightSharding(tensor=parallel.tensor, pipeline=parallel.pipeline, data=parallel.data)
    drafts = settings.num_speculative_tokens > 0
    return max(stage.total for stage in weight_bytes_per_stage(spec, weight_scheme(spec), sharding, mtp=drafts))


_FALSE, _TRUE = ("false", "no", "off", "0"), ("true", "yes", "on", "1")


def parse_settings(engine: Engine, pairs: Sequence[str]) -> dict[str, Any]:
    """`n_ctx=8192`, `kv_unified=true`: an engine's own settings, read by the type of each.

    Raises:
        KvcalcError: no pair, an unknown setting, or a value of another type.
    """
    types = {f.name: f.type for f in fields(engine.settings) if f.name not in ("version", "parallel")}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        key = name.strip().replace("-", "_")
        if not equals:
            raise usage_error(f"{pair[:60]!r} is no setting", help="write it like n_ctx=8192")
        if key not in types:
            near = did_you_mean(key, types)
            raise usage_error(
                f"{engine.name} has no setting {name[:40]!r}", help=near or f"it has {', '.join(sorted(types))}"
            )
        found[key] = _value(engine, key, text.strip())
    return found


def _value(engine: Engine, key: str, text: str) -> Any:
    from typing import get_type_hints

    kind = get_type_hints(engine.settings)[key]
    options = {option for option in (get_args(kind) or (kind,)) if option is not type(None)}
    if bool in options:
        if text.lower() not in (*_FALSE, *_TRUE):
            raise usage_error(f"{key} is true or false, not {text[:20]!r}")
        return text.lower() in _TRUE
    if Fraction in options:
        return parse_fraction(text, key)
    if int in options:
        return parse_count(text, key)
    words = [option for option in options if isinstance(option, str)]
    if words and text not in words:
        raise usage_error(f"{key} is one of {', '.join(sorted(words))}, not {text[:20]!r}")
    if tuple[int, ...] in options:
        return tuple(parse_count(part, key, minimum=0) for part in text.split(",") if part)
    return text


def parse_fraction(text: str, what: str) -> Fraction:
    """`0.92` -> 92/100, exactly.

    Raises:
        KvcalcError: not a decimal in (0, 1].
    """
    return parse_decimal(text, what, most=1)
