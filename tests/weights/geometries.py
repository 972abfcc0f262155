"""Small spec texts of real models, for tests of their weights. Geometry from each model's config.json."""

from __future__ import annotations

from kvcalc.spec.model import ModelSpec
from kvcalc.spec.validate import load_model


def spec(text: str, name: str = "model") -> ModelSpec:
    """A validated spec from YAML text without its name."""
    loaded, _ = load_model("<test>", f"name: {name}\n{text}".encode())
    return loaded


def llama(
    layers: int,
    hidden: int,
    ffn: int,
    vocab: int,
    heads: int,
    kv: int,
    *,
    tied: bool = False,
    attention: str = "",
    fields: str = "",
    dim: int | None = None,
) -> ModelSpec:
    """A dense decoder with gated blocks, as most families are."""
    width = dim or hidden // heads
    return spec(f"""
hidden_size: {hidden}
vocab_size: {vocab}
tie_word_embeddings: {str(tied).lower()}
{fields}
attention:
  full: {{kind: full, num_attention_heads: {heads}, num_key_value_heads: {kv}, head_dim: {width}{attention}}}
ffn:
  dense: {{kind: dense, intermediate_size: {ffn}}}
layers:
  - {{count: {layers}, attention: full, ffn: dense}}
""")


LLAMA_3_1_8B = llama(32, 4096, 14336, 128256, 32, 8)
LLAMA_3_1_70B = llama(80, 8192, 28672, 128256, 64, 8)
LLAMA_3_1_405B = llama(126, 16384, 53248, 128256, 128, 8)
MISTRAL_7B = llama(32, 4096, 14336, 32000, 32, 8)
QWEN_72B = llama(80, 8192, 24576, 152064, 64, 64, attention=", attention_bias: true")
QWEN2_5_7B = llama(28, 3584, 18944, 152064, 28, 4, attention=", attention_bias: true")
QWEN3_8B = llama(36, 4096, 12288, 151936, 32, 8, attention=", qk_norm: head")
QWEN3_0_6B = llama(28, 1024, 3072, 151936, 16, 8, tied=True, dim=128, attention=", qk_norm: head")
GEMMA_2_9B = llama(42, 3584, 14336, 256000, 16, 8, tied=True, dim=256, fields="norms_per_layer: 4")
OLMO_2_7B = llama(32, 4096, 11008, 100352, 32, 32, attention=", qk_norm: full")

GPT2 = spec("""
hidden_size: 768
vocab_size: 50257
tie_word_embeddings: true
norm: layer
position_embeddings: 1024
attention:
  full: {kind: full, num_attention_heads: 12, num_key_value_heads: 12, head_dim: 64, attention_bias: true, o_bias: true}
ffn:
  dense: {kind: dense, intermediate_size: 3072, gated: false, bias: true}
layers:
  - {count: 12, attention: full, ffn: dense}
""")

MIXTRAL_8X7B = spec("""
hidden_size: 4096
vocab_size: 32000
attention:
  full: {kind: full, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128}
ffn:
  moe: {kind: moe, num_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 14336}
layers:
  - {count: 32, attention: full, ffn: moe}
""")

MIXTRAL_8X22B = spec("""
hidden_size: 6144
vocab_size: 32768
attention:
  full: {kind: full, num_attention_heads: 48, num_key_value_heads: 8, head_dim: 128}
ffn:
  moe: {kind: moe, num_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 16384}
layers:
  - {count: 56, attention: full, ffn: moe}
""")

QWEN3_30B_A3B = spec("""
hidden_size: 2048
vocab_size: 151936
attention:
  full: {kind: full, num_attention_heads: 32, num_key_value_heads: 4, head_dim: 128, qk_norm: head}
ffn:
  moe: {kind: moe, num_experts: 128, num_experts_per_tok: 8, moe_intermediate_size: 768}
layers:
  - {count: 48, attention: full, ffn: moe}
""")

