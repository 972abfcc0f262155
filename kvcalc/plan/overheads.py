"""Memory of a GPU that is neither weights nor cache: named terms, each an input with a default and a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

from kvcalc.engines.base import Budget, Engine, Overhead
from kvcalc.plan.layouts import Layout
from kvcalc.problems import did_you_mean, usage_error
from kvcalc.spec.hardware import HardwareSpec
from kvcalc.spec.model import ModelSpec
from kvcalc.tensors import Component, Tensor
from kvcalc.weights.inventory import inventory

GIB = 2**30
WEIGHTS = "weights"
ACTIVATION = "activation"
OPERAND_BYTES = 2
"""Activations are 16-bit, whatever the weights are."""
LOGIT_BYTES = 2 + 4 + 4
"""A logit in 16 bits, widened to fp32, and the sampler's copy of it."""

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


def step_tokens(hardware: HardwareSpec) -> int:
    """Tokens of one step by default (vLLM 0.33.0 engine/arg_utils.py: by the GPU's memory)."""
    memory = hardware.memory.plan_bytes
    return 16384 if memory >= 160 * GIB else 8192 if memory >= 70 * GIB else 2048


def step_sequences(hardware: HardwareSpec) -> int:
    """Sequences that the trial run samples for (max_num_seqs; vLLM 0.33.0 engine/arg_utils.py)."""
    return 1024 if hardware.memory.plan_bytes >= 70 * GIB else 256


def activation_bytes(spec: ModelSpec, layout: Layout, tokens: int, sequences: int) -> int:
    """Estimate of the highest activations of a trial run on one rank.

    The larger of tokens x 2 B x (2 x hidden_size + the widest block's outputs on this rank) and
    sequences x vocabulary x 10 B (logits in 16 and 32 bits and the sampler's copy).
    """
    held = inventory(spec)
    hidden = spec.hidden_size or 0
    widest = max((_outputs(layer, layout) for layer in dict.fromkeys(held.layers)), default=Fraction(0))
    return max(ceil(tokens * OPERAND_BYTES * (2 * hidden + widest)), sequences * (spec.vocab_size or 0) * LOGIT_BYTES)


def _outputs(layer: tuple[Tensor, ...], layout: Layout) -> Fraction:
    """Outputs per token of a layer's widest block: all its matrices' results are alive at once."""
    sums: dict[Component, Fraction] = {}
    for tensor in layer:
        if len(tensor.shape) != 2 or not tensor.quantizable:
            continue
        local = layout.sharding.local(tensor)
        each = Fraction(local.shape[0])
        if tensor.active_copies is not None:
            # Of a token's chosen experts, those that this rank holds, on average.
            each *= Fraction(tensor.active_copies * local.copies, tensor.copies)
        sums[tensor.component] = sums.get(tensor.component, Fraction(0)) + each
    return max(sums.values(), default=Fraction(0))


def split_memory(
    engine: Engine,
    settings: Any,
    *,
    total: int,
    weights: int,
    utilization: Fraction | None,
    given: Mapping[str, int],
    activation: int,
) -> Split:
    """The engine's own rule for its budget; engines without one keep nothing back unless told to.

    Raises:
        KvcalcError: an overhead that the engine does not have.
    """
    if engine.budget is None:
        return _own_split(engine, total, utilization, given)

    def ask(held: int, overheads: Mapping[str, int]) -> Budget:
        if engine.budget is None:
            raise AssertionError
        return engine.budget(
            settings, gpu_memory_bytes=total, weights_bytes=held, utilization=utilization, overheads=dict(overheads)
        )

    usual = ask(weights, given)
    names = [item.name for item in usual.overheads]
    estimated = ACTIVATION in names and ACTIVATION not in given
    overheads = {**given, ACTIVATION: activation} if estimated else dict(given)
    budget = ask(weights, overheads) if estimated else usual
    source = f"engine keeps {_percent(1 - budget.fraction)} of {budget.fraction_of}"
    return Split(
        reserve_bytes=_reserve(budget, ask(0, overheads), ask(GIB, overheads)),
        reserve_source=source,
        overheads=tuple(
            replace(
                item,
                given=False,
                source=f"estimate from the widest layer and the logits; in logs: {item.source}",
            )
            if estimated and item.name == ACTIVATION
            else item
            for item in budget.overheads
            if item.name != WEIGHTS
        ),
    )


def _reserve(budget: Budget, empty: Budget, one: Budget) -> int:
    """What the engine keeps back. A budget of 0 is cut off there: then the reserve of an empty GPU counts, unless it
    shrinks with the weights and so is gone."""
    if budget.available_bytes:
        return _left(budget)
    return max(0, _left(empty)) if _left(empty) == _left(one) else 0


def _left(budget: Budget) -> int:
    return budget.gpu_memory_bytes - sum(item.bytes for item in budget.overheads) - budget.available_bytes


def _percent(part: Fraction) -> str:
    return f"{float(100 * part):g} %"


def _own_split(engine: Engine, total: int, utilization: Fraction | None, given: Mapping[str, int]) -> Split:
    for name in given:
        if name not in OWN_TERMS:
            near = did_you_mean(name, OWN_TERMS) or f"it has {', '.join(OWN_TERMS)}"
            raise usage_error(f"{engine.name} has no overhead {name[:30]!r}", help=near)
    fraction = Fraction(1) if utilization is None else utilization
    return Split(
        reserve_bytes=total - ceil(total * fraction),
        reserve_source=f"{_percent(1 - fraction)} of the total",
        overheads=tuple(
            Overhead(
                name=name, bytes=given.get(name, 0), given=name in given, low_bytes=0, high_bytes=given.get(name, 0),
                source=f"{what}: 0 unless given",
            )
            for name, what in OWN_TERMS.items()
        ),
    )  # fmt: skip
