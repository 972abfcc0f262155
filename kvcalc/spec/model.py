"""A model as a spec file describes it, and its layers written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from kvcalc.attention import Attention, AttentionKind
from kvcalc.fields import STRICT, Name, Size, Size0, Text
from kvcalc.layout import CacheGroup, CacheLayout
from kvcalc.spec.document import Fault, Loc
from kvcalc.spec.ffn import FfnKind

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

MAX_LAYERS = 1_000
"""Five times as many as any model that is served; engines and planners look at each."""
MAX_FAULTS = 200
"""Reported of one file: a hostile one could have tens of thousands, and nobody reads further."""

EntryNames = Annotated[tuple[Name, ...], MaxLen(16)]
"""What one layer has of a table."""


@dataclass(frozen=True, slots=True)
class ByKind:
    """Marks a union whose members are told apart by their `kind`, without importing pydantic here."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        from pydantic import Field

        return handler.generate_schema(Annotated[source, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where figures of this spec come from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    source: Text
    kind: Literal["config", "partial-config", "preset", "paper", "class-default", "model-card", "engine", "memory"]
    """`config` is the model's own verbatim config.json; `memory` is a lead, not a proof."""
    note: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """`count` equal layers: names under `attention:` and `ffn:`; a list for two, nothing for none."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    count: Size = 1
    attention: Name | EntryNames | None = None
    ffn: Name | EntryNames | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEntry(Layer):
    """Equal layers, or a `pattern` of layers repeated `count` times."""

    pattern: tuple[Layer, ...] | None = None


Quantity = Literal[
    "kv_bytes_per_token",
    "kv_elements_per_token",
    "index_bytes_per_token",
    "kv_bytes",
    "state_bytes",
    "logical_bytes",
    "total_params",
    "active_params",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A published figure that this spec must reproduce exactly."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    quantity: Quantity
    value: Annotated[int, Ge(0), Le(2**70)]
    source: Text
    batch_size: Size = 1
    seq_len: Size | None = None
    encoder_len: Size0 | None = None
    kv_cache_dtype: Name = "bf16"


Bytes = Annotated[int, Ge(1), Le(2**60)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesAt:
    """The logical bytes that a workload may take at most."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    bytes: Bytes
    batch_size: Size = 1
    seq_len: Size | None = None
    """Default: the model's context."""
    encoder_len: Size0 | None = None
    kv_cache_dtype: Name = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitsOn:
    """Accelerators that must hold the weights and the cache of a workload, as `kvcalc plan` calculates."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    gpu: Name
    count: Size = 1
    batch_size: Size = 1
    seq_len: Size | None = None
    """Default: the model's context."""
    encoder_len: Size0 | None = None
    kv_cache_dtype: Name = "bf16"
    engine: Name = "vllm"
    """NAME or NAME@VERSION; `ideal` allows nothing for overheads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What this model's cache may take at most: `kvcalc check` fails a change that takes more."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    max_bytes_per_token: Bytes | None = None
    """Of one sequence, once windows have filled: token caches and indexer keys."""
    kv_cache_dtype: Name = "bf16"
    """Of `max_bytes_per_token`."""
    max_bytes_at: BytesAt | None = None
    fits_on: FitsOn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraWeight:
    """A weight that no other field describes, `count` times in all or, with `per_layer`, in each decoder layer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Name
    shape: Annotated[tuple[Size, ...], MinLen(1)]
    count: Size = 1
    per_layer: bool = False
    component: Literal["embedding", "attention", "state", "dense_ffn", "router", "norm", "head", "other"] = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class MtpModule:
    """What an extra prediction layer holds beside its attention, ffn and norms (DeepSeek-V3, section 2.2).

    Each: norms of the hidden state and of the embedding, a projection (hidden, 2 x hidden), a final norm.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    own_embedding: bool = False
    """The checkpoint repeats the embedding for it."""
    own_head: bool = False
    """The checkpoint repeats the head for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model. Keys follow Hugging Face's config.json."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: Name
    hub_id: Name | None = None
    aliases: tuple[Name, ...] = ()
    """Other hub ids of the same geometry (instruct or quantised weights)."""
    revision: Name | None = None
    """Commit or date of the config that was read."""
    model_type: Name | None = None
    sources: tuple[Source, ...] = ()
    notes: Text | None = None
    max_position_embeddings: Size | None = None
    max_source_positions: Size | None = None
    """Fixed length of the encoder's output, where the model has one."""
    dtype: Name | None = None
    hidden_size: Size | None = None
    vocab_size: Size | None = None
    tie_word_embeddings: bool = False
    norm: Literal["rms", "layer", "layer_no_bias", "none"] = "rms"
    """What a norm holds: a weight (rms, layer_no_bias), a weight and a bias (layer), or nothing."""
    norms_per_layer: Size0 | None = None
    """Norms of hidden_size in a decoder layer; default: one per attention and one per ffn of the layer."""
    position_embeddings: Size0 = 0
    """Rows of a learned position table."""
    encoder_position_embeddings: Size0 = 0
    lm_head_bias: bool = False
    extra_weights: tuple[ExtraWeight, ...] = ()
    weight_dtypes: Mapping[Name, Name] | None = None
    """How checkpoints store weights: component -> weight format, `default` for linear layers; the rest is `dtype`."""
    attention: Mapping[Name, Annotated[AttentionKind, ByKind()]]
    ffn: Mapping[Name, Annotated[FfnKind, ByKind()]] | None = None
    layers: Annotated[tuple[LayerEntry, ...], MinLen(1)]
    encoder_layers: tuple[LayerEntry, ...] = ()
    """Weights only: an encoder keeps no KV cache."""
    mtp_layers: tuple[LayerEntry, ...] = ()
    """Extra prediction layers: they cache only where they run (speculative decoding)."""
    mtp: MtpModule | None = None
    expect: tuple[Expectation, ...] = ()
    budget: Budget | None = None

    def layout(self) -> CacheLayout:
        """The decoder's cache as groups of streams."""
        return CacheLayout(
            name=self.name,
            context=self.max_position_embeddings,
            encoder_context=self.max_source_positions,
            groups=tuple(group.cache_group() for group in layer_groups(self)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUse:
    """One layer, written out."""

    attention: tuple[str, ...]
    ffn: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGroup:
    """All layers with the same caches."""

    names: tuple[str, ...]
    attention: tuple[Attention, ...]
    indices: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def label(self) -> str:
        return " + ".join(kind.label for kind in self.attention) or "no cache"

    def cache_group(self) -> CacheGroup:
        """What these layers keep."""
        return CacheGroup(
            names=self.names,
            label=self.label,
            source="; ".join(dict.fromkeys(kind.source for kind in self.attention)),
            streams=tuple(stream for kind in self.attention for stream in kind.streams()),
            indices=self.indices,
        )


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


@lru_cache(maxsize=32)
def write_out(entries: tuple[LayerEntry, ...]) -> tuple[LayerUse, ...]:
    """Every layer in order, patterns and counts written out."""
    uses: list[LayerUse] = []
    for entry in entries:
        inner: tuple[Layer, ...] = (entry,) if entry.pattern is None else entry.pattern
        once = [
            LayerUse(attention=_names(layer.attention), ffn=_names(layer.ffn))
            for layer in inner
            for _ in range(layer.count)
        ]
        uses += once if entry.pattern is None else once * entry.count
    return tuple(uses)


def layer_groups(spec: ModelSpec, entries: tuple[LayerEntry, ...] | None = None) -> tuple[LayerGroup, ...]:
    """Layers with the same caches, in the order of their first layer (default: the decoder's layers)."""
    indices: dict[tuple[str, ...], list[int]] = {}
    for index, use in enumerate(write_out(spec.layers if entries is None else entries)):
        indices.setdefault(use.attention, []).append(index)
    return tuple(
        LayerGroup(
            names=names,
            attention=tuple(spec.attention[name].resolve(spec.attention) for name in names),
            indices=tuple(where),
        )
        for names, where in indices.items()
    )


def contradictions(spec: ModelSpec) -> Iterator[Fault]:
    """What a schema cannot see: names that lead nowhere, figures that cannot stand together."""
    too_many = False
    for key in ("layers", "encoder_layers", "mtp_layers"):
        total = 0
        for index, entry in enumerate(getattr(spec, key)):
            total += entry.count * sum(layer.count for layer in entry.pattern or (Layer(),))
            yield from _entry_faults(spec, (key, index), entry)
        if total > MAX_LAYERS:
            too_many = True
            yield (key,), f"{total:,} layers: more than {MAX_LAYERS:,}", None
    if spec.mtp and not spec.mtp_layers:
        yield ("mtp",), "describes prediction layers, but there are none", "add `mtp_layers`"
    for block, ffn in (spec.ffn or {}).items():
        for field, message in ffn.contradictions():
            yield ("ffn", block, field), message, None
    for name, kind in spec.attention.items():
        for field, message in kind.contradictions():
            yield ("attention", name, field), message, None
        try:
            kind.resolve(spec.attention)
        except KeyError as missing:
            yield ("attention", name), f"refers to {missing}, which is not under `attention`", _entries(spec.attention)
    if not too_many:
        used = {
            n
            for key in ("layers", "encoder_layers", "mtp_layers")
            for u in write_out(getattr(spec, key))
            for n in u.attention
        }
        yield from _sharing_faults(spec)
        for name in spec.attention:
            if name not in used:
                yield ("attention", name), f"{name!r} is used by no layer", "remove it, or name it under `layers`"


def _entry_faults(spec: ModelSpec, loc: Loc, entry: LayerEntry) -> Iterator[Fault]:
    if entry.pattern is not None and (entry.attention is not None or entry.ffn is not None):
        yield loc, "a `pattern` and `attention`/`ffn` stand side by side", "put them inside the pattern"
    if entry.pattern == ():
        yield (*loc, "pattern"), "an empty pattern", None
    inner: Iterator[tuple[Loc, Layer]] = (
        iter([(loc, entry)])
        if entry.pattern is None
        else (((*loc, "pattern", index), layer) for index, layer in enumerate(entry.pattern))
    )
    tables: tuple[tuple[str, Callable[[Layer], Any], Mapping[str, Any]], ...] = (
        ("attention", lambda layer: layer.attention, spec.attention),
        ("ffn", lambda layer: layer.ffn, spec.ffn or {}),
    )
    for place, layer in inner:
        for key, names, table in tables:
            for name in _names(names(layer)):
                if name not in table:
                    yield (*place, key), f"{name!r} is not under `{key}`", _entries(table)


def _entries(table: Mapping[str, Any]) -> str:
    """A help line that names what there is, bounded."""
    more = ", ..." if len(table) > 12 else ""
    return f"entries: {', '.join(list(table)[:12]) or 'none'}{more}"


def _sharing_faults(spec: ModelSpec) -> Iterator[Fault]:
    """A layer can only read a cache that an earlier layer has written."""
    written: set[str] = set()
    reported: set[str] = set()
    for use in write_out(spec.layers):
        for name in use.attention:
            target = getattr(spec.attention.get(name), "reads", None)
            if target is None:
                written.add(name)
            elif name not in reported and (target not in written):
                reported.add(name)
                yield ("attention", name, "reads"), f"no earlier layer keeps {target!r}", None
