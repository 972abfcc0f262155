"""Families that keep a latent (MLA), some with a sparse indexer beside it, and DeepSeek-V4's compressed attention."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.families_dense import full
from kvcalc.importers.family import Family, hf
from kvcalc.importers.shapes import MTP, layer_count, layout, predicted, query_heads

_MTP = (*MTP, "num_mtp_layers")
RATIOS: Mapping[str, int] = {
    "sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128,
}  # fmt: skip
"""DeepSeek-V4's names for its compression ratios in transformers 5.23.0."""
INDEXED = frozenset({"indexed_attention", "deepseek_sparse_attention"})
"""Names of an MLA layer with an indexer, in transformers 5.23.0 and before it."""
INDEXED_RATIO = 4
"""Only these layers choose among their compressed vectors with an indexer (DeepSeek-V4 inference/model.py)."""


def latent(config: Config) -> dict[str, Any]:
    """The entry of an MLA layer. In these configs `head_dim` and `num_key_value_heads` say nothing of the cache."""
    config.harmless("num_key_value_heads", "head_dim", "qk_head_dim")
    entry: dict[str, Any] = {
        "kind": "mla",
        "num_attention_heads": query_heads(config),
        "kv_lora_rank": config.size("kv_lora_rank"),
        "qk_rope_head_dim": config.size("qk_rope_head_dim", least=0),
        "qk_nope_head_dim": config.size("qk_nope_head_dim"),
        "v_head_dim": config.size("v_head_dim"),
    }
    rank = config.optional("q_lora_rank")
    if rank is None and "q_lora_rank" not in config.data:
        rank = config.class_default("q_lora_rank")
    return entry if rank is None else {**entry, "q_lora_rank": rank}


