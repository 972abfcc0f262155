"""Multi-head latent attention: one latent vector per token stands for the K and V of all heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from kvcalc.attention.base import Attention, HeadGeometry, read_whole
from kvcalc.fields import Size, Size0
from kvcalc.formats import Role
from kvcalc.steps import DECODE, Convention, Latent, Read, Work
from kvcalc.streams import Extent, Full, Sharding, Stream, Window
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention(Attention):
    """The latent c_KV (kv_lora_rank) and one rotary key shared by all heads (qk_rope_head_dim).

    elements per token = kv_lora_rank + qk_rope_head_dim: no factor 2, and no split over TP ranks.
    """

    num_attention_heads: Size
    kv_lora_rank: Size
    qk_rope_head_dim: Size0
    qk_nope_head_dim: Size
    v_head_dim: Size
    q_lora_rank: Size | None = None
    sliding_window: Size | None = None
    """Set only for the what-if of a windowed latent; no shipped model has one."""
    attention_bias: bool = False
    """Biases on the down-projections and on the output."""
    output_gate: bool = False
    """A gate per element on the heads' output (Kimi-K3)."""

    def extent(self) -> Extent:
        return Full() if self.sliding_window is None else Window(self.sliding_window)

    def streams(self) -> tuple[Stream, ...]:
        width = self.kv_lora_rank + self.qk_rope_head_dim
        return (Stream(role=Role.LATENT, heads=1, width=width, extent=self.extent(), sharding=Sharding.REPLICATED),)

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        return read_whole(self.streams(), num_attention_heads or self.num_attention_heads, convention)

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """Absorbed: 2 x (rank + rope) and 2 x rank per head and row. Expanded: 2 x (nope + rope) and 2 x v, after
        2 x rank x (nope + v) to make K and V of every head anew from each cached latent.

        Step-3's tables count the values at rank + rope as well (FlashMLA multiplies so, and discards the rest).
        """
        heads, extent = num_attention_heads or self.num_attention_heads, self.extent()
        if convention.latent is Latent.ABSORBED:
            return self.absorbed(extent, heads)
        nope, value = self.qk_nope_head_dim, self.v_head_dim
        make = 2 * self.kv_lora_rank * (nope + value)
        return (
            Work(name="decompression", extent=extent, units=heads, flops=make, decode_only=True),
            Work(name="scores", extent=extent, units=heads, flops=2 * (nope + self.qk_rope_head_dim)),
            Work(name="values", extent=extent, units=heads, flops=2 * value),
        )

    def absorbed(self, extent: Extent, heads: int) -> tuple[Work, ...]:
        """Scores and values in the latent space over the rows of `extent`."""
        rank = self.kv_lora_rank
        return (
            Work(name="scores", extent=extent, units=heads, flops=2 * (rank + self.qk_rope_head_dim)),
            Work(name="values", extent=extent, units=heads, flops=2 * rank),
        )

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """q_a (q_lora_rank, hidden) and q_b (heads x (nope + rope), q_lora_rank), or q in one; kv_a (rank + rope,
        hidden), kv_b (heads x (nope + v), rank), o (hidden, heads x v); norms on both latents.

        Source: DeepSeek-V2, arXiv 2405.04434, appendix C. Down-projections are replicated over TP ranks, the others
        split over heads (vLLM 0.33.0 deepseek_v2.py).
        """
        heads, part, bias = self.num_attention_heads, Component.ATTENTION, self.attention_bias
        q_width = heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        rank = self.kv_lora_rank
        found: list[Tensor] = []
        if self.q_lora_rank:
            found += matrix("q_a_proj", (self.q_lora_rank, hidden_size), part, bias=bias)
            found.append(vector("q_a_layernorm.weight", (self.q_lora_rank,), part))
            found += matrix("q_b_proj", (q_width, self.q_lora_rank), part, columns=heads)
        else:
            found += matrix("q_proj", (q_width, hidden_size), part, columns=heads)
        found += matrix("kv_a_proj_with_mqa", (rank + self.qk_rope_head_dim, hidden_size), part, bias=bias)
        found.append(vector("kv_a_layernorm.weight", (rank,), part))
        kv_width = heads * (self.qk_nope_head_dim + self.v_head_dim)
        found += matrix("kv_b_proj", (kv_width, rank), part, columns=heads)
        if self.output_gate:
            found += matrix("g_proj", (heads * self.v_head_dim, hidden_size), part, columns=heads)
        found += matrix("o_proj", (hidden_size, heads * self.v_head_dim), part, rows=heads, bias=bias)
        return tuple(found)

    def geometry(self) -> HeadGeometry | None:
        """K of qk_nope + qk_rope and V of v_head_dim per head, as an expanded cache would hold them."""
        return HeadGeometry(
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_attention_heads,
            head_dim=self.qk_nope_head_dim + self.qk_rope_head_dim,
            v_head_dim=self.v_head_dim,
            extent=self.extent(),
        )

    def reranked(self, kv_lora_rank: int, qk_rope_head_dim: int) -> Attention | None:
        return replace(self, kv_lora_rank=kv_lora_rank, qk_rope_head_dim=qk_rope_head_dim)

    def windowed(self, size: int) -> Attention | None:
        return replace(self, sliding_window=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mla(LatentAttention):
    """DeepSeek-V2's multi-head latent attention.

    One latent vector per token stands for the K and V of all heads, beside one rotary key that they share:

    elements per token = kv_lora_rank + qk_rope_head_dim

    There is no factor 2 (the latent is read as K and as V), the number of heads does not enter, and every
    tensor-parallel rank holds the whole latent.
    """

    kind: Literal["mla"] = "mla"
    summary: ClassVar[str] = "multi-head latent attention: one latent + rotary key per token"
    source: ClassVar[str] = "DeepSeek-V2, arXiv 2405.04434, section 2.1 and table 1: (d_c + d_h^R) l elements"

    @property
    def label(self) -> str:
        window = f", window {self.sliding_window:,}" if self.sliding_window else ""
        return f"MLA {self.num_attention_heads} x ({self.kv_lora_rank}+{self.qk_rope_head_dim}){window}"
