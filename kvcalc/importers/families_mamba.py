"""Families with Mamba layers: Mamba itself, and hybrids with attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvcalc.formats import ceil_div
from kvcalc.importers.config import Config, LayerName, Layout
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import (
    FULL,
    LINEAR,
    STANDARD,
    Heads,
    heads_of,
    kv_heads,
    layer_count,
    layout,
    query_heads,
    typed_layers,
    within,
)
from kvcalc.spec.model import MAX_LAYERS


def _dt_rank(config: Config, key: str, *hidden: str) -> int:
    """Width of the low-rank time step (dt_rank, Mamba section 3.6), or `auto`."""
    if config.raw(key) in (None, "auto"):
        rank = ceil_div(config.size("hidden_size", *hidden), 16)
        return int(config.assume(key, rank, "hidden_size / 16, rounded up (auto)"))
    return config.size(key)


def _mamba1(config: Config, prefix: str = "mamba_") -> dict[str, Any]:
    """Mamba-1 as Jamba and Zamba spell it."""
    return {
        "kind": "mamba",
        "intermediate_size": config.size(f"{prefix}expand") * config.size("hidden_size"),
        "ssm_state_size": config.size(f"{prefix}d_state"),
        "conv_kernel": config.size(f"{prefix}d_conv"),
        "time_step_rank": _dt_rank(config, f"{prefix}dt_rank"),
    }


def _mamba2(config: Config, inner: int | None = None, groups: str = "mamba_n_groups") -> dict[str, Any]:
    """Mamba-2 as Bamba, Granite and Falcon-H1 spell it; `mamba_d_head: auto` divides the channels."""
    heads = config.size("mamba_n_heads")
    channels = inner or config.size("mamba_expand") * config.size("hidden_size")
    if config.raw("mamba_d_head") in (None, "auto"):
        width = int(config.assume("mamba_d_head", channels // heads, "channels / mamba_n_heads (auto)"))
    else:
        width = config.size("mamba_d_head")
    if heads * width != channels:
        config.refuse("mamba_d_head", f"mamba_n_heads {heads} x mamba_d_head {width} is not {channels} channels")
    config.harmless("mamba_chunk_size")
    return {
        "kind": "mamba2",
        "mamba_num_heads": heads,
        "mamba_head_dim": width,
        "ssm_state_size": config.size("mamba_d_state"),
        "n_groups": config.size(groups),
        "conv_kernel": config.size("mamba_d_conv"),
    }


_MIXED = {"attention": "full", FULL: "full", "mamba": "mamba", LINEAR: "mamba"}


def jamba(config: Config) -> Layout:
    """Jamba: attention in one of `attn_layer_period` layers, Mamba-1 in the others."""
    heads, count = heads_of(config), layer_count(config)
    attention = {"full": heads.entry(), "mamba": _mamba1(config)}
    keys = ("layers_block_type", "layer_types")
    if config.has(*keys):
        config.harmless("attn_layer_period", "attn_layer_offset")
        layers = typed_layers(config, count, _MIXED, list, *keys)
    else:
        period, offset = config.size("attn_layer_period"), config.size("attn_layer_offset", least=0)
        layers = ["full" if index % period == offset else "mamba" for index in range(count)]
    return layout(config, attention, layers)


def bamba(config: Config) -> Layout:
    """Bamba: attention in the layers of `attn_layer_indices`, Mamba-2 in the others."""
    heads, count = heads_of(config), layer_count(config)
    attention = {"full": heads.entry(), "mamba": _mamba2(config)}
    indices = config.sizes("attn_layer_indices")
    if indices is None:
        config.missing("attn_layer_indices")
    within(config, "attn_layer_indices", indices, count)
    return layout(config, attention, ["full" if index in indices else "mamba" for index in range(count)])


def granite_hybrid(config: Config) -> Layout:
    """Granite 4 (H and, without any Mamba layer, dense): `layer_types` names every layer."""
    heads, count = heads_of(config), layer_count(config)
    types = config.words("layer_types", "layers_block_type", length=count)
    if types is None:
        # The class would take Mamba for all layers, which no released model has.
        config.missing("layer_types", "layers_block_type")
    layers = typed_layers(config, count, _MIXED, list, "layer_types", "layers_block_type")
    attention: dict[str, Any] = {"full": heads.entry()}
    if "mamba" in layers:
        attention["mamba"] = _mamba2(config)
    else:
        config.harmless(*(f"mamba_{key}" for key in ("n_heads", "n_groups", "d_state", "d_head", "d_conv", "expand")))
        config.harmless("mamba_chunk_size")
    return layout(config, attention, layers)


def falcon_h1(config: Config) -> Layout:
    """Falcon-H1: every layer runs attention and Mamba-2 side by side, and keeps both caches."""
    heads, count = heads_of(config), layer_count(config)
    inner = config.optional("mamba_d_ssm")
    attention = {"full": heads.entry(), "mamba": _mamba2(config, inner)}
    config.harmless("mamba_expand")
    return layout(config, attention, [("full", "mamba")] * count)


def nemotron_h(config: Config) -> Layout:
    """Nemotron-H: a letter (or a word) per block: M Mamba-2, * attention, - and E feed-forward without a cache."""
    names = replace(STANDARD, head_dim=("head_dim", "attention_head_dim"))
    heads = query_heads(config)
    shape = Heads(heads=heads, kv_heads=kv_heads(config, heads), head_dim=config.size(*names.head_dim))
    letters = {"M": "mamba", "*": "full", "-": None, "E": None}
    words = {**_MIXED, "mlp": None, "moe": None}
    pattern = config.text("hybrid_override_pattern")
    if pattern is None:
        count = config.optional("num_hidden_layers") or len(config.items("layers_block_type", "layer_types") or ())
        if not config.has("layers_block_type", "layer_types"):
            config.missing("hybrid_override_pattern", "layers_block_type")
        layers = typed_layers(config, count, words, list, "layers_block_type", "layer_types")
    else:
        config.harmless("layers_block_type", "layer_types")
        if set(pattern) - set(letters):
            config.refuse("hybrid_override_pattern", "expected letters M, *, - and E")
        if len(pattern) != config.size("num_hidden_layers"):
            config.refuse(
                "hybrid_override_pattern", f"{len(pattern)} letters for {config.size('num_hidden_layers')} layers"
            )
        layers = [letters[letter] for letter in pattern]
    mamba = {
        "kind": "mamba2",
        "mamba_num_heads": config.size("mamba_num_heads"),
        "mamba_head_dim": config.size("mamba_head_dim"),
        "ssm_state_size": config.size("ssm_state_size"),
        "n_groups": config.size("n_groups", "mamba_n_groups"),
        "conv_kernel": config.size("conv_kernel", "mamba_d_conv"),
    }
    config.harmless("chunk_size", "mamba_chunk_size", "expand", "mamba_expand", "sliding_window")
    if config.raw("sliding_window") is not None:
        config.refuse("sliding_window", "nemotron_h: a sliding window is not known in this family")
    mtp = _nemotron_mtp(config, letters, words)
    return layout(config, {"full": shape.entry(), "mamba": mamba}, layers, mtp=mtp, names=names)


def _nemotron_mtp(
    config: Config, letters: Mapping[str, str | None], words: Mapping[str, str | None]
) -> list[str | None]:
    modules = config.optional("num_nextn_predict_layers", least=0) or 0
    pattern = config.text("mtp_hybrid_override_pattern")
    types = config.words("mtp_layers_block_type")
    if not modules:
        return []
    each: list[str | None] = ["full", None]
    if pattern is not None and not set(pattern) - set(letters):
        each = [letters[letter] for letter in pattern]
    elif types is not None and not set(types) - set(words):
        each = [words[word] for word in types]
    if len(each) * modules > MAX_LAYERS:
        config.refuse("num_nextn_predict_layers", f"{modules:,} times {len(each):,} layers: more than {MAX_LAYERS:,}")
    return each * modules


def zamba(config: Config) -> Layout:
    """Zamba: a shared attention block (width 2 x hidden) before some of the Mamba-1 layers; each use has its cache."""
    shape, count = _zamba_heads(config), layer_count(config)
    config.harmless("n_mamba_heads", "attn_layer_period", "attn_layer_offset")
    attention = {"full": shape.entry(), "mamba": _mamba1(config)}
    return layout(config, attention, _zamba_layers(config, count))


def zamba2(config: Config) -> Layout:
    """Zamba2: as Zamba, over Mamba-2."""
    shape, count = _zamba_heads(config), layer_count(config)
    heads = config.size("n_mamba_heads")
    channels = config.size("mamba_expand") * config.size("hidden_size")
    if channels % heads:
        config.refuse("n_mamba_heads", f"{channels} channels cannot be split into {heads} heads")
    config.harmless(
        "mamba_headdim", "hybrid_layer_ids", "num_mem_blocks", "num_query_groups", "kv_channels", "chunk_size"
    )
    mamba = {
        "kind": "mamba2",
        "mamba_num_heads": heads,
        "mamba_head_dim": channels // heads,
        "ssm_state_size": config.size("mamba_d_state"),
        "n_groups": config.size("mamba_ngroups"),
        "conv_kernel": config.size("mamba_d_conv"),
    }
    attention = {"full": shape.entry(), "mamba": mamba}
    return layout(config, attention, _zamba_layers(config, count))


def _zamba_heads(config: Config) -> Heads:
    heads = query_heads(config)
    config.harmless("attention_hidden_size")
    width = config.optional("attention_head_dim")
    if width is None:
        width = 2 * config.size("hidden_size") // heads
        config.assume("attention_head_dim", width, "2 x hidden_size / num_attention_heads (transformers 5.23.0)")
    return Heads(heads=heads, kv_heads=kv_heads(config, heads), head_dim=width)


def _zamba_layers(config: Config, count: int) -> list[LayerName]:
    words: dict[str, LayerName] = {"mamba": "mamba", LINEAR: "mamba", "hybrid": ("full", "mamba")}
    if not config.has("layers_block_type"):
        config.missing("layers_block_type")
    return list(typed_layers(config, count, words, list, "layers_block_type"))


def mamba1(config: Config) -> Layout:
    """Mamba and Falcon-Mamba: no attention at all."""
    hidden = config.size("hidden_size", "d_model")
    expand = config.optional("expand")
    inner = config.optional("intermediate_size", "d_inner")
    if inner is None:
        if expand is None:
            config.missing("expand", "intermediate_size")
        inner = expand * hidden
    entry = {
        "kind": "mamba",
        "intermediate_size": inner,
        "ssm_state_size": config.size("state_size", "d_state"),
        "conv_kernel": config.size("conv_kernel", "d_conv"),
        "time_step_rank": _dt_rank(config, "time_step_rank", "d_model"),
    }
    return layout(config, {"mamba": entry}, ["mamba"] * config.size("num_hidden_layers", "n_layer"))


def mamba2(config: Config) -> Layout:
    """Mamba-2: num_heads x head_dim channels, which must be expand x hidden_size."""
    heads, width = config.size("num_heads"), config.size("head_dim")
    channels = config.size("expand") * config.size("hidden_size")
    if heads * width != channels:
        config.refuse("num_heads", f"num_heads {heads} x head_dim {width} is not expand x hidden_size = {channels}")
    config.harmless("chunk_size", "intermediate_size")
    entry = {
        "kind": "mamba2",
        "mamba_num_heads": heads,
        "mamba_head_dim": width,
        "ssm_state_size": config.size("state_size"),
        "n_groups": config.size("n_groups"),
        "conv_kernel": config.size("conv_kernel"),
    }
    return layout(config, {"mamba": entry}, ["mamba"] * layer_count(config))


MAMBA: Mapping[str, Family] = {
    "bamba": Family(read=bamba, source=hf("bamba")),
    "falcon_h1": Family(read=falcon_h1, source=hf("falcon_h1")),
    "falcon_mamba": Family(read=mamba1, source=hf("falcon_mamba")),
    "granitemoehybrid": Family(read=granite_hybrid, source=hf("granitemoehybrid")),
    "jamba": Family(read=jamba, source=hf("jamba")),
    "mamba": Family(read=mamba1, source=hf("mamba")),
    "mamba2": Family(read=mamba2, source=hf("mamba2")),
    "nemotron_h": Family(read=nemotron_h, source=hf("nemotron_h")),
    "zamba": Family(read=zamba, source=hf("zamba")),
    "zamba2": Family(read=zamba2, source=hf("zamba2")),
}
