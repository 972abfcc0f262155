"""Building blocks of the readers in hf_ffn_families.py: what many families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvcalc.importers.config import Config, LayerNames, Layout

Fields = dict[str, Any]
HEADED = ("full", "sliding", "chunked", "cross", "block_sparse")
LATENT = ("mla", "sparse")
"""Kinds of attention with K and V in heads, and with a latent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Feed-forward entries, and which of them each decoder layer has."""

    ffn: Mapping[str, Fields]
    layers: LayerNames


FfnReader = Callable[[Config, Layout], Blocks]
FieldReader = Callable[[Config, Layout], Fields]
AttentionReader = Callable[[Config], dict[str, Fields]]


def nothing(config: Config, layout: Layout) -> Fields:
    """No further fields."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How one family's config maps to weights."""

    ffn: FfnReader
    attention: AttentionReader = lambda config: {}
    model: FieldReader = nothing
    """Further fields of the spec."""
    norm: str = "rms"
    norms_per_layer: int | None = None
    tied: bool = False
    """Whether the class ties the head to the embedding where the config does not say."""
    names: Mapping[str, tuple[str, ...]] | None = None
    """Spellings of hidden_size and vocab_size other than Hugging Face's usual ones."""


ON_BY_DEFAULT = frozenset({"v_proj", "k_bias", "gated", "router", "use_conv_bias", "gated_norm"})
"""Switches of the spec that say something when they are off; all others do when they are on."""


def told(fields: Mapping[str, Any]) -> Fields:
    """The fields that differ from the spec's defaults."""
    return {
        key: value
        for key, value in fields.items()
        if (value is False if key in ON_BY_DEFAULT else value not in (None, False, 0, [], {}))
    }


# Attention: what the projections carry beside their matrices.


def for_kinds(kinds: Sequence[str], **fields: Any) -> dict[str, Fields]:
    """The same fields for each of these kinds of attention."""
    return {kind: dict(fields) for kind in kinds}


def fixed(**fields: Any) -> AttentionReader:
    """The same fields on every kind with K and V heads, whatever the config says."""
    return lambda config: for_kinds(HEADED, **fields)


def by_flag(
    *, o: bool = True, qk_norm: str = "none", flag: str = "attention_bias", default: bool = False, sinks: bool = False
) -> AttentionReader:
    """A switch puts biases on q, k and v, and on o as well where `o`."""

    def read(config: Config) -> dict[str, Fields]:
        bias = config.flag(flag, default=default)
        norm = None if qk_norm == "none" else qk_norm
        return for_kinds(HEADED, attention_bias=bias, o_bias=bias and o, qk_norm=norm, attention_sinks=sinks)

    return read


def latent(config: Config) -> dict[str, Fields]:
    """MLA: a switch puts biases on the down-projections and the output."""
    return for_kinds(LATENT, attention_bias=config.flag("attention_bias"))


def must_be_off(config: Config, *names: str) -> None:
    """Refuses switches whose weights are not described here; no published model sets them."""
    for name in names:
        if config.flag(name):
            config.refuse(name, f"{config.model_type}: {name} is true, and its weights are not described")


# Feed-forward blocks.


def everywhere(name: str, entry: Fields, layout: Layout) -> Blocks:
    """One entry in every layer."""
    return Blocks(ffn={name: entry}, layers=[name] * len(layout.layers))


def dense(
    *names: str, gated: bool = True, bias: bool | str = False, bias_default: bool = False, times: int = 4
) -> FfnReader:
    """One dense block in every layer; GPT-2's `n_inner` is `times` the hidden size where it is not given.

    Args:
        bias: whether there are biases, or the name of the switch that says so.
    """
    widths = names or ("intermediate_size",)

    def read(config: Config, layout: Layout) -> Blocks:
        width = config.optional(*widths)
        if width is None and widths == ("n_inner",):
            width = times * config.size("hidden_size", "n_embd", "d_model")
        width = width or config.size(*widths)
        has_bias = config.flag(bias, default=bias_default) if isinstance(bias, str) else bias
        return everywhere("dense", dense_entry(width, gated=gated, bias=has_bias), layout)

    return read


def dense_entry(width: int, *, gated: bool = True, bias: bool = False) -> Fields:
    """A dense block of this width."""
    return {"kind": "dense", "intermediate_size": width, **({} if gated else {"gated": False}), "bias": bias}


