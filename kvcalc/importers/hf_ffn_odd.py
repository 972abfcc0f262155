"""Readers of families whose weights no other family shares (see hf_ffn.py)."""

from __future__ import annotations

from kvcalc.formats import round_up
from kvcalc.importers.config import Config, LayerName, Layout
from kvcalc.importers.hf_ffn_blocks import (
    HEADED,
    Blocks,
    FieldReader,
    Fields,
    after_dense,
    dense_entry,
    enumerated,
    everywhere,
    extra,
    for_kinds,
    moe_entry,
    must_be_off,
    placed,
)

# GPT-2, OPT, BLOOM, Falcon, MPT, DBRX


def learned_positions(key: str) -> FieldReader:
    return lambda config, layout: {"position_embeddings": config.size(key)}


def opt_model(config: Config, layout: Layout) -> Fields:
    """Two rows more than positions (OPTLearnedPositionalEmbedding); no reader for a narrower embedding (OPT-350m)."""
    hidden = config.size("hidden_size")
    if config.optional("word_embed_proj_dim") not in (None, hidden):
        config.refuse("word_embed_proj_dim", "opt: an embedding narrower than hidden_size is not read")
    return {"position_embeddings": config.size("max_position_embeddings") + 2}


def bloom_model(config: Config, layout: Layout) -> Fields:
    hidden = config.size("hidden_size", "n_embed")
    return {"extra_weights": [extra("word_embeddings_layernorm", hidden, count=2, component="norm")]}


def falcon_model(config: Config, layout: Layout) -> Fields:
    """One norm where attention and MLP run side by side, but two in the new architecture unless it says one."""
    if config.flag("new_decoder_architecture"):
        count = config.optional("num_ln_in_parallel_attn") or 2
    else:
        count = 1 if config.flag("parallel_attn", default=True) else 2
    return {"norms_per_layer": count}


def mpt(config: Config, layout: Layout) -> Blocks:
    ratio, hidden = config.optional("expansion_ratio") or 4, config.size("d_model", "hidden_size")
    bias = not config.flag("no_bias", default=True)
    return everywhere("dense", dense_entry(ratio * hidden, gated=False, bias=bias), layout)


def mpt_attention(config: Config) -> dict[str, Fields]:
    bias = not config.flag("no_bias", default=True)
    return for_kinds(HEADED, attention_bias=bias, o_bias=bias)


def dbrx(config: Config, layout: Layout) -> Blocks:
    inner = config.section("ffn_config", model_type="dbrx")
    if inner is None:
        config.missing("ffn_config")
    return everywhere("moe", moe_entry(inner, width=("ffn_hidden_size",)), layout)


# Qwen-1, ChatGLM, Seed-OSS


