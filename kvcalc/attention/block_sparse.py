"""Keys and values in heads with an indexer beside them that chooses blocks of tokens (MiniMax-M3's MSA)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import HeadedAttention, headed_tensors, index_stream, read_by, scan_read, scan_work
from kvcalc.fields import Size
from kvcalc.steps import DECODE, Convention, Read, TopK, Work
from kvcalc.streams import Extent, Stream
from kvcalc.streams import Full as FullExtent
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSparse(HeadedAttention):
    """K and V of every token, and one indexer key of `index_head_dim` elements per token (one head, replicated).

    elements per token = num_key_value_heads x (head_dim + v_head_dim) + index_head_dim. Blocks of
    `index_block_size` tokens are scored by their best key; each KV head reads `index_topk_blocks` of them, its own
    choice, the newest among them.
    """

    kind: Literal["block_sparse"] = "block_sparse"
    index_head_dim: Size
    index_n_heads: Size
    index_block_size: Size
    index_topk_blocks: Size
    summary: ClassVar[str] = "GQA + block-sparse indexer (MSA): keys, values and one indexer key per token"
    source: ClassVar[str] = "MSA, arXiv 2606.13392; transformers 5.23.0 models/minimax_m3_vl (MiniMaxM3VLIndexer)"

    @property
    def label(self) -> str:
        heads = super(BlockSparse, self).label
        return f"{heads} + index {self.index_head_dim}, top {self.index_topk_blocks:,} x {self.index_block_size:,}"

    def extent(self) -> Extent:
        return FullExtent()

    def chosen(self) -> TopK:
        """The rows that a step reads: at most so many whole blocks, the newest of which may not be full yet."""
        return TopK(self.extent(), self.index_topk_blocks * self.index_block_size)

    def streams(self) -> tuple[Stream, ...]:
        return (*super(BlockSparse, self).streams(), index_stream(self.index_head_dim, self.extent()))

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        """Every indexer key, and the keys and values of the chosen blocks."""
        queries = num_attention_heads or self.num_attention_heads
        *kept, index = self.streams()
        chosen = tuple(read_by(stream, self.chosen(), queries, convention) for stream in kept)
        return (*chosen, scan_read(index))

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """The indexer's scan of every token, and attention over the chosen blocks."""
        queries, rows = num_attention_heads or self.num_attention_heads, self.chosen()
        return (
            scan_work(self.index_n_heads, self.index_head_dim, self.extent()),
            Work(name="scores", extent=rows, units=queries, flops=2 * self.head_dim),
            Work(name="values", extent=rows, units=queries, flops=2 * (self.v_head_dim or self.head_dim)),
        )

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """Those of GQA, and the indexer's: queries of its heads, one key, a norm of each (replicated)."""
        part, width = Component.ATTENTION, self.index_head_dim
        return (
            *headed_tensors(self, hidden_size),
            *matrix("indexer.q_proj", (self.index_n_heads * width, hidden_size), part),
            *matrix("indexer.k_proj", (width, hidden_size), part),
            vector("indexer.q_norm", (width,), part),
            vector("indexer.k_norm", (width,), part),
        )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        yield from super(BlockSparse, self).contradictions()
        if self.num_key_value_heads % self.index_n_heads:
            yield (
                "index_n_heads",
                f"{self.num_key_value_heads} KV heads cannot share the choices of {self.index_n_heads} indexer heads",
            )
