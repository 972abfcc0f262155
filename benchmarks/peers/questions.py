"""What every tool is asked: configs written from facts, lengths, and the bytes that are right.

A config holds the fields of the model's published config.json that decide about its cache, and those that the tools
insist on; the sources stand beside each. A truth is arithmetic on those fields, written out, so that nobody's code
(kvcalc's included) decides who is right.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

JSON = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One question: the bytes of one sequence of `tokens` tokens in bf16.

    `kv_bytes` grows with the tokens; `state_bytes` are recurrent states, which do not. `parameters` and
    `weight_dtype` only fill the stub of a weight file that hub tools look for.
    """

    key: str
    hub_id: str
    tokens: int
    config: JSON
    kv_bytes: int
    state_bytes: int = 0
    arithmetic: str
    source: str
    parameters: int
    weight_dtype: str = "BF16"


QWEN_72B: JSON = {
    "architectures": ["QWenLMHeadModel"],
    "auto_map": {
        "AutoConfig": "configuration_qwen.QWenConfig",
        "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
    },
    "model_type": "qwen",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "kv_channels": 128,
    "intermediate_size": 49152,
    "seq_length": 32768,
    "max_position_embeddings": 32768,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "no_bias": True,
}
QWEN15_72B: JSON = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "intermediate_size": 24576,
    "max_position_embeddings": 32768,
    "sliding_window": 32768,
    "max_window_layers": 70,
    "use_sliding_window": False,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}
LLAMA_31_70B: JSON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}
DEEPSEEK_V3: JSON = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_deepseek.DeepseekV3Config",
        "AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM",
    },
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "n_group": 8,
    "topk_group": 4,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "num_nextn_predict_layers": 1,
    "max_position_embeddings": 163840,
    "vocab_size": 129280,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "quantization_config": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
}
_GEMMA_TEXT: JSON = {
    "model_type": "gemma3_text",
    "hidden_size": 5376,
    "num_hidden_layers": 62,
    "num_attention_heads": 32,
    "num_key_value_heads": 16,
    "head_dim": 128,
    "intermediate_size": 21504,
    "query_pre_attn_scalar": 168,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "sliding_window": 1024,
}
_GEMMA_OUTER: JSON = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "torch_dtype": "bfloat16",
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
}
GEMMA_3_27B: JSON = {**_GEMMA_OUTER, "text_config": _GEMMA_TEXT}
GEMMA_3_27B_WRITTEN_OUT: JSON = {
    **_GEMMA_OUTER,
    "text_config": {
        **_GEMMA_TEXT,
        "layer_types": ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(62)],
        "max_position_embeddings": 131072,
        "vocab_size": 262208,
    },
}
GPT_OSS_120B: JSON = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "num_hidden_layers": 36,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 2880,
    "sliding_window": 128,
    "layer_types": ["full_attention" if i % 2 else "sliding_attention" for i in range(36)],
    "num_local_experts": 128,
    "num_experts_per_tok": 4,
    "experts_per_token": 4,
    "attention_bias": True,
    "initial_context_length": 4096,
    "max_position_embeddings": 131072,
    "rope_theta": 150000,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
    },
    "swiglu_limit": 7.0,
    "vocab_size": 201088,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    },
}
QWEN3_NEXT: JSON = {
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "intermediate_size": 5120,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "partial_rotary_factor": 0.25,
    "max_position_embeddings": 262144,
    "rope_theta": 10000000,
    "rope_scaling": None,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}

