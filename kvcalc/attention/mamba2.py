"""Mamba-2: states per head, convolution over the inputs and the groups' B and C."""

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
class Mamba2(StateAttention):
    """Structured state space duality: constant in the length.

    conv  = (heads x head_dim + 2 x n_groups x ssm_state_size) x (conv_kernel - 1)
    state = heads x head_dim x ssm_state_size
    """

    kind: Literal["mamba2"] = "mamba2"
    mamba_num_heads: Size
    mamba_head_dim: Size
    ssm_state_size: Size
    n_groups: Size
    conv_kernel: Size
    use_conv_bias: bool = True
    use_bias: bool = False
    """Biases on the input and output projections."""
    gated_norm: bool = True
    """A learned norm before the output projection."""
    conv_dtype: StateDtype = "bf16"
    state_dtype: StateDtype = "fp32"
    summary: ClassVar[str] = "Mamba-2: convolution and recurrent state, constant size"
    source: ClassVar[str] = "Mamba-2 arXiv 2405.21060; vLLM 0.33.0 mamba_utils.py:155-330"

    @property
    def label(self) -> str:
        return f"Mamba-2 {self.mamba_num_heads} x {self.mamba_head_dim} x {self.ssm_state_size}"

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.mamba_num_heads % self.n_groups:
            yield "n_groups", f"{self.mamba_num_heads} heads cannot be split into {self.n_groups} groups"

    def streams(self) -> tuple[Stream, ...]:
        past = Fixed(self.conv_kernel - 1)
        heads, width, state = self.mamba_num_heads, self.mamba_head_dim, self.ssm_state_size
        return (
            Stream(role=Role.CONV, heads=heads, width=width, extent=past, dtype=self.conv_dtype, label="conv_x"),
            Stream(
                role=Role.CONV,
                heads=self.n_groups,
                width=2 * state,
                extent=past,
                dtype=self.conv_dtype,
                label="conv_bc",
            ),
            Stream(role=Role.STATE, heads=heads, width=width * state, extent=Fixed(), dtype=self.state_dtype),
        )

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """Per state element: decay, x B and its sum, C h and its sum: 5."""
        channels = self.mamba_num_heads * self.mamba_head_dim
        return (
            convolve(channels + 2 * self.n_groups * self.ssm_state_size, self.conv_kernel),
            update(channels * self.ssm_state_size, 5),
        )

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """Heads split over TP ranks, groups (B and C) too, with at least one group per rank.

        The input projection is one matrix in checkpoints; its parts are listed because TP cuts them differently.
        Source: transformers 5.17.0 models/mamba2 (Mamba2Mixer); vLLM 0.33.0 mamba_mixer2.py.
        """
        part, heads, groups = Component.STATE, self.mamba_num_heads, self.n_groups
        channels, shared = heads * self.mamba_head_dim, 2 * groups * self.ssm_state_size
        bias = self.use_bias
        found = [
            *matrix("in_proj.z_x", (2 * channels, hidden_size), part, columns=heads, bias=bias),
            *matrix("in_proj.b_c", (shared, hidden_size), part, columns=groups, replicates=True, bias=bias),
            *matrix("in_proj.dt", (heads, hidden_size), part, columns=heads, bias=bias),
            vector("conv1d.x.weight", (channels, 1, self.conv_kernel), part, units=heads),
            vector("conv1d.b_c.weight", (shared, 1, self.conv_kernel), part, units=groups, replicates=True),
            vector("dt_bias", (heads,), part, units=heads),
            vector("A_log", (heads,), part, units=heads),
            vector("D", (heads,), part, units=heads),
            *matrix("out_proj", (hidden_size, channels), part, rows=heads, bias=bias),
        ]
        if self.gated_norm:
            found.append(vector("norm.weight", (channels,), part, units=heads))
        if self.use_conv_bias:
            found.append(vector("conv1d.x.bias", (channels,), part, units=heads))
            found.append(vector("conv1d.b_c.bias", (shared,), part, units=groups, replicates=True))
        return tuple(found)
