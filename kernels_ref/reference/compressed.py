"""DeepSeek-V4: K = V is one vector per kept row; a window of tokens, and one gated mean for every m tokens.

A compressed row is a softmax-gated mean of the stride's content, channel by channel; at ratio 4 (CSA) it also takes
in the stride before it, with content and gate of their own, and an indexer chooses among the rows. The released
model adds position biases, norms and rotary parts inside the compressor, and sinks in the softmax: they change values,
not what is kept, and are left out here.
Source: DeepSeek-V4 config (compress_ratios, sliding_window, index_topk); vLLM 0.33.0 models/deepseek_v4/attention.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels_ref.reference.common import Random, Run, attend
from kernels_ref.reference.sparse import best, index_scores
from kvcalc.attention.compressed import OVERLAPPING_RATIO, Compressed


def compress(content: Tensor, gate: Tensor, ratio: int) -> Tensor:
    """content, gate [S, overlap, D] -> [floor(S / ratio), D]; overlap 2: own stride (1) and the one before it (0)."""
    rows = content.shape[0] // ratio
    strides = content[: rows * ratio].unflatten(0, (rows, ratio))  # [rows, ratio, overlap, D]
    gates = gate[: rows * ratio].unflatten(0, (rows, ratio))
    values, weights = [strides[:, :, -1]], [gates[:, :, -1]]
    if content.shape[1] == 2:
        shut = torch.full_like(gates[:1, :, 0], float("-inf"))  # nothing lies before the first stride
        values.insert(0, torch.cat([torch.zeros_like(shut), strides[:-1, :, 0]]))
        weights.insert(0, torch.cat([shut, gates[:-1, :, 0]]))
    return (torch.cat(weights, 1).softmax(1) * torch.cat(values, 1)).sum(1)


def _compress_slowly(content: Tensor, gate: Tensor, ratio: int) -> Tensor:
    """The same, row by row, weight by weight."""
    rows = []
    for row in range(content.shape[0] // ratio):
        terms = [(content[t, -1], gate[t, -1]) for t in range(row * ratio, (row + 1) * ratio)]
        if content.shape[1] == 2 and row:
            terms += [(content[t, 0], gate[t, 0]) for t in range((row - 1) * ratio, row * ratio)]
        weight = sum(torch.exp(g) for _, g in terms)
        rows.append(sum(c * torch.exp(g) / weight for c, g in terms))
    return torch.stack([torch.as_tensor(row) for row in rows]) if rows else content.new_zeros(0, content.shape[-1])


def run(kind: Compressed, tokens: int, random: Random) -> Run:
    width, ratio, scale = kind.head_dim, kind.compress_ratio, kind.head_dim**-0.5
    kv, q = random(tokens, width), random(kind.num_attention_heads, width)
    window = kv[-kind.sliding_window :]
    cache = {"window": window[:, None]}
    read, expected_rows = window, window
    if ratio:
        overlap = 2 if ratio == OVERLAPPING_RATIO else 1
        content, gate = random(tokens, overlap, width), random(tokens, overlap, width)
        rows, slow = compress(content, gate, ratio), _compress_slowly(content, gate, ratio)
        cache["compressed"] = rows[:, None]
        # The strides still to fill: what an engine keeps of the compressor's inputs.
        cache["compressor"] = torch.cat([content, gate], -1).flatten(1)[-overlap * ratio :, None]
        if kind.index_head_dim and kind.index_topk and kind.index_n_heads:
            parts = random(tokens, overlap, kind.index_head_dim), random(tokens, overlap, kind.index_head_dim)
            keys = compress(*parts, ratio)
            cache["index"] = keys[:, None]
            cache["index_compressor"] = torch.cat(parts, -1).flatten(1)[-overlap * ratio :, None]
            scores = index_scores(random(kind.index_n_heads, kind.index_head_dim), random(kind.index_n_heads), keys)
            chosen = best(scores, kind.index_topk)
            rows, slow = rows[chosen], slow[chosen.sort().values]
        read, expected_rows = torch.cat([rows, window]), torch.cat([window, slow])
    decoded = attend(q, read[:, None], read[:, None], scale)
    weights = torch.exp(q @ expected_rows.T * scale)
    return Run(cache=cache, decoded=decoded, expected=weights @ expected_rows / weights.sum(-1, keepdim=True))
