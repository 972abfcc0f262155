"""One row per family: how its config maps to weights (see hf_ffn.py)."""

from __future__ import annotations

from collections.abc import Mapping

from kvcalc.importers import hf_ffn_gemma as gemma
from kvcalc.importers import hf_ffn_moe as moe
from kvcalc.importers import hf_ffn_odd as odd
from kvcalc.importers.config import Config, Layout
from kvcalc.importers.hf_ffn_blocks import (
    HEADED,
    LATENT,
    Family,
    Fields,
    by_flag,
    dense,
    experts_everywhere,
    extra,
    fixed,
    for_kinds,
    latent,
    mtp_copies,
    multiple,
    must_be_off,
)


def glm_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    return for_kinds(HEADED, attention_bias=bias, qk_norm="head" if config.flag("use_qk_norm") else None)


def bailing_attention(config: Config) -> dict[str, Fields]:
    """Ling 2.0 (modeling_bailing_moe_v2.py): use_qkv_bias for q, k, v; use_bias for the output."""
    norm = "head" if config.flag("use_qk_norm") else None
    return for_kinds(HEADED, attention_bias=config.flag("use_qkv_bias"), o_bias=config.flag("use_bias"), qk_norm=norm)


def mimo_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    windows = config.flag("add_swa_attention_sink_bias", default=True)
    return {
        "sliding": {"attention_bias": bias, "attention_sinks": windows},
        "full": {"attention_bias": bias, "attention_sinks": config.flag("add_full_attention_sink_bias")},
    }


def step3p5_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    return for_kinds(HEADED, attention_bias=bias, qk_norm="head", output_gate="head")


def minimax_m3_attention(config: Config) -> dict[str, Fields]:
    must_be_off(config, "attention_output_gate")
    return for_kinds(HEADED, qk_norm="head" if config.flag("use_qk_norm", default=True) else None)


def kimi_attention(config: Config) -> dict[str, Fields]:
    """Kimi-K3 (vLLM 0.33.0 models/kimi_k3): a gate on MLA's output, one full matrix for KDA's."""
    inner = config.section("linear_attn_config")
    gate = inner is not None and inner.flag("use_full_rank_gate")
    latents = for_kinds(
        LATENT, attention_bias=config.flag("attention_bias"), output_gate=config.flag("mla_use_output_gate")
    )
    return {**latents, "kda": {"full_rank_gate": gate}}


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


def afmoe_attention(config: Config) -> dict[str, Fields]:
    must_be_off(config, "attention_bias")
    return for_kinds(HEADED, qk_norm="head", output_gate="element")


def falcon_h1_attention(config: Config) -> dict[str, Fields]:
    """Attention and Mamba-2 side by side (FalconH1Mixer); the mixer's norm is optional."""
    must_be_off(config, "mamba_proj_bias", "projectors_bias")
    fields = mamba_attention(config)
    fields["mamba2"]["gated_norm"] = config.flag("mamba_rms_norm")
    return fields


def stablelm_attention(config: Config) -> dict[str, Fields]:
    """qk_layernorm holds a norm per head (StableLmLayerNormPerHead)."""
    norm = "full" if config.flag("qk_layernorm") else None
    return for_kinds(HEADED, attention_bias=config.flag("use_qkv_bias"), qk_norm=norm)


def stablelm_norms(config: Config, layout: Layout) -> Fields:
    return {"norms_per_layer": 1} if config.flag("use_parallel_residual") else {}


def phi_head(config: Config, layout: Layout) -> Fields:
    must_be_off(config, "qk_layernorm")
    return {"lm_head_bias": True}


def post_norms(config: Config, layout: Layout) -> Fields:
    return {"norms_per_layer": 4} if config.flag("use_post_norm") else {}


def xielu(config: Config, layout: Layout) -> Fields:
    """Apertus's activation learns two numbers per layer."""
    return {"extra_weights": [extra("mlp.act_fn.alpha", 2, per_layer=True)]}


