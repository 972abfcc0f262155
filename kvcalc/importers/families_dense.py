"""Families with full attention in every layer (MHA, MQA, GQA), whatever their FFN is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import (
    FULL,
    MTP,
    SLIDING,
    STANDARD,
    Names,
    full_everywhere,
    heads_of,
    layer_count,
    layout,
    predicted,
    required_window,
    typed_layers,
    window,
)


def full(config: Config, *, names: Names = STANDARD, mtp: tuple[str, ...] = ()) -> Layout:
    """Every layer keeps K and V of every token.

    Args:
        mtp: spellings of the number of extra prediction layers.
    """
    types = config.words("layer_types")
    if types is not None and set(types) != {FULL}:
        config.refuse("layer_types", f"{config.model_type}: layer types other than full_attention are not known here")
    heads = heads_of(config, names)
    return full_everywhere(config, heads, names, mtp=predicted(config, "full", *mtp) if mtp else ())


def no_window(config: Config, *, names: Names = STANDARD, mtp: tuple[str, ...] = ()) -> Layout:
    """Full attention; a window in the config is refused unless it is off."""
    config.harmless("max_window_layers", "use_sliding_window")
    if window(config) is not None and config.data.get("use_sliding_window") is not False:
        config.refuse("sliding_window", f"{config.model_type}: a sliding window is not known in this family")
    return full(config, names=names, mtp=mtp)


def every_layer_window(config: Config, *, default: bool = False) -> Layout:
    """One window for all layers where `sliding_window` holds a number; none where it is null.

    Args:
        default: whether an absent key (not null) means the class's own window.
    """
    heads = heads_of(config)
    size = window(config, default=default)
    if size is None:
        return full_everywhere(config, heads)
    entry = heads.entry("sliding", sliding_window=size)
    return layout(config, {"sliding": entry}, ["sliding"] * layer_count(config))


def mistral(config: Config) -> Layout:
    """Mistral: the window of v0.1 covers every layer; null from v0.2 on. `layer_types` names them one by one."""
    if config.has("layer_types"):
        return by_types(config)
    return every_layer_window(config, default=True)


def by_types(config: Config) -> Layout:
    """`layer_types` alone decides; without it every layer has the window, or none."""
    heads, count = heads_of(config), layer_count(config)
    size = window(config, default=True)
    attention = {"full": heads.entry()}
    if size is not None:
        attention["sliding"] = heads.entry("sliding", sliding_window=size)
    words = {f"{name}_attention": name for name in attention}
    layers = typed_layers(config, count, words, lambda: [f"{list(attention)[-1]}_attention"] * count)
    return layout(config, attention, layers)


def qwen2(config: Config) -> Layout:
    """Qwen2 and Qwen3: a window only with `use_sliding_window`, and only from layer `max_window_layers` on."""
    heads, count = heads_of(config), layer_count(config)
    on = config.has("sliding_window", "use_sliding_window") and config.flag("use_sliding_window")
    config.harmless("sliding_window", "max_window_layers")
    attention = {"full": heads.entry()}
    first = count
    if on and window(config) is not None:
        attention["sliding"] = heads.entry("sliding", sliding_window=required_window(config))
        first = config.size("max_window_layers", default=True, least=0)
    words = {f"{name}_attention": name for name in attention}
    layers = typed_layers(config, count, words, lambda: [FULL if i < first else SLIDING for i in range(count)])
    return layout(config, attention, layers)


def qwen_moe(config: Config) -> Layout:
    """Qwen2-MoE and Qwen3-MoE ship with the window off; switched on, engines read it differently."""
    if config.has("sliding_window", "use_sliding_window") and config.flag("use_sliding_window"):
        config.refuse(
            "use_sliding_window", f"{config.model_type}: which layers take the window is not known",
            "write a spec by hand: `kind: sliding` for the layers that have it",
        )  # fmt: skip
    config.harmless("sliding_window", "max_window_layers")
    return full(config)


def smollm3(config: Config) -> Layout:
    """SmolLM3: layers without rotary positions take the window, where `use_sliding_window` is on."""
    heads, count = heads_of(config), layer_count(config)
    on = config.has("sliding_window", "use_sliding_window") and config.flag("use_sliding_window")
    config.harmless("sliding_window", "max_window_layers", "no_rope_layers", "no_rope_layer_interval")
    if on and window(config) is not None:
        config.refuse(
            "use_sliding_window", "smollm3: no released model has its window on, so its layers are not known here"
        )
    layers = typed_layers(config, count, {FULL: "full"}, lambda: [FULL] * count)
    return layout(config, {"full": heads.entry()}, layers)


DENSE: Mapping[str, Family] = {
    name: Family(read=full, source=hf(name))
    for name in (
        "apertus", "arcee", "aria_text", "biogpt", "bitnet", "cohere", "diffllama",
        "flex_olmo", "glm", "glm4", "granite", "granitemoe", "granitemoeshared", "helium", "hyperclovax",
        "internlm3", "iquestcoder", "jais2", "llama", "nanochat", "olmo", "olmo2", "olmoe", "persimmon",
        "phi", "seed_oss", "solar_open", "stablelm", "glm4v_text", "glm4v_moe_text", "glm_ocr_text",
        "emu3_text_model", "deepseek_ocr2_text", "ernie4_5_vl_moe_text", "qwen3_vl_text", "qwen3_vl_moe_text",
        "granite_docling_text", "granite4_vision_text", "hunyuan_vl_text", "qwen3_omni_moe_text",
    )
} | {
    "hy_v3": Family(read=partial(full, mtp=MTP), source=hf("hy_v3")),
    "ernie4_5": Family(read=full, source=hf("ernie4_5"), harmless=frozenset({"compression_ratio"})),
    "ernie4_5_moe": Family(
        read=partial(full, mtp=MTP), source=hf("ernie4_5_moe"), harmless=frozenset({"compression_ratio"})
    ),
    "gemma": Family(read=full, source=hf("gemma"), harmless=frozenset({"use_bidirectional_attention"})),
    "nemotron": Family(
        read=partial(full, names=replace(STANDARD, head_dim=("head_dim", "kv_channels"))), source=hf("nemotron")
    ),
    "glm4_moe": Family(read=partial(full, mtp=MTP), source=hf("glm4_moe")),
    "mixtral": Family(read=every_layer_window, source=hf("mixtral")),
    "phi3": Family(read=every_layer_window, source=hf("phi3"), harmless=frozenset({"full_attn_mod"})),
    "phimoe": Family(read=every_layer_window, source=hf("phimoe")),
    "phi4_multimodal": Family(read=every_layer_window, source=hf("phi4_multimodal")),
    "phi4mm": Family(read=every_layer_window, source="microsoft/Phi-4-multimodal-instruct configuration_phi4mm.py"),
    "starcoder2": Family(read=every_layer_window, source=hf("starcoder2")),
    "mistral": Family(read=mistral, source=hf("mistral")),
    "ministral": Family(read=by_types, source=hf("ministral")),
    "ministral3": Family(read=every_layer_window, source=hf("ministral3")),
    "qwen2": Family(read=qwen2, source=hf("qwen2")),
    "qwen2_vl_text": Family(read=qwen2, source=hf("qwen2_vl")),
    "qwen2_5_vl_text": Family(read=qwen2, source=hf("qwen2_5_vl")),
    "qwen2_5_omni_text": Family(read=qwen2, source=hf("qwen2_5_omni")),
    "qwen3": Family(read=qwen2, source=hf("qwen3")),
    "mimo": Family(
        read=partial(no_window, mtp=MTP), source="vLLM 0.33.0 model_executor/models/mimo.py"
    ),
    "qwen2_moe": Family(read=qwen_moe, source=hf("qwen2_moe")),
    "qwen3_moe": Family(read=qwen_moe, source=hf("qwen3_moe")),
    "smollm3": Family(read=smollm3, source=hf("smollm3")),
}  # fmt: skip
