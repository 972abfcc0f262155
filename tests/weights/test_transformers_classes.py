"""Parameter counts against the real classes of transformers, built on the meta device; needs torch and transformers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from kvcalc.importers.hf_config import read_config
from kvcalc.spec.document import Document
from kvcalc.spec.validate import validate_model
from kvcalc.weights import ParameterCount, parameter_count

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

DEFAULTS = """
afmoe apertus arcee bloom codegen cohere cohere2 cwm deepseek_v3 ernie4_5 ernie4_5_moe exaone4 falcon falcon_h1
falcon_mamba flex_olmo gemma gemma2 glm glm4 glm4_moe_lite gpt_neox gpt_oss gptj granite granite_swa granitemoe
granitemoe_swa granitemoehybrid helium jais2 jamba lfm2 llama mamba mamba2 minimax_m2 ministral3 mistral mistral4
mixtral mpt nanochat nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe opt phi phi3 phimoe qwen2 qwen2_5_vl qwen2_moe
qwen3 qwen3_5 qwen3_5_moe qwen3_moe qwen3_next qwen3_vl qwen3_vl_moe seed_oss smollm3 stablelm starcoder2 vaultgemma
youtu
"""
FAMILIES: dict[str, dict[str, Any]] = {
    **{name: {} for name in DEFAULTS.split()},
    "glm4_moe": {"head_dim": 128},
    "hunyuan_v1_dense": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
}
"""Class defaults, but for what a class does not say."""

NESTED = {"qwen2_5_vl", "qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe"}
"""Configs that hold the text model's."""

BUFFERS = ("correction_bias", "expert_bias")
"""What classes hold as buffers and checkpoints as tensors: the routers' load-balancing bias."""


def theirs(config: Any) -> tuple[int, int]:
    """Parameters of the text model, without and with the routers' correction biases."""
    logging.disable(logging.CRITICAL)
    classes = (transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText)
    with torch.device("meta"):
        model = next(c for c in classes if type(config) in c._model_mapping).from_config(config)
    model.tie_weights()
    params = {id(p): p.numel() for n, p in model.named_parameters() if "visual" not in n and "vision" not in n}
    buffers = sum(b.numel() for n, b in model.named_buffers() if n.endswith(BUFFERS))
    return sum(params.values()), sum(params.values()) + buffers


def ours(config: Any) -> ParameterCount:
    raw = json.loads(config.to_json_string(use_diff=False))
    read = read_config({key: value for key, value in raw.items() if not key.startswith("_")}, "config.json")
    assert not read.notes
    data = json.loads(json.dumps(read.raw))
    return parameter_count(validate_model(Document(path="", text="", data=data, marks={}, key_marks={})))


def check(family: str, **change: Any) -> None:
    config = transformers.AutoConfig.for_model(family, **FAMILIES.get(family, {}), **change)
    without, with_buffers = theirs(config)
    assert ours(config).total in (without, with_buffers)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_class_defaults(family: str) -> None:
    check(family)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - NESTED))
def test_other_depth_and_an_odd_vocabulary(family: str) -> None:
    check(family, num_hidden_layers=8, vocab_size=1003, pad_token_id=0)


def test_block_sparse_layers_behind_full_ones() -> None:
    check(
        "minimax_m3_vl_text", num_hidden_layers=8, vocab_size=1003,
        layer_types=["full_attention"] * 3 + ["minimax_m3_sparse"] * 5,
        mlp_layer_types=["dense"] * 3 + ["sparse"] * 5,
    )  # fmt: skip
