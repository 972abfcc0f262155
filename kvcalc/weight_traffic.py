"""What one step reads of the weights, its GEMM FLOPs, and how ranks share a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from kvcalc.formats import IntLike, ceil_div
from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec
from kvcalc.steps import Phase
from kvcalc.streams import Stream
from kvcalc.tensors import Component, Tensor
from kvcalc.weights.formats import WeightFormat
from kvcalc.weights.inventory import TOO_LITTLE, inventory
from kvcalc.weights.ledger import WeightScheme
from kvcalc.weights.sharding import WeightSharding, check_decode_context

UNIFORM_ROUTING = (
    "experts: each token draws k of E uniformly and independently, so a step of T tokens reads E (1 - (1 - k/E)^T)"
)
FIXED_POINT = 128
"""Bits behind the point of shares: more than any byte count has, so that no rounding shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """How ranks share a step."""

    weights: WeightSharding = field(default_factory=WeightSharding)
    decode_context: int = 1
    """Ranks, among the tensor-parallel ones, that share the tokens of a sequence."""

    def __post_init__(self) -> None:
        check_decode_context(self.weights.tensor, self.decode_context)

    def rows(self, rows: IntLike, stream: Stream) -> IntLike:
        """Rows of one rank: tokens are shared where they grow."""
        return ceil_div(rows, self.decode_context) if stream.extent.grows else rows

    def units(self, units: int, split: bool, *, grows: bool = True) -> int:
        """Heads of one rank: ranks that share the tokens of a head hold the same heads."""
        ranks = self.weights.tensor // (self.decode_context if grows else 1)
        return ceil_div(units, ranks) if split else units

    @property
    def name(self) -> str:
        """As in `tp8, dp2, ep16`; empty for one rank."""
        w = self.weights
        experts = w.tensor * w.data if w.expert_parallel else 1
        sizes = {"tp": w.tensor, "dp": w.data, "ep": experts, "dcp": self.decode_context}
        return ", ".join(f"{name}{size}" for name, size in sizes.items() if size > 1)


ONE_RANK = Shards()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightTraffic:
    """The weights of one component in one format."""

    component: str
    format: str
    read_bytes: int
    flops: int
    """Of the matrix products with them."""


@lru_cache(maxsize=4096)
def missed(chosen: int, experts: int, tokens: int) -> int:
    """Expected share of the experts that none of `tokens` tokens meets, (1 - k/E)^T, times 2^128.

    Integers alone: the figure is the same on every machine, and right to 2^-100 for any batch.
    """
    base = ((experts - chosen) << FIXED_POINT) // experts
    left, power = 1 << FIXED_POINT, tokens
    while power:
        if power & 1:
            left = left * base >> FIXED_POINT
        base = base * base >> FIXED_POINT
        power >>= 1
    return left


def _multiplies(tensor: Tensor) -> bool:
    """Whether each token is multiplied with it as with a matrix."""
    return tensor.quantizable or (len(tensor.shape) == 2 and tensor.component in (Component.ROUTER, Component.HEAD))


@dataclass(slots=True)
class _Sum:
    """The weights of one component in one format, summed over layers, on one rank."""

    read: int = 0
    """Read whole by every step."""
    flops_per_token: int = 0
    """Per token whose layers this rank computes."""
    flops_per_sequence: int = 0
    rows: list[tuple[WeightFormat, tuple[int, ...], int]] = field(default_factory=list)
    """Embeddings, of which only the tokens' rows are read: (format, shape, how many)."""
    routed: list[tuple[int, int, int]] = field(default_factory=list)
    """Experts: (chosen, of how many, bytes of all that the rank holds)."""
    routed_flops: Fraction = Fraction(0)
    """Per token of all ranks: the mean share that falls on this rank's experts."""


@dataclass(frozen=True, slots=True)
class StepWeights:
    """A model's weights, ready to be asked what steps of any size read of them on one rank.

    Of the embedding only the tokens' rows are read; a tied head reads it whole. The weights of an encoder, and of
    extra prediction layers, are left out. Empty where the spec describes the cache alone.
    """

    sums: Mapping[tuple[str, str], _Sum]
    data: int
    """Replicas that share the batch."""

    def at(self, batch_size: int, new_tokens: int = 1, *, logits: int = 1) -> tuple[WeightTraffic, ...]:
        """A step of `batch_size` sequences (of all replicas) with `new_tokens` new tokens each.

        Args:
            logits: tokens of each sequence that logits are computed for: the last one alone, or all drafts.
        """
        sequences = ceil_div(batch_size, self.data)
        tokens, everyone = sequences * new_tokens, batch_size * new_tokens
        found: list[WeightTraffic] = []
        for (part, name), each in self.sums.items():
            read = each.read
            for stored, shape, count in each.rows:
                read += count * stored.bytes((min(tokens, shape[0]), *shape[1:]))
            for chosen, experts, size in each.routed:
                read += size - (size * missed(chosen, experts, everyone) >> FIXED_POINT)
            flops = each.flops_per_token * tokens + each.flops_per_sequence * sequences * logits
            flops += ceil_div(each.routed_flops.numerator * everyone, each.routed_flops.denominator)
            found.append(WeightTraffic(component=part, format=name, read_bytes=read, flops=flops))
        return tuple(found)


Working = tuple[tuple[Tensor, int], ...]
"""(weight, layers that hold it) of all that a step reads, whole."""


def step_weights(spec: ModelSpec, phase: Phase, scheme: WeightScheme, shards: Shards = ONE_RANK) -> StepWeights:
    """The weights that a step of the whole model reads, on the fullest rank."""
    return dealt_weights(working_weights(spec, phase), scheme, shards)


def dealt_weights(working: Working, scheme: WeightScheme, shards: Shards) -> StepWeights:
    """What the fullest rank holds of `working`, summed by component and format."""
    sums: dict[tuple[str, str], _Sum] = {}
    for tensor, layers in working:
        held, stored = shards.weights.local(tensor), scheme.format(tensor)
        into = sums.setdefault((tensor.component.value, stored.name), _Sum())
        if tensor.component is Component.EMBEDDING:
            into.rows.append((stored, held.shape, layers * held.copies))
            continue
        size = layers * stored.bytes(held.shape) * held.copies
        flops = layers * 2 * held.params if _multiplies(tensor) else 0
        if tensor.active_copies is not None:
            into.routed.append((tensor.active_copies, tensor.copies, size))
            into.routed_flops += Fraction(flops * tensor.active_copies, tensor.copies)
            continue
        into.read += size
        if tensor.component is Component.HEAD:
            into.flops_per_sequence += flops
        else:
            into.flops_per_token += flops
    return StepWeights(sums=sums, data=shards.weights.data)


def working_weights(spec: ModelSpec, phase: Phase, *, first: bool = True, last: bool = True) -> Working:
    """What a step reads, before it is dealt out; a tied head reads the embedding as a head.

    Args:
        first, last: whether what stands before, and behind, the layers is read too: embeddings; final norm and head.
    """
    try:
        weights = inventory(replace(spec, encoder_layers=(), encoder_position_embeddings=0))
    except KvcalcError as error:
        if error.problems[0].code != TOO_LITTLE:
            raise
        return ()
    weights = replace(weights, first=weights.first if first else (), last=weights.last if last else ())
    head = [(replace(weights.tied_head, component=Component.HEAD), 1)] if weights.tied_head and last else []
    return (*((t, layers) for t, layers in weights.tensors() if phase == "prefill" or t.in_decode), *head)
