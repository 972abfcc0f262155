"""Attention with K and V per KV head, whatever part of the sequence a layer sees."""

from __future__ import annotations

from torch import Tensor

from kernels_ref.reference.common import Random, Run, attend, causal_attention
from kvcalc.attention.base import HeadedAttention


def run_masked(kind: HeadedAttention, tokens: int, random: Random, visible: Tensor) -> Run:
    """Decode of the last token over the rows that `visible` [S, S] lets it see, which are the rows kept."""
    heads, kv, width = kind.num_attention_heads, kind.num_key_value_heads, kind.head_dim
    q, k, v = random(tokens, heads, width), random(tokens, kv, width), random(tokens, kv, kind.v_head_dim or width)
    scale = width**-0.5
    kept = visible[-1]
    return Run(
        cache={"key": k[kept], "value": v[kept]},
        decoded=attend(q[-1], k[kept], v[kept], scale),
        expected=causal_attention(q, k, v, scale, visible)[-1],
    )
