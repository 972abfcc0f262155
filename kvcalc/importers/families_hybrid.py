"""Families with recurrent layers: Mamba, gated delta net, Kimi delta attention, lightning, short convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.families_mla import latent
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import (
    STANDARD,
    Heads,
    every,
    heads_of,
    kv_heads,
    layer_count,
    layout,
    query_heads,
    typed_layers,
)

FULL, LINEAR = "full_attention", "linear_attention"
_MTP = ("mtp_num_hidden_layers", "num_nextn_predict_layers")


def _mtp(config: Config) -> list[str]:
    return ["full"] * (config.optional(*_MTP, least=0) or 0)


def _dt_rank(config: Config, *names: str) -> int:
    rank = config.raw(*names)
    if rank is None or rank == "auto":
        return int(config.assume(names[0], -(-config.size("hidden_size") // 16), "hidden_size / 16, rounded up"))
    return config.size(*names)


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
    if any(index >= count for index in indices):
        config.refuse("attn_layer_indices", f"a layer beyond the {count} of the model")
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
    if pattern is not None and not set(pattern) - set(letters):
        return [letters[letter] for letter in pattern] * modules
    if types is not None and not set(types) - set(words):
        return [words[word] for word in types] * modules
    return ["full", None] * modules


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


def _zamba_layers(config: Config, count: int) -> list[str | tuple[str, ...] | None]:
    words: dict[str, str | tuple[str, ...] | None] = {"mamba": "mamba", LINEAR: "mamba", "hybrid": ("full", "mamba")}
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
    rank = config.raw("time_step_rank")
    entry = {
        "kind": "mamba",
        "intermediate_size": inner,
        "ssm_state_size": config.size("state_size", "d_state"),
        "conv_kernel": config.size("conv_kernel", "d_conv"),
        "time_step_rank": -(-hidden // 16) if rank in (None, "auto") else config.size("time_step_rank"),
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


def _delta_net(config: Config) -> dict[str, Any]:
    return {
        "kind": "gated_delta_net",
        **{
            key: config.size(key)
            for key in (
                "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
                "linear_conv_kernel_dim",
            )
        },
    }  # fmt: skip


def qwen3_next(config: Config) -> Layout:
    """Qwen3-Next and Qwen3.5: gated delta net, with full attention in every `full_attention_interval`-th layer."""
    heads, count = heads_of(config), layer_count(config)
    attention = {"full": heads.entry(), "linear": _delta_net(config)}
    interval = config.optional("full_attention_interval")
    if interval is None and not config.has("layer_types"):
        rule = f"class default of {config.model_type} (transformers 5.23.0)"
        interval = int(config.assume("full_attention_interval", 4, rule))
    words = {FULL: "full", LINEAR: "linear"}
    layers = typed_layers(config, count, words, lambda: every(interval or 4, count, last=FULL, others=LINEAR))
    return layout(config, attention, layers, mtp=_mtp(config))


def olmo_hybrid(config: Config) -> Layout:
    """OLMo Hybrid: gated delta net in three of four layers."""
    heads, count = heads_of(config), layer_count(config)
    attention = {"full": heads.entry(), "linear": _delta_net(config)}
    if not config.has("layer_types"):
        config.assume("layer_types", "every fourth full", "class default of olmo_hybrid (transformers 5.23.0)")
    words = {FULL: "full", LINEAR: "linear"}
    layers = typed_layers(config, count, words, lambda: every(4, count, last=FULL, others=LINEAR))
    return layout(config, attention, layers)


def kimi_linear(config: Config) -> Layout:
    """Kimi Linear: MLA in the layers of `full_attn_layers` (counted from 1), Kimi delta attention in the others."""
    names = replace(STANDARD, context=("model_max_length", "max_position_embeddings"))
    count = layer_count(config)
    inner = config.section("linear_attn_config")
    if inner is None:
        types = config.words("layer_types", length=count)
        if types is None:
            config.missing("linear_attn_config", "layer_types")
        kda = _kda(config, "linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim")
        layers = typed_layers(config, count, {FULL: "mla", LINEAR: "kda"}, list)
    else:
        config.harmless("layer_types", "linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim")
        kda = _kda(inner, "num_heads", "head_dim", "short_conv_kernel_size")
        full = inner.sizes("full_attn_layers", least=1)
        delta = inner.sizes("kda_layers", least=1)
        if full is None or delta is None:
            inner.missing("full_attn_layers" if full is None else "kda_layers")
        if sorted([*full, *delta]) != list(range(1, count + 1)):
            inner.refuse(
                "full_attn_layers", f"full_attn_layers and kda_layers together are not the layers 1 to {count}",
                "these lists count from 1",
            )  # fmt: skip
        layers = ["mla" if index + 1 in full else "kda" for index in range(count)]
    mtp = ["mla"] * (config.optional("num_nextn_predict_layers", least=0) or 0)
    return layout(config, {"mla": latent(config), "kda": kda}, layers, mtp=mtp, names=names)


def _kda(config: Config, heads: str, width: str, kernel: str) -> dict[str, Any]:
    return {
        "kind": "kda",
        "num_heads": config.size(heads),
        "head_dim": config.size(width),
        "short_conv_kernel_size": config.size(kernel),
    }


def minimax_text(config: Config) -> Layout:
    """MiniMax-Text-01 and M1: lightning attention, softmax where `attn_type_list` (or `layer_types`) says."""
    heads, count = heads_of(config), layer_count(config)
    lightning = {"kind": "lightning", "num_attention_heads": heads.heads, "head_dim": heads.head_dim}
    types = config.sizes("attn_type_list", length=count)
    if types is not None:
        config.harmless("layer_types")
        if set(types) - {0, 1}:
            config.refuse("attn_type_list", "expected 0 (lightning) or 1 (softmax) for each layer")
        layers: Any = ["full" if kind else "lightning" for kind in types]
    else:
        if not config.has("layer_types"):
            config.missing("attn_type_list", "layer_types")
        layers = typed_layers(config, count, {FULL: "full", LINEAR: "lightning"}, list)
    config.harmless("block_size")
    return layout(config, {"full": heads.entry(), "lightning": lightning}, layers)


def lfm2(config: Config) -> Layout:
    """LFM2: attention in the layers of `full_attn_idxs` (or as `layer_types` says), short convolutions elsewhere."""
    heads, count = heads_of(config), layer_count(config)
    channels = config.size("hidden_size")
    for key in ("conv_dim", "block_dim", "conv_dim_out"):
        if config.optional(key) not in (None, channels):
            config.refuse(key, f"lfm2: {key} differs from hidden_size {channels}, which is not known here")
    conv = {"kind": "short_conv", "conv_dim": channels, "conv_L_cache": config.size("conv_L_cache")}
    if config.has("layer_types"):
        config.harmless("full_attn_idxs")
        layers = typed_layers(config, count, {FULL: "full", "conv": "conv"}, list)
    else:
        indices = config.sizes("full_attn_idxs")
        if indices is None:
            config.missing("layer_types", "full_attn_idxs")
        if any(index >= count for index in indices):
            config.refuse("full_attn_idxs", f"a layer beyond the {count} of the model")
        layers = ["full" if index in indices else "conv" for index in range(count)]
    return layout(config, {"full": heads.entry(), "conv": conv}, layers)


def bailing_hybrid(config: Config) -> Layout:
    """Ling hybrid: MLA in every `layer_group_size`-th layer, Kimi delta attention (as wide as its heads) elsewhere."""
    names = replace(STANDARD, context=("max_position_embeddings", "model_max_length"))
    count, heads = layer_count(config), query_heads(config)
    kda = {
        "kind": "kda",
        "num_heads": heads,
        "head_dim": config.size("head_dim"),
        "short_conv_kernel_size": config.size("short_conv_kernel_size"),
    }
    config.harmless("linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim")
    if config.has("layer_types"):
        config.harmless("layer_group_size")
        layers = typed_layers(config, count, {FULL: "mla", LINEAR: "kda"}, list)
    else:
        size = config.size("layer_group_size")
        layers = ["mla" if (index + 1) % size == 0 else "kda" for index in range(count)]
    mtp = ["mla"] * (config.optional("num_nextn_predict_layers", least=0) or 0)
    return layout(config, {"mla": latent(config), "kda": kda}, layers, mtp=mtp, names=names)


HYBRID: Mapping[str, Family] = {
    "bailing_hybrid": Family(read=bailing_hybrid, source=hf("bailing_hybrid")),
    "bamba": Family(read=bamba, source=hf("bamba")),
    "falcon_h1": Family(read=falcon_h1, source=hf("falcon_h1")),
    "falcon_mamba": Family(read=mamba1, source=hf("falcon_mamba")),
    "granitemoehybrid": Family(read=granite_hybrid, source=hf("granitemoehybrid")),
    "jamba": Family(read=jamba, source=hf("jamba")),
    "kimi_linear": Family(read=kimi_linear, source=hf("kimi_linear")),
    "lfm2": Family(read=lfm2, source=hf("lfm2")),
    "lfm2_moe": Family(read=lfm2, source=hf("lfm2_moe")),
    "mamba": Family(read=mamba1, source=hf("mamba")),
    "mamba2": Family(read=mamba2, source=hf("mamba2")),
    "minimax": Family(read=minimax_text, source=hf("minimax")),
    "minimax_m1": Family(read=minimax_text, source="MiniMaxAI/MiniMax-M1-80k config"),
    "minimax_text_01": Family(read=minimax_text, source="MiniMaxAI/MiniMax-Text-01 config"),
    "nemotron_h": Family(read=nemotron_h, source=hf("nemotron_h")),
    "olmo_hybrid": Family(read=olmo_hybrid, source=hf("olmo_hybrid")),
    "qwen3_5_moe_text": Family(read=qwen3_next, source=hf("qwen3_5_moe")),
    "qwen3_5_text": Family(read=qwen3_next, source=hf("qwen3_5")),
    "qwen3_next": Family(read=qwen3_next, source=hf("qwen3_next")),
    "zamba": Family(read=zamba, source=hf("zamba")),
    "zamba2": Family(read=zamba2, source=hf("zamba2")),
}
