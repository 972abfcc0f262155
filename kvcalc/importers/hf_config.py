"""Hugging Face config.json -> the raw mapping that a spec file gives. One table of families; strangers are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvcalc.importers import hf_ffn
from kvcalc.importers.compact import entries
from kvcalc.importers.config import Config, FfnLayout, Layout
from kvcalc.importers.containers import text_config
from kvcalc.importers.defaults import transformers_version
from kvcalc.importers.families_dense import DENSE
from kvcalc.importers.families_encdec import ENCDEC
from kvcalc.importers.families_legacy import LEGACY
from kvcalc.importers.families_linear import LINEAR_ATTENTION
from kvcalc.importers.families_mamba import MAMBA
from kvcalc.importers.families_mla import MLA
from kvcalc.importers.families_sparse import SPARSE_HEADS
from kvcalc.importers.families_window import WINDOW
from kvcalc.importers.family import Family, Refused
from kvcalc.importers.looks import LOOKS, unread
from kvcalc.importers.refused import REFUSED
from kvcalc.importers.shapes import Names, heads_of, layer_count, layout
from kvcalc.problems import KvcalcError, did_you_mean
from kvcalc.spec.document import Document, Loc, unmarked

FAMILIES: Mapping[str, Family] = {
    **DENSE, **WINDOW, **LEGACY, **MLA, **SPARSE_HEADS, **MAMBA, **LINEAR_ATTENTION, **ENCDEC,
}  # fmt: skip
DENSE_GQA = "dense-gqa"
ASSUMPTIONS: Mapping[str, str] = {
    DENSE_GQA: "every layer keeps K and V of every token for num_key_value_heads x head_dim; nothing else is read"
}
"""What `--assume` accepts."""
BY_HAND = (
    "write a spec by hand (`kvcalc schema`, and the shipped specs as examples), "
    f"or go on with --assume {DENSE_GQA} if every layer keeps plain K and V of every token"
)
_ANY = Names(
    layers=("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    heads=("num_attention_heads", "n_head", "n_heads", "num_heads"),
    kv_heads=("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_query_groups"),
    head_dim=("head_dim", "kv_channels"), hidden=("hidden_size", "n_embd", "d_model"),
    context=("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedSpec:
    """A foreign description as the raw mapping of a spec, and what was taken on whose word."""

    raw: Mapping[str, Any]
    path: str
    family: str
    rule: str
    """Where the family's rule stands."""
    defaults: tuple[str, ...] = ()
    """What the config leaves out, and what stands in: each `key = value: by whose rule`."""
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    """Assumptions that the user asked for: marked in every output."""
    comments: Mapping[Loc, str] = field(default_factory=dict)
    """Place in `raw` -> remark for the written YAML."""


def read_config(raw: Mapping[str, Any], path: str, *, assume: str | None = None) -> ImportedSpec:
    """As `read_document`, from plain data (problems then carry no line)."""
    return read_document(unmarked(path, raw), assume=assume)


def read_document(document: Document, *, assume: str | None = None, name: str | None = None) -> ImportedSpec:
    """The spec that a config.json describes.

    Args:
        assume: `dense-gqa` to go on where the family is unknown or a key is not understood.
        name: the model's name; default: from the path.

    Raises:
        KvcalcError: an unknown family (KV802), a key that may concern the cache and is not understood (KV803),
            or a missing or contradictory one (KV801).
    """
    if not isinstance(document.data, dict):
        raise KvcalcError(document.problem("KV801", (), "a model config is a JSON object", help="give a config.json"))
    config = text_config(document)
    try:
        return _read_known(config, name)
    except KvcalcError:
        if assume is None:
            raise
        return _read_assumed(config, assume, name)


def _read_known(config: Config, name: str | None) -> ImportedSpec:
    family = _family(config)
    found = family.read(config)
    # Before weights are read: the many switches that stand on their class's default there say nothing of the cache.
    defaults = tuple(config.all_defaults())
    weights, notes = _weights(config, found)
    _refuse_unread(config, family)
    return _imported(config, found, weights, name=name, rule=family.source, defaults=defaults, notes=notes)


