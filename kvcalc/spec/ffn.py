"""Feed-forward geometry: what a layer computes beside its attention. It costs weights, never cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union

from kvcalc.fields import STRICT, Size, Size0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """Two matrices, or three when gated (SwiGLU, GeGLU)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["dense"] = "dense"
    intermediate_size: Size
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """Routed experts, of which `num_experts_per_tok` work for a token, and shared ones that always do."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["moe"] = "moe"
    num_experts: Size
    num_experts_per_tok: Size
    moe_intermediate_size: Size
    n_shared_experts: Size0 = 0
    shared_expert_intermediate_size: Size | None = None
    """In all; default: n_shared_experts x moe_intermediate_size."""
    gated: bool = True
    bias: bool = False


FfnKind = Union[Dense, Moe]  # noqa: UP007 - read at run time by the schema
