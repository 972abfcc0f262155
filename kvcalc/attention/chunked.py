"""Chunked attention (Llama-4): a token sees the tokens of its own chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import HeadedAttention
from kvcalc.fields import Size
from kvcalc.streams import Extent, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked(HeadedAttention):
    """K and V of one chunk of `attention_chunk_size` tokens.

    The room needed is that of a full chunk once S has reached it: min(S, attention_chunk_size).
    """

    kind: Literal["chunked"] = "chunked"
    attention_chunk_size: Size
    summary: ClassVar[str] = "chunked: K and V of the current chunk of C tokens"
    source: ClassVar[str] = "transformers 5.23.0 models/llama4 (attention_chunk_size); Llama-4 model card"

    def extent(self) -> Extent:
        return Window(self.attention_chunk_size, chunked=True)

    @property
    def label(self) -> str:
        return f"{super(Chunked, self).label}, chunk {self.attention_chunk_size:,}"
