"""Linear (lightning) attention: S_t = r S_{t-1} + k_t v_t^T per head, o_t = S_t^T q_t.

MiniMax-01, arXiv 2501.08313, section 2.2.1; the decay r is fixed per head.
"""

from __future__ import annotations

import torch

from kernels_ref.reference.common import Random, Run
from kvcalc.attention.lightning import Lightning


def run(kind: Lightning, tokens: int, random: Random) -> Run:
    heads, width = kind.num_attention_heads, kind.head_dim
    q, k, v = (random(tokens, heads, width) for _ in range(3))
    decay = random.gate(heads)
    state = q.new_zeros(heads, width, width)
    for t in range(tokens):
        state = decay[:, None, None] * state + torch.einsum("hk,hv->hkv", k[t], v[t])
    # The quadratic form: every token's v, weighted by q . k and by the decay since.
    age = torch.arange(tokens - 1, -1, -1, device=q.device, dtype=q.dtype)
    weights = torch.einsum("hk,shk->sh", q[-1], k) * decay[None, :] ** age[:, None]
    return Run(
        cache={"state": state.flatten(1)[None]},
        decoded=torch.einsum("hk,hkv->hv", q[-1], state),
        expected=torch.einsum("sh,shv->hv", weights, v),
    )