def mla(config: Config) -> Layout:
    """One latent per token and layer."""
    if config.data.get("use_mla") is False:
        config.harmless("use_mla", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        return full(config)
    config.harmless("use_mla")
    return layout(config, {"mla": latent(config)}, ["mla"] * layer_count(config), mtp=predicted(config, "mla", *_MTP))


def two_caches(config: Config) -> Layout:
    """LongCat-Flash: each layer holds two attention blocks, and so two latents."""
    count = config.size("num_layers", "num_hidden_layers")
    if config.raw("attention_method") not in (None, "MLA"):
        config.refuse("attention_method", "longcat_flash: an attention_method other than MLA is not known here")
    return layout(config, {"mla": latent(config)}, [("mla", "mla")] * count, mtp=predicted(config, "mla", *_MTP))


def sparse(config: Config, *, default: str = "all") -> Layout:
    """MLA with an indexer (DSA): layers marked `shared` reuse an earlier choice and keep no indexer key.

    Args:
        default: what the class does where the config states no schedule: `all` layers their own indexer (also
            `scheduled`, where the class knows schedules), or `hy`, the first and then one in four.
    """
    count = layer_count(config)
    types = config.words("layer_types", length=count)
    if types is not None and not set(types) <= INDEXED:
        config.refuse("layer_types", f"{config.model_type}: expected layer types among {', '.join(sorted(INDEXED))}")
    # Whether drafts reuse their first choice: the prediction layer keeps its indexer keys either way.
    config.harmless("index_share_for_mtp_iteration")
    entry = {
        **latent(config),
        "kind": "sparse",
        "index_head_dim": config.size("index_head_dim"),
        "index_n_heads": config.size("index_n_heads"),
        "index_topk": config.size("index_topk"),
    }
    attention = {"sparse": entry, "sparse_shared_index": {**entry, "index_cache": "shared"}}
    modes = _indexers(config, count, default)
    layers = ["sparse" if mode == "full" else "sparse_shared_index" for mode in modes]
    return layout(config, attention, layers, mtp=predicted(config, "sparse", *_MTP))


def _indexers(config: Config, count: int, default: str) -> list[str]:
    words = config.words("indexer_types", length=count)
    letters = config.raw("index_topk_pattern")
    if words is None and isinstance(letters, str):
        words = [{"F": "full", "S": "shared"}.get(letter, letter) for letter in letters]
    elif words is None and letters is not None:
        words = config.words("index_topk_pattern")
    if words is not None:
        config.harmless("index_topk_freq", "index_skip_topk_offset")
        if len(words) != count or set(words) - {"full", "shared"}:
            config.refuse(
                config.name_of("indexer_types", "index_topk_pattern"), f"expected `full` or `shared` for {count} layers"
            )
        return words
    frequency = config.optional("index_topk_freq")
    offset = config.optional("index_skip_topk_offset", least=0)
    if frequency is not None:
        offset = 2 if offset is None else offset
        return ["full" if max(i - offset + 1, 0) % frequency == 0 else "shared" for i in range(count)]
    if default == "hy":
        config.assume_class("indexer_types", "1 in 4")
        return ["full" if i == 0 or (i - 1) % 4 == 0 else "shared" for i in range(count)]
    if default == "scheduled":
        config.assume("indexer_types", "full", f"every layer its own, class default of {config.model_type}")
    return ["full"] * count


def deepseek_v4(config: Config) -> Layout:
    """DeepSeek-V4: `compress_ratios` per layer, with one entry more for the prediction layer."""
    count = layer_count(config)
    extra = config.optional(*_MTP, least=0) or 0
    config.harmless("num_key_value_heads")
    ratios = config.sizes("compress_ratios")
    if ratios is None:
        words = config.words("layer_types", length=count)
        if words is None:
            config.missing("compress_ratios", "layer_types")
        rates = dict(RATIOS)
        stated = config.section("compress_rates")
        if stated is not None:
            rates |= {key: stated.size(key) for key in stated.data}
        if set(words) - set(rates):
            config.refuse("layer_types", "only the layer types of DeepSeek-V4 are read")
        ratios = [rates[word] for word in words]
    else:
        config.harmless("layer_types")
    if len(ratios) not in (count, count + extra):
        config.refuse(
            "compress_ratios", f"compress_ratios has {len(ratios)} entries for {count} layers and {extra} more"
        )
    ratios = [*ratios, *[0] * (count + extra - len(ratios))]
    attention = {_v4_name(ratio): _v4_entry(config, ratio) for ratio in ratios}
    names = [_v4_name(ratio) for ratio in ratios]
    comments = {"layers": "compress_ratios: one vector for every 4 or 128 tokens; 0 keeps the window alone"}
    return layout(config, attention, names[:count], mtp=names[count:], comments=comments)


def _v4_name(ratio: int) -> str:
    return f"compressed_{ratio}" if ratio else "window"


def _v4_entry(config: Config, ratio: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "kind": "compressed",
        "num_attention_heads": query_heads(config),
        "head_dim": config.size("head_dim"),
        "sliding_window": config.size("sliding_window"),
        "compress_ratio": ratio,
    }
    index = {key: config.size(key) for key in ("index_head_dim", "index_n_heads", "index_topk")}
    ranks = {
        key: config.optional(key) for key in ("q_lora_rank", "qk_rope_head_dim", "o_lora_rank", "o_groups")
    }  # fmt: skip
    return {
        **entry,
        **(index if ratio == INDEXED_RATIO else {}),
        **{key: value for key, value in ranks.items() if value is not None},
    }


MLA: Mapping[str, Family] = {
    name: Family(read=mla, source=hf(folder))
    for name, folder in {
        "axk1": "axk1", "deepseek_v2": "deepseek_v2", "deepseek_v3": "deepseek_v3", "glm4_moe_lite": "glm4_moe_lite",
        "kimi_k2": "deepseek_v3", "minicpm3": "minicpm3", "mistral4": "mistral4", "youtu": "youtu",
    }.items()
} | {
    "axk2": Family(read=sparse, source=hf("axk2")),
    "deepseek_v32": Family(read=sparse, source=hf("deepseek_v32")),
    "deepseek_v4": Family(read=deepseek_v4, source=hf("deepseek_v4")),
    "glm_moe_dsa": Family(read=partial(sparse, default="scheduled"), source=hf("glm_moe_dsa")),
    "hy_v4": Family(read=partial(sparse, default="hy"), source=hf("hy_v4")),
    "longcat_flash": Family(read=two_caches, source=hf("longcat_flash")),
}  # fmt: skip
