"""Families with keys and values in heads whose layers choose what they read with an indexer."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import FULL, heads_of, layer_count, layout, typed_layers

SPARSE = "minimax_m3_sparse"
INDEX = {
    "index_n_heads": "sparse_num_index_heads",
    "index_head_dim": "sparse_index_dim",
    "index_block_size": "sparse_block_size",
    "index_topk_blocks": "sparse_topk_blocks",
}
"""Our fields, which are transformers' own, and their names in the released config's `sparse_attention_config`."""


def minimax_m3(config: Config) -> Layout:
    """MiniMax-M3: block-sparse layers behind a few full ones; no prediction layers are in the released weights."""
    heads, count = heads_of(config), layer_count(config)
    config.harmless(
        "attention_output_gate", "num_mtp_modules", "num_nextn_predict_layers", "index_local_blocks", *INDEX
    )
    inner = config.section("sparse_attention_config")
    if inner is None:
        index = {ours: config.size(ours) for ours in INDEX}
        words: list[str] = []
        if not config.has("layer_types"):
            config.missing("sparse_attention_config", "layer_types")
    else:
        inner.harmless(
            "sparse_disable_index_value", "sparse_init_block", "sparse_local_block", "sparse_score_type",
            "use_sparse_attention",
        )  # fmt: skip
        if inner.data.get("use_sparse_attention") is False:
            inner.refuse("use_sparse_attention", "minimax_m3 without its sparse attention is not known here")
        index = {ours: inner.size(theirs) for ours, theirs in INDEX.items()}
        schedule = inner.sizes("sparse_attention_freq", length=count)
        if schedule is None:
            inner.missing("sparse_attention_freq")
        if set(schedule) - {0, 1}:
            inner.refuse("sparse_attention_freq", "expected 0 (full) or 1 (sparse) for each layer")
        values = inner.sizes("sparse_disable_index_value", length=count) or schedule
        if any(sparse and not disabled for sparse, disabled in zip(schedule, values, strict=True)):
            inner.refuse("sparse_disable_index_value", "an indexer with values of its own is not known here")
        words = [SPARSE if sparse else FULL for sparse in schedule]
    attention = {"full": heads.entry(), "block_sparse": heads.entry("block_sparse", **index)}
    return layout(config, attention, typed_layers(config, count, {FULL: "full", SPARSE: "block_sparse"}, lambda: words))


SPARSE_HEADS: Mapping[str, Family] = {
    name: Family(read=minimax_m3, source=hf("minimax_m3_vl")) for name in ("minimax_m3", "minimax_m3_vl_text")
}
