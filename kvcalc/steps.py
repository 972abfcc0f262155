"""What one step asks of a layer: which rows are read, and how many FLOPs they cost.

A kind of attention declares both as small tables (`Read`, `Work`) over extents, so that one decode step, a whole
prefill, a rank's share and a NumPy sweep all come from the same lines. A multiply-add is two FLOPs; softmax,
norms, rotary embeddings and exponentials are left out, as in every published count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from kvcalc.formats import IntLike, lesser
from kvcalc.problems import did_you_mean, usage_error
from kvcalc.streams import Extent, Fixed, Stream

Phase = Literal["decode", "prefill"]


class Heads(StrEnum):
    """How often a byte of K or V is read."""

    GROUPED = "grouped"
    """Once, for all the query heads that share it (FlashAttention with packed groups, FlashMLA)."""
    EXPANDED = "expanded"
    """Once for each query head, as a kernel does that repeats K and V over the heads of a group."""


class Latent(StrEnum):
    """In which form MLA's latent is multiplied (DeepSeek-V2, section 2.1.2)."""

    ABSORBED = "absorbed"
    """Queries are projected into the latent space: scores over rank + rope, values over rank, per head."""
    EXPANDED = "expanded"
    """K (nope + rope) and V of every head are made from the latents first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How kernels are assumed to work: stated with every figure that depends on it."""

    heads: Heads = Heads.GROUPED
    latent: Latent = Latent.ABSORBED

    @property
    def name(self) -> str:
        return f"{self.heads},mla-{self.latent}"


DECODE = Convention()
PREFILL = Convention(latent=Latent.EXPANDED)
"""A prefill multiplies K and V of every head: over many queries that costs fewer FLOPs than absorbing."""

_HEADS = {"grouped": Heads.GROUPED, "expanded": Heads.EXPANDED}
_LATENT = {"absorbed": Latent.ABSORBED, "mla-absorbed": Latent.ABSORBED, "mla-expanded": Latent.EXPANDED}
CONVENTIONS = (*_HEADS, *_LATENT)
"""The words of a convention."""


def parse_convention(text: str) -> Convention:
    """`grouped`, `expanded`, `absorbed`, `mla-expanded`, or one of each joined by a comma.

    Raises:
        KvcalcError: unknown word, or two words for one thing.
    """
    words = [part.strip().lower() for part in text.split(",")]
    for word in words:
        if word not in CONVENTIONS:
            hint = did_you_mean(word, CONVENTIONS) or f"words: {', '.join(CONVENTIONS)}"
            raise usage_error(f"unknown kernel convention {word[:40]!r}", help=hint)
    heads = [_HEADS[word] for word in words if word in _HEADS]
    latent = [_LATENT[word] for word in words if word in _LATENT]
    if len(heads) > 1 or len(latent) > 1:
        raise usage_error(f"two conventions for the same thing in {text[:60]!r}", help="as in grouped,mla-expanded")
    return Convention(heads=(heads or [Heads.GROUPED])[0], latent=(latent or [Latent.ABSORBED])[0])


@dataclass(frozen=True, slots=True)
class TopK:
    """Of the rows of `extent` at most `count` are chosen: min(visible, count)."""

    extent: Extent
    count: int
    grows: bool = field(default=False, init=False)

    @property
    def saturation(self) -> int:
        """Tokens from which on `count` rows are there to choose from (or all that there ever are)."""
        if not self.extent.grows:
            return self.extent.saturation
        return max(self.extent.saturation, self.count * self.extent.period)

    @property
    def period(self) -> int:
        return self.extent.period

    @property
    def formula(self) -> str:
        return f"min({self.extent.formula}, {self.count})"

    def rows(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return lesser(self.extent.rows(tokens, encoder_tokens), self.count)

    def visible(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        return lesser(self.extent.visible(tokens, encoder_tokens), self.count)

    def visible_sum(self, tokens: IntLike, encoder_tokens: int) -> IntLike:
        # Every shipped indexer chooses among all tokens, all strides, or (a what-if) a window.
        count = self.count if self.extent.grows else min(self.count, self.extent.saturation)
        ramp = lesser(tokens, count * self.extent.period)
        return self.extent.visible_sum(ramp, encoder_tokens) + (tokens - ramp) * count


EACH_TOKEN = Fixed(1)
"""Work done once per new token, whatever the length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Rows of a stream that a decode step reads, of one layer and one sequence."""

    stream: Stream
    extent: Extent
    """The rows: `extent.visible(S, E)`."""
    heads: int
    """Heads' rows that are read: those of the stream, or one for each query head (convention `expanded`)."""
    split: bool
    """Dealt out over tensor-parallel ranks."""
    kernel: str = "attention"
    """Kernels of a layer run one after another: an indexer's scan comes before the attention over what it chose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """units x flops for each visible row of each new token, of one layer and one sequence."""

    name: str
    extent: Extent
    units: int
    """Heads (or channels) that each do it."""
    flops: int
    split: bool = True
    """The units are dealt out over tensor-parallel ranks."""
    decode_only: bool = False
    """In a prefill a projection that the weights already count does it."""
    kernel: str = "attention"

    @property
    def formula(self) -> str:
        """FLOPs of a decode step as an expression in S (tokens) and E (encoder tokens)."""
        return f"{self.extent.formula} * {self.units} * {self.flops}"
