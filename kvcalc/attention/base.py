"""What every attention kind answers. One file per kind holds all that is particular to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from kvcalc.fields import STRICT, Size
from kvcalc.formats import Role
from kvcalc.steps import DECODE, EACH_TOKEN, Convention, Heads, Read, Work
from kvcalc.streams import Extent, Sharding, Stream
from kvcalc.tensors import Component, Tensor, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadGeometry:
    """Heads of a layer as if their keys and values were all written out, and the rows it sees."""

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    v_head_dim: int
    extent: Extent


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

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        """What one decode step reads of one sequence; a layer that reads this cache brings its own query heads."""
        raise NotImplementedError

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """The FLOPs between the projections: scores and values, an indexer's scan, a state's update."""
        raise NotImplementedError

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        """The weights of one layer of this kind, without the norm before (or after) it."""
        raise NotImplementedError

    def reader_tensors(
        self, hidden_size: int, num_attention_heads: int, *, kv_proj: bool, k_norm: bool
    ) -> tuple[Tensor, ...]:
        """The weights of a layer with its own queries that reads a cache of this kind; default: all of this kind's."""
        return self.tensors(hidden_size)

    def resolve(self, table: Mapping[str, Attention]) -> Attention:
        """This kind with references to other entries of the spec's `attention:` table filled in.

        Raises:
            KeyError: a name that is not in the table.
        """
        return self

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(field, message) for figures that cannot stand together."""
        return iter(())

    def geometry(self) -> HeadGeometry | None:
        """Its heads, where it has keys and values of heads: what another kind could be made of."""
        return None

    def regrouped(self, num_key_value_heads: int) -> Attention | None:
        """The same kind with so many KV heads; None where it keeps none."""
        return None

    def reranked(self, kv_lora_rank: int, qk_rope_head_dim: int) -> Attention | None:
        """The same kind with a latent of these widths; None where it keeps none."""
        return None

    def windowed(self, size: int) -> Attention | None:
        """The same kind keeping only the newest `size` tokens; None where no such form of it exists."""
        return None


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
    attention_bias: bool = False
    """Biases on the q, k and v projections."""
    k_bias: bool | None = None
    """Default: as attention_bias (Whisper's keys have none)."""
    o_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    """Learned norms of q and k: one weight of head_dim for all heads, or one over all heads together."""
    q_lora_rank: Size | None = None
    """Rank of a low-rank query projection with a norm between (Step-3's share_q_dim)."""
    output_gate: Literal["none", "element", "head"] = "none"
    """A gate on the attention's output per element (Qwen3-Next: q_proj twice as wide) or per head."""
    attention_sinks: bool = False
    """One learned logit per head."""
    v_proj: bool = True
    """False where the values are the projected keys (Gemma-4's attention_k_eq_v): V is still cached."""

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

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        return read_whole(self.streams(), num_attention_heads or self.num_attention_heads, convention)

    def work(self, convention: Convention = DECODE, *, num_attention_heads: int | None = None) -> tuple[Work, ...]:
        """2 x head_dim (q k^T) and 2 x v_head_dim (p v) per query head and visible row."""
        queries, extent = num_attention_heads or self.num_attention_heads, self.extent()
        return (
            Work(name="scores", extent=extent, units=queries, flops=2 * self.head_dim),
            Work(name="values", extent=extent, units=queries, flops=2 * (self.v_head_dim or self.head_dim)),
        )

    def tensors(self, hidden_size: int) -> tuple[Tensor, ...]:
        return headed_tensors(self, hidden_size)

    def reader_tensors(
        self, hidden_size: int, num_attention_heads: int, *, kv_proj: bool, k_norm: bool
    ) -> tuple[Tensor, ...]:
        heads = num_attention_heads
        return headed_tensors(self, hidden_size, num_attention_heads=heads, kv_proj=kv_proj, k_norm=k_norm)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.num_attention_heads % self.num_key_value_heads:
            yield (
                "num_key_value_heads",
                f"{self.num_attention_heads} query heads cannot be shared by {self.num_key_value_heads} KV heads",
            )

    def geometry(self) -> HeadGeometry | None:
        return HeadGeometry(
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            v_head_dim=self.v_head_dim or self.head_dim,
            extent=self.extent(),
        )

    def regrouped(self, num_key_value_heads: int) -> Attention | None:
        return replace(self, num_key_value_heads=num_key_value_heads)


def read_by(stream: Stream, extent: Extent, queries: int, convention: Convention) -> Read:
    """Rows of `extent`, read once for all `queries` query heads or, expanded, once for each."""
    if convention.heads is Heads.EXPANDED:
        return Read(stream=stream, extent=extent, heads=queries, split=True)
    return Read(stream=stream, extent=extent, heads=stream.heads, split=stream.sharding is Sharding.HEADS)


def read_whole(streams: Iterable[Stream], queries: int, convention: Convention) -> tuple[Read, ...]:
    """Every row of these streams that the newest token attends to."""
    return tuple(read_by(stream, stream.extent, queries, convention) for stream in streams)


def index_stream(width: int, extent: Extent) -> Stream:
    """An indexer's keys: one head of `width` elements per row, the same on every tensor-parallel rank."""
    return Stream(role=Role.INDEX, heads=1, width=width, extent=extent, sharding=Sharding.REPLICATED)


def scan_read(index: Stream) -> Read:
    """An indexer reads every key that is kept, whatever it then chooses."""
    return Read(stream=index, extent=index.extent, heads=index.heads, split=False, kernel="index")


def scan_work(heads: int, width: int, extent: Extent) -> Work:
    """2 x `width` per indexer head and key; every tensor-parallel rank scans for itself.

    Source: vLLM 0.33.0 deepseek_v2.py (Indexer: replicated projections), as in DeepSeek-V3.2-Exp's report, section 1.
    """
    return Work(name="index", extent=extent, units=heads, flops=2 * width, split=False, kernel="index")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAttention(Attention):
    """Mixers that keep a state instead of a cache: a step reads all of it, and writes all of it again."""

    def decode_reads(
        self, convention: Convention = DECODE, *, num_attention_heads: int | None = None
    ) -> tuple[Read, ...]:
        return tuple(Read(stream=s, extent=s.extent, heads=s.heads, split=True) for s in self.streams())


def update(units: int, flops: int) -> Work:
    """The state's update and its output: `flops` per element of the state."""
    return Work(name="state", extent=EACH_TOKEN, units=units, flops=flops)


def convolve(channels: int, kernel: int) -> Work:
    """A causal convolution per channel: 2 x kernel."""
    return Work(name="convolution", extent=EACH_TOKEN, units=channels, flops=2 * kernel)


def headed_tensors(
    kind: HeadedAttention,
    hidden_size: int,
    *,
    num_attention_heads: int | None = None,
    kv_proj: bool = True,
    k_norm: bool = True,
) -> tuple[Tensor, ...]:
    """Projections of attention with K and V heads: q, k and v split over heads, o over its input's heads.

    Shapes: q (heads x head_dim, hidden), k (kv_heads x head_dim, hidden), v (kv_heads x v_head_dim, hidden),
    o (hidden, heads x v_head_dim). Without `kv_proj` (a layer that reads another's cache) k and v are left out.
    """
    heads = num_attention_heads or kind.num_attention_heads
    kv, width = kind.num_key_value_heads, kind.head_dim
    v_width = kind.v_head_dim or width
    bias, part = kind.attention_bias, Component.ATTENTION
    found: list[Tensor] = []
    q_in = hidden_size
    if kind.q_lora_rank:
        found += matrix("q_a_proj", (kind.q_lora_rank, hidden_size), part)
        found.append(vector("q_a_norm", (kind.q_lora_rank,), part))
        q_in = kind.q_lora_rank
    found += matrix("q_proj", (heads * width, q_in), part, columns=heads, bias=bias)
    if kv_proj:
        k_bias = bias if kind.k_bias is None else kind.k_bias
        found += matrix("k_proj", (kv * width, hidden_size), part, columns=kv, replicates=True, bias=k_bias)
        if kind.v_proj:
            found += matrix("v_proj", (kv * v_width, hidden_size), part, columns=kv, replicates=True, bias=bias)
    if kind.output_gate == "element":
        found += matrix("gate_proj", (heads * v_width, hidden_size), part, columns=heads, bias=bias)
    elif kind.output_gate == "head":
        found += matrix("gate_proj", (heads, hidden_size), part, columns=heads)
    found += matrix("o_proj", (hidden_size, heads * v_width), part, rows=heads, bias=kind.o_bias)
    if kind.qk_norm != "none":
        whole = kind.qk_norm == "full"
        found.append(vector("q_norm", (heads * width if whole else width,), part, units=heads if whole else None))
        if k_norm:
            found.append(vector("k_norm", (kv * width if whole else width,), part, units=kv if whole else None))
    if kind.attention_sinks:
        found.append(vector("sinks", (heads,), part, units=heads))
    return tuple(found)
