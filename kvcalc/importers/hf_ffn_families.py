"""One row per family: how its config maps to weights (see hf_ffn.py)."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.importers import hf_ffn_odd as odd
from kvcalc.importers.config import Config, Layout
from kvcalc.importers.hf_ffn_blocks import (
    HEADED,
    Blocks,
    Family,
    Fields,
    by_flag,
    dense,
    dense_entry,
    everywhere,
    experts_everywhere,
    fixed,
    for_kinds,
    latent,
    leading_dense,
    moe_entry,
    mtp_copies,
    multiple,
    placed,
)


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
        correction_bias=method == "noaux_tc" if method else config.model_type != "deepseek_v2",
    )
    return leading_dense(config, layout, moe)


def glm_moe(config: Config, layout: Layout) -> Blocks:
    """GLM-4.5, dots.llm1, Ling: DeepSeek-V3's placement and router."""
    moe = moe_entry(
        config,
        n_shared_experts=config.optional("n_shared_experts", "num_shared_experts", least=0) or 0,
        correction_bias=True,
    )
    return leading_dense(config, layout, moe)


def glm_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    return for_kinds(HEADED, attention_bias=bias, qk_norm="head" if config.flag("use_qk_norm") else None)


def bailing_attention(config: Config) -> dict[str, Fields]:
    """Ling 2.0 (modeling_bailing_moe_v2.py): use_qkv_bias for q, k, v; use_bias for the output."""
    norm = "head" if config.flag("use_qk_norm") else None
    return for_kinds(HEADED, attention_bias=config.flag("use_qkv_bias"), o_bias=config.flag("use_bias"), qk_norm=norm)


def kimi_linear(config: Config, layout: Layout) -> Blocks:
    moe = moe_entry(config, n_shared_experts=config.optional("num_shared_experts", least=0) or 0, correction_bias=True)
    return leading_dense(config, layout, moe)


def llama4(config: Config, layout: Layout) -> Blocks:
    """Experts of intermediate_size beside one shared; dense layers of intermediate_size_mlp between."""
    moe = moe_entry(config, width=("intermediate_size",), n_shared_experts=1)
    step = config.optional("interleave_moe_layer_step") or 1
    chosen = config.sizes("moe_layers")
    where = set(range(step - 1, len(layout.layers), step) if chosen is None else chosen)
    return placed(lambda index: index in where, dense_entry(config.size("intermediate_size_mlp")), moe, layout)


def ernie_moe(config: Config, layout: Layout) -> Blocks:
    moe = moe_entry(
        config,
        n_shared_experts=config.optional("moe_num_shared_experts", least=0) or 0,
        correction_bias=True,
        bias=config.flag("use_bias"),
    )
    start = config.optional("moe_layer_start_index", least=0) or 0
    end = config.optional("moe_layer_end_index")
    every = config.optional("moe_layer_interval") or 1
    last = len(layout.layers) - 1 if end is None else end
    block = dense_entry(config.size("intermediate_size"), bias=config.flag("use_bias"))
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


def mimo_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    windows = config.flag("add_swa_attention_sink_bias", default=True)
    return {
        "sliding": {"attention_bias": bias, "attention_sinks": windows},
        "full": {"attention_bias": bias, "attention_sinks": config.flag("add_full_attention_sink_bias")},
    }


def jamba(config: Config, layout: Layout) -> Blocks:
    period, offset = config.size("expert_layer_period"), config.size("expert_layer_offset", least=0)
    width = config.size("intermediate_size")
    if config.size("num_experts") == 1:
        return dense()(config, layout)
    moe = moe_entry(config, width=("intermediate_size",))
    return placed(lambda index: index % period == offset, dense_entry(width), moe, layout)


def jamba_attention(config: Config) -> dict[str, Fields]:
    return {
        "mamba": {
            "inner_norms": True,
            "use_conv_bias": config.flag("mamba_conv_bias", default=True),
            "use_bias": config.flag("mamba_proj_bias"),
        }
    }