LLAMA = Family(ffn=dense(bias="mlp_bias"), attention=by_flag())
GEMMA = Family(ffn=dense(), attention=by_flag(), tied=True)
GEMMA2 = Family(ffn=dense(), attention=by_flag(), tied=True, norms_per_layer=4)
GEMMA3 = Family(ffn=dense(), attention=by_flag(qk_norm="head"), tied=True, norms_per_layer=4)
QWEN3 = Family(ffn=dense(), attention=by_flag(qk_norm="head"))
QWEN3_MOE = Family(ffn=moe.qwen_moe, attention=by_flag(qk_norm="head"))
STABLELM = Family(ffn=dense(), attention=stablelm_attention, norm="layer", model=stablelm_norms)
SINKS = Family(ffn=dense(bias="mlp_bias"), attention=by_flag(sinks=True))
QWEN2 = Family(ffn=dense(), attention=fixed(attention_bias=True))
T5 = Family(ffn=odd.t5, model=odd.t5_model, tied=True, names=MPT)
DEEPSEEK = Family(ffn=moe.deepseek, attention=latent, model=mtp_copies)
GLM_MOE = Family(ffn=moe.glm_moe, attention=glm_attention, model=mtp_copies)
MINIMAX_M3 = Family(ffn=moe.minimax_m3, attention=minimax_m3_attention)
MIXTRAL = Family(ffn=experts_everywhere())
DELTA_NET = Family(ffn=moe.qwen_moe, attention=gated_delta)
MAMBA = Family(ffn=moe.without_ffn, attention=mamba_attention, tied=True)
GPTJ = Family(
    ffn=dense("n_inner", gated=False, bias=True), norm="layer", norms_per_layer=1, model=with_head_bias, names=GPT
)
FALCON = Family(
    ffn=multiple(times=4, bias="bias"),
    attention=by_flag(flag="bias"),
    norm="layer",
    model=odd.falcon_model,
    tied=True,
)
NEMOTRON_H = Family(ffn=odd.nemotron_h, attention=odd.nemotron_h_attention)
GRANITE = Family(ffn=moe.granite_hybrid, attention=mamba_attention, tied=True)

