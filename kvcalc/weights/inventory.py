"""Every weight of a model, with the place that holds it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kvcalc.problems import KvcalcError, Problem
from kvcalc.spec.model import ExtraWeight, LayerEntry, LayerUse, ModelSpec, write_out
from kvcalc.tensors import Component, Split, Tensor, matrix

VOCABULARY_PADDING = 64
"""Engines round the vocabulary up to a multiple of it before they split it (vLLM 0.33.0
model_executor/layers/vocab_parallel_embedding.py: DEFAULT_VOCAB_PADDING_SIZE)."""

TOO_LITTLE = "KV102"
"""Code of the problem that a spec describes the cache alone."""
NORM_VECTORS: Mapping[str, int] = {"rms": 1, "layer": 2, "layer_no_bias": 1, "none": 0}
"""Vectors of hidden_size that a norm holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The weights of one model, in the order in which a token meets them."""

    first: tuple[Tensor, ...]
    """Before the layers: embeddings, an encoder, extra modules."""
    layers: tuple[tuple[Tensor, ...], ...]
    """One entry per decoder layer; equal layers share one object."""
    last: tuple[Tensor, ...]
    """After the layers: the final norm and the head (without the weight where it is tied)."""
    tied_head: Tensor | None
    """The embedding as a last pipeline stage of its own must hold it again."""
    mtp: tuple[Tensor, ...]
    """Extra prediction layers: not part of the model's parameter count."""

    def tensors(self) -> Iterator[tuple[Tensor, int]]:
        """(weight, how many layers hold it) of the model without its extra prediction layers."""
        yield from ((tensor, 1) for tensor in (*self.first, *self.last))
        for layer, count in counted(self.layers):
            yield from ((tensor, count) for tensor in layer)


def counted(layers: Iterable[tuple[Tensor, ...]]) -> tuple[tuple[tuple[Tensor, ...], int], ...]:
    """(layer, how many of `layers` are this one), told apart by identity: comparing all tensors takes long."""
    held: dict[int, tuple[tuple[Tensor, ...], int]] = {}
    for layer in layers:
        held[id(layer)] = (layer, held.get(id(layer), (layer, 0))[1] + 1)
    return tuple(held.values())


REMEMBERED = 8
"""Inventories kept: a query, a comparison or a search asks for those of a few specs over and over."""
_recent: deque[tuple[ModelSpec, Inventory]] = deque(maxlen=REMEMBERED)


def inventory(spec: ModelSpec) -> Inventory:
    """All weights that the spec's geometry implies; those of the last few specs are remembered.

    Raises:
        KvcalcError: hidden_size, vocab_size or the layers' ffn is missing: a spec may describe the cache alone (KV102).
    """
    for known, found in tuple(_recent):
        if known is spec:
            return found
    found = _inventory(spec)
    _recent.append((spec, found))
    return found


def unsaid(spec: ModelSpec) -> tuple[str, ...]:
    """Keys without which the weights cannot be counted, and that the spec leaves out."""
    missing = [name for name in ("hidden_size", "vocab_size") if getattr(spec, name) is None]
    if not spec.ffn and any(_growing(spec)):
        missing.append("ffn")  # a stack of state mixers (Mamba) has none; attention never stands without one
    return tuple(missing)


def _inventory(spec: ModelSpec) -> Inventory:
    missing = unsaid(spec)
    if missing:
        keys = " and ".join(missing)
        message = f"{spec.name}: {keys} not given, so its weights cannot be counted"
        raise KvcalcError(Problem(code=TOO_LITTLE, message=message, help=f"add {keys} to the spec"))
    hidden, vocabulary = spec.hidden_size or 0, spec.vocab_size or 0
    decoder, mtp = (_layers(spec, entries, hidden) for entries in (spec.layers, spec.mtp_layers))
    encoder_layers = _layers(spec, spec.encoder_layers, hidden, encoder=True)
    embedding = _vocabulary("embed_tokens.weight", Component.EMBEDDING, vocabulary, hidden)
    encoder = tuple(tensor for layer in encoder_layers for tensor in layer)
    if encoder:
        encoder += _norms(spec, 1, hidden, "encoder.norm")
    return Inventory(
        first=(embedding, *_positions(spec, hidden), *_extra(spec, per_layer=False), *encoder),
        layers=decoder,
        last=(*_norms(spec, 1, hidden, "norm"), *_head(spec, hidden, vocabulary)),
        tied_head=embedding if spec.tie_word_embeddings else None,
        mtp=_mtp(spec, mtp, hidden, vocabulary),
    )