def mamba_attention(config: Config) -> dict[str, Fields]:
    fields = {
        "use_conv_bias": config.flag("use_conv_bias", "mamba_conv_bias", default=True),
        "use_bias": config.flag("use_bias", "mamba_proj_bias"),
    }
    bias = config.flag("attention_bias")
    return {"mamba": dict(fields), "mamba2": dict(fields), "full": {"attention_bias": bias, "o_bias": bias}}


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


def gated_delta(config: Config) -> dict[str, Fields]:
    """Qwen3-Next, Qwen3.5: full layers gate their output through a q projection twice as wide."""
    bias = config.flag("attention_bias")
    gate = "element" if config.flag("attn_output_gate", default=True) else None
    return {"full": {"attention_bias": bias, "o_bias": bias, "qk_norm": "head", "output_gate": gate}}


def cohere_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    norm = "full" if config.flag("use_qk_norm") else None
    return for_kinds(HEADED, attention_bias=bias, o_bias=bias, qk_norm=norm)


def with_head_bias(config: Config, layout: Layout) -> Fields:
    return {"lm_head_bias": True}


GPT = {"hidden_size": ("n_embd", "hidden_size")}
MPT = {"hidden_size": ("d_model", "hidden_size")}

LLAMA = Family(ffn=dense(bias="mlp_bias"), attention=by_flag())
GEMMA = Family(ffn=dense(), attention=by_flag(), tied=True)
GEMMA2 = Family(ffn=dense(), attention=by_flag(), tied=True, norms_per_layer=4)
GEMMA3 = Family(ffn=dense(), attention=by_flag(qk_norm="head"), tied=True, norms_per_layer=4)
QWEN3 = Family(ffn=dense(), attention=by_flag(qk_norm="head"))
QWEN3_MOE = Family(ffn=qwen_moe, attention=by_flag(qk_norm="head"))
DEEPSEEK = Family(ffn=deepseek, attention=latent, model=mtp_copies)
GLM_MOE = Family(ffn=glm_moe, attention=glm_attention, model=mtp_copies)
MIXTRAL = Family(ffn=experts_everywhere())
DELTA_NET = Family(ffn=qwen_moe, attention=gated_delta)
MAMBA = Family(ffn=without_ffn, attention=mamba_attention, tied=True)
NEMOTRON_H = Family(ffn=odd.nemotron_h, attention=odd.nemotron_h_attention)
GRANITE = Family(ffn=granite_hybrid, attention=mamba_attention, tied=True)