MODELS = (
    Model(
        key="Qwen-72B",
        hub_id="Qwen/Qwen-72B",
        tokens=32768,
        config=QWEN_72B,
        kv_bytes=2 * 80 * 64 * 128 * 2 * 32768,
        arithmetic="2 x 80 layers x 64 heads x 128 x 2 B x 32,768",
        source="GenZ-LLM-Analyzer@091bdd0 and MindSpeed-LLM@7957de9b, which cite the model's own config; "
        "auto_map as in every config of Qwen's first series",
        parameters=72_287_920_128,
    ),
    Model(
        key="Qwen1.5-72B",
        hub_id="Qwen/Qwen1.5-72B",
        tokens=32768,
        config=QWEN15_72B,
        kv_bytes=2 * 80 * 64 * 128 * 2 * 32768,
        arithmetic="2 x 80 layers x 64 heads x 128 x 2 B x 32,768",
        source="the model's config.json",
        parameters=72_287_920_128,
    ),
    Model(
        key="Llama-3.1-70B",
        hub_id="meta-llama/Meta-Llama-3.1-70B",
        tokens=131072,
        config=LLAMA_31_70B,
        kv_bytes=2 * 80 * 8 * 128 * 2 * 131072,
        arithmetic="2 x 80 layers x 8 heads x 128 x 2 B x 131,072",
        source="the model's config.json",
        parameters=70_553_706_496,
    ),
    Model(
        key="DeepSeek-V3",
        hub_id="deepseek-ai/DeepSeek-V3",
        tokens=131072,
        config=DEEPSEEK_V3,
        kv_bytes=61 * (512 + 64) * 2 * 131072,
        arithmetic="61 layers x (512 + 64) x 2 B x 131,072",
        source="the model's config.json; one latent per token and layer: arXiv 2405.04434, section 2.1",
        parameters=671_026_419_200,
        weight_dtype="F8_E4M3",
    ),
    Model(
        key="Gemma-3-27B",
        hub_id="google/gemma-3-27b-it",
        tokens=131072,
        config=GEMMA_3_27B,
        kv_bytes=2 * 16 * 128 * 2 * (10 * 131072 + 52 * 1024),
        arithmetic="2 x 16 heads x 128 x 2 B x (10 layers x 131,072 + 52 layers x 1,024)",
        source="nested and with a bare window, as Google's configs of this family are; the class (transformers "
        "5.23.0) makes one layer in six full, and its cache holds these bytes",
        parameters=27_009_346_304,
    ),
    Model(
        key="Gemma-3-27B, layer_types",
        hub_id="google/gemma-3-27b-it",
        tokens=131072,
        config=GEMMA_3_27B_WRITTEN_OUT,
        kv_bytes=2 * 16 * 128 * 2 * (10 * 131072 + 52 * 1024),
        arithmetic="the same model, its layers listed",
        source="the fields that transformers 5.23.0 adds when it saves the config",
        parameters=27_009_346_304,
    ),
    Model(
        key="gpt-oss-120b",
        hub_id="openai/gpt-oss-120b",
        tokens=131072,
        config=GPT_OSS_120B,
        kv_bytes=2 * 8 * 64 * 2 * (18 * 131072 + 18 * 128),
        arithmetic="2 x 8 heads x 64 x 2 B x (18 layers x 131,072 + 18 layers x 128)",
        source="the model's config.json",
        parameters=116_829_156_672,
        weight_dtype="U8",
    ),
    Model(
        key="Qwen3-Next-80B",
        hub_id="Qwen/Qwen3-Next-80B-A3B-Instruct",
        tokens=131072,
        config=QWEN3_NEXT,
        kv_bytes=2 * 12 * 2 * 256 * 2 * 131072,
        state_bytes=36 * (32 * 128 * 128 * 4 + (2 * 16 * 128 + 32 * 128) * 3 * 2),
        arithmetic="2 x 12 layers x 2 heads x 256 x 2 B x 131,072, and 36 states of 32 x 128 x 128 x 4 B "
        "+ 8,192 channels x 3 columns x 2 B",
        source="the model's config.json; state in fp32 and convolution in bf16, as vLLM keeps them",
        parameters=79_674_391_296,
    ),
)
BY_KEY = {model.key: model for model in MODELS}


def write_config(model: Model, folder: Path) -> Path:
    """The model's config.json in a folder of its own; returns that folder."""
    place = folder / model.key.replace(" ", "").replace(",", "-").replace("/", "--")
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(model.config, indent=1), encoding="utf-8")
    return place
