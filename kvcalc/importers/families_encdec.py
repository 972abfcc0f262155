"""Encoder-decoders: each decoder layer keeps its own tokens' K and V and, once, the encoder's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import STANDARD, Heads, Names, derived_head_dim, heads_of, layer_count, layout, within

T5 = Names(
    layers=("num_layers", "num_hidden_layers"), heads=("num_heads", "num_attention_heads"), kv_heads=(),
    head_dim=("d_kv", "head_dim"), hidden=("d_model", "hidden_size"), context=("n_positions",),
)  # fmt: skip
BART = Names(
    layers=("decoder_layers",), heads=("decoder_attention_heads",), kv_heads=(), hidden=("d_model", "hidden_size"),
    context=("max_position_embeddings",),
)  # fmt: skip


def _both(config: Config, shape: Heads, count: int, encoder: int, names: Names, sources: int | None = None) -> Layout:
    attention = {"self": shape.entry(), "cross": shape.entry("cross")}
    found = layout(config, attention, [("self", "cross")] * count, names=names)
    return replace(found, encoder_layers=encoder, max_source_positions=sources)


def t5(config: Config) -> Layout:
    """T5: d_kv is independent of d_model / num_heads; as many decoder layers as encoder layers unless stated."""
    heads = config.size(*T5.heads)
    encoder = layer_count(config, T5)
    decoder = config.optional("num_decoder_layers")
    if decoder is None:
        decoder = int(config.assume("num_decoder_layers", encoder, "as many as num_layers"))
    width = config.size(*T5.head_dim)
    return _both(config, Heads(heads=heads, kv_heads=heads, head_dim=width), decoder, encoder, T5)


def bart(config: Config, *, context: str = "max_position_embeddings", sources: str | None = None) -> Layout:
    """BART and its kin: the decoder's own layers, heads and d_model.

    Args:
        context: the key of the decoder's length.
        sources: the key of the encoder's fixed output length, where the family has one.
    """
    names = replace(BART, context=(context,))
    heads = config.size(*names.heads)
    config.harmless("encoder_attention_heads", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    shape = Heads(heads=heads, kv_heads=heads, head_dim=derived_head_dim(config, heads, names))
    fixed = config.size(sources) if sources else None
    encoder = config.optional("encoder_layers", least=0) or 0
    return _both(config, shape, layer_count(config, names), encoder, names, fixed)


def moonshine(config: Config) -> Layout:
    """Moonshine: the decoder's heads are stated apart from the encoder's."""
    heads = config.size("decoder_num_attention_heads")
    kv = config.optional("decoder_num_key_value_heads") or heads
    config.harmless("encoder_num_attention_heads", "encoder_num_key_value_heads", "pad_head_dim_to_multiple_of")
    shape = Heads(heads=heads, kv_heads=kv, head_dim=derived_head_dim(config, heads))
    count = config.size("decoder_num_hidden_layers")
    return _both(config, shape, count, config.optional("encoder_num_hidden_layers") or 0, STANDARD)


def mllama(config: Config) -> Layout:
    """Llama 3.2 Vision: the layers of `cross_attention_layers` read the image only, the others the text only."""
    heads, count = heads_of(config), layer_count(config)
    crossing = config.sizes("cross_attention_layers")
    if crossing is None:
        if not config.nested:
            config.missing("cross_attention_layers")
        crossing = [3, 8, 13, 18, 23, 28, 33, 38]
        config.assume_class("cross_attention_layers", "3, 8, ..., 38")
    within(config, "cross_attention_layers", crossing, count)
    attention = {"full": heads.entry(), "cross": heads.entry("cross")}
    layers = ["cross" if index in crossing else "full" for index in range(count)]
    comments = {"cross": "encoder tokens are those of the image tiles: give --encoder-len"}
    return layout(config, attention, layers, comments=comments)


ENCDEC: Mapping[str, Family] = {
    name: Family(read=t5, source=hf(name)) for name in ("t5", "mt5", "umt5", "switch_transformers")
} | {
    "longt5": Family(
        read=t5, source=hf("longt5"),
        harmless=frozenset({"encoder_attention_type", "global_block_size", "local_radius"}),
    ),
} | {
    name: Family(read=bart, source=hf(folder))
    for name, folder in {
        "bart": "bart", "blenderbot": "blenderbot",
        "blenderbot-small": "blenderbot_small", "m2m_100": "m2m_100", "marian": "marian", "mbart": "mbart",
        "nllb-moe": "nllb_moe", "pegasus": "pegasus", "plbart": "plbart",
    }.items()
} | {
    "bigbird_pegasus": Family(
        read=bart, source=hf("bigbird_pegasus"),
        harmless=frozenset({"attention_type", "block_size", "num_random_blocks"})
    ),
    "pegasus_x": Family(
        read=bart, source=hf("pegasus_x"),
        harmless=frozenset({"num_global_tokens", "block_size", "stagger_local_blocks"})
    ),
    "led": Family(
        read=partial(bart, context="max_decoder_position_embeddings"), source=hf("led"),
        harmless=frozenset({"attention_window", "max_encoder_position_embeddings"}),
    ),
    "mllama_text_model": Family(read=mllama, source=hf("mllama")),
    "moonshine": Family(read=moonshine, source=hf("moonshine")),
    "speech_to_text": Family(
        read=partial(bart, context="max_target_positions"), source=hf("speech_to_text"),
        harmless=frozenset({"num_conv_layers", "conv_kernel_sizes", "conv_channels", "max_source_positions"}),
    ),
    "whisper": Family(
        read=partial(bart, context="max_target_positions", sources="max_source_positions"), source=hf("whisper"),
        harmless=frozenset({"use_weighted_layer_sum"}),
    ),
}  # fmt: skip
