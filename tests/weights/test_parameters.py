"""Parameter counts against counts that others publish."""

from __future__ import annotations

import pytest
from geometries import (
    DEEPSEEK_V3,
    DEEPSEEK_V3_2,
    GEMMA_2_9B,
    GPT2,
    GPT_OSS_20B,
    GPT_OSS_120B,
    KIMI_LINEAR_48B,
    LFM2_1_2B,
    LLAMA_3_1_8B,
    LLAMA_3_1_405B,
    MAMBA2_2_7B,
    MINIMAX_M2,
    MISTRAL_7B,
    MIXTRAL_8X7B,
    NEMOTRON_3_NANO_30B,
    OLMO_2_7B,
    QWEN2_5_7B,
    QWEN3_0_6B,
    QWEN3_8B,
    QWEN3_30B_A3B,
    QWEN3_235B_A22B,
    QWEN3_NEXT_80B,
    QWEN_72B,
    llama,
    spec,
)

from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec
from kvcalc.tensors import Component
from kvcalc.weights import inventory, parameter_count, weight_format

HUB = "hub page of the model: safetensors total"
META = "the model's class of transformers 5.23.0, built on the meta device"

COUNTS = [
    pytest.param(LLAMA_3_1_8B, 8_030_261_248, HUB, id="llama-3.1-8b"),
    pytest.param(LLAMA_3_1_405B, 405_853_388_800, HUB, id="llama-3.1-405b"),
    pytest.param(MISTRAL_7B, 7_241_732_096, HUB, id="mistral-7b-v0.1"),
    pytest.param(QWEN_72B, 72_287_920_128, "hub page of Qwen1.5-72B, the same geometry", id="qwen-72b"),
    pytest.param(QWEN2_5_7B, 7_615_616_512, HUB, id="qwen2.5-7b"),
    pytest.param(QWEN3_8B, 8_190_735_360, HUB, id="qwen3-8b"),
    pytest.param(QWEN3_0_6B, 596_049_920, META, id="qwen3-0.6b"),
    pytest.param(GEMMA_2_9B, 9_241_705_984, HUB, id="gemma-2-9b"),
    pytest.param(OLMO_2_7B, 7_298_617_344, META, id="olmo-2-7b"),
    pytest.param(GPT2, 124_439_808, "nanoGPT transformer_sizing.ipynb: expected 124,439,808", id="gpt2"),
    pytest.param(MIXTRAL_8X7B, 46_702_792_704, HUB, id="mixtral-8x7b"),
    pytest.param(QWEN3_30B_A3B, 30_532_122_624, HUB, id="qwen3-30b-a3b"),
    pytest.param(QWEN3_235B_A22B, 235_093_634_560, HUB, id="qwen3-235b-a22b"),
    pytest.param(GPT_OSS_120B, 116_829_156_672, META, id="gpt-oss-120b"),
    pytest.param(MAMBA2_2_7B, 2_702_599_680, META, id="mamba2-2.7b"),
    pytest.param(LFM2_1_2B, 1_170_340_608, HUB, id="lfm2-1.2b"),
    pytest.param(KIMI_LINEAR_48B, 49_122_681_728, HUB, id="kimi-linear-48b"),
    pytest.param(QWEN3_NEXT_80B, 79_674_391_296, META, id="qwen3-next-80b"),
]


@pytest.mark.parametrize(("model", "published", "source"), COUNTS)
def test_total(model: ModelSpec, published: int, source: str) -> None:
    assert parameter_count(model).total == published, source


def test_total_of_models_whose_class_leaves_out_the_routers_correction_bias() -> None:
    """The classes of transformers hold it as a buffer, checkpoints as a tensor: experts x layers more."""
    assert parameter_count(NEMOTRON_3_NANO_30B).total == 31_577_937_344 + 23 * 128  # hub page: 31,577,937,344
    assert parameter_count(DEEPSEEK_V3).total == 671_026_404_352 + 58 * 256  # meta device: 671,026,404,352


STORED = [
    # hub pages: safetensors totals, which count the scales of fp8 blocks (and DeepSeek's prediction layer)
    pytest.param(DEEPSEEK_V3, 684_531_386_000, id="deepseek-v3"),
    pytest.param(DEEPSEEK_V3_2, 685_396_921_376, id="deepseek-v3.2"),
    pytest.param(MINIMAX_M2, 228_703_644_928, id="minimax-m2"),
    pytest.param(QWEN3_235B_A22B, 235_107_904_512, id="qwen3-235b-fp8"),
]


