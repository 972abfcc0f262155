"""Cross-attention: K and V of the encoder's E tokens, written once; every decoder token sees all of them."""

from __future__ import annotations

import torch

from kernels_ref.reference.common import Random, Run, attend
from kvcalc.attention.cross import Cross


def run(kind: Cross, tokens: int, random: Random) -> Run:
    """`tokens` is the encoder's length here: the decoder's does not matter."""
    heads, kv, width = kind.num_attention_heads, kind.num_key_value_heads, kind.head_dim
    k, v = random(tokens, kv, width), random(tokens, kv, kind.v_head_dim or width)
    q = random(heads, width)
    # One query at a time over one KV head at a time.
    group = heads // kv
    expected = torch.stack(
        [
            (torch.softmax(k[:, h // group] @ q[h] * width**-0.5, 0)[:, None] * v[:, h // group]).sum(0)
            for h in range(heads)
        ]
    )
    return Run(cache={"key": k, "value": v}, decoded=attend(q, k, v, width**-0.5), expected=expected)
