"""A layer that reads another layer's cache: its queries are its own, the K and V are not, and nothing is kept."""

from __future__ import annotations

from kernels_ref.reference.common import Random, Run, attend, causal_attention, causal_mask
from kvcalc.attention.base import HeadedAttention
from kvcalc.attention.shared import BoundShared


def run(kind: BoundShared, tokens: int, random: Random) -> Run:
    """The reading layer's step over the target's full cache.

    Raises:
        TypeError: the target keeps no K and V per head.
    """
    target = kind.target
    if not isinstance(target, HeadedAttention):
        raise TypeError(f"the reference reads K and V per head, not {target.label}")
    kv, width = target.num_key_value_heads, target.head_dim
    k, v = random(tokens, kv, width), random(tokens, kv, target.v_head_dim or width)
    q = random(tokens, kind.num_attention_heads, width)
    whole = causal_attention(q, k, v, width**-0.5, causal_mask(tokens, random.device))
    return Run(cache={}, decoded=attend(q[-1], k, v, width**-0.5), expected=whole[-1])
