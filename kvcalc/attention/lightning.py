"""Linear (lightning) attention: the running sum of k v^T per head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import StateAttention, update
from kvcalc.fields import Size, StateDtype
from kvcalc.formats import Role
from kvcalc.steps import DECODE, Convention, Work
from kvcalc.streams import Fixed, Stream
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Lightning(StateAttention):
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

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """Per state element: decay 1, k v^T and its sum 2, q S 2: 5 (Step-3, table 2, counts 10 for MiniMax-M1)."""
        return (update(self.num_attention_heads * self.head_dim * self.head_dim, 5),)

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """q, k and v, an output gate and a norm over all heads, and the output projection.

        Source: MiniMax-Text-01 modeling_minimax_text_01.py (MiniMaxText01LightningAttention).
        """
        part, heads = Component.STATE, self.num_attention_heads
        width = heads * self.head_dim
        return (
            *matrix("qkv_proj", (3 * width, hidden_size), part, columns=heads),
            *matrix("output_gate", (width, hidden_size), part, columns=heads),
            vector("norm.weight", (width,), part, units=heads),
            *matrix("out_proj", (hidden_size, width), part, rows=heads),
        )