def _growing(spec: ModelSpec) -> Iterator[bool]:
    """Whether each stream of the decoder's layers grows with the tokens."""
    for name in {name for use in write_out(spec.layers) for name in use.attention}:
        yield from (stream.extent.grows for stream in spec.attention[name].resolve(spec.attention).streams())


def _layers(
    spec: ModelSpec, entries: tuple[LayerEntry, ...], hidden: int, *, encoder: bool = False
) -> tuple[tuple[Tensor, ...], ...]:
    uses = write_out(entries)
    built = {use: _layer(spec, use, hidden, encoder) for use in set(uses)}
    return tuple(built[use] for use in uses)


def _layer(spec: ModelSpec, use: LayerUse, hidden: int, encoder: bool) -> tuple[Tensor, ...]:
    found: list[Tensor] = []
    for name in use.attention:
        found += spec.attention[name].resolve(spec.attention).tensors(hidden)
    for name in use.ffn:
        found += (spec.ffn or {})[name].tensors(hidden)
    each = len(use.attention) + len(use.ffn)
    found += _norms(
        spec, each if encoder or spec.norms_per_layer is None else spec.norms_per_layer, hidden, "layernorm"
    )
    if not encoder:
        found += _extra(spec, per_layer=True)
    return tuple(found)


def _norms(spec: ModelSpec, count: int, hidden: int, name: str) -> tuple[Tensor, ...]:
    vectors = count * NORM_VECTORS[spec.norm]
    return (Tensor(name=name, shape=(hidden,), component=Component.NORM, copies=vectors),) if vectors else ()


def _vocabulary(name: str, part: Component, rows: int, hidden: int) -> Tensor:
    split = Split(axis=0, units=rows, pad_to=VOCABULARY_PADDING)
    return Tensor(name=name, shape=(rows, hidden), component=part, split=split)


def _positions(spec: ModelSpec, hidden: int) -> Iterator[Tensor]:
    for name in ("position_embeddings", "encoder_position_embeddings"):
        if rows := getattr(spec, name):
            yield Tensor(name=name, shape=(rows, hidden), component=Component.EMBEDDING)


def _head(spec: ModelSpec, hidden: int, vocabulary: int) -> Iterator[Tensor]:
    if not spec.tie_word_embeddings:
        yield _vocabulary("lm_head.weight", Component.HEAD, vocabulary, hidden)
    if spec.lm_head_bias:
        split = Split(axis=0, units=vocabulary, pad_to=VOCABULARY_PADDING)
        yield Tensor(name="lm_head.bias", shape=(vocabulary,), component=Component.HEAD, split=split)


def _extra(spec: ModelSpec, *, per_layer: bool) -> Iterator[Tensor]:
    chosen: Iterator[ExtraWeight] = (extra for extra in spec.extra_weights if extra.per_layer == per_layer)
    for extra in chosen:
        yield Tensor(
            name=extra.name,
            shape=extra.shape,
            component=Component(extra.component),
            copies=extra.count,
        )


def _mtp(spec: ModelSpec, layers: tuple[tuple[Tensor, ...], ...], hidden: int, vocabulary: int) -> tuple[Tensor, ...]:
    module = spec.mtp
    found: list[Tensor] = []
    for layer in layers:
        found += layer
        found += _norms(spec, 3, hidden, "mtp.norms")
        found += matrix("mtp.eh_proj", (hidden, 2 * hidden), Component.OTHER, quantizable=False)
        if module and module.own_embedding:
            found.append(_vocabulary("mtp.embed_tokens.weight", Component.EMBEDDING, vocabulary, hidden))
        if module and module.own_head:
            found.append(_vocabulary("mtp.shared_head.weight", Component.HEAD, vocabulary, hidden))
    return tuple(found)