def _read_assumed(config: Config, assume: str, name: str | None) -> ImportedSpec:
    """Plain attention by the user's word, whatever else the config says."""
    if assume not in ASSUMPTIONS:
        near = did_you_mean(assume, ASSUMPTIONS) or f"one of: {', '.join(ASSUMPTIONS)}"
        config.refuse(None, f"--assume {assume[:60]!r} is not known", near)
    config.defaults_used.clear()
    heads = heads_of(config, _ANY)
    found = layout(config, {"full": heads.entry()}, ["full"] * layer_count(config, _ANY), names=_ANY)
    text = f"{assume} (--assume): {ASSUMPTIONS[assume]}"
    return _imported(
        config, found, None, name=name, rule="--assume", defaults=tuple(config.all_defaults()), assumed=(text,)
    )


def _family(config: Config) -> Family:
    name = config.model_type
    family = FAMILIES.get(name)
    if family is not None:
        return family
    refused = REFUSED.get(name)
    if refused is not None:
        raise _refusal(config, f"{name}: {refused.reason}", refused)
    word = repr(name[:60]) if name else "missing"
    near = did_you_mean(name, FAMILIES) if name else None
    raise _refusal(config, f"model_type is {word}: kvcalc knows no such family" + (f" ({near})" if near else ""), None)


def _refusal(config: Config, message: str, refused: Refused | None) -> KvcalcError:
    keys = sorted(key for key, value in config.data.items() if LOOKS.search(key.lower()) and value is not None)
    shown = ", ".join(keys[:20]) + (", ..." if len(keys) > 20 else "")
    about = f"; keys that may concern its cache: {shown}" if shown and refused is None else ""
    loc = (*config.loc, "model_type")
    return KvcalcError(config.document.problem("KV802", loc, f"{message}{about}"[:1500], help=BY_HAND))


def _refuse_unread(config: Config, family: Family) -> None:
    odd = list(unread(config, family.harmless))
    if config.outer is not None:
        odd += list(unread(config.outer, family.harmless))
    problems = [
        part.document.problem(
            "KV803", (*part.loc, key),
            f"{config.model_type}: {key} may concern the cache, and is not understood here", help=BY_HAND, key=True,
        )
        for part, key in odd
    ]  # fmt: skip
    if problems:
        raise KvcalcError(*problems)


def _weights(config: Config, found: Layout) -> tuple[FfnLayout | None, tuple[str, ...]]:
    """What the config says of weights; a cache is known without it."""
    try:
        weights = hf_ffn.weight_fields(config, found, config.outer)
    except KvcalcError as error:
        return None, (f"weights are not described: {error.problems[0].message}",)
    if weights is None:
        return None, (f"weights are not described: no rule for {config.model_type}",)
    return weights, ()


def from_layout(
    config: Config, found: Layout, *, name: str, rule: str, fields: Mapping[str, Any]
) -> ImportedSpec:  # fmt: skip
    """A spec from what another importer read of attention; `fields` are further keys of the spec, where known."""
    return _imported(
        config, found, _without_ffn(found, fields), name=name, rule=rule, defaults=tuple(config.all_defaults()),
        notes=("weights are not described: a GGUF header says too little of them",),
    )  # fmt: skip


def _imported(
    config: Config, found: Layout, weights: FfnLayout | None, *, name: str | None, rule: str,
    defaults: tuple[str, ...], notes: tuple[str, ...] = (), assumed: tuple[str, ...] = (),
) -> ImportedSpec:  # fmt: skip
    raw = {
        "name": _marked(name or spec_name(config.document.path), assumed),
        "model_type": config.model_type or None,
        "sources": _sources(config, defaults),
        "notes": "; ".join((*assumed, *_cache_notes(config))) or None,
        "max_position_embeddings": found.max_position_embeddings,
        "max_source_positions": found.max_source_positions,
        "dtype": _dtype(config),
        **_weighty(config, found, weights),
    }
    return ImportedSpec(
        raw={key: value for key, value in raw.items() if value not in (None, [], {})},
        path=config.document.path,
        family=config.model_type,
        rule=rule,
        defaults=defaults,
        notes=notes,
        assumed=assumed,
        comments={
            (key,) if key == "layers" else ("attention", key): text for key, text in found.comments.items() if text
        },
    )