FAMILIES: Mapping[str, Family] = {
    "llama": LLAMA,
    "smollm3": LLAMA,
    "granite": LLAMA,
    "granite4_vision": LLAMA,
    "cwm": LLAMA,
    "iquestcoder": LLAMA,
    "Yi": LLAMA,
    "aquila": LLAMA,
    "xverse": LLAMA,
    "baichuan": LLAMA,
    "deci": LLAMA,
    "granite_swa": SINKS,
    "internlm": Family(ffn=dense(), attention=by_flag(flag="bias")),
    "internlm2": Family(ffn=dense(), attention=by_flag(flag="bias")),
    "orion": Family(ffn=dense(), norm="layer"),
    "exaone": Family(ffn=dense()),
    "mimo": QWEN2,
    "qwen2_5_omni": QWEN2,
    "youtu": Family(ffn=dense(bias="mlp_bias"), attention=latent),
    "hyperclovax": Family(ffn=dense(bias="mlp_bias"), attention=by_flag(), model=post_norms),
    "apertus": Family(ffn=dense(gated=False), attention=by_flag(qk_norm="head"), model=xielu),
    "nanochat": Family(ffn=dense(gated=False), attention=by_flag(), norm="none"),
    "jais2": Family(ffn=dense(gated=False, bias="mlp_bias"), attention=by_flag(), norm="layer"),
    "falcon_h1": Family(ffn=dense(bias="mlp_bias"), attention=falcon_h1_attention, norms_per_layer=2),
    "olmo_hybrid": Family(ffn=dense(), attention=by_flag(qk_norm="full")),
    "flex_olmo": Family(ffn=experts_everywhere(), attention=by_flag(qk_norm="full")),
    "granitemoe_swa": Family(ffn=moe.granite_hybrid, attention=by_flag(sinks=True), tied=True),
    "afmoe": Family(ffn=moe.afmoe, attention=afmoe_attention, norms_per_layer=4),
    "deepseek": Family(ffn=moe.glm_moe, attention=by_flag()),
    "bailing_moe": Family(ffn=moe.glm_moe, attention=bailing_attention),
    "exaone_moe": Family(ffn=moe.glm_moe, attention=by_flag(qk_norm="head")),
    "hy_v3": Family(ffn=moe.glm_moe, attention=by_flag(qk_norm="head")),
    "mistral4": Family(ffn=moe.deepseek, attention=latent),
    "minimax_m1": Family(ffn=experts_everywhere()),
    "qwen3_omni_moe": Family(ffn=moe.qwen_moe, attention=by_flag(qk_norm="head")),
    "glm4v": Family(ffn=dense(), attention=fixed(attention_bias=True), norms_per_layer=4),
    "hunyuan_vl": Family(ffn=dense(), attention=odd.hunyuan_attention),
    "vaultgemma": Family(ffn=dense(), attention=by_flag(), tied=True),
    "stablelm_epoch": STABLELM,
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
    "qwen2": QWEN2,
    "qwen2_vl": QWEN2,
    "qwen2_5_vl": QWEN2,
    "qwen2_moe": Family(ffn=moe.qwen_moe, attention=by_flag(o=False, flag="qkv_bias", default=True)),
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
    "gemma3n": Family(ffn=gemma.gemma3n, attention=gemma.gemma3n_attention, model=gemma.gemma3n_model, tied=True),
    "gemma4": Family(ffn=gemma.gemma4, attention=gemma.gemma4_attention, model=gemma.gemma4_model, tied=True),
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
    "dots1": Family(ffn=moe.glm_moe, attention=by_flag(qk_norm="head")),
    "bailing_moe_v2": Family(ffn=moe.glm_moe, attention=bailing_attention),
    "kimi_linear": Family(ffn=moe.kimi_linear, attention=kimi_attention, model=odd.attention_residuals),
    "minicpm3": Family(ffn=dense(bias="mlp_bias"), attention=latent),
    "ernie4_5_moe": Family(ffn=moe.ernie_moe, attention=by_flag(flag="use_bias"), tied=True),
    "minimax": MIXTRAL,
    "minimax_text_01": MIXTRAL,
    "minimax_m2": Family(ffn=experts_everywhere(correction_bias=True), attention=odd.minimax_m2_attention),
    "minimax_m3": MINIMAX_M3,
    "minimax_m3_vl": MINIMAX_M3,
    "step3p5": Family(ffn=moe.step3p5, attention=step3p5_attention),
    "mimo_v2_flash": Family(ffn=moe.mimo, attention=mimo_attention),
    "gpt_oss": Family(ffn=experts_everywhere(bias=True, router_bias=True), attention=odd.gpt_oss_attention),
    "llama4": Family(ffn=moe.llama4, attention=by_flag()),
    "longcat_flash": Family(ffn=odd.longcat, attention=latent, norms_per_layer=4),
    "step3": Family(ffn=odd.step3, attention=odd.step3_attention),
    "hunyuan": Family(ffn=odd.hunyuan_large, attention=odd.hunyuan_attention),
    "hunyuan_v1_moe": Family(ffn=odd.hunyuan_large, attention=odd.hunyuan_attention),
    "grok-1": Family(ffn=experts_everywhere(), norms_per_layer=4),
    "jamba": Family(ffn=moe.jamba, attention=jamba_attention),
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
    "stablelm": STABLELM,
    "phi": Family(
        ffn=dense(gated=False, bias=True), attention=fixed(attention_bias=True, o_bias=True), norm="layer",
        norms_per_layer=1, model=phi_head,
    ),
    "gpt2": Family(
        ffn=dense("n_inner", gated=False, bias=True), attention=fixed(attention_bias=True, o_bias=True),
        norm="layer", model=odd.learned_positions("n_positions"), tied=True, names=GPT,
    ),
    "gpt_bigcode": Family(
        ffn=dense("n_inner", gated=False, bias=True), attention=fixed(attention_bias=True, o_bias=True),
        norm="layer", model=odd.learned_positions("n_positions"), tied=True, names=GPT,
    ),
    "gptj": GPTJ,
    "codegen": GPTJ,
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
    "falcon": FALCON,
    "RefinedWeb": FALCON,
    "RefinedWebModel": FALCON,
    "mpt": Family(ffn=odd.mpt, attention=odd.mpt_attention, norm="layer_no_bias", tied=True, names=MPT),
    "dbrx": Family(ffn=odd.dbrx, norm="layer_no_bias", names=MPT),
    "chatglm": Family(
        ffn=dense("ffn_hidden_size", bias="add_bias_linear"), attention=odd.chatglm_attention,
        names={"vocab_size": ("padded_vocab_size", "vocab_size")},
    ),
    "t5": T5,
    "mt5": T5,
    "longt5": T5,
    "umt5": Family(ffn=odd.t5, model=odd.umt5_model, tied=True, names=MPT),
    "whisper": Family(
        ffn=dense("decoder_ffn_dim", gated=False, bias=True),
        attention=fixed(attention_bias=True, k_bias=False, o_bias=True), norm="layer",
        model=odd.whisper_model, tied=True, names=MPT,
    ),
}  # fmt: skip
