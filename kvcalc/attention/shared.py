"""A layer that reads another layer's cache and keeps none of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from kvcalc.attention.base import Attention
from kvcalc.fields import Name, Size
from kvcalc.steps import DECODE, Convention, Read, Work
from kvcalc.streams import Stream
from kvcalc.tensors import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared(Attention):
    """Zero bytes: queries of this layer attend to the cache of an earlier layer of entry `reads`.

    Gemma-3n and Gemma-4-E (the last `num_kv_shared_layers`), Hunyuan-Large (cross-layer attention: pairs),
    YOCO (the upper half reads one layer).
    """

    kind: Literal["shared"] = "shared"
    reads: Name
    """Name of the entry under `attention:` whose cache is read."""
    num_attention_heads: Size
    kv_proj: bool = False
    """True where the checkpoint still holds k and v projections that nothing uses (Gemma-3n)."""
    k_norm: bool = False
    """True where the checkpoint holds a norm of keys without the projection (Hunyuan-Large)."""
    summary: ClassVar[str] = "reads another layer's cache: keeps nothing"
    source: ClassVar[str] = "CLA arXiv 2405.12981; YOCO arXiv 2405.05254; transformers 5.23.0 models/gemma3n"

    @property
    def label(self) -> str:
        return f"shares the cache of `{self.reads}`"

    def streams(self) -> tuple[Stream, ...]:
        return ()

    def resolve(self, table: Mapping[str, Attention]) -> Attention:
        return BoundShared(
            reads=self.reads,
            num_attention_heads=self.num_attention_heads,
            kv_proj=self.kv_proj,
            k_norm=self.k_norm,
            target=table[self.reads],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundShared(Shared):
    """A Shared layer that knows the kind whose cache it reads."""

    target: Attention

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        return self.target.decode_reads(convention, num_attention_heads=num_attention_heads or self.num_attention_heads)

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        return self.target.work(convention, num_attention_heads=num_attention_heads or self.num_attention_heads)

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        return self.target.reader_tensors(
            hidden_size, self.num_attention_heads, kv_proj=self.kv_proj, k_norm=self.k_norm or self.kv_proj
        )
