"""Gated delta net: S_t = S_{t-1} a_t (I - b_t k_t k_t^T) + b_t v_t k_t^T per value head, o_t = S_t q_t.

Gated DeltaNet, arXiv 2412.06464, equation 10 (states written [V, K] there; kept [K, V] per head here).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_ref.reference.common import Random, Run, depthwise, depthwise_step, last_rows
from kvcalc.attention.gated_delta_net import GatedDeltaNet


def step(state: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """state [H, K, V], q and k [H, K], v [H, V], decay [H] or [H, K], write [H] -> (state, output [H, V])."""
    state = state * decay.reshape(*decay.shape, *(1,) * (3 - decay.dim()))
    read = torch.einsum("hk,hkv->hv", k, state)
    state = state + torch.einsum("hk,hv->hkv", k, write[:, None] * (v - read))
    return state, torch.einsum("hk,hkv->hv", q, state)


def unrolled(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, write: Tensor) -> Tensor:
    """The last output as a sum over tokens of their writes, each carried by the product of later transitions -> [H, V].

    q, k [S, H, K], v [S, H, V], decay [S, H, K], write [S, H].
    """
    width = k.shape[-1]
    eye = torch.eye(width, dtype=k.dtype, device=k.device)
    carried = eye.expand(k.shape[1], width, width)
    out = torch.zeros_like(v[0])
    for t in range(k.shape[0] - 1, -1, -1):
        reach = torch.einsum("hk,hkj,hj->h", q[-1], carried, k[t])
        out += (reach * write[t])[:, None] * v[t]
        transition = (eye - write[t][:, None, None] * k[t][:, :, None] * k[t][:, None, :]) * decay[t][:, None, :]
        carried = carried @ transition
    return out


def run(kind: GatedDeltaNet, tokens: int, random: Random) -> Run:
    key_heads, heads = kind.linear_num_key_heads, kind.linear_num_value_heads
    key, value, kernel = kind.linear_key_head_dim, kind.linear_value_head_dim, kind.linear_conv_kernel_dim
    inputs = random(tokens, 2 * key_heads * key + heads * value)
    weight = random(inputs.shape[1], kernel)
    decay, write = random.gate(tokens, heads), random.gate(tokens, heads)

    def heads_of(mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[..., channels] -> q, k [..., H, K] (unit length), v [..., H, V]."""
        q, k, v = mixed.split([key_heads * key, key_heads * key, heads * value], -1)
        q, k = (torch.nn.functional.normalize(part.unflatten(-1, (key_heads, key)), dim=-1) for part in (q, k))
        group = heads // key_heads
        return q.repeat_interleave(group, -2), k.repeat_interleave(group, -2), v.unflatten(-1, (heads, value))

    state = inputs.new_zeros(heads, key, value)
    past = inputs.new_zeros(kernel - 1, inputs.shape[1])
    decoded = state[:, 0]
    for t in range(tokens):
        state, decoded = step(state, *heads_of(depthwise_step(past, inputs[t], weight)), decay[t], write[t])
        past = last_rows(torch.cat([past, inputs[t : t + 1]]), kernel - 1)
    q, k, v = heads_of(depthwise(inputs, weight))
    split = 2 * key_heads * key
    pair = past[:, :split].unflatten(1, (2, key_heads, key)).transpose(1, 2).flatten(2)  # q and k of a head together
    return Run(
        cache={
            "conv_qk": pair,
            "conv_v": past[:, split:].unflatten(1, (heads, value)),
            "state": state.flatten(1)[None],
        },
        decoded=decoded,
        expected=unrolled(q, k, v, decay[..., None].expand(-1, -1, key), write),
    )
