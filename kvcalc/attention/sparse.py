"""MLA with a sparse indexer beside it (DeepSeek-V3.2, GLM-5): small keys choose which latents are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import index_stream, read_by, scan_read, scan_work
from kvcalc.attention.mla import LatentAttention
from kvcalc.fields import Size
from kvcalc.steps import DECODE, Convention, Read, TopK, Work
from kvcalc.streams import Stream
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse(LatentAttention):
    """MLA's latent, and one indexer key of `index_head_dim` elements per token (one head, replicated).

    elements per token = kv_lora_rank + qk_rope_head_dim + index_head_dim; every latent is kept although a
    step reads only `index_topk` of them. `index_cache: shared` marks layers that reuse an earlier layer's
    choice and keep no indexer key.
    """

    kind: Literal["sparse"] = "sparse"
    index_head_dim: Size
    index_n_heads: Size
    index_topk: Size
    index_cache: Literal["own", "shared"] = "own"
    summary: ClassVar[str] = "MLA + sparse indexer (DSA): latent and one indexer key per token"
    source: ClassVar[str] = "DeepSeek-V3.2-Exp report section 1 (lightning indexer); vLLM 0.33.0 deepseek_v2.py:658"

    @property
    def label(self) -> str:
        index = f" + index {self.index_head_dim}" if self.index_cache == "own" else ""
        latent = f"MLA {self.num_attention_heads} x ({self.kv_lora_rank}+{self.qk_rope_head_dim})"
        return f"{latent}{index}, top {self.index_topk:,}"

    def streams(self) -> tuple[Stream, ...]:
        latent = super(Sparse, self).streams()
        if self.index_cache == "shared":
            return latent
        return (*latent, index_stream(self.index_head_dim, self.extent()))

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        """Every indexer key, and the latents of the `index_topk` chosen tokens."""
        queries = num_attention_heads or self.num_attention_heads
        latent, *index = self.streams()
        chosen = read_by(latent, TopK(latent.extent, self.index_topk), queries, convention)
        return (chosen, *map(scan_read, index))

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """The indexer's scan of every token, and absorbed MLA over the chosen rows.

        Chosen rows are always multiplied in their latent form (FlashMLA's sparse kernels), in a prefill too.
        """
        heads, extent = num_attention_heads or self.num_attention_heads, self.extent()
        attention = self.absorbed(TopK(extent, self.index_topk), heads)
        if self.index_cache == "shared":
            return attention
        return (scan_work(self.index_n_heads, self.index_head_dim, extent), *attention)

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """MLA's, and the indexer: queries from q's latent, one key with a LayerNorm, a weight per head (replicated).

        Source: transformers 5.17.0 models/deepseek_v32/modeling_deepseek_v32.py (DeepseekV32Indexer).
        """
        latent = super(Sparse, self).tensors(hidden_size)
        if self.index_cache == "shared":
            return latent
        part, width = Component.ATTENTION, self.index_head_dim
        queries = (self.index_n_heads * width, self.q_lora_rank or hidden_size)
        return (
            *latent,
            *matrix("indexer.wq_b", queries, part),
            *matrix("indexer.wk", (width, hidden_size), part),
            vector("indexer.k_norm", (2, width), part),
            *matrix("indexer.weights_proj", (self.index_n_heads, hidden_size), part, quantizable=False),
        )
