"""Families with linear attention or short convolutions beside full attention or MLA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.families_mla import latent
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import (
    FULL,
    LINEAR,
    MTP,
    STANDARD,
    every,
    heads_of,
    layer_count,
    layout,
    predicted,
    query_heads,
    typed_layers,
    within,
)


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
        interval = int(config.assume_class("full_attention_interval", 4))
    words = {FULL: "full", LINEAR: "linear"}
    layers = typed_layers(config, count, words, lambda: every(interval or 4, count, last=FULL, others=LINEAR))
    return layout(config, attention, layers, mtp=predicted(config, "full", "mtp_num_hidden_layers", *MTP))


def olmo_hybrid(config: Config) -> Layout:
    """OLMo Hybrid: gated delta net in three of four layers."""
    heads, count = heads_of(config), layer_count(config)
    attention = {"full": heads.entry(), "linear": _delta_net(config)}
    if not config.has("layer_types"):
        config.assume_class("layer_types", "every fourth full")
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
    mtp = predicted(config, "mla")
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
    heads, count = heads_of(config, replace(STANDARD, heads=("num_attention_heads", "num_heads"))), layer_count(config)
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
        within(config, "full_attn_idxs", indices, count)
        layers = ["full" if index in indices else "conv" for index in range(count)]
    return layout(config, {"full": heads.entry(), "conv": conv}, layers)


def bailing_hybrid(config: Config) -> Layout:
    """Ling hybrid: MLA in every `layer_group_size`-th layer, Kimi delta attention (as wide as its heads) elsewhere."""
    names = replace(STANDARD, context=("max_position_embeddings", "model_max_length"))
    count, heads = layer_count(config), query_heads(config)
    # transformers writes its own copy: there `head_dim` is the rotary width, and linear_head_dim this one.
    kda = {
        "kind": "kda",
        "num_heads": config.optional("linear_num_heads") or heads,
        "head_dim": config.optional("linear_head_dim") or config.size("head_dim"),
        "short_conv_kernel_size": config.size("short_conv_kernel_size", "linear_conv_kernel_dim"),
    }
    if config.has("layer_types"):
        config.harmless("layer_group_size")
        layers = typed_layers(config, count, {FULL: "mla", LINEAR: "kda"}, list)
    else:
        size = config.size("layer_group_size")
        layers = ["mla" if (index + 1) % size == 0 else "kda" for index in range(count)]
    mtp = predicted(config, "mla")
    return layout(config, {"mla": latent(config), "kda": kda}, layers, mtp=mtp, names=names)


_LFM2 = frozenset({
    "block_auto_adjust_ff_dim", "block_ff_dim", "block_ffn_dim_multiplier", "block_mlp_init_scale",
    "block_multiple_of", "block_norm_eps", "block_out_init_scale", "block_use_swiglu", "block_use_xavier_init",
    "conv_use_xavier_init",
})  # fmt: skip

LINEAR_ATTENTION: Mapping[str, Family] = {
    "bailing_hybrid": Family(
        read=bailing_hybrid, source=hf("bailing_hybrid"), harmless=frozenset({"kda_lower_bound", "kda_safe_gate"})
    ),
    "kimi_linear": Family(
        read=kimi_linear, source=hf("kimi_linear"), harmless=frozenset({"activation_situ_linear_beta"})
    ),
    "lfm2": Family(read=lfm2, source=hf("lfm2"), harmless=_LFM2),
    "lfm2_moe": Family(read=lfm2, source=hf("lfm2_moe"), harmless=_LFM2),
    "minimax": Family(
        read=minimax_text,
        source=hf("minimax"),
        harmless=frozenset(f"{kind}_attn_{part}_factor" for kind in ("full", "linear") for part in ("alpha", "beta")),
    ),
    "minimax_m1": Family(read=minimax_text, source="MiniMaxAI/MiniMax-M1-80k config"),
    "minimax_text_01": Family(read=minimax_text, source="MiniMaxAI/MiniMax-Text-01 config"),
    "olmo_hybrid": Family(
        read=olmo_hybrid,
        source=hf("olmo_hybrid"),
        harmless=frozenset(
            ("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_allow_neg_eigval")
        ),
    ),
    "qwen3_5_moe_text": Family(read=qwen3_next, source=hf("qwen3_5_moe")),
    "qwen3_5_text": Family(read=qwen3_next, source=hf("qwen3_5")),
    "qwen3_next": Family(read=qwen3_next, source=hf("qwen3_next")),
}