def qwen1(config: Config, layout: Layout) -> Blocks:
    """intermediate_size counts gate and up together (modeling_qwen.py: QWenMLP)."""
    width = config.size("intermediate_size")
    if width % 2:
        config.refuse("intermediate_size", f"qwen: {width} cannot be halved into gate and up")
    return everywhere("dense", dense_entry(width // 2, bias=not config.flag("no_bias", default=True)), layout)


def qwen1_attention(config: Config) -> dict[str, Fields]:
    """c_attn always has a bias; `no_bias` speaks of the rest (modeling_qwen.py: QWenAttention)."""
    return for_kinds(HEADED, attention_bias=True, o_bias=not config.flag("no_bias", default=True))


def chatglm_attention(config: Config) -> dict[str, Fields]:
    both = config.flag("add_bias_linear")
    return for_kinds(HEADED, attention_bias=config.flag("add_qkv_bias") or both, o_bias=both)


def seed_attention(config: Config) -> dict[str, Fields]:
    return for_kinds(
        HEADED,
        attention_bias=config.flag("attention_bias", default=True),
        o_bias=config.flag("attention_out_bias"),
    )


# DeepSeek-V4


def deepseek_v4(config: Config, layout: Layout) -> Blocks:
    """Experts everywhere; the first num_hash_layers choose by a frozen table and have no correction bias."""
    shared = config.optional("n_shared_experts", least=0) or 0
    hashed = config.optional("num_hash_layers", least=0)
    first = 3 if hashed is None else hashed  # transformers 5.17.0 DeepseekV4Config: default_num_hash_layers
    ffn = {
        "hash_moe": moe_entry(config, n_shared_experts=shared),
        "moe": moe_entry(config, n_shared_experts=shared, correction_bias=True),
    }
    layers = ["hash_moe" if index < first else "moe" for index in range(len(layout.layers))]
    return Blocks(ffn={name: ffn[name] for name in ffn if name in layers}, layers=layers)


def deepseek_v4_model(config: Config, layout: Layout) -> Fields:
    """Manifold-constrained hyper-connections: hc_mult residual streams, mixed before and after each sublayer."""
    hidden, streams = config.size("hidden_size"), config.optional("hc_mult") or 4
    mix = (2 + streams) * streams
    return {
        "extra_weights": [
            extra("hyper_connection.fn", mix, streams * hidden, count=2, per_layer=True),
            extra("hyper_connection.base", mix, count=2, per_layer=True),
            extra("hyper_connection.scale", 3, count=2, per_layer=True),
            extra("hyper_head.fn", streams, streams * hidden),
            extra("hyper_head.base", streams),
            extra("hyper_head.scale", 1),
        ]
    }


def attention_residuals(config: Config, layout: Layout) -> Fields:
    """Kimi-K3: each sublayer, and the head, weighs the outputs of earlier blocks of layers of the same token.

    Nothing of it is cached. Source: vLLM 0.33.0 models/kimi_k3/nvidia/model.py (self_attention_res_norm and _proj,
    mlp_res_norm and _proj, output_attn_res_norm and _proj).
    """
    if config.optional("attn_res_block_size") is None:
        return {}
    hidden = config.size("hidden_size")
    return {
        "extra_weights": [
            extra("attn_res.norm", hidden, count=2, per_layer=True),
            extra("attn_res.proj", 1, hidden, count=2, per_layer=True),
            extra("output_attn_res.norm", hidden),
            extra("output_attn_res.proj", 1, hidden),
        ]
    }


# MiniMax-M2, gpt-oss, LongCat, Step-3, Hunyuan


def minimax_m2_attention(config: Config) -> dict[str, Fields]:
    return {"full": {"qk_norm": "full"}} if config.flag("use_qk_norm", default=True) else {}


def gpt_oss_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias", default=True)
    return for_kinds(HEADED, attention_bias=bias, o_bias=bias, attention_sinks=True)


def longcat(config: Config, layout: Layout) -> Blocks:
    """Two dense blocks and the experts in every layer (modeling_longcat_flash.py: LongcatFlashDecoderLayer)."""
    moe = moe_entry(
        config,
        width=("expert_ffn_hidden_size", "moe_intermediate_size"),
        zero_expert_num=config.optional("zero_expert_num", least=0) or 0,
        router_bias=config.flag("router_bias"),
        correction_bias=True,
    )
    width = config.size("ffn_hidden_size", "intermediate_size")
    return Blocks(
        ffn={"dense": dense_entry(width), "moe": moe}, layers=[("dense", "dense", "moe")] * len(layout.layers)
    )


def step3(config: Config, layout: Layout) -> Blocks:
    """Experts with one shared in the layers that moe_layers_enum lists (a list, or numbers with commas)."""
    where = enumerated(config, "moe_layers_enum") or set(range(1, len(layout.layers)))
    moe = moe_entry(config, shared_expert_intermediate_size=config.optional("share_expert_dim"))
    return placed(lambda index: index in where, dense_entry(config.size("intermediate_size")), moe, layout)


def step3_attention(config: Config) -> dict[str, Fields]:
    """Multi-matrix factorisation attention: queries through share_q_dim with a norm between."""
    return {"full": {"q_lora_rank": config.optional("share_q_dim")}}


def hunyuan_large(config: Config, layout: Layout) -> Blocks:
    """Experts beside shared ones in every layer; counts may be lists with an entry per layer (all equal)."""
    moe = {
        "kind": "moe",
        "num_experts": _same(config, "num_experts"),
        "num_experts_per_tok": _same(config, "moe_topk"),
        "moe_intermediate_size": (
            config.size("intermediate_size")
            if config.raw("moe_intermediate_size") is None
            else _same(config, "moe_intermediate_size")
        ),
        "n_shared_experts": (
            _same(config, "num_shared_expert", 1) if config.flag("use_mixed_mlp_moe", default=True) else 0
        ),
    }
    first = config.optional("moe_layer_num_skipped", least=0) or 0
    return after_dense(config, layout, moe, first)


def _same(config: Config, key: str, default: int | None = None) -> int:
    if config.raw(key) is None and default is not None:
        return default
    if not isinstance(config.raw(key), list):
        return config.size(key)
    values = config.sizes(key, least=1) or []
    if len(set(values)) != 1:
        config.refuse(key, f"{key}: layers of different counts are not read")
    return values[0]


def hunyuan_attention(config: Config) -> dict[str, Fields]:
    bias = config.flag("attention_bias")
    norm = "head" if config.flag("use_qk_norm", default=True) else None
    fields = for_kinds(HEADED, attention_bias=bias, o_bias=bias, qk_norm=norm)
    return {**fields, "shared": {"k_norm": norm is not None}}


# Nemotron, LFM2


def nemotron_h(config: Config, layout: Layout) -> Blocks:
    """One mixer or one block per layer: `-` or mlp is dense, `E` or moe has experts, all of two matrices."""
    pattern = config.text("hybrid_override_pattern")
    words = list(pattern) if pattern else config.words("layers_block_type")
    if words is None:
        config.missing("hybrid_override_pattern", "layers_block_type")
    if len(words) != len(layout.layers):
        config.refuse(None, f"nemotron_h: {len(words)} entries in the pattern for {len(layout.layers)} layers")
    names = {"-": "dense", "mlp": "dense", "E": "moe", "moe": "moe"}
    layers = [names.get(word) for word in words]
    ffn: dict[str, Fields] = {}
    bias = config.flag("mlp_bias")
    if "dense" in layers:
        ffn["dense"] = dense_entry(config.size("intermediate_size"), gated=False, bias=bias)
    if "moe" in layers:
        must_be_off(config, "mlp_bias")
        ffn["moe"] = moe_entry(
            config,
            gated=False,
            shared_expert_intermediate_size=_nemotron_shared(config),
            moe_latent_size=config.optional("moe_latent_size"),
            correction_bias=True,
        )
    return Blocks(ffn=ffn, layers=layers)


def _nemotron_shared(config: Config) -> int | None:
    """One block of moe_shared_expert_intermediate_size for all of them (NemotronHMoE)."""
    if config.optional("n_shared_experts", least=0) == 0:
        return None
    return config.size("moe_shared_expert_intermediate_size", default=True)


def nemotron_h_attention(config: Config) -> dict[str, Fields]:
    return {
        "mamba2": {
            "use_conv_bias": config.flag("use_conv_bias", default=True),
            "use_bias": config.flag("use_bias", "mamba_proj_bias"),
        }
    }


def nemotron_nas(config: Config, layout: Layout) -> Blocks:
    """Each block's width is ffn_mult x 2/3 x hidden, rounded up to 256.

    Source: modeling_decilm.py of the model, _ffn_mult_to_intermediate_size.
    """
    blocks = config.items("block_configs", length=len(layout.layers)) or []
    hidden = config.size("hidden_size")
    ffn: dict[str, Fields] = {}
    layers: list[LayerName] = []
    for block in blocks:
        inner = block.get("ffn") if isinstance(block, dict) else None
        if not isinstance(inner, dict) or inner.get("replace_with_linear") or inner.get("sparsify"):
            config.refuse(
                "block_configs",
                "nemotron-nas: a block without an `ffn`, or a linear or sparse one, is not read",
            )
        if inner.get("no_op"):
            layers.append(None)
            continue
        ratio = inner.get("ffn_mult")
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < 1000:
            config.refuse("block_configs", "nemotron-nas: ffn_mult is not a number")
        width = round_up(int(2 * ratio * hidden / 3), 256)
        name = f"dense_{width}"
        ffn[name] = dense_entry(width)
        layers.append(name)
    return Blocks(ffn=ffn, layers=layers)


def lfm2_width(config: Config) -> int:
    """block_ff_dim x 2/3 x multiplier, rounded up to block_multiple_of (modeling_lfm2.py: Lfm2MLP)."""
    width = config.size("block_ff_dim", "intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", default=True):
        return width
    width = int(2 * width / 3)
    factor = config.raw("block_ffn_dim_multiplier")
    if isinstance(factor, (int, float)) and not isinstance(factor, bool) and 0 < factor < 1000:
        width = int(factor * width)
    step = config.optional("block_multiple_of") or 256
    return round_up(width, step)


def lfm2(config: Config, layout: Layout) -> Blocks:
    return everywhere("dense", dense_entry(lfm2_width(config)), layout)


def lfm2_moe(config: Config, layout: Layout) -> Blocks:
    moe = moe_entry(config, correction_bias=config.flag("use_expert_bias", default=True))
    return after_dense(config, layout, moe, config.optional("num_dense_layers", least=0) or 0)


def lfm2_attention(config: Config) -> dict[str, Fields]:
    return {"full": {"qk_norm": "head"}, "short_conv": {"conv_bias": config.flag("conv_bias")}}


# T5 and Whisper


def t5(config: Config, layout: Layout) -> Blocks:
    """feed_forward_proj `gated-gelu` has two input matrices (T5 v1.1), `relu` one."""
    gated = (config.text("feed_forward_proj") or "relu").startswith("gated-")
    return everywhere("dense", dense_entry(config.size("d_ff"), gated=gated), layout)


def t5_model(config: Config, layout: Layout) -> Fields:
    """Encoder and decoder each learn one bias per bucket of relative position and head, in their first layer."""
    return relative_bias(config, 2)


def umt5_model(config: Config, layout: Layout) -> Fields:
    """T5's biases of relative position, in every layer."""
    return relative_bias(config, layout.encoder_layers + len(layout.layers))


def relative_bias(config: Config, count: int) -> Fields:
    buckets = config.optional("relative_attention_num_buckets") or 32
    weight = extra("relative_attention_bias", buckets, config.size("num_heads"), count=count, component="attention")
    return {"extra_weights": [weight]}


def whisper_model(config: Config, layout: Layout) -> Fields:
    """Learned positions of the decoder, stored sinusoids of the encoder, and two convolutions before it."""
    hidden, bins = config.size("d_model"), config.size("num_mel_bins")
    return {
        "position_embeddings": config.size("max_target_positions"),
        "encoder_position_embeddings": config.size("max_source_positions"),
        "extra_weights": [
            extra("encoder.conv1.weight", hidden, bins, 3),
            extra("encoder.conv2.weight", hidden, hidden, 3),
            extra("encoder.conv.bias", hidden, count=2),
        ],
    }
