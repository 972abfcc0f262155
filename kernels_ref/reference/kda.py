"""Kimi delta attention: the gated delta rule with a decay per channel of the key.

Kimi Linear, arXiv 2510.26692, equation 1: S_t = (I - b_t k_t k_t^T) Diag(a_t) S_{t-1} + b_t k_t v_t^T.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_ref.reference.common import Random, Run, depthwise, depthwise_step, last_rows
from kernels_ref.reference.gated_delta_net import step, unrolled
from kvcalc.attention.kda import Kda


def run(kind: Kda, tokens: int, random: Random) -> Run:
    heads, width, kernel = kind.num_heads, kind.head_dim, kind.short_conv_kernel_size
    inputs = random(tokens, heads * 3 * width)  # q, k and v of a head side by side
    weight = random(inputs.shape[1], kernel)
    decay, write = random.gate(tokens, heads, width), random.gate(tokens, heads)

    def heads_of(mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = mixed.unflatten(-1, (heads, 3 * width)).split(width, -1)
        return torch.nn.functional.normalize(q, dim=-1), torch.nn.functional.normalize(k, dim=-1), v

    state = inputs.new_zeros(heads, width, width)
    past = inputs.new_zeros(kernel - 1, inputs.shape[1])
    decoded = state[:, 0]
    for t in range(tokens):
        state, decoded = step(state, *heads_of(depthwise_step(past, inputs[t], weight)), decay[t], write[t])
        past = last_rows(torch.cat([past, inputs[t : t + 1]]), kernel - 1)
    return Run(
        cache={"conv": past.unflatten(1, (heads, 3 * width)), "state": state.flatten(1)[None]},
        decoded=decoded,
        expected=unrolled(*heads_of(depthwise(inputs, weight)), decay, write),
    )
