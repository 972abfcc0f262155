"""Linear (lightning) attention: the running sum of k v^T per head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import Attention
from kvcalc.fields import Size, StateDtype
from kvcalc.formats import Role
from kvcalc.streams import Fixed, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Lightning(Attention):
    """MiniMax-Text-01's linear layers: constant in the length.

    state = num_attention_heads x head_dim x head_dim
    """

    kind: Literal["lightning"] = "lightning"
    num_attention_heads: Size
    head_dim: Size
    state_dtype: StateDtype = "fp32"
    summary: ClassVar[str] = "linear (lightning) attention: matrix state, constant size"
    source: ClassVar[str] = "MiniMax-01 arXiv 2501.08313 section 2.2; linear attention arXiv 2006.16236"

    @property
    def label(self) -> str:
        return f"linear {self.num_attention_heads} x {self.head_dim} x {self.head_dim}"

    def streams(self) -> tuple[Stream, ...]:
        size = self.head_dim * self.head_dim
        return (
            Stream(role=Role.STATE, heads=self.num_attention_heads, width=size, extent=Fixed(), dtype=self.state_dtype),
        )
