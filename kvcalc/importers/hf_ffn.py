"""What a Hugging Face config says of weights, family by family: feed-forward blocks, biases, norms, embeddings.

`weight_fields(config, layout)` takes the config that holds the text model (a nested `text_config` where there is
one) and what the family's attention reader found; it gives an `FfnLayout`:

- `ffn`: entries of the spec's `ffn:`; `layers`, `mtp_layers`, `encoder_layers`: the entries of every layer;
- `attention`: kind of attention -> fields to merge into every entry of that kind (`attention_bias`, `qk_norm`, ...);
- `fields`: further keys of the spec (`hidden_size`, `vocab_size`, `norm`, `extra_weights`, `mtp`, ...).

The table of families is hf_ffn_families.py; its readers stand in hf_ffn_moe.py, hf_ffn_gemma.py and hf_ffn_odd.py,
what they share in hf_ffn_blocks.py; hf_quant.py reads quantization_config.

Only what differs from the spec's own defaults is given. The rules were read from the modelling code of
transformers 5.17.0 (src/transformers/models/<family>), or of the model's own repository where it says so.
"""

from __future__ import annotations

from kvcalc.importers.config import Config, FfnLayout, Layout
from kvcalc.importers.hf_ffn_blocks import Family, told
from kvcalc.importers.hf_ffn_families import FAMILIES
from kvcalc.importers.hf_quant import weight_dtypes


def weight_fields(config: Config, layout: Layout, outer: Config | None = None) -> FfnLayout | None:
    """What the config says of weights, or None for a family that is not tabulated here.

    Args:
        config: the text model's config; its `model_type` chooses the reader.
        layout: what was read of attention.
        outer: the config around it, which may hold `tie_word_embeddings`.

    Raises:
        KvcalcError: a key that the weights need is missing or malformed (the cache may be known all the same).
    """
    name = config.model_type
    family = FAMILIES.get(name) or FAMILIES.get(name.removesuffix("_text"))
    if family is None:
        return None
    blocks = family.ffn(config, layout)
    names = {"hidden_size": ("hidden_size",), "vocab_size": ("vocab_size",), **(family.names or {})}
    fields = {
        "hidden_size": config.size(*names["hidden_size"]),
        "vocab_size": config.size(*names["vocab_size"]),
        "tie_word_embeddings": _tied(config, outer, family),
        "norm": None if family.norm == "rms" else family.norm,
        "norms_per_layer": family.norms_per_layer,
        "weight_dtypes": weight_dtypes(config, outer, layers=len(layout.layers)),
        **family.model(config, layout),
    }
    last = next((layer for layer in reversed(blocks.layers) if layer is not None), None)
    return FfnLayout(
        ffn={name: told(entry) for name, entry in blocks.ffn.items()},
        layers=blocks.layers,
        mtp_layers=[fields.pop("mtp_ffn", last)] * len(layout.mtp_layers),
        encoder_layers=[last] * layout.encoder_layers,
        attention={kind: told(entry) for kind, entry in family.attention(config).items()},
        fields=told(fields),
    )


def _tied(config: Config, outer: Config | None, family: Family) -> bool:
    """Whether the head is the embedding: by the outermost config that says so, by the class, by the family."""
    for part in (outer, config):
        if part is not None and part.has("tie_word_embeddings"):
            return part.flag("tie_word_embeddings")
    default = config.class_default("tie_word_embeddings")
    return family.tied if default is None else bool(default)
