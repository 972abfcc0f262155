"""Mamba-2: states per head, convolution over the inputs and the groups' B and C."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import Attention
from kvcalc.fields import Size, StateDtype
from kvcalc.formats import Role
from kvcalc.streams import Fixed, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2(Attention):
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
