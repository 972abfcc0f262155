"""From a GPU's memory to the bytes left for the cache, on one rank, as each engine divides it.

    free       = total - charges before the fraction
    requested  = free x fraction
    available  = requested - charges within the fraction
    reserve    = free - requested, which the engine keeps back

vLLM's fraction is of the total (nothing is charged before it), SGLang's of what is free before loading, TensorRT-LLM's
and LMDeploy's of what is free after loading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from kvcalc.problems import did_you_mean, usage_error
from kvcalc.units import GIB

WEIGHTS = "weights"


def outside_bytes(ranks: int, *, linked: bool = True) -> int:
    """Memory outside the tensor allocator, unless given: CUDA context and libraries, and NCCL where ranks talk.

    As servers printed it: 0.23 and 0.47 GiB on one GPU (B300; RTX 3090), 1.38 and 1.74 GiB on 2 and 8 x H200.
    NCCL keeps buffers per channel, and GPUs whose only link is PCIe have few channels: 0.25 GiB on 2 x RTX 4090
    (vllm issue 13061), 0.20 GiB on 4 x 22 GB cards (tests/plan/startup_logs.json).
    """
    return GIB * 3 // 2 if ranks > 1 and linked else GIB // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Memory that is not cache: an input, with a default and the range seen in published logs."""

    name: str
    bytes: int
    given: bool
    low_bytes: int
    high_bytes: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """From a GPU's memory to the bytes left for the cache, on one rank."""

    engine: str
    gpu_memory_bytes: int
    fraction: Fraction
    fraction_of: str
    """What the engine's fraction is a fraction of."""
    requested_bytes: int
    overheads: tuple[Overhead, ...]
    available_bytes: int
    reserve_bytes: int
    """Kept back by the fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A named term of an engine's budget."""

    name: str
    bytes: int
    """Unless given."""
    low: int = 0
    """Range seen in published logs, in bytes."""
    high: int = 0
    source: str
    within: bool = False
    """Whether it is paid out of the fraction; else the fraction is of what it leaves."""

    def overhead(self, given: int | None, estimate: int | None) -> Overhead:
        """As the user gives it, else as estimated, else as usual."""
        source = self.source
        if given is None and estimate is not None:
            source = f"for this model and GPU; {source}"
        size = next((each for each in (given, estimate) if each is not None), self.bytes)
        return Overhead(
            name=self.name, bytes=size, given=given is not None, low_bytes=self.low, high_bytes=self.high,
            source=source,
        )  # fmt: skip


def divide(
    engine: str,
    *,
    gpu_memory_bytes: int,
    weights_bytes: int,
    fraction: Fraction,
    fraction_of: str,
    charges: Sequence[Charge],
    given: Mapping[str, int] | None,
    estimates: Mapping[str, int] | None = None,
    weights_within: bool = False,
    rounded_up: bool = False,
) -> Budget:
    """The budget of one rank, with its weights as the first charge.

    `estimates` take the place of usual figures that are not given, where the engine has such a charge.

    Raises:
        KvcalcError: an overhead that the engine does not have.
    """
    given = given or {}
    names = [charge.name for charge in charges]
    for name in given:
        if name not in names:
            near = did_you_mean(name, names) or f"it has {', '.join(names)}"
            raise usage_error(f"{engine} has no overhead {name[:30]!r}", help=near)
    weights = Charge(
        name=WEIGHTS, bytes=weights_bytes, low=weights_bytes, high=weights_bytes, within=weights_within,
        source="one rank's share of the checkpoint",
    )  # fmt: skip
    estimates = estimates or {}
    items = [
        (charge, charge.overhead(given.get(charge.name), estimates.get(charge.name))) for charge in (weights, *charges)
    ]
    free = max(0, gpu_memory_bytes - sum(item.bytes for charge, item in items if not charge.within))
    requested = ceil(free * fraction) if rounded_up else int(free * fraction)
    within = sum(item.bytes for charge, item in items if charge.within)
    return Budget(
        engine=engine, gpu_memory_bytes=gpu_memory_bytes, fraction=fraction, fraction_of=fraction_of,
        requested_bytes=requested, overheads=tuple(item for _, item in items),
        available_bytes=max(0, requested - within), reserve_bytes=free - requested,
    )  # fmt: skip
