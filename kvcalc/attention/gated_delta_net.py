"""Gated delta net (Qwen3-Next, Qwen3.5): a matrix state per value head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import StateAttention, convolve, update
from kvcalc.fields import Size, StateDtype
from kvcalc.formats import Role
from kvcalc.steps import DECODE, Convention, Work
from kvcalc.streams import Fixed, Stream
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedDeltaNet(StateAttention):
    """Linear attention with a gated delta rule: constant in the length.

    conv  = (2 x key_heads x key_dim + value_heads x value_dim) x (kernel - 1)
    state = value_heads x key_dim x value_dim
    """

    kind: Literal["gated_delta_net"] = "gated_delta_net"
    linear_num_key_heads: Size
    linear_num_value_heads: Size
    linear_key_head_dim: Size
    linear_value_head_dim: Size
    linear_conv_kernel_dim: Size
    conv_dtype: StateDtype = "bf16"
    state_dtype: StateDtype = "fp32"
    summary: ClassVar[str] = "gated delta net: convolution and matrix state, constant size"
    source: ClassVar[str] = "Gated DeltaNet arXiv 2412.06464; vLLM 0.33.0 mamba_utils.py:155-330"

    @property
    def label(self) -> str:
        return f"GDN {self.linear_num_value_heads} x {self.linear_key_head_dim} x {self.linear_value_head_dim}"

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.linear_num_value_heads % self.linear_num_key_heads:
            yield (
                "linear_num_value_heads",
                f"{self.linear_num_value_heads} value heads cannot share {self.linear_num_key_heads} key heads",
            )

    def streams(self) -> tuple[Stream, ...]:
        past = Fixed(self.linear_conv_kernel_dim - 1)
        key_heads, key = self.linear_num_key_heads, self.linear_key_head_dim
        value_heads, value = self.linear_num_value_heads, self.linear_value_head_dim
        return (
            Stream(role=Role.CONV, heads=key_heads, width=2 * key, extent=past, dtype=self.conv_dtype, label="conv_qk"),
            Stream(role=Role.CONV, heads=value_heads, width=value, extent=past, dtype=self.conv_dtype, label="conv_v"),
            Stream(role=Role.STATE, heads=value_heads, width=key * value, extent=Fixed(), dtype=self.state_dtype),
        )

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """Per state element: decay 1, k^T S 2, the outer product and its sum 2, q^T S 2: 7."""
        key, value = self.linear_key_head_dim, self.linear_value_head_dim
        values = self.linear_num_value_heads
        channels = 2 * self.linear_num_key_heads * key + values * value
        return (convolve(channels, self.linear_conv_kernel_dim), update(values * key * value, 7))

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """q and k (key heads), v and z (value heads), b and a (one per value head), convolution, norm, output.

        Source: transformers 5.17.0 models/qwen3_next (Qwen3NextGatedDeltaNet).
        """
        part, keys, values = Component.STATE, self.linear_num_key_heads, self.linear_num_value_heads
        key_width, value_width = keys * self.linear_key_head_dim, values * self.linear_value_head_dim
        kernel = self.linear_conv_kernel_dim
        return (
            *matrix("in_proj.q_k", (2 * key_width, hidden_size), part, columns=keys),
            *matrix("in_proj.v_z", (2 * value_width, hidden_size), part, columns=values),
            *matrix("in_proj.b_a", (2 * values, hidden_size), part, columns=values),
            vector("conv1d.q_k.weight", (2 * key_width, 1, kernel), part, units=keys),
            vector("conv1d.v.weight", (value_width, 1, kernel), part, units=values),
            vector("dt_bias", (values,), part, units=values),
            vector("A_log", (values,), part, units=values),
            vector("norm.weight", (self.linear_value_head_dim,), part),
            *matrix("out_proj", (hidden_size, value_width), part, rows=values),
        )
