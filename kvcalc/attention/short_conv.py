"""Gated short convolution (LFM2): the last inputs of a small causal kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import StateAttention, convolve
from kvcalc.fields import Size, StateDtype
from kvcalc.formats import Role
from kvcalc.steps import DECODE, Convention, Work
from kvcalc.streams import Fixed, Stream
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortConv(StateAttention):
    """LFM2's convolution layers: constant in the length.

    conv = conv_dim x (conv_L_cache - 1)
    """

    kind: Literal["short_conv"] = "short_conv"
    conv_dim: Size
    conv_L_cache: Size
    conv_bias: bool = False
    conv_dtype: StateDtype = "bf16"
    summary: ClassVar[str] = "short convolution: last inputs, constant size"
    source: ClassVar[str] = "LFM2 (transformers 5.23.0 models/lfm2); vLLM 0.33.0 mamba_utils.py:155-330"

    @property
    def label(self) -> str:
        return f"short conv {self.conv_dim:,} x {self.conv_L_cache}"

    def streams(self) -> tuple[Stream, ...]:
        return (
            Stream(
                role=Role.CONV, heads=self.conv_dim, width=1, extent=Fixed(self.conv_L_cache - 1), dtype=self.conv_dtype
            ),
        )

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """The convolution alone; the gates before and after it are elementwise."""
        return (convolve(self.conv_dim, self.conv_L_cache),)

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """B, C and x from one projection, the convolution, the output. Source: transformers 5.17.0 models/lfm2."""
        part, channels, bias = Component.STATE, self.conv_dim, self.conv_bias
        found = [
            *matrix("in_proj", (3 * channels, hidden_size), part, columns=channels, bias=bias),
            vector("conv.weight", (channels, 1, self.conv_L_cache), part, units=channels),
            *matrix("out_proj", (hidden_size, channels), part, rows=channels, bias=bias),
        ]
        if bias:
            found.append(vector("conv.bias", (channels,), part, units=channels))
        return tuple(found)
