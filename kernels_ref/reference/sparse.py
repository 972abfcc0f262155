"""MLA with a lightning indexer: small keys score every token, and only the best `index_topk` latents are read.

DeepSeek-V3.2-Exp, section 1: I[t, s] = sum over index heads j of w[t, j] ReLU(qI[t, j] . kI[s]).
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_ref.reference import mla
from kernels_ref.reference.common import Random, Run
from kvcalc.attention.sparse import Sparse


def index_scores(q: Tensor, weights: Tensor, keys: Tensor) -> Tensor:
    """q [HI, DI], weights [HI], keys [N, DI] -> [N]."""
    return torch.einsum("h,hn->n", weights, torch.relu(q @ keys.T))


def best(scores: Tensor, count: int) -> Tensor:
    """Places of the highest scores; of equals (ReLU makes zeros), the earliest tokens."""
    return scores.sort(descending=True, stable=True).indices[:count]


def run(kind: Sparse, tokens: int, random: Random) -> Run:
    x = mla.make(kind, tokens, random)
    keys = random(tokens, kind.index_head_dim)
    q, weights = random(kind.index_n_heads, kind.index_head_dim), random(kind.index_n_heads)
    chosen = best(index_scores(q, weights, keys), kind.index_topk)
    # Expected: expanded attention under a mask, its index scores summed head by head.
    scores = torch.stack([weights[h] * torch.clamp(keys @ q[h], min=0) for h in range(len(weights))]).sum(0)
    visible = torch.eye(tokens, dtype=torch.bool, device=random.device)
    visible[-1] = False
    visible[-1, best(scores, kind.index_topk)] = True
    cache = {"latent": x.rows}
    if kind.index_cache == "own":
        cache["index"] = keys[:, None]
    return Run(cache=cache, decoded=mla.absorbed(x, x.rows[chosen]), expected=mla.expanded(x, visible))
