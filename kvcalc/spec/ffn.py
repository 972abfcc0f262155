"""Feed-forward geometry: what a layer computes beside its attention. It costs weights, never cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union

from kvcalc.fields import STRICT, Size, Size0
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Ffn:
    """One kind of feed-forward block, as it stands in a spec under `ffn:`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """The weights of one block, without the norm before (or after) it."""
        raise NotImplementedError

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(field, message) for figures that cannot stand together."""
        return iter(())


def _mlp(
    name: str,
    hidden_size: int,
    width: int,
    part: Component,
    *,
    gated: bool,
    bias: bool,
    copies: int = 1,
    active_copies: int | None = None,
) -> tuple[Tensor, ...]:
    """(gate,) up (width, hidden) column parallel, down (hidden, width) row parallel."""
    found: list[Tensor] = []
    for part_name in ("gate_proj", "up_proj") if gated else ("up_proj",):
        found += matrix(
            f"{name}{part_name}", (width, hidden_size), part, columns=width, bias=bias,
            copies=copies, active_copies=active_copies,
        )  # fmt: skip
    found += matrix(
        f"{name}down_proj", (hidden_size, width), part, rows=width, bias=bias,
        copies=copies, active_copies=active_copies,
    )  # fmt: skip
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense(Ffn):
    """Two matrices, or three when gated (SwiGLU, GeGLU)."""

    kind: Literal["dense"] = "dense"
    intermediate_size: Size
    gated: bool = True
    bias: bool = False

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        part = Component.DENSE_FFN
        return _mlp("", hidden_size, self.intermediate_size, part, gated=self.gated, bias=self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe(Ffn):
    """Routed experts, of which `num_experts_per_tok` work for a token, and shared ones that always do.

    router (num_experts, hidden); per expert two or three matrices of moe_intermediate_size.
    """

    kind: Literal["moe"] = "moe"
    num_experts: Size
    num_experts_per_tok: Size
    moe_intermediate_size: Size
    n_shared_experts: Size0 = 0
    shared_expert_intermediate_size: Size | None = None
    """In all; default: n_shared_experts x moe_intermediate_size."""
    shared_expert_gate: bool = False
    """A sigmoid gate on the shared experts' output (Qwen)."""
    gated: bool = True
    bias: bool = False
    """A bias on each projection of each expert (gpt-oss)."""
    router: bool = True
    router_bias: bool = False
    """A bias of the router's matrix (gpt-oss)."""
    router_scales: bool = False
    """A scale per input channel and one per expert (Gemma-4)."""
    correction_bias: bool = False
    """A load-balancing bias per expert (DeepSeek-V3's e_score_correction_bias): not trained by gradient, yet stored."""
    moe_latent_size: Size | None = None
    """Width that routed experts work in, between two shared projections (Nemotron-3 Super)."""
    moe_latent_norm: bool = False
    """A norm of the routed experts' sum before it is projected back (Kimi-K3)."""
    zero_expert_num: Size0 = 0
    """Experts without weights that the router can choose as well (LongCat)."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.num_experts_per_tok > self.num_experts:
            yield "num_experts_per_tok", f"{self.num_experts_per_tok} of {self.num_experts} experts cannot work at once"

    @property
    def shared_width(self) -> int:
        """Width of all shared experts together."""
        if self.shared_expert_intermediate_size is not None:
            return self.shared_expert_intermediate_size
        return self.n_shared_experts * self.moe_intermediate_size

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        return (*self._router(hidden_size), *self._routed(hidden_size), *self._shared(hidden_size))

    def _router(self, hidden_size: int) -> Iterator[Tensor]:
        part, choices = Component.ROUTER, self.num_experts + self.zero_expert_num
        if self.router:
            yield from matrix("gate", (choices, hidden_size), part, bias=self.router_bias, quantizable=False)
        if self.router_scales:
            yield vector("gate.scale", (hidden_size,), part)
            yield vector("gate.per_expert_scale", (self.num_experts,), part)
        if self.correction_bias:
            yield vector("gate.e_score_correction_bias", (choices,), part)

    def _routed(self, hidden_size: int) -> Iterator[Tensor]:
        part, width = Component.ROUTED_EXPERTS, self.moe_latent_size or hidden_size
        yield from _mlp(
            "experts.", width, self.moe_intermediate_size, part, gated=self.gated, bias=self.bias,
            copies=self.num_experts, active_copies=self.num_experts_per_tok,
        )  # fmt: skip
        if self.moe_latent_size:
            yield from matrix("fc1_latent_proj", (self.moe_latent_size, hidden_size), Component.ROUTER)
            yield from matrix("fc2_latent_proj", (hidden_size, self.moe_latent_size), Component.ROUTER)
            if self.moe_latent_norm:
                yield vector("latent_norm", (self.moe_latent_size,), Component.ROUTER)

    def _shared(self, hidden_size: int) -> Iterator[Tensor]:
        part = Component.SHARED_EXPERTS
        if self.shared_width:
            yield from _mlp("shared_experts.", hidden_size, self.shared_width, part, gated=self.gated, bias=False)
        if self.shared_expert_gate:
            yield from matrix("shared_expert_gate", (1, hidden_size), part, quantizable=False)


FfnKind = Union[Dense, Moe]  # noqa: UP007 - read at run time by the schema
