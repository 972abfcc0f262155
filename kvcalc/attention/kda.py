"""Kimi delta attention: a matrix state per head, convolutions over q, k and v."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import StateAttention, convolve, update
from kvcalc.fields import Size, StateDtype
from kvcalc.formats import Role
from kvcalc.steps import DECODE, Convention, Work
from kvcalc.streams import Fixed, Stream
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Kda(StateAttention):
    """Kimi Linear's gated delta attention: constant in the length.

    conv  = 3 x num_heads x head_dim x (kernel - 1)
    state = num_heads x head_dim x head_dim
    """

    kind: Literal["kda"] = "kda"
    num_heads: Size
    head_dim: Size
    short_conv_kernel_size: Size
    full_rank_gate: bool = False
    """The output gate is one matrix instead of two through head_dim (Kimi-K3)."""
    conv_dtype: StateDtype = "bf16"
    state_dtype: StateDtype = "fp32"
    summary: ClassVar[str] = "Kimi delta attention: convolution and matrix state, constant size"
    source: ClassVar[str] = "Kimi Linear arXiv 2510.26692; vLLM 0.33.0 mamba_utils.py:155-330"

    @property
    def label(self) -> str:
        return f"KDA {self.num_heads} x {self.head_dim} x {self.head_dim}"

    def streams(self) -> tuple[Stream, ...]:
        past = Fixed(self.short_conv_kernel_size - 1)
        heads, width = self.num_heads, self.head_dim
        return (
            Stream(role=Role.CONV, heads=heads, width=3 * width, extent=past, dtype=self.conv_dtype),
            Stream(role=Role.STATE, heads=heads, width=width * width, extent=Fixed(), dtype=self.state_dtype),
        )

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """Per state element as the gated delta rule: decay 1, k^T S 2, outer product and sum 2, q^T S 2: 7."""
        heads, width = self.num_heads, self.head_dim
        return (convolve(3 * heads * width, self.short_conv_kernel_size), update(heads * width * width, 7))

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """q, k, v with convolutions; low-rank forget and output gates through head_dim; beta per head; norm; output.

        Source: Kimi-Linear modeling_kimi.py (KimiDeltaAttention); transformers 5.17.0 models/kimi_linear; for the
        full-rank gate vLLM 0.33.0 models/kimi_k3/nvidia/kda.py.
        """
        part, heads = Component.STATE, self.num_heads
        width = heads * self.head_dim
        found: list[Tensor] = []
        for name in ("q", "k", "v"):
            found += matrix(f"{name}_proj", (width, hidden_size), part, columns=heads)
            found.append(vector(f"{name}_conv1d.weight", (width, 1, self.short_conv_kernel_size), part, units=heads))
        if self.full_rank_gate:
            found += matrix("g_proj", (width, hidden_size), part, columns=heads)
        for name in ("f",) if self.full_rank_gate else ("f", "g"):
            found += matrix(f"{name}_a_proj", (self.head_dim, hidden_size), part)
            found += matrix(f"{name}_b_proj", (width, self.head_dim), part, columns=heads)
        found += matrix("b_proj", (heads, hidden_size), part, columns=heads)
        found.append(vector("A_log", (heads,), part, units=heads))
        found.append(vector("dt_bias", (width,), part, units=heads))
        found.append(vector("o_norm.weight", (self.head_dim,), part))
        found += matrix("o_proj", (hidden_size, width), part, rows=heads)
        return tuple(found)