QWEN3_235B_A22B = spec("""
hidden_size: 4096
vocab_size: 151936
attention:
  full: {kind: full, num_attention_heads: 64, num_key_value_heads: 4, head_dim: 128, qk_norm: head}
ffn:
  moe: {kind: moe, num_experts: 128, num_experts_per_tok: 8, moe_intermediate_size: 1536}
layers:
  - {count: 94, attention: full, ffn: moe}
weight_dtypes: {default: fp8_block128}
""")

DEEPSEEK_V3 = spec("""
hidden_size: 7168
vocab_size: 129280
attention:
  mla:
    kind: mla
    num_attention_heads: 128
    kv_lora_rank: 512
    qk_rope_head_dim: 64
    qk_nope_head_dim: 128
    v_head_dim: 128
    q_lora_rank: 1536
ffn:
  dense: {kind: dense, intermediate_size: 18432}
  moe:
    kind: moe
    num_experts: 256
    num_experts_per_tok: 8
    moe_intermediate_size: 2048
    n_shared_experts: 1
    correction_bias: true
layers:
  - {count: 3, attention: mla, ffn: dense}
  - {count: 58, attention: mla, ffn: moe}
mtp_layers:
  - {attention: mla, ffn: moe}
mtp: {own_embedding: true, own_head: true}
weight_dtypes: {default: fp8_block128}
""")

DEEPSEEK_V3_2 = spec("""
hidden_size: 7168
vocab_size: 129280
attention:
  dsa:
    kind: sparse
    num_attention_heads: 128
    kv_lora_rank: 512
    qk_rope_head_dim: 64
    qk_nope_head_dim: 128
    v_head_dim: 128
    q_lora_rank: 1536
    index_head_dim: 128
    index_n_heads: 64
    index_topk: 2048
ffn:
  dense: {kind: dense, intermediate_size: 18432}
  moe:
    kind: moe
    num_experts: 256
    num_experts_per_tok: 8
    moe_intermediate_size: 2048
    n_shared_experts: 1
    correction_bias: true
layers:
  - {count: 3, attention: dsa, ffn: dense}
  - {count: 58, attention: dsa, ffn: moe}
mtp_layers:
  - {attention: dsa, ffn: moe}
mtp: {own_embedding: true, own_head: true}
weight_dtypes: {default: fp8_block128}
""")

MINIMAX_M2 = spec("""
hidden_size: 3072
vocab_size: 200064
attention:
  full: {kind: full, num_attention_heads: 48, num_key_value_heads: 8, head_dim: 128, qk_norm: full}
ffn:
  moe: {kind: moe, num_experts: 256, num_experts_per_tok: 8, moe_intermediate_size: 1536, correction_bias: true}
layers:
  - {count: 62, attention: full, ffn: moe}
weight_dtypes: {default: fp8_block128}
""")


def gpt_oss(layers: int, experts: int) -> ModelSpec:
    heads = "num_attention_heads: 64, num_key_value_heads: 8, head_dim: 64"
    return spec(f"""
hidden_size: 2880
vocab_size: 201088
attention:
  sliding: {{kind: sliding, sliding_window: 128, {heads}, attention_bias: true, o_bias: true, attention_sinks: true}}
  full: {{kind: full, {heads}, attention_bias: true, o_bias: true, attention_sinks: true}}
ffn:
  moe:
    kind: moe
    num_experts: {experts}
    num_experts_per_tok: 4
    moe_intermediate_size: 2880
    bias: true
    router_bias: true
layers:
  - count: {layers // 2}
    pattern:
      - {{attention: sliding, ffn: moe}}
      - {{attention: full, ffn: moe}}
weight_dtypes: {{default: bf16, routed_experts: mxfp4}}
""")


GPT_OSS_120B = gpt_oss(36, 128)
GPT_OSS_20B = gpt_oss(24, 32)

