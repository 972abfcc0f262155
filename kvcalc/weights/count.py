"""How many parameters a model has, and how many of them work for one token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvcalc.spec.model import ModelSpec
from kvcalc.tensors import Component
from kvcalc.weights.inventory import inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """Exact counts. A tied head counts once; the embedding and the head count as active."""

    by_component: Mapping[Component, int]
    active_by_component: Mapping[Component, int]
    mtp: int
    """Extra prediction layers, which the total leaves out."""

    @property
    def total(self) -> int:
        return sum(self.by_component.values())

    @property
    def active(self) -> int:
        """Parameters that work for one token: all but the routed experts that were not chosen."""
        return sum(self.active_by_component.values())


def parameter_count(spec: ModelSpec) -> ParameterCount:
    """Parameters of every component of the model.

    Raises:
        KvcalcError: the spec says too little (KV102).
    """
    weights = inventory(spec)
    total = dict.fromkeys(Component, 0)
    active = dict.fromkeys(Component, 0)
    for tensor, layers in weights.tensors():
        total[tensor.component] += tensor.params * layers
        active[tensor.component] += tensor.active_params * layers
    return ParameterCount(
        by_component={part: count for part, count in total.items() if count},
        active_by_component={part: count for part, count in active.items() if total[part]},
        mtp=sum(tensor.params for tensor in weights.mtp),
    )
