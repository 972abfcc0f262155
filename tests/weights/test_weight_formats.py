"""Bytes of stored weights, by hand and against published sizes."""

from __future__ import annotations

import pytest
from geometries import DEEPSEEK_V3, GPT_OSS_20B, GPT_OSS_120B, LLAMA_3_1_8B, LLAMA_3_1_405B, QWEN_72B

from kvcalc.problems import KvcalcError
from kvcalc.spec.model import ModelSpec
from kvcalc.weights import WEIGHT_FORMATS, weight_bytes, weight_format, weight_scheme

GIB = 2**30

BY_HAND = [
    ("bf16", (3, 5), 2 * 15),
    ("fp8", (3, 5), 15 + 4),
    ("fp8_channel", (3, 5), 15 + 3 * 2),
    # 300 x 260 is cut into 3 x 3 blocks, the last of each row and column short
    ("fp8_block128", (300, 260), 300 * 260 + 9 * 4),
    # 7168 -> 576 (DeepSeek-V3 kv_a_proj_with_mqa): 5 x 56 scales
    ("fp8_block128", (576, 7168), 576 * 7168 + 280 * 4),
    ("int8_channel", (4, 8), 32 + 4 * 2),
    # per 128 inputs and output channel: 64 B of codes, 2 B of scale, half a byte of zero point
    ("awq_int4_g128", (2, 256), 4 * (64 + 2) + 4 // 2),
    ("gptq_int4_g128", (2, 256), 4 * (64 + 2) + 4 // 2 + 256 * 4),
    ("int4_g32", (2, 64), 4 * (16 + 2)),
    # 32 weights in 16 bytes and one of scale
    ("mxfp4", (3, 64), 3 * 2 * 17),
    # a leading dimension repeats the matrix
    ("mxfp4", (4, 3, 64), 4 * 3 * 2 * 17),
    # 16 weights in 8 bytes and one of scale, two fp32 scales for the matrix
    ("nvfp4", (3, 64), 3 * 4 * 9 + 8),
    ("q8_0", (2, 64), 2 * 2 * 34),
    ("q4_k", (2, 512), 2 * 2 * 144),
    ("q6_k", (2, 512), 2 * 2 * 210),
    # 320 is no multiple of 256: llama.cpp takes q5_0 for q4_K, 22 B per 32
    ("q4_k", (2, 320), 2 * 10 * 22),
]


@pytest.mark.parametrize(("name", "shape", "size"), BY_HAND, ids=[f"{n}-{s}" for n, s, _ in BY_HAND])
def test_by_hand(name: str, shape: tuple[int, ...], size: int) -> None:
    assert weight_format(name).bytes(shape) == size


@pytest.mark.parametrize(
    ("name", "bits"),
    # llama.cpp, tools/quantize/README.md and gguf-py/gguf/constants.py GGML_QUANT_SIZES
    [
        ("q2_k", 2.625), ("q3_k", 3.4375), ("q4_k", 4.5), ("q5_k", 5.5), ("q6_k", 6.5625), ("q8_0", 8.5),
        ("iq4_xs", 4.25), ("iq3_s", 3.4375), ("iq3_xxs", 3.0625), ("iq2_xs", 2.3125), ("iq2_xxs", 2.0625),
        ("iq1_s", 1.5625), ("iq1_m", 1.75),
    ],
)  # fmt: skip
def test_bits_per_weight_of_gguf_types(name: str, bits: float) -> None:
    assert weight_format(name).bytes((4096, 4096)) * 8 == bits * 4096 * 4096


PUBLISHED = [
    pytest.param(LLAMA_3_1_8B, None, "14.96", "vLLM pull request 10511: model weights take 14.96 GiB", id="llama-8b"),
    pytest.param(GPT_OSS_120B, None, "60.8", "gpt-oss model card, arXiv 2508.10925 table 1", id="gpt-oss-120b"),
    pytest.param(GPT_OSS_20B, None, "12.8", "gpt-oss model card, arXiv 2508.10925 table 1", id="gpt-oss-20b"),
    pytest.param(QWEN_72B, None, "134.6", "72,287,920,128 x 2 / 2^30", id="qwen-72b"),
    pytest.param(LLAMA_3_1_405B, "bf16", "756", "405,853,388,800 x 2 / 2^30", id="llama-405b"),
]


@pytest.mark.parametrize(("model", "override", "gib", "source"), PUBLISHED)
def test_published_size(model: ModelSpec, override: str | None, gib: str, source: str) -> None:
    size = weight_bytes(model, weight_scheme(model, override)).total / GIB
    digits = len(gib.partition(".")[2])
    assert f"{size:.{digits}f}" == gib, source


def test_a_ledger_sums_to_its_total_and_the_prediction_layer_is_apart() -> None:
    scheme = weight_scheme(DEEPSEEK_V3)
    without, with_mtp = (weight_bytes(DEEPSEEK_V3, scheme, mtp=mtp) for mtp in (False, True))
    assert without.mtp == 0
    assert with_mtp.by_component == without.by_component
    assert with_mtp.total == sum(with_mtp.by_component.values()) + with_mtp.mtp


def test_quantisation_leaves_routers_norms_embedding_and_head_alone() -> None:
    bf16, fp8 = (weight_bytes(DEEPSEEK_V3, weight_scheme(DEEPSEEK_V3, name)).by_component for name in ("bf16", "fp8"))
    assert {part for part in bf16 if bf16[part] == fp8[part]} == {"embedding", "router", "norm", "head"}
    named = weight_scheme(DEEPSEEK_V3, "default=fp8_block128,head=fp8,embedding=q6_k,rest=fp32")
    sizes = weight_bytes(DEEPSEEK_V3, named).by_component
    assert sizes["head"] == 129_280 * 7_168 + 4
    assert sizes["embedding"] == 129_280 * 28 * 210
    assert sizes["norm"] == (61 * 2 + 1) * 7_168 * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fp9", "no weight format"),
        ("default=fp8,hed=bf16", "no component"),
        ("default=", "no list"),
        ("=fp8", "no list"),
    ],
)
def test_unknown_words_are_refused(text: str, message: str) -> None:
    with pytest.raises(KvcalcError, match=message) as caught:
        weight_scheme(LLAMA_3_1_8B, text)
    assert caught.value.problems[0].help


def test_every_format_has_a_source_and_costs_something() -> None:
    for entry in WEIGHT_FORMATS.values():
        assert entry.source
        assert 0 < entry.bytes((256, 512)) <= 4 * 256 * 512 + 8
