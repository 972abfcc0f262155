"""Weights as a model's layers declare them: shapes, what they belong to, and how tensor parallelism cuts them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import prod

from kvcalc.formats import ceil_div, round_up


class Component(StrEnum):
    """What a weight belongs to: the rows of every ledger of weights."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    STATE = "state"
    """Mixers that keep a state instead of a cache (Mamba, delta nets, linear attention, short convolutions)."""
    DENSE_FFN = "dense_ffn"
    ROUTED_EXPERTS = "routed_experts"
    SHARED_EXPERTS = "shared_experts"
    ROUTER = "router"
    NORM = "norm"
    HEAD = "head"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """TP cuts dimension `axis` into `units`; a rank holds ceil(units / ranks) of them, so at least one.

    More ranks than units (KV heads) therefore replicate; a unit is never cut. `pad_to` rounds the units up
    first, as engines pad the vocabulary.
    """

    axis: int
    units: int
    pad_to: int = 1
    replicates: bool = False
    """Whether engines let more ranks than units hold copies of them: heads of K and V, groups of Mamba-2."""

    def local_units(self, ranks: int) -> int:
        """What the fullest of `ranks` ranks holds."""
        return ceil_div(round_up(self.units, self.pad_to), ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """`copies` equal weights of `shape`, named as in a checkpoint.

    A matrix is (out_features, in_features), as torch.nn.Linear stores it.
    """

    name: str
    shape: tuple[int, ...]
    component: Component
    split: Split | None = None
    """None: every TP rank holds it whole."""
    copies: int = 1
    """Routed experts: one copy per expert."""
    active_copies: int | None = None
    """Copies that work for one token; default: all."""
    in_decode: bool = True
    """False: no decode step reads it (projections of K and V whose rows were written before, or never are)."""
    quantizable: bool = False
    """Whether weight quantisation applies: matrices do, but for routers and other small ones that decide."""

    @property
    def size(self) -> int:
        """Parameters of one copy."""
        return prod(self.shape)

    @property
    def params(self) -> int:
        """Parameters of all copies."""
        return self.size * self.copies

    @property
    def active_params(self) -> int:
        """Parameters that work for one token."""
        return self.size * (self.copies if self.active_copies is None else self.active_copies)

    def on_rank(self, ranks: int, expert_ranks: int = 1) -> Tensor:
        """What the fullest of `ranks` TP ranks holds, with the copies dealt out over `expert_ranks`."""
        copies, shape = ceil_div(self.copies, expert_ranks), self.shape
        if self.split is not None:
            axis = self.split.axis
            unit = shape[axis] // self.split.units
            shape = (*shape[:axis], self.split.local_units(ranks) * unit, *shape[axis + 1 :])
        # Most weights of most layouts are whole, and a search asks hundreds of thousands of times.
        whole = copies == self.copies and shape == self.shape
        return self if whole else replace(self, shape=shape, copies=copies)


def matrix(
    name: str,
    shape: tuple[int, int],
    component: Component,
    *,
    columns: int | None = None,
    rows: int | None = None,
    replicates: bool = False,
    bias: bool = False,
    copies: int = 1,
    active_copies: int | None = None,
    quantizable: bool = True,
) -> tuple[Tensor, ...]:
    """A linear layer of shape (out, in), with its bias if it has one.

    `columns` units of the output are dealt out over TP ranks (column parallel), or `rows` units of the input
    (row parallel: the bias is then replicated); neither: replicated.
    """
    split = Split(axis=1, units=rows) if rows else None
    if columns:
        split = Split(axis=0, units=columns, replicates=replicates)
    weight = Tensor(
        name=f"{name}.weight", shape=shape, component=component, split=split, copies=copies,
        active_copies=active_copies, quantizable=quantizable,
    )  # fmt: skip
    if not bias:
        return (weight,)
    return (
        weight,
        Tensor(
            name=f"{name}.bias", shape=shape[:1], component=component, split=split if columns else None,
            copies=copies, active_copies=active_copies,
        ),
    )  # fmt: skip


def vector(
    name: str, shape: tuple[int, ...], component: Component, *, units: int | None = None, replicates: bool = False
) -> Tensor:
    """A weight that is no linear layer (norms, gates per head, convolutions); `units` of its first axis are split."""
    split = Split(axis=0, units=units, replicates=replicates) if units else None
    return Tensor(name=name, shape=shape, component=component, split=split)