def _weighty(config: Config, found: Layout, weights: FfnLayout | None) -> dict[str, Any]:
    """Attention, feed-forward and layers, joined."""
    if weights is None:
        stated = [key for key in ("hidden_size", "vocab_size") if _whole(config.data.get(key))]
        weights = _without_ffn(found, {key: config.optional(key) for key in stated})
    attention = {
        name: {**entry, **weights.attention.get(str(entry["kind"]), {})} for name, entry in found.attention.items()
    }
    fields = dict(weights.fields)
    return {
        **{key: value for key, value in fields.items() if key != "mtp"},
        "attention": attention,
        "ffn": dict(weights.ffn),
        "layers": _entries(found.layers, weights.layers),
        "encoder_layers": _entries(["self"] * len(weights.encoder_layers), weights.encoder_layers),
        "mtp_layers": _entries(found.mtp_layers, weights.mtp_layers),
        "mtp": fields.get("mtp"),
    }


def _without_ffn(found: Layout, fields: Mapping[str, Any]) -> FfnLayout:
    """Layers of which only the cache is known, and those of `fields` that are sizes."""
    none: list[None] = [None]
    known = {key: value for key, value in fields.items() if _whole(value)}
    return FfnLayout(ffn={}, layers=none * len(found.layers), mtp_layers=none * len(found.mtp_layers), fields=known)


def _marked(name: str, assumed: tuple[str, ...]) -> str:
    """An assumption shows wherever the model's name does."""
    return f"{name[:60]} [assumed {DENSE_GQA}]" if assumed else name


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _entries(attention: Sequence[Any], ffn: Sequence[Any]) -> list[dict[str, Any]]:
    return entries(list(zip(attention, ffn, strict=True)))


def _sources(config: Config, defaults: tuple[str, ...]) -> list[dict[str, str]]:
    found = [{"source": config.document.path, "kind": "config"}]
    if any("class default" in line for line in defaults):
        found.append({"source": transformers_version(), "kind": "class-default"})
    return found


def _dtype(config: Config) -> str | None:
    for part in (config, config.outer):
        if part is not None:
            word = part.data.get("dtype") or part.data.get("torch_dtype")
            if isinstance(word, str) and 0 < len(word) <= 100:
                return word
    return None


def _cache_notes(config: Config) -> tuple[str, ...]:
    """What `quantization_config` says of the KV cache; what it says of weights is another matter."""
    for part in (config, config.outer):
        quantization = part.data.get("quantization_config") if part is not None else None
        if isinstance(quantization, dict):
            scheme = quantization.get("kv_cache_scheme") or quantization.get("kv_cache_quant_algo")
            if isinstance(scheme, dict) and scheme.get("num_bits") == 8 and scheme.get("type") == "float":
                scheme = "FP8"
            if isinstance(scheme, str) and len(scheme) < 40:
                return (
                    f"the checkpoint carries scales for a KV cache in {scheme}; figures here follow --kv-cache-dtype",
                )
            if scheme:
                return ("the checkpoint carries scales for a quantised KV cache; figures follow --kv-cache-dtype",)
    return ()


def spec_name(path: str) -> str:
    """A name for a spec, from the folder or file it came from."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    last = parts[-1] if parts else "model"
    if last.rpartition(".")[0] == "config" and len(parts) > 1:
        last = parts[-2]
    stem = last.removesuffix(".json").removesuffix(".gguf").removesuffix(".partial")
    clean = "".join(ch if ch.isalnum() or ch in "._-" else "-" for ch in stem).strip("-.").lower()
    return clean[:100] or "model"
