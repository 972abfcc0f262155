"""What the importer tests ask of a config."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kvcalc.cache_dtypes import parse_kv_cache_dtype
from kvcalc.footprint import Workload, footprint
from kvcalc.importers.hf_config import ImportedSpec, read_document
from kvcalc.importers.load import json_document
from kvcalc.spec.model import ModelSpec, write_out

LENGTHS = (100, 5_000, 2_000_000)


class Answer(NamedTuple):
    """Bytes of one sequence in bf16: (token caches, indexer keys, states) at each length; cross-attention."""

    at: tuple[tuple[int, int, int], ...]
    cross: int


def imported(config: Mapping[str, Any], name: str = "config.json") -> ImportedSpec:
    """Through the bytes of a file, as a user's config comes."""
    return read_document(json_document(name, json.dumps(config).encode()))


def answer(spec: ModelSpec, lengths: tuple[int, ...] = LENGTHS) -> Answer:
    layout = spec.layout()

    def at(tokens: int, encoder: int = 0) -> Any:
        work = Workload(batch_size=1, seq_len=tokens, encoder_len=encoder, formats=parse_kv_cache_dtype("bf16"))
        return footprint(layout, work)

    found = [at(tokens) for tokens in lengths]
    return Answer(tuple((f.kv_bytes, f.index_bytes, f.state_bytes) for f in found), at(1, 1000).cross_bytes)


def layer_streams(found: ImportedSpec) -> list[Any]:
    """Streams of every layer in order, without building a footprint: what two answers are compared by."""
    from kvcalc.spec.build import build

    spec = build(ModelSpec, json.loads(json.dumps(found.raw)))
    table = {name: kind.resolve(spec.attention).streams() for name, kind in spec.attention.items()}
    return [[table[name] for name in use.attention] for use in write_out(spec.layers)]


def keys_of(config: Mapping[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key, at every depth that describes the language model."""
    for key, value in config.items():
        yield (*place, key)
        if isinstance(value, dict) and not key.startswith(("vision", "audio", "quantization", "rope")):
            yield from keys_of(value, (*place, key))


def without(config: Mapping[str, Any], place: tuple[str, ...], renamed: str | None = None) -> dict[str, Any]:
    """A copy that lacks one key, or has it under another name."""
    copy: dict[str, Any] = json.loads(json.dumps(config))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    value = inner.pop(place[-1])
    if renamed is not None:
        inner[renamed] = value
    return copy
