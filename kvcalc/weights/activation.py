"""The highest activations of one step on a rank: what engines measure at start-up before they size the cache."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from kvcalc.spec.model import ModelSpec
from kvcalc.tensors import Component, Tensor
from kvcalc.weights.inventory import inventory
from kvcalc.weights.sharding import WeightSharding

OPERAND_BYTES = 2
"""Activations are 16-bit, whatever the weights are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The step that an engine runs at start-up."""

    tokens: int
    """max_num_batched_tokens."""
    sequences: int
    """max_num_seqs: so many tokens are sampled at once."""
    logit_bytes: int
    """Alive per logit at the sampler's peak."""


def activation_bytes(spec: ModelSpec, sharding: WeightSharding, trial: Trial, *, samples: bool = True) -> int:
    """Estimate of the highest activations on one rank.

    The larger of tokens x 2 B x (2 x hidden_size + the widest block's outputs on this rank) and, where the rank
    `samples` (the last pipeline stage), sequences x vocab_size x logit_bytes: every rank holds all logits.
    """
    held = inventory(spec)
    hidden = spec.hidden_size or 0
    widest = max((_outputs(layer, sharding) for layer in dict.fromkeys(held.layers)), default=Fraction(0))
    forward = ceil(trial.tokens * OPERAND_BYTES * (2 * hidden + widest))
    return max(forward, trial.sequences * (spec.vocab_size or 0) * trial.logit_bytes if samples else 0)


def _outputs(layer: tuple[Tensor, ...], sharding: WeightSharding) -> Fraction:
    """Outputs per token of a layer's widest block: all its matrices' results are alive at once."""
    sums: dict[Component, Fraction] = {}
    for tensor in layer:
        if len(tensor.shape) != 2 or not tensor.quantizable:
            continue
        local = sharding.local(tensor)
        each = Fraction(local.shape[0])
        if tensor.active_copies is not None:
            # Of a token's chosen experts, those that this rank holds, on average.
            each *= Fraction(tensor.active_copies * local.copies, tensor.copies)
        sums[tensor.component] = sums.get(tensor.component, Fraction(0)) + each
    return max(sums.values(), default=Fraction(0))
