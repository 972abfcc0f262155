"""The highest activations of one step on a rank: what engines measure at start-up before they size the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvcalc.spec.model import ModelSpec
from kvcalc.tensors import Component, Tensor
from kvcalc.weights.inventory import counted, inventory
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
    keeps_workspaces: bool = False
    """Whether the experts' work spaces stay allocated while logits are sampled."""


def activation_bytes(spec: ModelSpec, sharding: WeightSharding, trial: Trial, *, samples: bool = True) -> int:
    """Estimate of the highest activations on one rank.

    The larger of a layer's, tokens x 2 B x (2 x hidden_size + the outputs of all matrices of its widest block), and,
    where the rank `samples` (the last pipeline stage), sequences x vocab_size x logit_bytes: every rank holds all
    logits. The experts' work spaces (`_experts`) are such a block, or stay beside both.
    """
    layers = [layer for layer, _ in counted(inventory(spec).layers)]
    blocks = max((_block(layer, sharding) for layer in layers), default=0)
    experts = max((_experts(layer, sharding) for layer in layers), default=0)
    hidden = 2 * (spec.hidden_size or 0)
    per_token = trial.tokens * OPERAND_BYTES
    logits = trial.sequences * (spec.vocab_size or 0) * trial.logit_bytes if samples else 0
    if trial.keeps_workspaces:
        return per_token * experts + max(per_token * (hidden + blocks), logits)
    return max(per_token * (hidden + max(blocks, experts)), logits)


def _matrices(layer: tuple[Tensor, ...]) -> Iterator[Tensor]:
    return (tensor for tensor in layer if len(tensor.shape) == 2 and tensor.quantizable)


def _block(layer: tuple[Tensor, ...], sharding: WeightSharding) -> int:
    """Outputs per token of a layer's widest block but the routed experts."""
    sums: dict[Component, int] = {}
    for tensor in _matrices(layer):
        if tensor.component is not Component.ROUTED_EXPERTS:
            sums[tensor.component] = sums.get(tensor.component, 0) + sharding.local(tensor).shape[0]
    return max(sums.values(), default=0)


def _experts(layer: tuple[Tensor, ...], sharding: WeightSharding) -> int:
    """Elements per token of two work spaces for every token's choices, wherever their experts are.

    data x top-k x (max(N, K) + max(N / 2, K)) with N gate and up together and K hidden_size: the tokens of all data
    replicas are gathered first (vLLM 0.33.0 fused_moe/experts/triton_moe.py workspace_shapes,
    prepare_finalize/naive_dp_ep.py; PR 20228 says how much that takes).
    """
    local = [sharding.local(t) for t in _matrices(layer) if t.component is Component.ROUTED_EXPERTS]
    if not local:
        return 0
    down = sum(tensor.shape[0] for tensor in local if tensor.split is not None and tensor.split.axis == 1)
    up = sum(tensor.shape[0] for tensor in local) - down
    chosen = max(tensor.copies if tensor.active_copies is None else tensor.active_copies for tensor in local)
    return sharding.data * chosen * (max(up, down) + max(up // 2, down))
