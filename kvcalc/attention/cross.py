"""Cross-attention of an encoder-decoder: K and V of the encoder's tokens, written once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from kvcalc.attention.base import HeadedAttention
from kvcalc.streams import Encoder, Extent
from kvcalc.tensors import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Cross(HeadedAttention):
    """K and V of E encoder tokens, whatever the decoder's length.

    elements = num_key_value_heads x (head_dim + v_head_dim) x E
    """

    kind: Literal["cross"] = "cross"
    summary: ClassVar[str] = "cross-attention: K and V of the encoder's tokens"
    source: ClassVar[str] = "Vaswani et al. 2017 section 3.2.3; T5 arXiv 1910.10683; Whisper arXiv 2212.04356"

    def extent(self) -> Extent:
        return Encoder()

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """K and V are projected once, from the encoder's output."""
        once = ("k_proj.", "v_proj.")
        return tuple(replace(t, in_decode=not t.name.startswith(once)) for t in super(Cross, self).tensors(hidden_size))

    @property
    def label(self) -> str:
        return f"cross {super(Cross, self).label}"
