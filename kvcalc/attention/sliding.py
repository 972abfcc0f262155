"""Sliding-window attention: a layer sees, and keeps, only the newest tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import HeadedAttention
from kvcalc.fields import Size
from kvcalc.streams import Extent, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding(HeadedAttention):
    """K and V of the newest `sliding_window` tokens (the current one included).

    elements = num_key_value_heads x (head_dim + v_head_dim) x min(S, sliding_window)
    """

    kind: Literal["sliding"] = "sliding"
    sliding_window: Size
    summary: ClassVar[str] = "sliding window: K and V of the newest W tokens"
    source: ClassVar[str] = "Longformer arXiv 2004.05150; Mistral 7B arXiv 2310.06825 section 2"

    def extent(self) -> Extent:
        return Window(self.sliding_window)

    @property
    def label(self) -> str:
        return f"{super(Sliding, self).label}, window {self.sliding_window:,}"
