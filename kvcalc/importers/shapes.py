"""Building blocks of the family readers: heads, windows, and which layer is of which kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvcalc.importers.config import Config, LayerName, LayerNames, Layout

Entry = Mapping[str, Any]
"""One entry of `attention:` as raw data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How a family spells the fields of plain attention."""

    layers: tuple[str, ...] = ("num_hidden_layers",)
    heads: tuple[str, ...] = ("num_attention_heads",)
    kv_heads: tuple[str, ...] = ("num_key_value_heads",)
    head_dim: tuple[str, ...] = ("head_dim",)
    hidden: tuple[str, ...] = ("hidden_size",)
    context: tuple[str, ...] = ("max_position_embeddings",)
    multi_head: bool = False
    """Absent KV heads mean multi-head attention, although no class of transformers says so."""


STANDARD = Names()
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
"""Words of `layer_types` that many families share."""
MTP = ("num_nextn_predict_layers",)
"""The usual spelling of the number of extra prediction layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Query heads, KV heads and their width."""

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int | None = None

    def entry(self, kind: str = "full", **more: int) -> dict[str, Any]:
        """An entry of `attention:` with these heads."""
        widths = {"head_dim": self.head_dim}
        if self.v_head_dim not in (None, self.head_dim):
            widths["v_head_dim"] = self.v_head_dim or self.head_dim
        return {
            "kind": kind, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, **widths, **more
        }  # fmt: skip


def layer_count(config: Config, names: Names = STANDARD) -> int:
    """Number of decoder layers: always stated (or a class default of a nested config)."""
    return config.size(*names.layers)


def query_heads(config: Config, names: Names = STANDARD) -> int:
    """Query heads: always stated, as layers are."""
    return config.size(*names.heads)


def kv_heads(config: Config, heads: int, names: Names = STANDARD) -> int:
    """KV heads; where the config states none, the class's own number or, where it has none, the query heads.

    `names.kv_heads` empty: a family that only knows multi-head attention.
    A class with a number of its own (Mistral: 8) may stand in only for a nested config.
    """
    if not names.kv_heads:
        return heads
    given = config.optional(*names.kv_heads)
    if given is not None:
        return given
    if config.nested:
        default = config.class_default(*names.kv_heads)
        if default is not None:
            return int(default)
    elif config.default_of(*names.kv_heads) is not None or not (config.has_class or names.multi_head):
        config.missing(*names.kv_heads)
    value: int = config.assume(names.kv_heads[0], heads, f"as many as {names.heads[0]} (multi-head attention)")
    return value


def head_dim(config: Config, heads: int, names: Names = STANDARD) -> int:
    """Width of a head: stated, or the class's number, or hidden size / query heads."""
    given = config.optional(*names.head_dim)
    if given is None:
        given = config.class_default(*names.head_dim)
    return given if given is not None else derived_head_dim(config, heads, names)


