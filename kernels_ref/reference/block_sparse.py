"""Attention over blocks of tokens that an indexer chooses, each KV head its own (MiniMax-M3's MSA, arXiv 2606.13392).

A block's score is that of its best key; the newest token's own block is always among the chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_ref.reference.common import Random, Run, attend, causal_attention
from kvcalc.attention.block_sparse import BlockSparse


def chosen_rows(q: Tensor, keys: Tensor, size: int, count: int) -> Tensor:
    """q [HI, DI], keys [N, DI] -> [HI, N]: which rows each indexer head lets through, its `count` best blocks."""
    heads, tokens = q.shape[0], keys.shape[0]
    blocks = -(-tokens // size)
    scores = torch.full((heads, blocks * size), float("-inf"), dtype=q.dtype, device=q.device)
    scores[:, :tokens] = q @ keys.T
    best = scores.view(heads, blocks, size).amax(-1)
    best[:, -1] = float("inf")
    taken = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(min(count, blocks)).indices, True)
    return taken.repeat_interleave(size, 1)[:, :tokens]


def run(kind: BlockSparse, tokens: int, random: Random) -> Run:
    heads, kv, width = kind.num_attention_heads, kind.num_key_value_heads, kind.head_dim
    q, k, v = random(tokens, heads, width), random(tokens, kv, width), random(tokens, kv, kind.v_head_dim or width)
    keys, q_index = random(tokens, kind.index_head_dim), random(kind.index_n_heads, kind.index_head_dim)
    scale = width**-0.5
    rows = chosen_rows(q_index, keys, kind.index_block_size, kind.index_topk_blocks)
    share, group = kv // kind.index_n_heads, heads // kv
    decoded = [
        attend(q[-1, h * group : (h + 1) * group], k[seen, h : h + 1], v[seen, h : h + 1], scale)
        for h in range(kv)
        for seen in [rows[h // share]]
    ]
    # Expected: attention over all tokens under the mask of each KV head's choice, blocks scored one by one.
    expected = []
    for h in range(kv):
        visible = torch.zeros(tokens, tokens, dtype=torch.bool, device=random.device)
        visible.fill_diagonal_(True)
        visible[-1] = one_by_one(q_index[h // share], keys, kind)
        own = slice(h * group, (h + 1) * group)
        expected.append(causal_attention(q[:, own], k[:, h : h + 1], v[:, h : h + 1], scale, visible)[-1])
    return Run(
        cache={"key": k, "value": v, "index": keys[:, None]}, decoded=torch.cat(decoded), expected=torch.cat(expected)
    )


def one_by_one(q: Tensor, keys: Tensor, kind: BlockSparse) -> Tensor:
    """The same choice of one indexer head [N], from Python's own sorting of the blocks."""
    size, tokens = kind.index_block_size, keys.shape[0]
    starts = range(0, tokens, size)
    best = sorted(starts[:-1], key=lambda start: -max(float(q @ key) for key in keys[start : start + size]))
    seen = torch.zeros(tokens, dtype=torch.bool, device=keys.device)
    for start in [starts[-1], *best[: kind.index_topk_blocks - 1]]:
        seen[start : start + size] = True
    return seen
