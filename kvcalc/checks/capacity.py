"""What weights and cache take at the very least, against the memory of accelerators.

A lower bound: no overhead, no padding, nothing replicated. What an engine needs beyond it is the planner's question.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvcalc.spec.hardware_catalog import find_hardware
from kvcalc.spec.model import ModelSpec
from kvcalc.weights.ledger import weight_bytes, weight_scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Bytes of weights and cache, and the accelerator they are held against."""

    weight_bytes: int
    cache_bytes: int
    gpu: str
    gpu_bytes: int

    @property
    def total(self) -> int:
        return self.weight_bytes + self.cache_bytes

    @property
    def gpus(self) -> int:
        """Fewest accelerators whose memory adds up to it."""
        return -(-self.total // self.gpu_bytes)


def need_of(spec: ModelSpec, cache_bytes: int, gpu: str) -> Need:
    """Weights and cache of a model against one accelerator, which is looked up in the catalogue.

    Raises:
        KvcalcError: unknown accelerator, or the weights cannot be counted.
    """
    hardware = find_hardware(gpu)
    return Need(
        weight_bytes=weight_bytes(spec, weight_scheme(spec)).total, cache_bytes=cache_bytes, gpu=hardware.name,
        gpu_bytes=hardware.memory.plan_bytes,
    )  # fmt: skip
