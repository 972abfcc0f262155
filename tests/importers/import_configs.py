"""Small configs, one or more for each shape of family, and the bytes they must cost, by hand arithmetic.

Geometry is invented, spelled as the named family's own configs spell it. `token` is bytes per token beyond every window
(2 B per element), `window` what saturated windows hold, `state` what is constant.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Known(NamedTuple):
    config: dict[str, Any]
    token: int
    window: int = 0
    state: int = 0


def of(family: str, **fields: Any) -> dict[str, Any]:
    """A config with the usual names."""
    usual = {
        "num_hidden_layers": 12, "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2,
        "intermediate_size": 1024, "vocab_size": 1000, "max_position_embeddings": 65536,
    }  # fmt: skip
    found = {"model_type": family, **usual, **fields}
    return {key: value for key, value in found.items() if value is not ...}


KV = 2 * 2 * 64 * 2
"""Bytes of one token in one layer: K and V, 2 heads, 512 / 8 wide, 2 B."""
MLA = {"kv_lora_rank": 96, "q_lora_rank": None, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 64}
LATENT = (96 + 32) * 2
INDEX = {"index_head_dim": 16, "index_n_heads": 4, "index_topk": 64}
MAMBA = {"mamba_expand": 2, "mamba_d_state": 16, "mamba_d_conv": 4}
MAMBA1_STATE = 1024 * 3 * 2 + 1024 * 16 * 4
"""expand x hidden channels: 3 past inputs in bf16, 16 states in fp32."""
MAMBA2 = {**MAMBA, "mamba_n_heads": 16, "mamba_d_head": 64, "mamba_n_groups": 2}
MAMBA2_STATE = (1024 + 2 * 2 * 16) * 3 * 2 + 16 * 64 * 16 * 4
GDN = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 32, "linear_value_head_dim": 64,
    "linear_conv_kernel_dim": 4,
}  # fmt: skip
GDN_STATE = (2 * 2 * 32 + 4 * 64) * 3 * 2 + 4 * 32 * 64 * 4
KDA_STATE = 3 * 4 * 32 * 3 * 2 + 4 * 32 * 32 * 4
SWA = {"sliding_window": 256}


def window(layers: int, each: int = KV, size: int = 256) -> int:
    return layers * each * size


KNOWN: dict[str, Known] = {
    "llama": Known(of("llama"), 12 * KV),
    "llama, multi-head where KV heads are absent": Known(of("llama", num_key_value_heads=...), 12 * 4 * KV),
    "llama, wide heads": Known(of("llama", head_dim=128), 12 * 2 * KV),
    "mistral, null window": Known(of("mistral", sliding_window=None), 12 * KV),
    "mistral, window": Known(of("mistral", **SWA), 0, window(12)),
    "mistral, a window that holds the context": Known(of("mistral", sliding_window=65536), 12 * KV),
    "mixtral": Known(of("mixtral", num_local_experts=4, num_experts_per_tok=2), 12 * KV),
    "qwen2, window switched off": Known(
        of("qwen2", **SWA, use_sliding_window=False, max_window_layers=4), 12 * KV
    ),
    "qwen2, window from a layer on": Known(
        of("qwen2", **SWA, use_sliding_window=True, max_window_layers=4), 4 * KV, window(8)
    ),
    "qwen3": Known(of("qwen3"), 12 * 2 * KV),  # the class's head_dim is 128
    "qwen, the first": Known(
        {"model_type": "qwen", "num_hidden_layers": 12, "hidden_size": 512, "num_attention_heads": 8, "kv_channels": 64,
         "seq_length": 8192, "intermediate_size": 2048, "vocab_size": 1000}, 12 * 4 * KV,
    ),
    "gemma2": Known(of("gemma2", head_dim=64, **SWA), 6 * KV, window(6)),
    "gemma3, a bare window": Known(of("gemma3_text", head_dim=64, **SWA), 2 * KV, window(10)),
    "gemma3, its pattern stated": Known(
        of("gemma3_text", head_dim=64, **SWA, sliding_window_pattern=3), 4 * KV, window(8)
    ),
    "gemma3, nested and sparse": Known(
        {"model_type": "gemma3", "vision_config": {"model_type": "siglip_vision_model", "num_attention_heads": 16},
         "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                         "num_hidden_layers": 34, "sliding_window": 1024}},
        # gemma-3-4b: 5 full layers of 34, 4 KV heads x 256 from the class defaults
        5 * 2 * 4 * 256 * 2, 29 * 2 * 4 * 256 * 2 * 1024,
    ),
    "gemma3n": Known(of("gemma3n_text", head_dim=64, **SWA, num_kv_shared_layers=2), 2 * KV, window(8)),
    "gemma4": Known(
        of("gemma4_text", head_dim=64, **SWA, global_head_dim=128, num_global_key_value_heads=1,
           attention_k_eq_v=True, num_kv_shared_layers=0), 2 * 1 * 2 * 128 * 2, window(10),
    ),
    "cohere2": Known(of("cohere2", **SWA, sliding_window_pattern=4), 3 * KV, window(9)),
    "olmo3": Known(of("olmo3", **SWA), 3 * KV, window(9)),
    "gpt-oss": Known(of("gpt_oss", **SWA, head_dim=64, num_local_experts=4, num_experts_per_tok=2), 6 * KV, window(6)),
    "exaone4": Known(of("exaone4", **SWA, sliding_window_pattern="LLLG"), 3 * KV, window(9)),
    # "L" after two rounds of LLLG and three more, but the last layer is global: 2 + 1 full
    "exaone4, the last layer": Known(
        of("exaone4", **SWA, sliding_window_pattern="LLLG", num_hidden_layers=11), 3 * KV, window(8)
    ),
    "exaone4, no window": Known(of("exaone4", sliding_window=None, sliding_window_pattern="LLLG"), 12 * KV),
    "cwm": Known(of("cwm", head_dim=64, **SWA), 3 * KV, window(9)),
    "afmoe": Known(of("afmoe", head_dim=64, **SWA, global_attn_every_n_layers=3), 4 * KV, window(8)),
    "llama4": Known(
        of("llama4_text", head_dim=64, attention_chunk_size=256, num_local_experts=4, intermediate_size_mlp=2048,
           interleave_moe_layer_step=1, num_experts_per_tok=1), 3 * KV, window(9),
    ),
    "llama4, rope layers stated": Known(
        of("llama4_text", head_dim=64, attention_chunk_size=256, num_local_experts=4, intermediate_size_mlp=2048,
           interleave_moe_layer_step=1, num_experts_per_tok=1, no_rope_layers=[1, 0] * 6), 6 * KV, window(6),
    ),
    "smollm3": Known(of("smollm3", use_sliding_window=False, no_rope_layers=[1, 1, 1, 0] * 3), 12 * KV),
    "phi3": Known(of("phi3", **SWA), 0, window(12)),
    "mimo_v2_flash": Known(
        of("mimo_v2_flash", head_dim=48, v_head_dim=32, **SWA, swa_num_attention_heads=8, swa_num_key_value_heads=4,
           swa_head_dim=48, swa_v_head_dim=32, hybrid_layer_pattern=[0, 1, 1, 1] * 3, n_routed_experts=4,
           num_experts_per_tok=2, moe_intermediate_size=64, moe_layer_freq=[0] + [1] * 11),
        3 * 2 * (48 + 32) * 2, window(9, 4 * (48 + 32) * 2),
    ),
    "gpt2": Known(
        {"model_type": "gpt2", "n_layer": 12, "n_embd": 512, "n_head": 8, "n_positions": 1024, "vocab_size": 1000},
        12 * 4 * KV,
    ),
    "starcoder": Known(
        {"model_type": "gpt_bigcode", "n_layer": 12, "n_embd": 512, "n_head": 8, "n_positions": 1024,
         "vocab_size": 1000, "multi_query": True}, 12 * KV // 2,
    ),
    "bloom": Known(
        {"model_type": "bloom", "n_layer": 12, "hidden_size": 512, "n_head": 8, "vocab_size": 1000}, 12 * 4 * KV
    ),
    "mpt, grouped": Known(
        {"model_type": "mpt", "n_layers": 12, "d_model": 512, "n_heads": 8, "max_seq_len": 2048, "vocab_size": 1000,
         "attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 2}}, 12 * KV,
    ),
    "dbrx": Known(
        {"model_type": "dbrx", "n_layers": 12, "d_model": 512, "n_heads": 8, "max_seq_len": 2048, "vocab_size": 1000,
         "attn_config": {"kv_n_heads": 2, "clip_qkv": 8},
         "ffn_config": {"ffn_hidden_size": 256, "moe_num_experts": 4, "moe_top_k": 2}}, 12 * KV,
    ),
    "falcon, multi-query": Known(
        of("falcon", num_key_value_heads=..., multi_query=True, new_decoder_architecture=False), 12 * KV // 2
    ),
    "falcon, num_kv_heads without effect": Known(
        of("falcon", num_key_value_heads=..., num_kv_heads=8, multi_query=True, new_decoder_architecture=False),
        12 * KV // 2,
    ),
    "falcon, new": Known(
        of("falcon", num_key_value_heads=..., num_kv_heads=2, multi_query=True, new_decoder_architecture=True), 12 * KV
    ),
    "chatglm": Known(
        {"model_type": "chatglm", "num_layers": 12, "hidden_size": 512, "num_attention_heads": 8, "kv_channels": 64,
         "multi_query_attention": True, "multi_query_group_num": 2, "seq_length": 8192, "ffn_hidden_size": 1024,
         "padded_vocab_size": 1000}, 12 * KV,
    ),
    "step3": Known(
        of("step3_text", num_key_value_heads=..., num_attention_groups=1, head_dim=64, moe_num_experts=4, moe_top_k=2,
           moe_intermediate_size=64, share_expert_dim=64, share_q_dim=128, moe_layers_enum=[4, 5]), 12 * KV // 2,
    ),
    "hunyuan, layers in pairs": Known(
        of("hunyuan", use_cla=True, cla_share_factor=2, num_experts=4, moe_topk=1, num_shared_expert=1), 6 * KV
    ),
    "nemotron-nas": Known(
        of("nemotron-nas", num_key_value_heads=None, num_hidden_layers=3, block_configs=[
            {"attention": {"n_heads_in_group": 4, "no_op": False}, "ffn": {"ffn_mult": 2.0, "no_op": False}},
            {"attention": {"n_heads_in_group": None, "no_op": True}, "ffn": {"ffn_mult": 2.0, "no_op": False}},
            {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": None, "no_op": True}},
        ]), KV + KV // 2,
    ),
    "deepseek_v3": Known(
        of("deepseek_v3", **MLA, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=64,
           n_shared_experts=1, first_k_dense_replace=1, num_nextn_predict_layers=1), 12 * LATENT,
    ),
    "deepseek_v32": Known(
        of("deepseek_v32", **MLA, **INDEX, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=64,
           n_shared_experts=1, first_k_dense_replace=1), 12 * (LATENT + 16 * 2),
    ),
    "glm_moe_dsa, indexers in some layers": Known(
        of("glm_moe_dsa", **MLA, **INDEX, index_topk_pattern="FS" * 6, n_routed_experts=4, num_experts_per_tok=2,
           moe_intermediate_size=64, n_shared_experts=1, first_k_dense_replace=1), 12 * LATENT + 6 * 16 * 2,
    ),
    "longcat": Known(
        of("longcat_flash", num_hidden_layers=..., num_layers=12, **MLA, ffn_hidden_size=1024, n_routed_experts=4,
           expert_ffn_hidden_size=64, moe_topk=2, zero_expert_num=1), 24 * LATENT,
    ),
    "deepseek_ref, SGLang's name for it": Known(
        of("deepseek_ref", num_key_value_heads=1, head_dim=64, **SWA, **INDEX, q_lora_rank=32, qk_rope_head_dim=16,
           o_lora_rank=32, o_groups=2, compress_ratios=[0] * 12 + [0], num_nextn_predict_layers=1,
           n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, n_shared_experts=1),
        0, window(12, 64 * 2),
    ),
    "deepseek_v4": Known(
        of("deepseek_v4", num_key_value_heads=1, head_dim=64, **SWA, **INDEX, q_lora_rank=32, qk_rope_head_dim=16,
           o_lora_rank=32, o_groups=2, compress_ratios=[128, 4] * 6 + [0], num_nextn_predict_layers=1,
           n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, n_shared_experts=1),
        # per 128 tokens: six layers keep one vector, six keep 32 vectors and 32 indexer keys
        (6 * 64 + 6 * 32 * (64 + 16)) * 2 // 128, window(12, 64 * 2),
    ),
    "jamba": Known(
        of("jamba", attn_layer_period=4, attn_layer_offset=2, **MAMBA, mamba_dt_rank=32, num_experts=2,
           num_experts_per_tok=1, expert_layer_period=2, expert_layer_offset=1), 3 * KV, 0, 9 * MAMBA1_STATE,
    ),
    "bamba": Known(of("bamba", attn_layer_indices=[3, 9], **MAMBA2), 2 * KV, 0, 10 * MAMBA2_STATE),
    "granite 4": Known(
        of("granitemoehybrid", layer_types=["mamba", "mamba", "mamba", "attention"] * 3, **MAMBA2,
           num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=64), 3 * KV, 0, 9 * MAMBA2_STATE,
    ),
    "falcon_h1": Known(of("falcon_h1", **MAMBA2, mamba_d_ssm=1024), 12 * KV, 0, 12 * MAMBA2_STATE),
    "nemotron_h": Known(
        of("nemotron_h", hybrid_override_pattern="M-M*-EM-M*-E", head_dim=64, mamba_num_heads=16, mamba_head_dim=64,
           ssm_state_size=16, n_groups=2, conv_kernel=4, n_routed_experts=4, num_experts_per_tok=2,
           moe_intermediate_size=64, n_shared_experts=1, moe_shared_expert_intermediate_size=64),
        2 * KV, 0, 4 * MAMBA2_STATE,
    ),
    "mamba2": Known(
        {"model_type": "mamba2", "num_hidden_layers": 12, "hidden_size": 512, "expand": 2, "num_heads": 16,
         "head_dim": 64, "state_size": 16, "n_groups": 2, "conv_kernel": 4, "vocab_size": 1000},
        0, 0, 12 * MAMBA2_STATE,
    ),
    "qwen3_next": Known(
        of("qwen3_next", head_dim=64, **GDN, full_attention_interval=4, num_experts=4, num_experts_per_tok=2,
           moe_intermediate_size=64, shared_expert_intermediate_size=64), 3 * KV, 0, 9 * GDN_STATE,
    ),
    "kimi_linear, counted from 1": Known(
        of("kimi_linear", num_hidden_layers=4, **MLA, num_experts=4, num_experts_per_token=2, moe_intermediate_size=64,
           num_shared_experts=1, first_k_dense_replace=1, linear_attn_config={
               "full_attn_layers": [4], "kda_layers": [1, 2, 3], "num_heads": 4, "head_dim": 32,
               "short_conv_kernel_size": 4}), LATENT, 0, 3 * KDA_STATE,
    ),
    "kimi_k3, in its container": Known(
        {"model_type": "kimi_k3", "text_config": of(
            "kimi_linear", num_hidden_layers=4, **MLA, num_experts=4, num_experts_per_token=2, num_shared_experts=1,
            moe_intermediate_size=64, first_k_dense_replace=1, routed_expert_hidden_size=128, latent_moe_use_norm=True,
            attn_res_block_size=2, mla_use_output_gate=True, activation_situ_linear_beta=25.0, linear_attn_config={
                "full_attn_layers": [2, 4], "kda_layers": [1, 3], "num_heads": 4, "head_dim": 32,
                "short_conv_kernel_size": 4, "use_full_rank_gate": True, "gate_lower_bound": -5.0})},
        2 * LATENT, 0, 2 * KDA_STATE,
    ),
    "minimax_m3, block-sparse layers behind a full one": Known(
        of("minimax_m3", num_hidden_layers=4, head_dim=64, dense_intermediate_size=512, shared_intermediate_size=64,
           num_local_experts=4, num_experts_per_tok=2, moe_layer_freq=[0, 1, 1, 1], attention_output_gate=False,
           num_reward_heads=0, sparse_attention_config={
               "sparse_attention_freq": [0, 1, 1, 1], "sparse_num_index_heads": 2, "sparse_index_dim": 16,
               "sparse_block_size": 128, "sparse_topk_blocks": 16, "sparse_disable_index_value": [0, 1, 1, 1]}),
        4 * KV + 3 * 16 * 2,
    ),
    "step3p7, flat, with more query heads in windows": Known(
        of("step3p7", num_hidden_layers=4, head_dim=64, sliding_window=256, num_nextn_predict_layers=1,
           layer_types=["full_attention", *["sliding_attention"] * 3, "sliding_attention"], num_experts=4,
           num_experts_per_tok=2, moe_intermediate_size=64, share_expert_dim=64, first_k_dense_replace=1,
           attention_other_setting={"attention_type": "sliding_attention", "num_attention_heads": 12,
                                    "num_attention_groups": 2, "head_dim": 64}), KV, window(3),
    ),
    "glm_moe_dsa, indexers shared by name": Known(
        of("glm_moe_dsa", num_hidden_layers=4, **{**MLA, "q_lora_rank": 48}, **INDEX, n_routed_experts=4,
           num_experts_per_tok=2, moe_intermediate_size=64, n_shared_experts=1, first_k_dense_replace=1,
           layer_types=["deepseek_sparse_attention"] * 4, index_share_for_mtp_iteration=True,
           indexer_types=["full", "shared", "shared", "full"]), 4 * LATENT + 2 * 16 * 2,
    ),
    "minimax-text": Known(
        of("minimax_text_01", head_dim=64, attn_type_list=[0, 0, 0, 1] * 3, num_local_experts=4, num_experts_per_tok=2),
        3 * KV, 0, 9 * 8 * 64 * 64 * 4,
    ),
    "lfm2": Known(
        of("lfm2", full_attn_idxs=[2, 5, 8, 11], conv_L_cache=3, block_ff_dim=1024, conv_bias=False), 4 * KV, 0,
        8 * 512 * 2 * 2,
    ),
}  # fmt: skip
