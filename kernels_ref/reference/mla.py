"""Multi-head latent attention: the cache is c_KV beside one rotary key; decode absorbs W_UK and W_UV.

DeepSeek-V2, arXiv 2405.04434: equations 37 to 47 (expanded) and section 2.1.2 (absorbed).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels_ref.reference.common import Random, Run, attend, causal_attention, causal_mask
from kvcalc.attention.mla import LatentAttention


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """One sequence's latents and queries, and the two up-projections."""

    c: Tensor  # [S, rank]
    k_rope: Tensor  # [S, rope], one for all heads
    q_nope: Tensor  # [S, H, nope]
    q_rope: Tensor  # [S, H, rope]
    w_uk: Tensor  # [H, rank, nope]
    w_uv: Tensor  # [H, rank, dv]

    @property
    def scale(self) -> float:
        return float((self.q_nope.shape[-1] + self.q_rope.shape[-1]) ** -0.5)

    @property
    def rows(self) -> Tensor:
        """What is cached: [S, 1, rank + rope]."""
        return torch.cat([self.c, self.k_rope], -1)[:, None]


def make(kind: LatentAttention, tokens: int, random: Random) -> Latent:
    heads, rank = kind.num_attention_heads, kind.kv_lora_rank
    return Latent(
        c=random(tokens, rank),
        k_rope=random(tokens, kind.qk_rope_head_dim),
        q_nope=random(tokens, heads, kind.qk_nope_head_dim),
        q_rope=random(tokens, heads, kind.qk_rope_head_dim),
        w_uk=random(heads, rank, kind.qk_nope_head_dim) * rank**-0.5,
        w_uv=random(heads, rank, kind.v_head_dim) * rank**-0.5,
    )


def absorbed(x: Latent, rows: Tensor) -> Tensor:
    """The last token over cached rows [N, 1, rank + rope]: each row read once, as key and as value -> [H, dv]."""
    rank = x.c.shape[1]
    q = torch.cat([torch.einsum("hn,hrn->hr", x.q_nope[-1], x.w_uk), x.q_rope[-1]], -1)  # [H, rank + rope]
    latent = attend(q, rows, rows[..., :rank], x.scale)  # [H, rank]
    return torch.einsum("hr,hrv->hv", latent, x.w_uv)


def expanded(x: Latent, visible: Tensor) -> Tensor:
    """The last token with K and V of every head written out: visible [S, S] -> [H, dv]."""
    heads = x.q_nope.shape[1]
    k_rope = x.k_rope[:, None].expand(-1, heads, -1)
    k = torch.cat([torch.einsum("sr,hrn->shn", x.c, x.w_uk), k_rope], -1)
    v = torch.einsum("sr,hrv->shv", x.c, x.w_uv)
    q = torch.cat([x.q_nope, x.q_rope], -1)
    return causal_attention(q, k, v, x.scale, visible)[-1]


def run(kind: LatentAttention, tokens: int, random: Random) -> Run:
    x = make(kind, tokens, random)
    visible = causal_mask(tokens, random.device)
    return Run(cache={"latent": x.rows}, decoded=absorbed(x, x.rows), expected=expanded(x, visible))