def multiple(
    *, times: int, hidden: str = "hidden_size", bias: bool | str = True, bias_default: bool = False
) -> FfnReader:
    """Two matrices of `times` the hidden size (BLOOM, Falcon)."""

    def read(config: Config, layout: Layout) -> Blocks:
        has_bias = config.flag(bias, default=bias_default) if isinstance(bias, str) else bias
        width = config.optional("ffn_hidden_size") or times * config.size(hidden, "hidden_size", "n_embd")
        return everywhere("dense", dense_entry(width, gated=False, bias=has_bias), layout)

    return read


EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
"""Spellings of how many experts there are to choose from."""
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts")
"""Spellings of how many work for a token."""


def moe_entry(config: Config, *, width: Sequence[str] = ("moe_intermediate_size",), **fields: Any) -> Fields:
    """Routed experts; `width` are the spellings of an expert's width, `fields` what else the entry says."""
    return {
        "kind": "moe",
        "num_experts": config.size(*EXPERTS),
        "num_experts_per_tok": config.size(*CHOSEN),
        "moe_intermediate_size": config.size(*width),
        **fields,
    }


def placed(is_moe: Callable[[int], bool], dense_block: Fields | None, moe: Fields, layout: Layout) -> Blocks:
    """The experts where `is_moe`, the dense block elsewhere."""
    layers = ["moe" if is_moe(index) else "dense" for index in range(len(layout.layers))]
    used = set(layers) | ({"moe"} if layout.mtp_layers else set())
    entries = {"dense": dense_block or {}, "moe": moe}
    return Blocks(ffn={name: entries[name] for name in entries if name in used}, layers=layers)


def experts_everywhere(*, width: str = "intermediate_size", **fields: Any) -> FfnReader:
    """Routed experts in every layer (Mixtral)."""
    return lambda config, layout: everywhere("moe", moe_entry(config, width=(width,), **fields), layout)


def after_dense(config: Config, layout: Layout, moe: Fields, first: int, every: int = 1) -> Blocks:
    """Dense blocks in the first `first` layers, experts in every `every`th one after."""
    width = config.optional("intermediate_size")
    dense_block = dense_entry(width) if width else None
    if dense_block is None and (first or every > 1):
        config.missing("intermediate_size")
    return placed(lambda index: index >= first and index % every == 0, dense_block, moe, layout)


def leading_dense(config: Config, layout: Layout, moe: Fields) -> Blocks:
    """Dense blocks where mlp_layer_types says so, or else up to first_k_dense_replace (DeepSeek and its like)."""
    types = config.words("mlp_layer_types", length=len(layout.layers))
    if types is not None:
        unknown = next((word for word in types if word not in ("dense", "sparse")), None)
        if unknown is not None:
            config.refuse("mlp_layer_types", f"mlp_layer_types: {unknown!r} is neither dense nor sparse")
        dense_block = dense_entry(config.size("intermediate_size")) if "dense" in types else None
        return placed(lambda index: types[index] == "sparse", dense_block, moe, layout)
    first = config.optional("first_k_dense_replace", least=0)
    if first is None:
        first = config.class_default("first_k_dense_replace")
    if first is None:
        config.missing("first_k_dense_replace", "mlp_layer_types")
    return after_dense(config, layout, moe, first, config.optional("moe_layer_freq") or 1)


def enumerated(config: Config, name: str) -> set[int] | None:
    """Layers listed one by one: a list, or numbers with commas in a string."""
    listed = config.raw(name)
    if not isinstance(listed, str):
        numbers = config.sizes(name)
        return None if numbers is None else set(numbers)
    parts = listed.split(",")
    if not all(part.strip().isdecimal() and len(part) < 10 for part in parts):
        config.refuse(name, f"{name}: expected layer numbers with commas between")
    return {int(part) for part in parts}


def extra(name: str, *shape: int, **more: Any) -> Fields:
    """An entry of `extra_weights`."""
    return {"name": name, "shape": list(shape), **more}


def mtp_copies(config: Config, layout: Layout) -> Fields:
    """Checkpoints repeat the embedding and the head in each prediction layer (DeepSeek-V3 README_WEIGHTS.md)."""
    return {"mtp": {"own_embedding": True, "own_head": True}} if layout.mtp_layers else {}