MAMBA2_2_7B = spec("""
hidden_size: 2560
vocab_size: 50288
tie_word_embeddings: true
attention:
  mamba: {kind: mamba2, mamba_num_heads: 80, mamba_head_dim: 64, ssm_state_size: 128, n_groups: 1, conv_kernel: 4}
layers:
  - {count: 64, attention: mamba}
""")

LFM2_1_2B = spec("""
hidden_size: 2048
vocab_size: 65536
tie_word_embeddings: true
attention:
  conv: {kind: short_conv, conv_dim: 2048, conv_L_cache: 3}
  full: {kind: full, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 64, qk_norm: head}
ffn:
  dense: {kind: dense, intermediate_size: 8192}
layers:
  - {count: 10, attention: conv, ffn: dense}
  - {count: 6, attention: full, ffn: dense}
""")

KIMI_LINEAR_48B = spec("""
hidden_size: 2304
vocab_size: 163840
attention:
  kda: {kind: kda, num_heads: 32, head_dim: 128, short_conv_kernel_size: 4}
  mla:
    kind: mla
    num_attention_heads: 32
    kv_lora_rank: 512
    qk_rope_head_dim: 64
    qk_nope_head_dim: 128
    v_head_dim: 128
ffn:
  dense: {kind: dense, intermediate_size: 9216}
  moe:
    kind: moe
    num_experts: 256
    num_experts_per_tok: 8
    moe_intermediate_size: 1024
    n_shared_experts: 1
    correction_bias: true
layers:
  - {attention: kda, ffn: dense}
  - {count: 19, attention: kda, ffn: moe}
  - {count: 7, attention: mla, ffn: moe}
""")

QWEN3_NEXT_80B = spec("""
hidden_size: 2048
vocab_size: 151936
attention:
  gdn:
    kind: gated_delta_net
    linear_num_key_heads: 16
    linear_num_value_heads: 32
    linear_key_head_dim: 128
    linear_value_head_dim: 128
    linear_conv_kernel_dim: 4
  full:
    kind: full
    num_attention_heads: 16
    num_key_value_heads: 2
    head_dim: 256
    qk_norm: head
    output_gate: element
ffn:
  moe:
    kind: moe
    num_experts: 512
    num_experts_per_tok: 10
    moe_intermediate_size: 512
    shared_expert_intermediate_size: 512
    shared_expert_gate: true
layers:
  - count: 12
    pattern:
      - {count: 3, attention: gdn, ffn: moe}
      - {attention: full, ffn: moe}
mtp_layers:
  - {attention: full, ffn: moe}
""")

NEMOTRON_3_NANO_30B = spec("""
hidden_size: 2688
vocab_size: 131072
attention:
  mamba: {kind: mamba2, mamba_num_heads: 64, mamba_head_dim: 64, ssm_state_size: 128, n_groups: 8, conv_kernel: 4}
  full: {kind: full, num_attention_heads: 32, num_key_value_heads: 2, head_dim: 128}
ffn:
  moe:
    kind: moe
    num_experts: 128
    num_experts_per_tok: 6
    moe_intermediate_size: 1856
    shared_expert_intermediate_size: 3712
    gated: false
    correction_bias: true
layers:
  - {count: 23, attention: mamba}
  - {count: 6, attention: full}
  - {count: 23, ffn: moe}
""")

NEMOTRON_NANO_9B_V2 = spec("""
hidden_size: 4480
vocab_size: 131072
attention:
  mamba: {kind: mamba2, mamba_num_heads: 128, mamba_head_dim: 80, ssm_state_size: 128, n_groups: 8, conv_kernel: 4}
  full: {kind: full, num_attention_heads: 40, num_key_value_heads: 8, head_dim: 128}
ffn:
  dense: {kind: dense, intermediate_size: 15680, gated: false}
layers:
  - {count: 27, attention: mamba}
  - {count: 4, attention: full}
  - {count: 25, ffn: dense}
""")
