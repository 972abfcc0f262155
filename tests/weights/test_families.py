"""Config to parameter count, one model of each shape of family.

The fields are those of the model's own config.json; totals are hub pages' or those of transformers 5.23.0's classes
on the meta device.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvcalc.importers.hf_config import read_config
from kvcalc.spec.document import Document
from kvcalc.spec.validate import validate_model
from kvcalc.weights import ParameterCount, parameter_count


def count(config: dict[str, Any]) -> ParameterCount:
    read = read_config(config, "config.json")
    assert read.notes == ()
    raw = json.loads(json.dumps(read.raw))
    return parameter_count(validate_model(Document(path="", text="", data=raw, marks={}, key_marks={})))


def gqa(model_type: str, layers: int, hidden: int, heads: int, kv: int, ffn: int, vocab: int, **more: Any) -> Any:
    return {
        "model_type": model_type, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": kv, "intermediate_size": ffn, "vocab_size": vocab, "max_position_embeddings": 4096,
        **more,
    }  # fmt: skip


DEEPSEEK_V2_LITE = gqa(
    "deepseek_v2", 27, 2048, 16, 16, 10944, 102400, tie_word_embeddings=False, kv_lora_rank=512, q_lora_rank=None,
    qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, moe_intermediate_size=1408, n_routed_experts=64,
    n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, moe_layer_freq=1, topk_method="greedy",
)  # fmt: skip
KIMI_K2 = gqa(
    "kimi_k2", 61, 7168, 64, 64, 18432, 163840, tie_word_embeddings=False, kv_lora_rank=512, q_lora_rank=1536,
    qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, moe_intermediate_size=2048, n_routed_experts=384,
    n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=1, moe_layer_freq=1, topk_method="noaux_tc",
    num_nextn_predict_layers=0,
)  # fmt: skip
SCOUT = {
    "model_type": "llama4",
    "text_config": gqa(
        "llama4_text", 48, 5120, 40, 8, 8192, 202048, intermediate_size_mlp=16384, head_dim=128, num_local_experts=16,
        num_experts_per_tok=1, interleave_moe_layer_step=1, attention_chunk_size=8192, use_qk_norm=True,
        attention_bias=False,
    ),
}  # fmt: skip
QWEN3_5_35B = {
    "model_type": "qwen3_5_moe",
    "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_5_moe_text", "num_hidden_layers": 40, "hidden_size": 2048, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 256, "vocab_size": 248320, "attn_output_gate": True,
        "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
        "moe_intermediate_size": 512, "num_experts": 256, "num_experts_per_tok": 8, "mlp_only_layers": [],
        "shared_expert_intermediate_size": 512, "max_position_embeddings": 262144,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 10,
    },
}  # fmt: skip
NEMOTRON_NANO = gqa(
    "nemotron_h", 52, 2688, 32, 2, 1856, 131072, tie_word_embeddings=False, head_dim=128,
    hybrid_override_pattern="MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", mamba_num_heads=64,
    mamba_head_dim=64, ssm_state_size=128, n_groups=8, conv_kernel=4, expand=2, moe_intermediate_size=1856,
    moe_shared_expert_intermediate_size=3712, n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=6,
)  # fmt: skip

CASES = [
    pytest.param(gqa("llama", 28, 3072, 24, 8, 8192, 128256, head_dim=128, tie_word_embeddings=True),
                 3_212_749_824, id="llama, tied head"),
    pytest.param(gqa("qwen2", 48, 5120, 40, 8, 13824, 152064, tie_word_embeddings=False),
                 14_770_033_664, id="qwen2, biases on q, k, v"),
    pytest.param(gqa("gemma2", 42, 3584, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096),
                 9_241_705_984, id="gemma2, four norms, tied by its class"),
    pytest.param(gqa("cohere", 40, 8192, 64, 64, 22528, 256000, tie_word_embeddings=True, use_qk_norm=False),
                 34_980_831_232, id="cohere, one norm"),
    pytest.param(gqa("olmo2", 64, 5120, 40, 8, 27648, 100352, tie_word_embeddings=False),
                 32_234_279_936, id="olmo2, norms over all heads"),
    pytest.param(gqa("mixtral", 32, 4096, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2,
                     tie_word_embeddings=False), 46_702_792_704, id="mixtral"),
    pytest.param(gqa("phi3", 40, 5120, 40, 10, 17920, 100352, tie_word_embeddings=False),
                 14_659_507_200, id="phi3"),
    pytest.param(DEEPSEEK_V2_LITE, 15_706_484_224, id="deepseek_v2, no correction bias"),
    pytest.param(KIMI_K2, 1_026_408_209_408 + 60 * 384, id="kimi_k2, correction bias"),
    pytest.param(SCOUT, 107_769_861_120, id="llama4, nested, a shared expert"),
    pytest.param(QWEN3_5_35B, 34_660_610_688, id="qwen3.5, gated delta net, gated shared expert"),
    pytest.param(NEMOTRON_NANO, 31_577_937_344 + 23 * 128, id="nemotron_h, two-matrix experts"),
    pytest.param({"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024,
                  "vocab_size": 50257}, 124_439_808, id="gpt2, n_inner left out"),
    pytest.param({"model_type": "gptj", "n_layer": 28, "n_embd": 4096, "n_head": 16, "n_inner": None,
                  "n_positions": 2048, "vocab_size": 50400, "tie_word_embeddings": False},
                 6_050_882_784, id="gptj, head with a bias"),
    pytest.param({"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
                  "vocab_size": 65024, "bias": False, "alibi": False, "multi_query": True, "parallel_attn": True,
                  "new_decoder_architecture": False}, 6_921_720_704, id="falcon, one norm"),
    pytest.param({"model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
                  "num_kv_heads": 8, "vocab_size": 65024, "bias": False, "alibi": False, "multi_query": True,
                  "parallel_attn": True, "new_decoder_architecture": True}, 41_303_293_952, id="falcon, two norms"),
    pytest.param({"model_type": "bloom", "n_layer": 70, "hidden_size": 14336, "n_head": 112, "vocab_size": 250880,
                  "seq_length": 2048}, 176_247_271_424, id="bloom, norm of the embedding"),
    pytest.param({"model_type": "opt", "hidden_size": 5120, "num_hidden_layers": 40, "num_attention_heads": 40,
                  "ffn_dim": 20480, "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 5120},
                 12_853_473_280, id="opt, two spare positions"),
    pytest.param({"model_type": "qwen", "kv_channels": 128, "no_bias": True, "hidden_size": 4096, "seq_length": 8192,
                  "intermediate_size": 22016, "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 151936,
                  "tie_word_embeddings": False}, 7_721_324_544, id="qwen-1, half the intermediate size"),
    pytest.param({"model_type": "mamba2", "num_hidden_layers": 64, "hidden_size": 2560, "expand": 2, "head_dim": 64,
                  "num_heads": 80, "state_size": 128, "n_groups": 1, "conv_kernel": 4, "vocab_size": 50288,
                  "tie_word_embeddings": True}, 2_702_599_680, id="mamba2, no ffn"),
    pytest.param({"model_type": "t5", "vocab_size": 32128, "d_model": 1024, "d_kv": 128, "d_ff": 65536,
                  "num_layers": 24, "num_decoder_layers": 24, "num_heads": 128,
                  "feed_forward_proj": "relu", "is_encoder_decoder": True},
                 11_307_321_344, id="t5, encoder and cross-attention"),
    pytest.param({"model_type": "whisper", "vocab_size": 51865, "num_mel_bins": 80, "d_model": 1280,
                  "encoder_layers": 32, "decoder_layers": 32, "encoder_attention_heads": 20,
                  "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120,
                  "max_source_positions": 1500, "max_target_positions": 448, "is_encoder_decoder": True},
                 1_543_304_960, id="whisper, convolutions, keys without bias"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "total"), CASES)
def test_total(config: dict[str, Any], total: int) -> None:
    assert count(config).total == total


def test_weights_that_are_not_described_leave_the_cache_known() -> None:
    config = gqa("llama", 2, 64, 4, 2, 128, 100)
    del config["intermediate_size"]
    read = read_config(config, "config.json")
    assert read.raw["attention"]
    assert "intermediate_size is missing" in read.notes[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"intermediate_size": "8192"}, "intermediate_size"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"quantization_config": {"quant_method": "quip"}}, "quip"),
    ],
)
def test_malformed_fields_are_named(change: dict[str, Any], word: str) -> None:
    read = read_config({**gqa("llama", 2, 64, 4, 2, 128, 100), **change}, "config.json")
    assert word in read.notes[0]


def test_prediction_layers_are_counted_apart() -> None:
    with_mtp = {**KIMI_K2, "model_type": "deepseek_v3", "num_nextn_predict_layers": 1}
    plain = {**KIMI_K2, "model_type": "deepseek_v3"}
    assert count(with_mtp).total == count(plain).total
    assert count(plain).mtp == 0
    assert count(with_mtp).mtp > 2 * 163_840 * 7_168


def test_dense_and_sparse_layers_may_be_listed() -> None:
    listed = {key: value for key, value in DEEPSEEK_V2_LITE.items() if key != "first_k_dense_replace"}
    listed |= {"mlp_layer_types": ["dense"] + ["sparse"] * 26}
    assert count(listed).total == 15_706_484_224
