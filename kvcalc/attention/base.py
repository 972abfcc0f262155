"""What every attention kind answers. One file per kind holds all that is particular to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from kvcalc.fields import STRICT, Size
from kvcalc.formats import Role
from kvcalc.problems import usage_error
from kvcalc.streams import Extent, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One kind of token mixer, as it stands in a spec under `attention:`.

    Nothing outside a kind's own file asks for its name: what a kind keeps is its streams.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    summary: ClassVar[str]
    """One line for `list kinds`."""
    source: ClassVar[str]
    """Paper and equation, or repository file and version, of what is cached."""

    @property
    def label(self) -> str:
        """Short name with the figures that matter, as in `GQA 64/8 x 128`."""
        raise NotImplementedError

    def streams(self) -> tuple[Stream, ...]:
        """What one layer of this kind keeps for one sequence."""
        raise NotImplementedError

    def resolve(self, table: Mapping[str, Attention]) -> Attention:
        """This kind with references to other entries of the spec's `attention:` table filled in.

        Raises:
            KeyError: a name that is not in the table.
        """
        return self

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(field, message) for figures that cannot stand together."""
        return iter(())

    def with_kv_heads(self, count: int | None) -> Attention:
        """The same layer with `count` KV heads (None: as many as query heads); itself where it has no KV heads."""
        return self

    def with_latent(self, rank: int, rope: int) -> Attention:
        """The same layer with MLA's latent in place of K and V; itself where it has neither."""
        return self

    def with_window(self, size: int) -> Attention:
        """The same layer keeping only the newest `size` tokens; itself where nothing grows with the tokens."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadedAttention(Attention):
    """Attention with K and V per KV head: MHA, MQA and GQA differ in `num_key_value_heads` alone.

    Per kept row: K of num_key_value_heads x head_dim, V of num_key_value_heads x v_head_dim elements
    (Vaswani et al. 2017; Shazeer, arXiv 1911.02150; Ainslie et al., arXiv 2305.13245).
    """

    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    v_head_dim: Size | None = None
    """Width of V where it differs from K's."""

    def extent(self) -> Extent:
        """Which rows are kept."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        heads, kv = self.num_attention_heads, self.num_key_value_heads
        name = "MHA" if heads == kv else "MQA" if kv == 1 else "GQA"
        widths = (
            str(self.head_dim) if self.v_head_dim in (None, self.head_dim) else f"{self.head_dim}/{self.v_head_dim}"
        )
        return f"{name} {heads}/{kv} x {widths}"

    def streams(self) -> tuple[Stream, ...]:
        extent = self.extent()
        return (
            Stream(role=Role.KEY, heads=self.num_key_value_heads, width=self.head_dim, extent=extent),
            Stream(
                role=Role.VALUE, heads=self.num_key_value_heads, width=self.v_head_dim or self.head_dim, extent=extent
            ),
        )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.num_attention_heads % self.num_key_value_heads:
            yield (
                "num_key_value_heads",
                f"{self.num_attention_heads} query heads cannot be shared by {self.num_key_value_heads} KV heads",
            )

    def with_kv_heads(self, count: int | None) -> Attention:
        heads = self.num_attention_heads if count is None else count
        if self.num_attention_heads % heads:
            raise usage_error(
                f"{self.num_attention_heads} query heads cannot be shared by {heads} KV heads",
                help="choose a divisor of the query heads",
            )
        return replace(self, num_key_value_heads=heads)

    def with_latent(self, rank: int, rope: int) -> Attention:
        from kvcalc.attention.mla import Mla

        return Mla(
            num_attention_heads=self.num_attention_heads,
            kv_lora_rank=rank,
            qk_rope_head_dim=rope,
            qk_nope_head_dim=max(1, self.head_dim - rope),
            v_head_dim=self.v_head_dim or self.head_dim,
        )

    def with_window(self, size: int) -> Attention:
        from kvcalc.attention.sliding import Sliding

        if not self.extent().grows:
            return self
        return Sliding(
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            v_head_dim=self.v_head_dim,
            sliding_window=size,
        )
