"""Mamba-1: h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t per channel, y_t = C_t h_t + D x_t.

Mamba, arXiv 2312.00752, equations 2 and 4, algorithm 2.
"""

from __future__ import annotations

import torch

from kernels_ref.reference.common import Random, Run, depthwise, depthwise_step, last_rows
from kvcalc.attention.mamba import Mamba


def run(kind: Mamba, tokens: int, random: Random) -> Run:
    channels, size, kernel = kind.intermediate_size, kind.ssm_state_size, kind.conv_kernel
    inputs, weight = random(tokens, channels), random(channels, kernel)
    a, d = -random(channels, size).exp(), random(channels)
    dt, b, c = 0.1 * random.gate(tokens, channels), random(tokens, size), random(tokens, size)
    state, past = inputs.new_zeros(channels, size), inputs.new_zeros(kernel - 1, channels)
    decoded = inputs.new_zeros(channels)
    for t in range(tokens):
        x = torch.nn.functional.silu(depthwise_step(past, inputs[t], weight))
        state = torch.exp(dt[t][:, None] * a) * state + (dt[t] * x)[:, None] * b[t][None, :]
        decoded = state @ c[t] + d * x
        past = last_rows(torch.cat([past, inputs[t : t + 1]]), kernel - 1)
    # In closed form: each token's input, decayed by all the time that has passed since.
    x = torch.nn.functional.silu(depthwise(inputs, weight))
    since = dt.flip(0).cumsum(0).flip(0) - dt  # [S, C]
    kept = torch.exp(since[:, :, None] * a) * (dt * x)[:, :, None] * b[:, None, :]
    expected = torch.einsum("tcn,n->c", kept, c[-1]) + d * x[-1]
    return Run(cache={"conv": past[:, :, None], "state": state[None]}, decoded=decoded, expected=expected)
