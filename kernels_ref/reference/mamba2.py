"""Mamba-2: a scalar decay per head, H_t = a_t H_{t-1} + dt_t x_t B_t^T, y_t = H_t C_t + D x_t.

Mamba-2, arXiv 2405.21060, section 3.1 (recurrence) and equation 16 (the same as masked attention).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_ref.reference.common import Random, Run, depthwise, depthwise_step, last_rows
from kvcalc.attention.mamba2 import Mamba2


def run(kind: Mamba2, tokens: int, random: Random) -> Run:
    heads, width, size = kind.mamba_num_heads, kind.mamba_head_dim, kind.ssm_state_size
    groups, kernel = kind.n_groups, kind.conv_kernel
    inputs = random(tokens, heads * width + groups * 2 * size)  # x of every head, then B and C of every group
    weight = random(inputs.shape[1], kernel)
    dt, rate, d = 0.1 * random.gate(tokens, heads), random.gate(heads), random(heads)

    def parts(mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixed = torch.nn.functional.silu(mixed)
        x = mixed[..., : heads * width].unflatten(-1, (heads, width))
        bc = mixed[..., heads * width :].unflatten(-1, (groups, 2 * size)).repeat_interleave(heads // groups, -2)
        return x, bc[..., :size], bc[..., size:]

    state, past = inputs.new_zeros(heads, width, size), inputs.new_zeros(kernel - 1, inputs.shape[1])
    decoded = inputs.new_zeros(heads, width)
    for t in range(tokens):
        x, b, c = parts(depthwise_step(past, inputs[t], weight))
        state = torch.exp(-dt[t] * rate)[:, None, None] * state + torch.einsum("hp,hn->hpn", dt[t][:, None] * x, b)
        decoded = torch.einsum("hpn,hn->hp", state, c) + d[:, None] * x
        past = last_rows(torch.cat([past, inputs[t : t + 1]]), kernel - 1)
    x, b, c = parts(depthwise(inputs, weight))
    mask = torch.exp(-rate * (dt.flip(0).cumsum(0).flip(0) - dt))  # [S, H]
    scores = torch.einsum("hn,shn->sh", c[-1], b) * mask * dt
    cut = heads * width
    return Run(
        cache={
            "conv_x": past[:, :cut].unflatten(1, (heads, width)),
            "conv_bc": past[:, cut:].unflatten(1, (groups, 2 * size)),
            "state": state.flatten(1)[None],
        },
        decoded=decoded,
        expected=torch.einsum("sh,shp->hp", scores, x) + d[:, None] * x[-1],
    )
