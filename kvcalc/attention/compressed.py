"""DeepSeek-V4's compressed attention: a window of tokens, and one vector for every m tokens before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import Attention
from kvcalc.fields import Size, Size0
from kvcalc.formats import Role
from kvcalc.streams import Extent, Sharding, Stream, Strided, Window

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
        if bool(self.index_head_dim) != bool(self.index_topk):
            yield "index_topk", "index_head_dim and index_topk belong together"

    def streams(self) -> tuple[Stream, ...]:
        streams = [self._stream(Role.LATENT, self.head_dim, Window(self.sliding_window), "window")]
        if self.compress_ratio:
            strides = Strided(self.compress_ratio)
            streams.append(self._stream(Role.LATENT, self.head_dim, strides, "compressed"))
            streams.append(self._compressor(self.head_dim, "compressor"))
            if self.index_head_dim:
                streams.append(self._stream(Role.INDEX, self.index_head_dim, strides, "index"))
                streams.append(self._compressor(self.index_head_dim, "index_compressor"))
        return tuple(streams)

    def _compressor(self, width: int, label: str) -> Stream:
        """Content and gate (2), each twice as wide where strides overlap, of the tokens still to compress."""
        overlap = 2 if self.compress_ratio == OVERLAPPING_RATIO else 1
        return self._stream(Role.BUFFER, 2 * overlap * width, Window(overlap * self.compress_ratio), label)

    def _stream(self, role: Role, width: int, extent: Extent, label: str) -> Stream:
        dtype = "fp32" if role is Role.BUFFER else None
        return Stream(
            role=role, heads=1, width=width, extent=extent, sharding=Sharding.REPLICATED, dtype=dtype, label=label
        )