FAMILIES: Mapping[str, Family] = {
    "llama": LLAMA,
    "smollm3": LLAMA,
    "granite": LLAMA,
    "helium": Family(ffn=dense(bias="mlp_bias"), attention=by_flag(o=False)),
    "minicpm": Family(ffn=dense(), attention=by_flag()),
    "mistral": Family(ffn=dense()),
    "ministral": Family(ffn=dense()),
    "ministral3": Family(ffn=dense()),
    "phi3": Family(ffn=dense()),
    "internlm3": Family(ffn=dense(bias="bias"), attention=by_flag(flag="qkv_bias")),
    "seed_oss": Family(ffn=dense(bias="mlp_bias"), attention=odd.seed_attention),
    "exaone4": Family(ffn=dense(), attention=fixed(qk_norm="head")),
    "arcee": Family(ffn=dense(gated=False, bias="mlp_bias"), attention=by_flag()),
    "glm": Family(ffn=dense(), attention=by_flag(o=False)),
    "glm4": Family(ffn=dense(), attention=by_flag(o=False), norms_per_layer=4),
    "ernie4_5": Family(ffn=dense(bias="use_bias"), attention=by_flag(flag="use_bias"), tied=True),
    "hunyuan_v1_dense": Family(ffn=dense(), attention=odd.hunyuan_attention),
    "qwen2": Family(ffn=dense(), attention=fixed(attention_bias=True)),
    "qwen2_vl": Family(ffn=dense(), attention=fixed(attention_bias=True)),
    "qwen2_5_vl": Family(ffn=dense(), attention=fixed(attention_bias=True)),
    "qwen2_moe": Family(ffn=qwen_moe, attention=by_flag(o=False, flag="qkv_bias", default=True)),
    "qwen3": QWEN3,
    "qwen3_vl": QWEN3,
    "qwen3_moe": QWEN3_MOE,
    "qwen3_vl_moe": QWEN3_MOE,
    "qwen3_next": DELTA_NET,
    "qwen3_5": Family(ffn=dense(), attention=gated_delta),
    "qwen3_5_moe": DELTA_NET,
    "qwen": Family(ffn=odd.qwen1, attention=odd.qwen1_attention),
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "gemma3n": Family(ffn=odd.gemma3n, attention=odd.gemma3n_attention, model=odd.gemma3n_model, tied=True),
    "gemma4": Family(ffn=odd.gemma4, attention=odd.gemma4_attention, model=odd.gemma4_model, tied=True),
    "cohere": Family(
        ffn=dense(), attention=cohere_attention, norm="layer_no_bias", norms_per_layer=1, tied=True
    ),
    "cohere2": Family(ffn=dense(), attention=by_flag(), norm="layer_no_bias", norms_per_layer=1, tied=True),
    "olmo": Family(ffn=dense(), attention=by_flag(), norm="none"),
    "olmo2": Family(ffn=dense(), attention=by_flag(qk_norm="full")),
    "olmo3": Family(ffn=dense(), attention=by_flag(qk_norm="full")),
    "olmoe": Family(ffn=experts_everywhere(), attention=by_flag(qk_norm="full")),
    "mixtral": MIXTRAL,
    "phimoe": Family(
        ffn=experts_everywhere(), attention=by_flag(), norm="layer",
        model=lambda config, layout: {"lm_head_bias": config.flag("lm_head_bias")},
    ),
    "granitemoe": Family(ffn=experts_everywhere(), attention=by_flag(), tied=True),
    "granitemoeshared": GRANITE,
    "granitemoehybrid": GRANITE,
    "bamba": Family(ffn=dense(bias="mlp_bias"), attention=mamba_attention),
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": DEEPSEEK,
    "deepseek_v32": DEEPSEEK,
    "kimi_k2": DEEPSEEK,
    "glm_moe_dsa": DEEPSEEK,
    "glm4_moe_lite": DEEPSEEK,
    "deepseek_v4": Family(ffn=odd.deepseek_v4, model=odd.deepseek_v4_model),
    "glm4_moe": GLM_MOE,
    "glm4v_moe": GLM_MOE,
    "dots1": Family(ffn=glm_moe, attention=by_flag(qk_norm="head")),
    "bailing_moe_v2": Family(ffn=glm_moe, attention=bailing_attention),
    "kimi_linear": Family(ffn=kimi_linear, attention=latent),
    "minicpm3": Family(ffn=dense(), attention=latent),
    "ernie4_5_moe": Family(ffn=ernie_moe, attention=by_flag(flag="use_bias"), tied=True),
    "minimax": MIXTRAL,
    "minimax_text_01": MIXTRAL,
    "minimax_m2": Family(ffn=experts_everywhere(correction_bias=True), attention=odd.minimax_m2_attention),
    "mimo_v2_flash": Family(ffn=mimo, attention=mimo_attention),
    "gpt_oss": Family(ffn=experts_everywhere(bias=True, router_bias=True), attention=odd.gpt_oss_attention),
    "llama4": Family(ffn=llama4, attention=by_flag()),
    "longcat_flash": Family(ffn=odd.longcat, attention=latent, norms_per_layer=4),
    "step3": Family(ffn=odd.step3, attention=odd.step3_attention),
    "hunyuan": Family(ffn=odd.hunyuan_large, attention=odd.hunyuan_attention),
    "hunyuan_v1_moe": Family(ffn=odd.hunyuan_large, attention=odd.hunyuan_attention),
    "grok-1": Family(ffn=experts_everywhere(), norms_per_layer=4),
    "jamba": Family(ffn=jamba, attention=jamba_attention),
    "mamba": MAMBA,
    "falcon_mamba": MAMBA,
    "mamba2": MAMBA,
    "nemotron": Family(ffn=dense(gated=False, bias="mlp_bias"), attention=by_flag(), norm="layer"),
    "nemotron_h": NEMOTRON_H,
    "nemotron-nas": Family(ffn=odd.nemotron_nas, attention=by_flag()),
    "lfm2": Family(ffn=odd.lfm2, attention=odd.lfm2_attention, tied=True),
    "lfm2_moe": Family(ffn=odd.lfm2_moe, attention=odd.lfm2_attention, tied=True),
    "starcoder2": Family(
        ffn=dense(gated=False, bias="use_bias", bias_default=True), attention=by_flag(flag="use_bias", default=True),
        norm="layer", tied=True,
    ),
    "stablelm": Family(ffn=dense(), attention=by_flag(o=False, flag="use_qkv_bias"), norm="layer"),
    "phi": Family(
        ffn=dense(gated=False, bias=True), attention=fixed(attention_bias=True, o_bias=True), norm="layer",
        norms_per_layer=1, model=with_head_bias,
    ),
    "gpt2": Family(
        ffn=dense("n_inner", gated=False, bias=True), attention=fixed(attention_bias=True, o_bias=True),
        norm="layer", model=odd.learned_positions("n_positions"), tied=True, names=GPT,
    ),
    "gpt_bigcode": Family(
        ffn=dense("n_inner", gated=False, bias=True), attention=fixed(attention_bias=True, o_bias=True),
        norm="layer", model=odd.learned_positions("n_positions"), tied=True, names=GPT,
    ),
    "gptj": Family(
        ffn=dense("n_inner", gated=False, bias=True), norm="layer", norms_per_layer=1, model=with_head_bias, names=GPT
    ),
    "gpt_neox": Family(
        ffn=dense(gated=False, bias=True), attention=by_flag(default=True), norm="layer"
    ),
    "opt": Family(
        ffn=dense("ffn_dim", gated=False, bias="enable_bias", bias_default=True),
        attention=by_flag(flag="enable_bias", default=True), norm="layer", model=odd.opt_model, tied=True,
    ),
    "bloom": Family(
        ffn=multiple(times=4), attention=fixed(attention_bias=True, o_bias=True), norm="layer",
        model=odd.bloom_model, tied=True, names={"hidden_size": ("hidden_size", "n_embed")},
    ),
    "falcon": Family(
        ffn=multiple(times=4, bias="bias"), attention=by_flag(flag="bias"), norm="layer",
        model=odd.falcon_model, tied=True,
    ),
    "mpt": Family(ffn=odd.mpt, attention=odd.mpt_attention, norm="layer_no_bias", tied=True, names=MPT),
    "dbrx": Family(ffn=odd.dbrx, norm="layer_no_bias", names=MPT),
    "chatglm": Family(
        ffn=dense("ffn_hidden_size", bias="add_bias_linear"), attention=odd.chatglm_attention,
        names={"vocab_size": ("padded_vocab_size", "vocab_size")},
    ),
    "t5": Family(ffn=odd.t5, model=odd.t5_model, tied=True, names=MPT),
    "whisper": Family(
        ffn=dense("decoder_ffn_dim", gated=False, bias=True),
        attention=fixed(attention_bias=True, k_bias=False, o_bias=True), norm="layer",
        model=odd.whisper_model, tied=True, names=MPT,
    ),
}  # fmt: skip
