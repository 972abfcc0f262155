"""Memory of a GPU that is neither weights nor cache: named terms, each an input with a default and a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from kvcalc.engines.base import Engine
from kvcalc.engines.budgets import WEIGHTS, Budget, Charge, Overhead, divide

ACTIVATION, ABSORBED = "activation", "absorbed"
OUTSIDE = ("non_torch", "before_loading")
"""Charges that are `outside_bytes` alone."""

OWN_TERMS: Mapping[str, str] = {
    "framework": "CUDA context and libraries",
    "activation": "peak of a forward pass",
    "cuda_graphs": "captured graphs",
    "communication": "buffers of collective operations",
    "fragmentation": "what the allocator cannot hand out",
}
"""For engines without a rule of their own: all 0 unless given, so that the plan is a bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A GPU's memory before the cache: what is kept back, what overheads take, what is left for weights and cache."""

    reserve_bytes: int
    reserve_source: str
    overheads: tuple[Overhead, ...]
    taken_bytes: int
    """Reserve and overheads together."""


def split_memory(
    engine: Engine,
    settings: Any,
    *,
    total: int,
    weights: int,
    utilization: Fraction | None,
    given: Mapping[str, int],
    estimates: Mapping[str, int],
) -> Split:
    """The engine's own rule for its budget; engines without one keep nothing back unless told to.

    `estimates` are overheads as this model makes them, for the engine that has such.

    Raises:
        KvcalcError: an overhead that the engine does not have.
    """
    if engine.budget is None:
        return _split(_own_budget(engine, total, weights, utilization, given))
    return _split(
        engine.budget(
            settings, gpu_memory_bytes=total, weights_bytes=weights, utilization=utilization, overheads=given,
            estimates=estimates,
        )
    )  # fmt: skip


def _split(budget: Budget) -> Split:
    overheads = tuple(item for item in budget.overheads if item.name != WEIGHTS)
    return Split(
        reserve_bytes=budget.reserve_bytes,
        reserve_source=f"engine keeps {float(100 * (1 - budget.fraction)):g} % of {budget.fraction_of}",
        overheads=overheads,
        taken_bytes=budget.reserve_bytes + sum(item.bytes for item in overheads),
    )


def _own_budget(
    engine: Engine, total: int, weights: int, utilization: Fraction | None, given: Mapping[str, int]
) -> Budget:
    charges = [
        Charge(name=name, bytes=0, source=f"{what}: 0 unless given", within=True) for name, what in OWN_TERMS.items()
    ]
    return divide(
        engine.name, gpu_memory_bytes=total, weights_bytes=weights,
        fraction=Fraction(1) if utilization is None else utilization, fraction_of="the GPU's total memory",
        charges=charges, given=given, weights_within=True, rounded_up=True,
    )  # fmt: skip