@pytest.mark.parametrize(("model", "published"), STORED)
def test_weights_and_scales_of_fp8_checkpoints(model: ModelSpec, published: int) -> None:
    blocks = weight_format("fp8_block128").blocks
    weights = inventory(model)
    held = [*weights.tensors(), *((tensor, 1) for tensor in weights.mtp)]
    scales = sum(blocks(tensor.shape) * tensor.copies * layers for tensor, layers in held if tensor.quantizable)
    count = parameter_count(model)
    assert count.total + count.mtp + scales == published


def test_weights_and_scales_of_gpt_oss() -> None:
    """Hub page: 120,412,337,472 with each 4-bit weight counted once, and a scale per 32 of the experts' weights."""
    weights = inventory(GPT_OSS_120B)
    scales = sum(
        weight_format("mxfp4").blocks(tensor.shape) * tensor.copies * layers
        for tensor, layers in weights.tensors()
        if tensor.component is Component.ROUTED_EXPERTS and tensor.quantizable
    )
    assert parameter_count(GPT_OSS_120B).total + scales == 120_412_337_472


def test_prediction_layer_of_deepseek_v3() -> None:
    """README_WEIGHTS.md: 11.5 B of its own, and 0.9 B each of embedding and head that it shares with the model."""
    mtp = parameter_count(DEEPSEEK_V3).mtp
    copies = 2 * 129_280 * 7_168
    assert mtp == 684_531_386_000 - 671_026_419_200 - 41_540_496  # hub page, less the total and the scales
    assert round((mtp - copies) / 1e9, 1) == 11.6


def test_prediction_layer_of_qwen3_next() -> None:
    """Hub page: 81,324,862,720 in all, 79,674,391,296 of them in the class of transformers."""
    assert parameter_count(QWEN3_NEXT_80B).mtp == 81_324_862_720 - 79_674_391_296


ACTIVE = [
    pytest.param(MIXTRAL_8X7B, "12.9", "Mixtral, arXiv 2401.04088 section 2: 13B (mistral.ai: 12.9B)", id="mixtral"),
    pytest.param(QWEN3_30B_A3B, "3.4", "Qwen3, arXiv 2505.09388 table 2: 3B; hub page: 3.3B", id="qwen3-30b"),
    pytest.param(DEEPSEEK_V3, "37.6", "DeepSeek-V3, arXiv 2412.19437 abstract: 37B, embedding left out", id="v3"),
]


@pytest.mark.parametrize(("model", "billions", "source"), ACTIVE)
def test_active(model: ModelSpec, billions: str, source: str) -> None:
    assert f"{parameter_count(model).active / 1e9:.1f}" == billions, source


@pytest.mark.parametrize(
    ("model", "total", "active"),
    [(GPT_OSS_120B, "116.83", "5.13"), (GPT_OSS_20B, "20.91", "3.61")],
    ids=["120b", "20b"],
)
def test_gpt_oss_card(model: ModelSpec, total: str, active: str) -> None:
    """gpt-oss model card, arXiv 2508.10925 table 1: active parameters with the head, without the embedding."""
    count = parameter_count(model)
    assert f"{count.total / 1e9:.2f}" == total
    assert f"{(count.active - count.by_component[Component.EMBEDDING]) / 1e9:.2f}" == active


def test_components_by_hand() -> None:
    """2 layers, hidden 8, 4 heads of 3 over 2 KV heads, ffn 5, vocabulary 11."""
    count = parameter_count(llama(2, 8, 5, 11, 4, 2, dim=3)).by_component
    assert count == {
        Component.EMBEDDING: 11 * 8,
        Component.HEAD: 11 * 8,
        Component.ATTENTION: 2 * (12 * 8 + 6 * 8 + 6 * 8 + 8 * 12),
        Component.DENSE_FFN: 2 * 3 * 8 * 5,
        Component.NORM: 2 * 2 * 8 + 8,
    }


def test_a_spec_of_the_cache_alone_says_what_is_missing() -> None:
    cache_only = spec("""
hidden_size: 64
attention:
  full: {kind: full, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16}
layers:
  - {count: 2, attention: full}
""")
    with pytest.raises(KvcalcError, match="vocab_size and ffn not given"):
        parameter_count(cache_only)
