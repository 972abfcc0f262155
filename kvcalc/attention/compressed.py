"""DeepSeek-V4's compressed attention: a window of tokens, and one vector for every m tokens before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import Attention, index_stream, read_by, scan_read, scan_work
from kvcalc.fields import Size, Size0
from kvcalc.formats import Role
from kvcalc.steps import DECODE, Convention, Read, TopK, Work
from kvcalc.streams import Extent, Sharding, Stream, Strided, Window
from kvcalc.tensors import Component, Tensor, matrix, vector

OVERLAPPING_RATIO = 4
"""At this ratio (CSA) each compressed vector sees two strides of tokens, and an indexer chooses among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed(Attention):
    """One vector of head_dim is both K and V: of the newest `sliding_window` tokens, and of every stride.

    elements = head_dim x (min(S, sliding_window) + floor(S / compress_ratio))
               + index_head_dim x floor(S / compress_ratio)

    compress_ratio 0 keeps the window alone. The compressor's fp32 inputs that wait for a full stride
    are an engine's working space: they are declared as buffers and left out of the logical bytes.
    """

    kind: Literal["compressed"] = "compressed"
    num_attention_heads: Size
    head_dim: Size
    sliding_window: Size
    compress_ratio: Size0
    index_head_dim: Size | None = None
    index_n_heads: Size | None = None
    index_topk: Size | None = None
    q_lora_rank: Size | None = None
    qk_rope_head_dim: Size | None = None
    o_lora_rank: Size | None = None
    o_groups: Size | None = None
    summary: ClassVar[str] = "window + one compressed K=V vector per stride, some with an indexer (DeepSeek-V4)"
    source: ClassVar[str] = "DeepSeek-V4 config (compress_ratios); vLLM 0.33.0 models/deepseek_v4/attention.py:860-926"

    @property
    def label(self) -> str:
        stride = f" + 1/{self.compress_ratio}" if self.compress_ratio else ""
        index = f", index {self.index_head_dim}" if self.index_head_dim else ""
        return f"K=V {self.num_attention_heads} x {self.head_dim}: window {self.sliding_window:,}{stride}{index}"

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.index_head_dim and not self.compress_ratio:
            yield "index_head_dim", "a window-only layer (compress_ratio 0) has nothing to index"
        if self.o_groups and self.num_attention_heads % self.o_groups:
            yield "o_groups", f"{self.num_attention_heads} heads cannot be split into {self.o_groups} groups"
        figures = {name: getattr(self, name) for name in ("index_head_dim", "index_n_heads", "index_topk")}
        missing = [name for name, figure in figures.items() if figure is None]
        if missing and len(missing) < len(figures):
            yield missing[0], "index_head_dim, index_n_heads and index_topk belong together"

    def streams(self) -> tuple[Stream, ...]:
        streams = [self._stream(Role.LATENT, self.head_dim, Window(self.sliding_window), "window")]
        if self.compress_ratio:
            strides = Strided(self.compress_ratio)
            streams.append(self._stream(Role.LATENT, self.head_dim, strides, "compressed"))
            streams.append(self._compressor(self.head_dim, "compressor"))
            if self.index_head_dim:
                streams.append(index_stream(self.index_head_dim, strides))
                streams.append(self._compressor(self.index_head_dim, "index_compressor"))
        return tuple(streams)

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        """The window, the compressed rows (with an indexer: the chosen ones), and every indexer key."""
        queries = num_attention_heads or self.num_attention_heads
        kept = [stream for stream in self.streams() if stream.role is not Role.BUFFER]
        return tuple(
            scan_read(stream)
            if stream.role is Role.INDEX
            else read_by(stream, self._chosen(stream), queries, convention)
            for stream in kept
        )

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """2 x head_dim for scores, as much for values, per head and row; an indexer's scan of every stride's key."""
        heads = num_attention_heads or self.num_attention_heads
        found: list[Work] = []
        for stream in self.streams():
            if stream.role is Role.LATENT:
                rows, flops = self._chosen(stream), 2 * self.head_dim
                found.append(Work(name=f"scores ({stream.name})", extent=rows, units=heads, flops=flops))
                found.append(Work(name=f"values ({stream.name})", extent=rows, units=heads, flops=flops))
            elif stream.role is Role.INDEX and self.index_n_heads:
                found.append(scan_work(self.index_n_heads, stream.width, stream.extent))
        return tuple(found)

    def _chosen(self, stream: Stream) -> Extent:
        """Rows of a latent stream that a step reads."""
        if self.index_topk and stream.extent.grows:
            return TopK(stream.extent, self.index_topk)
        return stream.extent

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """Low-rank queries, one K=V vector, grouped low-rank output, sinks, and what compresses each stride.

        Source: transformers 5.17.0 models/deepseek_v4/modeling_deepseek_v4.py (DeepseekV4Attention and its
        compressors). The compressors and the indexer are replicated over TP ranks.
        """
        part, heads, width = Component.ATTENTION, self.num_attention_heads, self.head_dim
        q_rank, o_rank, groups = self.q_lora_rank, self.o_lora_rank, self.o_groups or 1
        found: list[Tensor] = []
        if q_rank:
            found += matrix("q_a_proj", (q_rank, hidden_size), part)
            found.append(vector("q_a_norm", (q_rank,), part))
        found += matrix("q_b_proj", (heads * width, q_rank or hidden_size), part, columns=heads)
        found += matrix("kv_proj", (width, hidden_size), part)
        found.append(vector("kv_norm", (width,), part))
        if o_rank:
            found += matrix("o_a_proj", (groups * o_rank, heads * width // groups), part, columns=groups)
            found += matrix("o_b_proj", (hidden_size, groups * o_rank), part, rows=groups)
        else:
            found += matrix("o_proj", (hidden_size, heads * width), part, rows=heads)
        found.append(vector("sinks", (heads,), part, units=heads))
        if self.compress_ratio:
            found += self._compressor_tensors("compressor", width, hidden_size)
            if self.index_head_dim and self.index_n_heads:
                found += self._compressor_tensors("indexer.compressor", self.index_head_dim, hidden_size)
                queries = (self.index_n_heads * self.index_head_dim, q_rank or hidden_size)
                found += matrix("indexer.q_b_proj", queries, part)
                found += matrix("indexer.weights_proj", (self.index_n_heads, hidden_size), part, quantizable=False)
        return tuple(found)

    def _compressor_tensors(self, name: str, width: int, hidden_size: int) -> tuple[Tensor, ...]:
        """Content and gate projections, a bias per position of the stride, and a norm."""
        part = Component.ATTENTION
        wide = self._overlap * width
        return (
            *matrix(f"{name}.kv_proj", (wide, hidden_size), part, quantizable=False),
            *matrix(f"{name}.gate_proj", (wide, hidden_size), part, quantizable=False),
            vector(f"{name}.position_bias", (self.compress_ratio, wide), part),
            vector(f"{name}.kv_norm", (width,), part),
        )

    @property
    def _overlap(self) -> int:
        return 2 if self.compress_ratio == OVERLAPPING_RATIO else 1

    def _compressor(self, width: int, label: str) -> Stream:
        """Content and gate (2), each twice as wide where strides overlap, of the tokens still to compress."""
        overlap = self._overlap
        return self._stream(Role.BUFFER, 2 * overlap * width, Window(overlap * self.compress_ratio), label)

    def _stream(self, role: Role, width: int, extent: Extent, label: str) -> Stream:
        dtype = "fp32" if role is Role.BUFFER else None
        return Stream(
            role=role, heads=1, width=width, extent=extent, sharding=Sharding.REPLICATED, dtype=dtype, label=label
        )
