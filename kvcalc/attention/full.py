"""Full attention: every token's K and V are kept. MHA, MQA and GQA are this one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import HeadedAttention
from kvcalc.streams import Extent
from kvcalc.streams import Full as FullExtent


@dataclass(frozen=True, slots=True, kw_only=True)
class Full(HeadedAttention):
    """K and V of every token.

    elements per token = num_key_value_heads x (head_dim + v_head_dim)
    """

    kind: Literal["full"] = "full"
    summary: ClassVar[str] = "MHA, MQA, GQA: K and V of every token"
    source: ClassVar[str] = "Vaswani et al. 2017; MQA arXiv 1911.02150; GQA arXiv 2305.13245"

    def extent(self) -> Extent:
        return FullExtent()