def derived_head_dim(config: Config, heads: int, names: Names = STANDARD) -> int:
    """hidden size / query heads."""
    hidden = config.size(*names.hidden)
    if hidden % heads:
        config.refuse(
            config.name_of(*names.hidden), f"{names.hidden[0]} {hidden} is not a multiple of {heads} heads",
            f"state {names.head_dim[0]}",
        )  # fmt: skip
    value: int = config.assume(names.head_dim[0], hidden // heads, f"{names.hidden[0]} / {names.heads[0]}")
    return value


def heads_of(config: Config, names: Names = STANDARD) -> Heads:
    """The heads of plain attention."""
    heads = query_heads(config, names)
    return Heads(heads=heads, kv_heads=kv_heads(config, heads, names), head_dim=head_dim(config, heads, names))


def context(config: Config, names: Names = STANDARD) -> int | None:
    """Context length by the first spelling that holds one; unknown (None) where the config says nothing."""
    found = [config.optional(name) for name in names.context]
    given = next((length for length in found if length is not None), None)
    if given is None and config.nested:
        given = config.class_default(*names.context)
    if given is None:
        config.assume(names.context[0], "unknown", "not stated, so lengths have to be given")
    return given


def window(config: Config, *names: str, default: bool = False) -> int | None:
    """A window in tokens; None for null and, as some configs write "none", for 0 and below."""
    names = names or ("sliding_window",)
    stated = any(name in config.data for name in names)
    value = config.raw(*names)
    if value is None:
        may_default = (default or config.nested) and not stated
        found = config.class_default(*names) if may_default else None
        if found is None and not stated:
            config.assume(names[0], None, f"no window where the key is absent ({config.model_type})")
        return found if isinstance(found, int) and found > 0 else None
    if value in (0, -1) and not isinstance(value, bool):
        return None
    return config.optional(*names)


def required_window(config: Config, *names: str) -> int:
    """A window that layers of the model need."""
    value = window(config, *names)
    if value is None:
        config.missing(*(names or ("sliding_window",)))
    return value


def every(period: int, count: int, *, last: str, others: str) -> list[str]:
    """`others`, and `last` on each `period`-th layer."""
    return [others if (index + 1) % period else last for index in range(count)]


def predicted(config: Config, entry: str, *keys: str) -> list[str]:
    """`entry` for each extra prediction layer that the config states (`keys`: spellings of their number)."""
    return [entry] * (config.optional(*(keys or MTP), least=0) or 0)


def within(config: Config, key: str, indices: Sequence[int], count: int) -> Sequence[int]:
    """Layers that `key` lists by their index from 0; refused where the model has no such layer."""
    if any(index >= count for index in indices):
        config.refuse(key, f"a layer beyond the {count} of the model")
    return indices


def typed_layers(
    config: Config, count: int, words: Mapping[str, LayerName], default: Callable[[], list[str]],
    *keys: str,
) -> LayerNames:  # fmt: skip
    """The entry of each layer by `layer_types`, or by the class's default pattern.

    Args:
        words: word of the config -> entry of `attention:`.
    """
    keys = keys or ("layer_types",)
    types = config.words(*keys, length=count)
    if types is None:
        types = default()
    for word in types:
        if word not in words:
            known = ", ".join(words)
            config.refuse(config.name_of(*keys), f"layer type {word[:60]!r} is not known here", f"known: {known}")
    return [words[word] for word in types]


def layout(
    config: Config, attention: Mapping[str, Entry], layers: LayerNames, *, mtp: LayerNames = (),
    names: Names = STANDARD, comments: Mapping[str, str] | None = None, max_position_embeddings: int | None = None,
) -> Layout:  # fmt: skip
    """A Layout with the context read, windows that reach the whole context dropped, and unused entries left out."""
    length = max_position_embeddings or context(config, names)
    notes = dict(comments or {})
    entries, renamed = _without_wide_windows(attention, length, notes)

    def resolved(uses: LayerNames) -> LayerNames:
        return [_renamed(use, renamed) for use in uses]

    layers, mtp = resolved(layers), resolved(mtp)
    used = {name for use in (*layers, *mtp) for name in ((use,) if isinstance(use, str) else use or ())}
    return Layout(
        attention={name: entry for name, entry in entries.items() if name in used},
        layers=layers,
        mtp_layers=mtp,
        max_position_embeddings=length,
        comments={name: note for name, note in notes.items() if name in used or name == "layers"},
    )


def full_everywhere(
    config: Config, shape: Heads, names: Names = STANDARD, *, mtp: LayerNames = (),
    comments: Mapping[str, str] | None = None,
) -> Layout:  # fmt: skip
    """Full attention of one shape in every layer."""
    layers = ["full"] * layer_count(config, names)
    return layout(config, {"full": shape.entry()}, layers, mtp=mtp, names=names, comments=comments)


def _without_wide_windows(
    attention: Mapping[str, Entry], length: int | None, notes: dict[str, str]
) -> tuple[dict[str, Entry], dict[str, str]]:
    """A window (or chunk) that holds the whole context is none; equal entries become one."""
    entries: dict[str, Entry] = {}
    renamed: dict[str, str] = {}
    for name, entry in attention.items():
        key = {"sliding": "sliding_window", "chunked": "attention_chunk_size"}.get(entry["kind"], "")
        if key and length is not None and entry[key] >= length:
            entry = {"kind": "full", **{k: v for k, v in entry.items() if k not in ("kind", key)}}
            notes[name] = f"{key} {attention[name][key]} holds the whole context of {length}: no window"
        twin = next((other for other, seen in entries.items() if seen == entry), None)
        target = twin or ("full" if name in ("sliding", "chunked") and entry["kind"] == "full" else name)
        if target != name:
            renamed[name] = target
            notes.setdefault(target, notes.pop(name, "")) if notes.get(name) else notes.pop(name, None)
        entries.setdefault(target, entry)
    return entries, renamed


def _renamed(use: LayerName, renamed: Mapping[str, str]) -> LayerName:
    if isinstance(use, tuple):
        return tuple(renamed.get(name, name) for name in use)
    return use if use is None else renamed.get(use, use)
