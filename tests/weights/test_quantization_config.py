"""What a quantization_config says of weights. Each case is the form that the named checkpoint ships."""

from __future__ import annotations

from typing import Any

import pytest

from kvcalc.importers.config import Config
from kvcalc.importers.hf_quant import weight_dtypes
from kvcalc.problems import KvcalcError
from kvcalc.spec.document import Document


def read(quant: Any, **fields: Any) -> dict[str, str] | None:
    data = {"model_type": "llama", "quantization_config": quant, **fields}
    document = Document(path="config.json", text="", data=data, marks={}, key_marks={})
    return weight_dtypes(Config(document=document, data=data, model_type="llama"), layers=LAYERS)


LAYERS = 20
BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}

NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4"}


def every(module: str) -> list[str]:
    return [f"model.layers.{layer}.{module}" for layer in range(LAYERS)]


def packed(bits: int, strategy: str, *, kind: str = "float", **more: Any) -> dict[str, Any]:
    """compressed-tensors' only group of matrices."""
    weights = {"num_bits": bits, "type": kind, "strategy": strategy, **more}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}


CASES = [
    pytest.param(BLOCKS, {"default": "fp8_block128"}, id="DeepSeek-V3"),
    pytest.param(
        {**BLOCKS, "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]},
        {"default": "fp8_block128"},
        id="MiniMax-M2.5",
    ),
    pytest.param(
        {**BLOCKS, "modules_to_not_convert": ["lm_head", "model.layers.0.input_layernorm", "model.layers.0.mlp.gate"]},
        {"default": "fp8_block128"},
        id="Qwen3-30B-A3B-FP8",
    ),
    pytest.param(
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
        {"default": "bf16", "routed_experts": "mxfp4"},
        id="gpt-oss",
    ),
    pytest.param(
        {"quant_algo": "FP8", "kv_cache_scheme": "FP8", "ignore": ["lm_head"]},
        {"default": "fp8_static"},
        id="Qwen3-32B-FP8-Static-PerTensor",
    ),
    pytest.param(
        {**NVFP4, "ignore": ["lm_head", *every("block_sparse_moe.gate"), *every("self_attn*")]},
        {"default": "nvfp4", "attention": "bf16"},
        id="MiniMax-M2.5-NVFP4",
    ),
    pytest.param(
        {**NVFP4, "ignore": [*every("linear_attn*"), *every("mlp.shared_expert*"), *every("mlp.shared_expert_gate")]},
        {"default": "nvfp4", "state": "bf16", "shared_experts": "bf16"},
        id="Qwen3.5-122B-A10B-NVFP4",
    ),
    pytest.param(
        {**NVFP4, "ignore": [*every("mlp*"), *every("router*"), *every("self_attn*"), "model.embed_vision*"]},
        {"default": "nvfp4", "dense_ffn": "bf16", "attention": "bf16"},
        id="Gemma-4-26B-A4B-NVFP4",
    ),
    pytest.param(
        {"quant_method": "fp8", "quant_algo": "MIXED_PRECISION",
         "quantized_layers": {name: {"quant_algo": "NVFP4", "group_size": 16} for name in every("ffn.experts")}},
        {"default": "fp8_block128", "routed_experts": "nvfp4"},
        id="DeepSeek-V4-Pro-NVFP4",
    ),
    pytest.param(
        {"quant_method": "fbgemm_fp8", "modules_to_not_convert": [*every("self_attn.q_proj"), "lm_head",
         "model.layers.0.mlp.down_proj", "model.layers.19.mlp.down_proj"]},
        {"default": "fp8_fbgemm", "attention": "bf16"},
        id="Llama-3.1-405B-FP8: blocks of the first and the last layer are passed over",
    ),
    pytest.param({"quant_method": "awq", "bits": 4, "group_size": 128}, {"default": "awq_int4_g128"}, id="AWQ"),
    pytest.param({"quant_method": "gptq", "bits": 8, "group_size": 32}, {"default": "gptq_int8_g32"}, id="GPTQ"),
    pytest.param({"quant_method": "bitsandbytes", "load_in_4bit": True}, {"default": "bnb_nf4"}, id="bitsandbytes"),
    pytest.param(
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int",
         "strategy": "group", "group_size": 32}}}, "ignore": ["lm_head", "re:.*self_attn.*"]},
        {"default": "int4_g32", "attention": "bf16"},
        id="Kimi-K2-Thinking",
    ),
    pytest.param(
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float",
         "strategy": "channel"}}}},
        {"default": "fp8_channel"},
        id="FP8-dynamic",
    ),
    # compressed-tensors quant_scheme.py: NVFP4 (tensor_group, 16), MXFP4 (group, 32), FP8_BLOCK (block, [128, 128])
    pytest.param(packed(4, "tensor_group", group_size=16), {"default": "nvfp4"}, id="compressed NVFP4"),
    pytest.param(packed(4, "group", group_size=32), {"default": "mxfp4"}, id="compressed MXFP4"),
    pytest.param(packed(8, "block", block_structure=[128, 128]), {"default": "fp8_block128"}, id="compressed blocks"),
]  # fmt: skip


@pytest.mark.parametrize(("quant", "expected"), CASES)
def test_reading(quant: dict[str, Any], expected: dict[str, str]) -> None:
    assert read(quant) == expected


def test_without_one_there_is_nothing_to_say() -> None:
    assert read(None) is None


def test_deepseek_v4_keeps_its_experts_in_four_bits() -> None:
    assert read(BLOCKS, expert_dtype="fp4") == {"default": "fp8_block128", "routed_experts": "mxfp4"}


@pytest.mark.parametrize(
    "quant",
    [
        {"quant_method": "quip"},
        {},
        {**BLOCKS, "weight_block_size": [64, 64]},
        {"quant_method": "gptq", "bits": 3, "group_size": 128},
        {"quant_method": "gptq", "bits": "4", "group_size": 128},
        {"quant_method": "awq"},
        {"quant_method": "modelopt", "quant_algo": "W2"},
        {"quant_method": "compressed-tensors", "config_groups": []},
        packed(4, "group", group_size=8),
        packed(4, "tensor"),
        packed(8, "block", block_structure=[64, 64]),
        packed(8, "block", kind="int", block_structure=[128, 128]),
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": [1]},
        {"quant_method": "fp8", "quantized_layers": ["a"]},
    ],
)
def test_what_is_not_known_is_refused(quant: dict[str, Any]) -> None:
    with pytest.raises(KvcalcError):
        read(quant)


def test_a_quantization_config_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(KvcalcError, match="expected a mapping"):
        read("fp8")
