"""Keys of a config that nobody has read: which of them may concern the cache, and must not be passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kvcalc.importers.config import Config

LOOKS = re.compile(
    r"attn|attention|(^|_)(n_)?heads?(_|$)|head_|num_head|kv|(^|_)(key|value)s?(_|$)|window|chunk|layer_?types?|layers$|"
    r"layers_|layer_(pattern|group|kinds?|config|idx|ind|num|freq|interval|period|offset)|pattern|share|rank|latent|"
    r"lora|_dim($|_)|^dim|d_model|n_embd|^d_|channels|width|index|state|conv|compress|mamba|ssm|ssd|linear_|recurr|"
    r"retention|rwkv|delta|lru|cross|group|cache|sparse|sink|local|global|hybrid|block|memory|mem_|stride|ratio|"
    r"interval|period|offset|freq|cla($|_)|yoco|(^|_)(mla|nsa|moba|swa|gqa|mqa|gla|kda|gdn)($|_)|multi_query|"
    r"hidden_size|num_layers|n_layer|expand|kernel|encoder|decoder|prompt|soft|segment|landmark|skip|per_layer"
)
"""A name with any of these may say something of what is cached."""

HARMLESS_PATTERNS = re.compile(
    r"_token_(id|index)s?$|^(pad|bos|eos|sep|cls)_|dropout|_pdrop|_drop$|norm_eps|_epsilon$|layer_?norm|_act(ivation)?$|"
    r"init|_loss|_coeff?$|_bias$|^use_.*bias|_multiplier|multipliers$|logit|softcap|temperature|^rope_(?!head)|"
    r"rope_(theta|scaling|parameters|interleave|base|pct)|rotary|rms_norm|_theta$|quantization|^task_|^summary_|"
    r"torch|dtype|^output_|^_(name_or_path|commit_hash|attn_implementation|sources)|transformers_version|auto_map|use_cache|tokenizer|^id2label|^label2id|expert|router|"
    r"^moe_|mlp|ffn|feed_forward|^vision_|^image_|^video_|^audio_|^mm_|projector|clamp|gelu|bf16|fp16|fp32|flash|"
    r"^vit_|^anyres|^im_|residual|gradient|^ep_|aux_|_aux|scoring|topk_(method|group)|norm_topk|scaling_factor|hidden_act|"
    r"checkpoint|^fuse|_impl$|implementation$|^use_mamba|embedding"
)
"""Names of training, positions, feed-forward, tokens and towers: never of what is cached."""

HARMLESS = frozenset({
    "activation_sparsity_pattern", "adapter_rank", "add_cross_attention", "altup_num_inputs",
    "apply_query_key_layer_scaling", "attention_bias", "attention_softmax_in_fp32", "attention_value_scale",
    "attn_output_gate", "attn_scale", "attn_uses_sequence_id", "calc_logits_for_entire_prompt",
    "chunk_size_feed_forward", "clip_qkv", "cross_attention_hidden_size", "d_ff", "d_model", "decoder_layerdrop",
    "decoder_sparse_step", "decoder_vocab_size", "dim_model_base", "downsample_ratio", "encoder_layerdrop",
    "encoder_no_repeat_ngram_size", "encoder_sparse_step", "first_k_dense_replace", "for_llm_compressor",
    "forced_decoder_ids", "gated_linear_unit", "gated_norm_rank", "has_lora_adapter", "hc_mult",
    "hc_sinkhorn_iters", "head_type", "hidden_size", "hidden_size_per_layer_input", "ignore_index",
    "img_token_compression_config",
    "initial_context_length", "input_channels", "interleaved_qkv", "is_decoder", "is_encoder_decoder",
    "key_multiplier", "laurel_rank", "mamba_conv_bias", "mamba_hidden_act", "mamba_norm_before_gate",
    "mamba_proj_bias", "mamba_rms_norm", "mamba_ssm_cache_dtype", "mamba_ssm_dtype", "max_attn_value",
    "median_filter_width", "mla_use_nope", "moe_layer_freq", "n_embd", "n_group", "n_inner", "num_beam_groups",
    "num_channels", "num_conv_layers", "num_dense_layers", "num_hash_layers", "num_ln_in_parallel_attn",
    "num_logits_to_keep", "num_reward_heads", "num_sparse_decoder_layers", "num_sparse_encoder_layers", "parallel_attn",
    "pixel_shuffle_ratio", "pool_type", "position_embedding_type", "pretraining_tp", "projection_dim",
    "projection_hidden_size", "pruned_heads", "qk_layernorm", "qk_norm", "qk_norm_type", "qkv_bias",
    "query_pre_attn_scalar", "relative_attention_max_distance", "relative_attention_num_buckets",
    "remove_invalid_values",
    "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "scale_attn_weights", "scale_decoder_outputs",
    "seconds_per_chunk", "sep_token_id", "share_expert_dim", "share_q_dim", "shared_intermediate_size",
    "spatial_pool_stride", "tie_encoder_decoder", "tie_lm_head", "tie_word_embeddings", "time_step_rank",
    "topk_group", "torchscript", "use_backbone_lora", "use_conv_bias", "use_decoder_only_language_model",
    "use_grouped_topk", "use_llm_lora", "use_logn_attn", "use_long_context", "use_mem_rope", "use_parallel_block",
    "use_qk_norm", "use_shared_attention_adapter", "use_unified_vision_chunk",
    "vocab_size_per_layer_input", "word_embed_proj_dim",
})  # fmt: skip
"""Single names known to say nothing of the cache in any family read here."""


def unread(config: Config, harmless: frozenset[str]) -> Iterator[tuple[Config, str]]:
    """(mapping, key) of everything that looks like cache geometry, holds a value, and was not read."""
    for key, value in config.data.items():
        if value is None or value in ({}, []) or key in config.used or key in harmless or key in HARMLESS:
            continue
        if value is False and key.startswith("use_"):
            continue
        if LOOKS.search(key.lower()) and not HARMLESS_PATTERNS.search(key.lower()):
            yield config, key
    for section in config.sections:
        if not HARMLESS_PATTERNS.search(str(section.loc[-1])):
            yield from unread(section, harmless)
