"""Mamba-1: a convolution state and a recurrent state per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import StateAttention, convolve, update
from kvcalc.fields import Size, Size0, StateDtype
from kvcalc.formats import Role
from kvcalc.steps import DECODE, Convention, Work
from kvcalc.streams import Fixed, Stream
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba(StateAttention):
    """Selective state space: constant in the length.

    conv  = intermediate_size x (conv_kernel - 1)
    state = intermediate_size x ssm_state_size
    """

    kind: Literal["mamba"] = "mamba"
    intermediate_size: Size
    """Channels of the mixer (d_inner = expand x hidden_size)."""
    ssm_state_size: Size
    conv_kernel: Size
    time_step_rank: Size0 = 0
    use_conv_bias: bool = True
    use_bias: bool = False
    """Biases on the input and output projections."""
    inner_norms: bool = False
    """Norms of dt, B and C (Jamba)."""
    conv_dtype: StateDtype = "bf16"
    state_dtype: StateDtype = "fp32"
    summary: ClassVar[str] = "Mamba-1: convolution and recurrent state, constant size"
    source: ClassVar[str] = "Mamba arXiv 2312.00752 section 3; vLLM 0.33.0 mamba_utils.py:155-330"

    @property
    def label(self) -> str:
        return f"Mamba-1 {self.intermediate_size:,} x {self.ssm_state_size}"

    def streams(self) -> tuple[Stream, ...]:
        channels = self.intermediate_size
        return (
            Stream(role=Role.CONV, heads=channels, width=1, extent=Fixed(self.conv_kernel - 1), dtype=self.conv_dtype),
            Stream(role=Role.STATE, heads=channels, width=self.ssm_state_size, extent=Fixed(), dtype=self.state_dtype),
        )

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """Per state element: dt A, dt x B, decay and add, C h and its sum: 6 (the exponential is left out)."""
        channels = self.intermediate_size
        return (convolve(channels, self.conv_kernel), update(channels * self.ssm_state_size, 6))

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """Channels split over TP ranks. Source: transformers 5.17.0 models/jamba (JambaMambaMixer), models/mamba."""
        part, channels, states = Component.STATE, self.intermediate_size, self.ssm_state_size
        rank, bias = self.time_step_rank, self.use_bias
        found = [
            *matrix("in_proj", (2 * channels, hidden_size), part, columns=channels, bias=bias),
            vector("conv1d.weight", (channels, 1, self.conv_kernel), part, units=channels),
            *matrix("x_proj", (rank + 2 * states, channels), part, rows=channels),
            *matrix("dt_proj", (channels, rank), part, columns=channels, bias=True),
            vector("A_log", (channels, states), part, units=channels),
            vector("D", (channels,), part, units=channels),
            *matrix("out_proj", (hidden_size, channels), part, rows=channels, bias=bias),
        ]
        if self.use_conv_bias:
            found.append(vector("conv1d.bias", (channels,), part, units=channels))
        if self.inner_norms:
            found.append(vector("dt_b_c_layernorms", (rank + 2 * states,), part))
        return tuple(found)
