"""Weights of Gemma-3n and Gemma-4 (see hf_ffn.py)."""

from __future__ import annotations

from kvcalc.importers.config import Config, LayerName, Layout
from kvcalc.importers.hf_ffn_blocks import (
    HEADED,
    Blocks,
    Fields,
    dense_entry,
    everywhere,
    extra,
    for_kinds,
    moe_entry,
)


def gemma3n(config: Config, layout: Layout) -> Blocks:
    """One width, or one per layer."""
    value = config.raw("intermediate_size")
    if not isinstance(value, list):
        return everywhere("dense", dense_entry(config.size("intermediate_size", default=True)), layout)
    widths = config.sizes("intermediate_size", length=len(layout.layers), least=1) or []
    names = {width: f"dense_{width}" if len(set(widths)) > 1 else "dense" for width in widths}
    return Blocks(
        ffn={name: dense_entry(width) for width, name in names.items()},
        layers=[names[width] for width in widths],
    )


def gemma3n_attention(config: Config) -> dict[str, Fields]:
    """Checkpoints keep k and v projections of layers that share another's cache; nothing uses them."""
    bias = config.flag("attention_bias")
    fields = for_kinds(HEADED, attention_bias=bias, o_bias=bias, qk_norm="head")
    return {**fields, "shared": {"kv_proj": True}}


def per_layer_embeddings(config: Config, layout: Layout) -> list[Fields]:
    """A second embedding with a slice for each layer (PLE), and what feeds it in."""
    hidden, layers = config.size("hidden_size"), len(layout.layers)
    width = config.optional("hidden_size_per_layer_input", least=0)
    if width is None:
        width = config.class_default("hidden_size_per_layer_input") or 0
    if not width:
        return []
    rows = config.size("vocab_size_per_layer_input", default=True)
    return [
        extra("embed_tokens_per_layer", rows, layers * width, component="embedding"),
        extra("per_layer_model_projection", layers * width, hidden),
        extra("per_layer_projection_norm", width, component="norm"),
        extra("per_layer_input_gate", width, hidden, per_layer=True),
        extra("per_layer_projection", hidden, width, per_layer=True),
        extra("post_per_layer_input_norm", hidden, per_layer=True, component="norm"),
    ]


def gemma3n_model(config: Config, layout: Layout) -> Fields:
    """AltUp: `altup_num_inputs` streams with projections between them. LAuReL: a low-rank path beside attention."""
    hidden, rank = config.size("hidden_size"), config.size("laurel_rank", default=True)
    streams = config.size("altup_num_inputs", default=True)
    altup = [
        extra("altup_projections", hidden, hidden, count=streams - 1),
        extra("altup_unembed_projections", hidden, hidden, count=streams - 1),
        extra("altup.correct_output_scale", hidden, per_layer=True),
        extra("altup.correction_coefs", streams, streams, per_layer=True),
        extra("altup.prediction_coefs", streams * streams, streams, per_layer=True),
        extra("altup.modality_router", streams, hidden, per_layer=True),
        extra("altup.router_norm", hidden, per_layer=True, component="norm"),
    ]
    laurel = [
        extra("laurel.linear_left", rank, hidden, per_layer=True),
        extra("laurel.linear_right", hidden, rank, per_layer=True),
        extra("laurel.post_laurel_norm", hidden, per_layer=True, component="norm"),
    ]
    streams_only = [weight for weight in altup if weight.get("count", 1)]
    return {
        "norms_per_layer": 4,
        "extra_weights": [*per_layer_embeddings(config, layout), *streams_only, *laurel],
    }


def gemma4(config: Config, layout: Layout) -> Blocks:
    """A dense block in every layer; with enable_moe_block the experts stand beside it."""
    width = config.size("intermediate_size")
    ffn = {"dense": dense_entry(width)}
    layers: list[LayerName] = ["dense"] * len(layout.layers)
    if config.flag("use_double_wide_mlp"):
        shared = config.optional("num_kv_shared_layers", least=0) or 0
        ffn["dense_wide"] = dense_entry(2 * width)
        layers[len(layers) - shared :] = ["dense_wide"] * shared
    if config.flag("enable_moe_block"):
        ffn["moe"] = moe_entry(config, router_scales=True)
        layers = [(name, "moe") if isinstance(name, str) else name for name in layers]
    return Blocks(ffn=ffn, layers=layers)


def gemma4_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    fields = for_kinds(HEADED, attention_bias=bias, o_bias=bias, qk_norm="head")
    if config.flag("attention_k_eq_v"):
        fields["full"]["v_proj"] = False
    return fields


def gemma4_model(config: Config, layout: Layout) -> Fields:
    norms = 7 if config.flag("enable_moe_block") else 4
    return {"norms_per_layer": norms, "extra_weights": per_layer_embeddings(config, layout)}
