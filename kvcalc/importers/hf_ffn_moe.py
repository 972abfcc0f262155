"""Where experts stand, and how many work: readers that hf_ffn_families.py names."""

from __future__ import annotations

from kvcalc.importers.config import Config, Layout
from kvcalc.importers.hf_ffn_blocks import (
    Blocks,
    after_dense,
    dense,
    dense_entry,
    enumerated,
    everywhere,
    leading_dense,
    moe_entry,
    must_be_off,
    placed,
)

WITHOUT_CORRECTION = frozenset({"deepseek", "deepseek_v2", "mistral4", "bailing_moe"})
"""Families with DeepSeek's placement of experts whose routers have no correction bias."""


def qwen_moe(config: Config, layout: Layout) -> Blocks:
    """Every decoder_sparse_step-th layer but those in mlp_only_layers; Qwen2 and 3.5 gate one shared expert."""
    step = config.optional("decoder_sparse_step") or 1
    only_dense = set(config.sizes("mlp_only_layers") or ())
    shared = config.optional("shared_expert_intermediate_size", least=0)
    if shared is None and not config.model_type.startswith("qwen3_moe"):
        shared = config.class_default("shared_expert_intermediate_size")
    moe = moe_entry(config, shared_expert_intermediate_size=shared, shared_expert_gate=bool(shared))
    width = config.optional("intermediate_size")

    def is_moe(index: int) -> bool:
        return index not in only_dense and (index + 1) % step == 0

    if width is None and not all(is_moe(index) for index in range(len(layout.layers))):
        config.missing("intermediate_size")
    return placed(is_moe, dense_entry(width) if width else None, moe, layout)


def deepseek(config: Config, layout: Layout) -> Blocks:
    """Dense up to first_k_dense_replace, then experts with shared ones; V3's router has a correction bias."""
    method = config.text("topk_method")
    moe = moe_entry(
        config,
        n_shared_experts=config.optional("n_shared_experts", "num_shared_experts", least=0) or 0,
        correction_bias=method == "noaux_tc" if method else config.model_type not in WITHOUT_CORRECTION,
    )
    return leading_dense(config, layout, moe)


def glm_moe(config: Config, layout: Layout) -> Blocks:
    """GLM-4.5, dots.llm1, Ling: DeepSeek-V3's placement and router."""
    must_be_off(config, "mlp_bias")
    moe = moe_entry(
        config,
        n_shared_experts=config.optional("n_shared_experts", "num_shared_experts", least=0) or 0,
        correction_bias=config.model_type not in WITHOUT_CORRECTION,
    )
    return leading_dense(config, layout, moe)


def kimi_linear(config: Config, layout: Layout) -> Blocks:
    """Kimi-Linear; Kimi-K3's routed experts work in a latent."""
    moe = moe_entry(
        config,
        n_shared_experts=config.optional("num_shared_experts", least=0) or 0,
        correction_bias=True,
        moe_latent_size=config.optional("routed_expert_hidden_size"),
        moe_latent_norm=config.flag("latent_moe_use_norm"),
    )
    return leading_dense(config, layout, moe)


def minimax_m3(config: Config, layout: Layout) -> Blocks:
    """Dense blocks where moe_layer_freq (or mlp_layer_types) says 0, experts of intermediate_size elsewhere."""
    types = config.words("mlp_layer_types", length=len(layout.layers))
    freq = config.sizes("moe_layer_freq", length=len(layout.layers))
    where = [word == "sparse" for word in types] if types else [bool(f) for f in freq or [1] * len(layout.layers)]
    moe = moe_entry(
        config,
        width=("intermediate_size",),
        shared_expert_intermediate_size=config.size("shared_intermediate_size"),
        correction_bias=config.flag("use_routing_bias", default=True),
    )
    return placed(lambda index: where[index], dense_entry(config.size("dense_intermediate_size")), moe, layout)


def step3p5(config: Config, layout: Layout) -> Blocks:
    """Dense blocks up to the first experts (mlp_layer_types, moe_layers_enum or first_k_dense_replace)."""
    count = len(layout.layers)
    types = config.words("mlp_layer_types")
    listed = enumerated(config, "moe_layers_enum")
    if types is not None:
        where = {index for index, word in enumerate(types[:count]) if word == "sparse"}
    else:
        first = config.optional("first_k_dense_replace", least=0)
        where = set(range(3 if first is None else first, count)) if listed is None else listed
    moe = moe_entry(
        config,
        shared_expert_intermediate_size=config.size("share_expert_dim"),
        correction_bias=config.flag("use_moe_router_bias", default=True),
    )
    return placed(lambda index: index in where, dense_entry(config.size("intermediate_size")), moe, layout)


def llama4(config: Config, layout: Layout) -> Blocks:
    """Experts of intermediate_size beside one shared; dense layers of intermediate_size_mlp between."""
    moe = moe_entry(config, width=("intermediate_size",), n_shared_experts=1)
    step = config.optional("interleave_moe_layer_step") or 1
    chosen = config.sizes("moe_layers")
    where = set(range(step - 1, len(layout.layers), step) if chosen is None else chosen)
    return placed(lambda index: index in where, dense_entry(config.size("intermediate_size_mlp")), moe, layout)


def ernie_moe(config: Config, layout: Layout) -> Blocks:
    must_be_off(config, "use_bias")
    moe = moe_entry(
        config,
        n_shared_experts=config.optional("moe_num_shared_experts", least=0) or 0,
        correction_bias=True,
    )
    start = config.optional("moe_layer_start_index", least=0) or 0
    end = config.optional("moe_layer_end_index")
    every = config.optional("moe_layer_interval") or 1
    last = len(layout.layers) - 1 if end is None else end
    block = dense_entry(config.size("intermediate_size"))
    return placed(lambda index: start <= index <= last and (index + 1) % every == 0, block, moe, layout)


def mimo(config: Config, layout: Layout) -> Blocks:
    """moe_layer_freq lists 0 (dense) or 1 (experts) per layer; the prediction layers are dense."""
    freq = config.sizes("moe_layer_freq", length=len(layout.layers)) or [1] * len(layout.layers)
    moe = moe_entry(
        config,
        n_shared_experts=config.optional("n_shared_experts", least=0) or 0,
        correction_bias=config.text("topk_method") == "noaux_tc",
    )
    return placed(lambda index: bool(freq[index]), dense_entry(config.size("intermediate_size")), moe, layout)


def jamba(config: Config, layout: Layout) -> Blocks:
    period, offset = config.size("expert_layer_period"), config.size("expert_layer_offset", least=0)
    width = config.size("intermediate_size")
    if config.size("num_experts") == 1:
        return dense()(config, layout)
    moe = moe_entry(config, width=("intermediate_size",))
    return placed(lambda index: index % period == offset, dense_entry(width), moe, layout)


def without_ffn(config: Config, layout: Layout) -> Blocks:
    return Blocks(ffn={}, layers=[None] * len(layout.layers))


def granite_hybrid(config: Config, layout: Layout) -> Blocks:
    """A shared block in every layer, with experts beside it where there are any."""
    experts = config.optional("num_local_experts", least=0)
    if not experts:
        return everywhere("dense", dense_entry(config.size("shared_intermediate_size")), layout)
    shared = config.optional("shared_intermediate_size", least=0)
    moe = moe_entry(config, width=("intermediate_size",), shared_expert_intermediate_size=shared)
    return everywhere("moe", moe, layout)


def afmoe(config: Config, layout: Layout) -> Blocks:
    moe = moe_entry(config, n_shared_experts=config.size("num_shared_experts", least=0), correction_bias=True)
    return after_dense(config, layout, moe, config.size("num_dense_layers", least=0))
